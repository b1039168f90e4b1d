"""Devices, precisions, and the allocator's settings."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from descent.errors import UserError
from descent.training import precision
from descent.training.precision import autocast, resolve_device, resolve_precision, tune_allocator

CPU = torch.device("cpu")


def test_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UserError, match="no such device"):
        resolve_device("tpu")
    absent = [
        name
        for name, there in (("cuda", torch.cuda), ("mps", torch.backends.mps))
        if not there.is_available()
    ]
    for name in absent:
        with pytest.raises(UserError, match=f"has no {name}"):
            resolve_device(name)


def test_precisions(monkeypatch: pytest.MonkeyPatch):
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    for gain, chosen in ((1.7, "bf16"), (1.0, "fp32"), (0.3, "fp32")):
        monkeypatch.setattr(precision, "bf16_gain", lambda device, gain=gain: gain)
        assert resolve_precision("auto", CPU) == chosen
    with pytest.raises(UserError, match="no such precision"):
        resolve_precision("fp16", CPU)


def test_measuring_is_short_and_done_once():
    precision.bf16_gain.cache_clear()
    start = time.process_time()
    gain = precision.bf16_gain("cpu")
    assert time.process_time() - start < 2
    assert gain > 0
    assert precision.bf16_gain("cpu") == gain
    assert precision.bf16_gain.cache_info().hits == 1


def test_autocast_multiplies_in_bf16_and_leaves_fp32_alone():
    layer = torch.nn.Linear(4, 4)
    with autocast(CPU, "bf16"):
        assert layer(torch.randn(2, 4)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert layer(torch.randn(2, 4)).dtype == torch.float32


FAULTS = """
import resource, sys, torch
from descent.training.precision import tune_allocator
torch.set_num_threads(1)
print(tune_allocator() if sys.argv[1] == "tuned" else None, end=" ")
def work():
    for _ in range(5):
        torch.ones(12_000_000)  # 48 MB, more than glibc ever keeps by itself
for _ in range(4):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str, **variables: str) -> tuple[str, int]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    told, count = done.stdout.split()
    return told, int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept():
    told, tuned = faults("tuned")
    if told == "False":
        pytest.skip("not glibc")
    _, plain = faults("plain")
    assert plain > 5 * 1000
    assert tuned < 0.2 * plain


def test_settings_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    assert tune_allocator() is False
