"""Downloads: from a server that misbehaves in every way, only right bytes ever take a file's name."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from descent.data import download, entries, registry
from descent.data.registry import Entry, File, listing, locate, show
from descent.errors import CorruptArtifact, UserError

GOOD = bytes(range(256)) * 600
HOST = "https://data.example"


class Server(ThreadingHTTPServer):
    """Serves what `answers` says for each path, and remembers what was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.asked.append(self.path)
        name = self.path.split("/")[1]
        status = {"good": 200, "gone": 404, "busy": 503}.get(name, 200)
        body, kind, headers = GOOD, "application/octet-stream", {}
        if name == "html":
            body, kind = b"<html>log in</html>".ljust(len(GOOD)), "text/html; charset=utf-8"
        elif name == "wrong":
            body = GOOD[:-1] + b"!"
        elif name == "short":
            body = GOOD[: len(GOOD) // 2]
        elif name == "long":
            body = GOOD * 3
        elif name in ("cut", "to"):
            status = 302 if name == "to" else 200
        if name == "to":
            headers["Location"] = self.path.removeprefix("/to/").replace("~", "/")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if name == "cut" else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class ToServer(HTTPAdapter):
    """Takes data.example, over https too, to the local server, which speaks no TLS."""

    def __init__(self, port: int):
        super().__init__()
        self.port = port

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        asked = request.url
        request.url = re.sub("^https?://data.example", f"http://127.0.0.1:{self.port}", str(asked))
        answer = super().send(request, *args, **kwargs)
        answer.url = str(asked)
        return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()

    def session() -> requests.Session:
        made = requests.Session()
        for scheme in ("https", "http"):
            made.mount(f"{scheme}://data.example", ToServer(running.server_port))
        return made

    monkeypatch.setattr(download, "session", session)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield running
    running.shutdown()
    running.server_close()


def enter(
    monkeypatch: pytest.MonkeyPatch,
    *paths: str,
    name: str = "data.bin",
    md5: bool = False,
    host: str = HOST,
    size: int = len(GOOD),
) -> None:
    sums = {"md5": hashlib.md5(GOOD).hexdigest()} if md5 else {"sha256": hashlib.sha256(GOOD).hexdigest()}
    file = File(name, tuple(f"{host}/{path}" for path in paths), size, **sums)
    entry = Entry("toy", "a toy", "text", "lines", "free", "nobody", (file,))
    monkeypatch.setitem(registry.ENTRIES, "toy", entry)


def kept() -> list[str]:
    root = download.cache_folder()
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("md5", [False, True])
def test_a_file_comes_once(server: Server, monkeypatch: pytest.MonkeyPatch, md5: bool):
    enter(monkeypatch, "good/data.bin", md5=md5)
    seen: list[tuple[str, int, int]] = []
    (path,) = locate("toy", lambda *report: seen.append(report))
    assert path.read_bytes() == GOOD
    assert kept() == ["toy/data.bin"]
    assert seen[-1] == ("data.bin", len(GOOD), len(GOOD))
    assert locate("toy") == [path]
    assert server.asked == ["/good/data.bin"]
    assert show("toy")["files"][0]["path"] == str(path)


BAD = {
    "gone": "answered 404",
    "busy": "answered 503",
    "html": "a web page instead of the file",
    "wrong": "is not data.bin as it was published",
    "short": "is not data.bin as it was published",
    "cut": "connection broke before the end",
    "long": "more than the file holds",
    "to/http:~~data.example~good~x": "leads away from https",
    "to/http:~~127.0.0.1:1~x": "leads away from https",
    "to/file:~~~etc~passwd": "leads away from https",
    "to/ftp:~~data.example~x": "leads away from https",
    "to/~to~to~to~to~to~to~to~good": "redirect",
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_bytes_never_take_the_name(server: Server, monkeypatch: pytest.MonkeyPatch, bad: str):
    enter(monkeypatch, bad)
    with pytest.raises(UserError, match=BAD[bad]) as caught:
        locate("toy", False)
    assert caught.value.exit_code == 2
    assert "toy: data.bin could not be downloaded" in caught.value.what
    assert "DESCENT_DATA/toy/data.bin" in str(caught.value.hint)
    assert kept() == []


@pytest.mark.parametrize("bad", BAD)
def test_the_next_mirror_is_tried(server: Server, monkeypatch: pytest.MonkeyPatch, bad: str):
    enter(monkeypatch, bad, "good/data.bin")
    assert locate("toy", False)[0].read_bytes() == GOOD
    assert kept() == ["toy/data.bin"]


def test_a_redirect_within_https_is_followed(server: Server, monkeypatch: pytest.MonkeyPatch):
    enter(monkeypatch, "to/https:~~data.example~good~data.bin")
    assert locate("toy", False)[0].read_bytes() == GOOD


PLAIN = HOST.replace("https", "http")


def test_a_registered_http_address_is_taken_where_a_sha256_guards_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    for path in ("good/data.bin", "to/http:~~data.example~good~x", "to/https:~~data.example~good~x"):
        enter(monkeypatch, path, host=PLAIN)
        (found,) = locate("toy", False)
        assert found.read_bytes() == GOOD
        found.unlink()
    for bad in ("wrong", "html", "cut"):
        enter(monkeypatch, bad, host=PLAIN)
        with pytest.raises(UserError, match=BAD[bad]):
            locate("toy", False)
    assert kept() == []


@pytest.mark.parametrize(
    "bad",
    [
        "to/http:~~127.0.0.1:1~x",
        "to/https:~~data.example~to~http:~~data.example~good",
        "to/file:~~~etc~passwd",
    ],
)
def test_an_http_address_leads_to_https_or_stays_where_it_is(
    server: Server, monkeypatch: pytest.MonkeyPatch, bad: str
):
    enter(monkeypatch, bad, host=PLAIN)
    with pytest.raises(UserError, match="leads away from https"):
        locate("toy", False)
    assert kept() == []


def test_an_http_address_without_a_sha256_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch):
    enter(monkeypatch, "good/data.bin", host=PLAIN, md5=True)
    with pytest.raises(UserError, match="leads away from https"):
        locate("toy", False)
    assert server.asked == []


def test_a_file_of_unpublished_size_is_told_by_its_sum_and_capped(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    for bad in ("wrong", "short", "cut", "long"):
        enter(monkeypatch, bad, md5=True, size=0)
        with pytest.raises(UserError, match="could not be downloaded"):
            locate("toy", False)
    enter(monkeypatch, "good/x", md5=True, size=0)
    (path,) = locate("toy", False)
    assert path.read_bytes() == GOOD
    path.write_bytes(GOOD[:-1])
    assert locate("toy", False)[0].read_bytes() == GOOD
    path.unlink()
    monkeypatch.setattr(download, "_UNKNOWN_SIZE", len(GOOD) - 1)
    with pytest.raises(UserError, match="more than the file holds"):
        locate("toy", False)
    assert kept() == []


def test_a_query_in_an_address_is_no_part_of_the_name(server: Server, monkeypatch: pytest.MonkeyPatch):
    enter(monkeypatch, "good/data.bin?download=1")
    assert locate("toy", False)[0].name == "data.bin"
    assert server.asked == ["/good/data.bin?download=1"]


@pytest.mark.parametrize("bad", ["gone", "wrong", "cut", "html"])
def test_a_bad_cached_copy_is_replaced_by_good_bytes_only(
    server: Server, monkeypatch: pytest.MonkeyPatch, bad: str
):
    enter(monkeypatch, "good/data.bin")
    (path,) = locate("toy", False)
    enter(monkeypatch, bad)
    assert locate("toy", False) == [path]  # a good copy: nothing is asked for
    assert server.asked == ["/good/data.bin"]
    path.write_bytes(GOOD[:100])
    with pytest.raises(UserError, match="could not be downloaded"):
        locate("toy", False)
    assert path.read_bytes() == GOOD[:100]
    enter(monkeypatch, "good/data.bin")
    assert locate("toy", False)[0].read_bytes() == GOOD


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = File("x", ("https://127.0.0.1:1/x",), 10, "0" * 64)
    monkeypatch.setitem(registry.ENTRIES, "toy", Entry("toy", "", "text", "lines", "", "", (file,)))
    with pytest.raises(UserError, match=r"could not be downloaded(.|\n)*no connection to the server"):
        locate("toy", False)


def test_the_users_own_folder_comes_first(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    enter(monkeypatch, "good/诗.bin", name="全/诗.bin")
    own = tmp_path / "own" / "toy" / "全" / "诗.bin"
    own.parent.mkdir(parents=True)
    own.write_bytes(GOOD)
    monkeypatch.setenv("DESCENT_DATA", str(tmp_path / "own"))
    assert locate("toy") == [own]
    assert server.asked == []
    own.write_bytes(GOOD[:-1] + b"!")
    with pytest.raises(CorruptArtifact, match="the file in DESCENT_DATA") as caught:
        locate("toy")
    assert caught.value.exit_code == 3
    own.unlink()
    assert locate("toy", False)[0].read_bytes() == GOOD
    monkeypatch.setenv("DESCENT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="DESCENT_DATA names no folder"):
        locate("toy")


def test_without_downloading_what_is_missing_is_named(server: Server, monkeypatch: pytest.MonkeyPatch):
    enter(monkeypatch, "good/data.bin")
    with pytest.raises(UserError, match=r"data\.bin is not on this machine(.|\n)*descent data fetch toy"):
        locate("toy", download=False)
    assert server.asked == []


def test_two_downloads_at_once_leave_one_whole_file(server: Server, monkeypatch: pytest.MonkeyPatch):
    enter(monkeypatch, "good/data.bin")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            assert locate("toy", False)[0].read_bytes() == GOOD
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert kept() == ["toy/data.bin"]


def test_every_entry_is_complete_and_safe():
    assert len({entry.name for entry in entries.ALL}) == len(entries.ALL)
    for entry in entries.ALL:
        assert entry.about
        assert entry.licence
        assert entry.citation
        for file in entry.files:
            if file.content:  # what a server packs anew each time has no sum
                module, _, function = file.content.partition(".")
                assert callable(getattr(import_module(f"descent.data.{module}"), function))
            else:
                assert file.bytes > 0 or file.name == "pneumoniamnist.npz"
                assert (len(file.sha256), len(file.md5)) in ((64, 0), (0, 32))
            assert all(re.fullmatch(r"https?://[!-~]+", url) for url in file.urls)
            assert file.url.startswith("https://")
            assert file.sha256 or all(url.startswith("https://") for url in file.urls)
            assert not Path(file.name).is_absolute()
            assert ".." not in Path(file.name).parts
    assert [row["name"] for row in listing()] == [entry.name for entry in entries.ALL]


def test_chinese_names_are_quoted_in_the_address_only():
    file = registry.entry("chinese-poetry").files[0]
    assert file.name == "全唐诗/poet.tang.0.json"
    assert file.url.endswith("/%E5%85%A8%E5%94%90%E8%AF%97/poet.tang.0.json")


def test_every_local_file_has_the_registered_bytes(local_data: Path):
    found = 0
    for entry in entries.ALL:
        for file in entry.files:
            found += download.present(entry, file) is not None
    assert found >= 80
