"""The guards every test runs under hold."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from descent.errors import nearest
from descent.nn.norm import RMSNorm


def test_signatures_are_checked_in_functions_and_in_forwards():
    with pytest.raises((TypeCheckError, BeartypeCallHintViolation)):
        nearest(3, ["three"])  # type: ignore[arg-type]
    with pytest.raises((TypeCheckError, BeartypeCallHintViolation)):
        RMSNorm(8)(torch.zeros(2, 3, 8, dtype=torch.int64))


def test_the_hook_refuses_to_come_too_late(request: pytest.FixtureRequest):
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    with pytest.raises(RuntimeError, match="imported before"):
        conftest.check_shapes("descent")


def test_a_connection_to_another_machine_fails(network_attempts: list[str]):
    with socket.socket() as outside, pytest.raises(OSError, match="reach no other machine"):
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="reach no other machine"):
        socket.create_connection(("example.org", 443))
    assert network_attempts == ["('192.0.2.1', 80)", "example.org"]
    network_attempts.clear()


def test_a_connection_on_this_machine_works():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(("localhost", server.getsockname()[1]))
        server.accept()[0].close()
        client.close()


def test_an_attempt_that_was_swallowed_still_fails_the_test(tmp_path: Path):
    (tmp_path / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (tmp_path / "test_swallows.py").write_text(
        "import contextlib, socket\n"
        "def test_swallows():\n"
        "    with contextlib.suppress(OSError):\n"
        "        socket.create_connection(('example.org', 443))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_swallows.py"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "this test tried to reach example.org" in ended.stdout


def test_no_test_sees_the_data_folder_without_asking():
    assert "DESCENT_DATA" not in os.environ


def test_local_data_is_the_folder_asked_for(local_data: Path):
    assert Path(os.environ["DESCENT_DATA"]).resolve() == local_data
