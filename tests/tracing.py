"""Whether strace can be used here: it strikes at system calls, but a container may forbid to trace."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest


@cache
def strace_works() -> bool:
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not strace_works(), reason="needs strace, allowed to trace")
