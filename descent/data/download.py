"""Files of the registry, brought to this machine: checked, and never half there.

The folder in `DESCENT_DATA` comes first (`DESCENT_DATA/<set>/<file>`), then the cache in the
user's cache folder, then the network, into a `.part` file that takes its name only when its size
and checksum are right, or, where no sum is published, what is in it. Every address and every
redirect is https, but for the http addresses that the registry itself gives, which it does only for
files whose SHA-256 it knows.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch
import requests

from descent.data.registry import Entry, File
from descent.errors import CorruptArtifact, UserError

__all__ = ["cache_folder", "obtain", "present"]

Report = Callable[[str, int, int], None]

_REDIRECTS = 5
_TIMEOUT = (15, 60)  # seconds to connect, and without a byte
_CHUNK = 1 << 16
_UNKNOWN_SIZE = 100_000_000  # the most bytes of a file whose size is not published


def cache_folder() -> Path:
    """Where downloaded sets are kept."""
    return Path(pooch.os_cache("descent")) / "data"


def present(entry: Entry, file: File) -> Path | None:
    """Where the file lies on this machine, its bytes checked; None when it must be downloaded.

    Raises:
        CorruptArtifact: the file in `DESCENT_DATA` has other bytes.
    """
    folder = os.environ.get("DESCENT_DATA")
    if folder:
        if not Path(folder).is_dir():
            raise UserError("DESCENT_DATA names no folder", got=folder, hint="correct it, or unset it")
        own = _place(Path(folder), entry, file)
        if own.is_file():
            _check(own, file, "the file in DESCENT_DATA")
            return own
    cached = _place(cache_folder(), entry, file)
    return cached if cached.is_file() and _right(cached, file) else None


def obtain(entry: Entry, file: File, progress: bool | Report = True, *, download: bool = True) -> Path:
    """The verified file, downloaded when it is not here; see `registry.locate`."""
    found = present(entry, file)
    if found is not None:
        return found
    target = _place(cache_folder(), entry, file)
    if not download:
        raise UserError(
            f"{entry.name}: {file.name} is not on this machine",
            expected=f"it in DESCENT_DATA or in {target.parent}",
            hint=f"fetch it with `descent data fetch {entry.name}`",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in file.urls:
        try:
            _fetch(url, file, target, progress)
            return target
        except (UserError, requests.RequestException, OSError) as error:
            failures.append(f"  {url}\n    {_plain(error)}")
    raise UserError(
        f"{entry.name}: {file.name} could not be downloaded\n" + "\n".join(failures),
        hint=f"try again later, or put the file at DESCENT_DATA/{entry.folder or entry.name}/{file.name}",
    )


def session() -> requests.Session:
    """The connection that downloads use."""
    return requests.Session()


def _place(root: Path, entry: Entry, file: File) -> Path:
    return root / (entry.folder or entry.name) / file.name


def _fetch(url: str, file: File, target: Path, progress: bool | Report) -> None:
    """Downloads into `<name>.<random>.part` beside the target, checks, and renames."""
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    pooch.get_logger().setLevel("WARNING")
    try:
        with _reporting(progress) as report:

            def stream(fname: str, action: Any, pooch: Any, *, check_only: bool | None = None) -> None:
                _stream(fname, Path(action), file, report)

            # the checksum is looked at below, where a mismatch can be put in plain words
            pooch.retrieve(url, known_hash=None, fname=part.name, path=part.parent, downloader=stream)
        _check(part, file, "what came")
        _sync(part)
        os.replace(part, target)
        _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _stream(url: str, output: Path, file: File, report: Report) -> None:
    most = file.bytes or _UNKNOWN_SIZE
    with session() as connection, _follow(connection, url, file) as answer:
        if answer.status_code != 200:
            raise UserError(f"the server answered {answer.status_code} {answer.reason}")
        kind = answer.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise UserError("the server sent a web page instead of the file", got=kind)
        done = 0
        with output.open("wb") as sink:
            for block in answer.iter_content(_CHUNK):
                done += len(block)
                if done > most:
                    raise UserError("the server sent more than the file holds", expected=f"{most:,} bytes")
                sink.write(block)
                report(file.name, done, file.bytes)


@contextmanager
def _follow(connection: requests.Session, url: str, file: File) -> Iterator[requests.Response]:
    """The answer at the end of the redirects, every one of which must be https.

    An address of the registry may be http where a SHA-256 tells a forged file, and so may a redirect from
    it within the same host.
    """
    plain = urlsplit(url).netloc if urlsplit(url).scheme == "http" and file.sha256 else None
    for _ in range(_REDIRECTS + 1):
        place = urlsplit(url)
        if place.scheme != "https" and not (place.scheme == "http" and place.netloc == plain):
            raise UserError("the download leads away from https", got=url)
        answer = connection.get(
            url, stream=True, timeout=_TIMEOUT, allow_redirects=False, headers={"Accept-Encoding": "identity"}
        )
        if not answer.is_redirect:
            with answer:
                yield answer
            return
        answer.close()
        url = urljoin(url, answer.headers["Location"])
        plain = plain if urlsplit(url).scheme == "http" else None  # https, once reached, is kept
    raise UserError(f"more than {_REDIRECTS} redirects", got=url)


def _fault(path: Path, file: File) -> tuple[str, str] | None:
    """What the file is and what it should be, or None when it is right."""
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        return f"{size:,} bytes", f"{file.bytes:,} bytes"
    if not file.checksum:
        return None  # what is in it is checked instead
    algorithm, _, expected = file.checksum.partition(":")
    with path.open("rb") as source:
        digest = hashlib.file_digest(
            source, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()
    return None if digest == expected else (f"{algorithm} {digest}", f"{algorithm} {expected}")


def _check(path: Path, file: File, what: str) -> None:
    fault = _fault(path, file)
    if fault is not None:
        raise CorruptArtifact(
            f"{what} is not {file.name} as it was published: {path}", got=fault[0], expected=fault[1]
        )
    if file.content:
        module, _, function = file.content.partition(".")
        getattr(import_module(f"descent.data.{module}"), function)(path)


def _right(path: Path, file: File) -> bool:
    try:
        _check(path, file, "the cached file")
    except CorruptArtifact:
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(error: Exception) -> str:
    """What went wrong on the way, in a few words."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not trusted"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    if isinstance(error, requests.RequestException):
        return f"the connection broke before the end of the file ({type(error).__name__})"
    return str(error).replace("\n", "\n    ")


@contextmanager
def _reporting(progress: bool | Report) -> Iterator[Report]:
    """A function that shows how far a download is: the caller's, a bar on a terminal's stderr, or nothing."""
    if callable(progress):
        yield progress
        return
    if not progress or not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
