"""What holds in every test: shapes are checked, nothing leaves this machine, nothing outside is needed."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest
from beartype import BeartypeConf, BeartypeHintOverrides, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

# An integer is accepted for a float, as everywhere else in Python. A method cannot know the class that
# `Self` stands for before that class exists.
_checker = ModuleType("descent_shape_checker")
_checker.check = beartype(  # type: ignore[attr-defined]
    conf=BeartypeConf(is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({Self: Any}))
)


def check_shapes(package: str) -> None:
    """Has the types and shapes in the signatures of a package checked at every call.

    The hook rewrites modules as they are imported, late ones too, so it must stand before the first
    import of the package: pytest reads this file before any test module.
    """
    if any(name == package or name.startswith(f"{package}.") for name in sys.modules):
        raise RuntimeError(f"{package} was imported before its signatures could be checked")
    sys.modules[_checker.__name__] = _checker
    install_import_hook(package, f"{_checker.__name__}.check")


check_shapes("descent")
settings.register_profile("descent", deadline=None, derandomize=True, database=None)
settings.load_profile("descent")
LOCAL_DATA = os.environ.pop("DESCENT_DATA", None)
os.environ["MPLBACKEND"] = "Agg"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-traces", action="store_true", help="store the loss traces instead of testing them"
    )


@pytest.fixture
def write_traces(request: pytest.FixtureRequest) -> bool:
    """Whether the stored loss traces are to be written anew (a change on purpose; see CONTRIBUTING.md)."""
    return request.config.getoption("--write-traces")


@pytest.fixture
def local_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of data files named by DESCENT_DATA, which only tests that ask for it get to see."""
    if not LOCAL_DATA or not Path(LOCAL_DATA).is_dir():
        pytest.skip("needs data files: set DESCENT_DATA to the folder that holds them")
    monkeypatch.setenv("DESCENT_DATA", LOCAL_DATA)
    return Path(LOCAL_DATA).resolve()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches go to a folder of the test session: a user's downloads are neither used nor touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


class NetworkBlocked(OSError):
    """A test tried to reach another machine."""


def _is_local(family: int, address: Any) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True  # a Unix socket
    host = str(address[0])
    return host in ("localhost", "::1", "") or host.startswith("127.")


@pytest.fixture(autouse=True)
def network_attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Blocks every way out of this machine, and fails a test that tried one.

    An attempt is an `OSError` to the code that makes it, as if there were no network. A test of that
    very case takes this list, looks at what was tried, and clears it.
    """
    attempts: list[str] = []

    def refuse(host: Any) -> None:
        attempts.append(str(host))
        raise NetworkBlocked(f"tests reach no other machine, but this one tried {host}")

    def guard(name: str) -> None:
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any) -> Any:
            if not _is_local(self.family, address):
                refuse(address)
            return original(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)

    resolve = socket.getaddrinfo

    def resolve_local(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local(socket.AF_INET, (name,)) and not name.startswith("0."):
            refuse(name)
        return resolve(host, *args, **kwargs)

    guard("connect")
    guard("connect_ex")
    monkeypatch.setattr(socket, "getaddrinfo", resolve_local)
    yield attempts
    assert not attempts, f"this test tried to reach {', '.join(attempts)}"
