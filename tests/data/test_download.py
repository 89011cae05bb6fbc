"""Downloads from a server on this machine that breaks off, resumes, and lies."""

import errno
import hashlib
import http.server
import os
import threading

import pytest

from seqsru.data.download import copy_checked, download
from seqsru.data.files import file_digest
from seqsru.errors import NoRoom, Refused, Unreachable

CONTENT = bytes(range(256)) * 400


def digest_of(content, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; the behaviours that `server.script` lists are used up one a request."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        behaviour, argument = server.script.pop(0) if server.script else ("serve", None)
        content, wanted = server.content, self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if behaviour == "status" or self.path != "/file":
            self.send_error(argument or 404)
            return
        if behaviour == "ignore range":
            wanted, start = None, 0
        if wanted and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            shift = argument if behaviour == "wrong range" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if behaviour != "no length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + argument if behaviour == "cut" else None])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.script, server.requests = CONTENT, [], []
        server.url = f"http://127.0.0.1:{server.server_port}/file"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server, path, content=CONTENT, attempts=3):
    download(server.url, path, digest_of(content), attempts=attempts, pause=0, timeout=10)


def test_whole_file(server, tmp_path):
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert server.requests == [("/file", None)]


def test_goes_on_where_the_connection_broke(server, tmp_path):
    server.script = [("cut", 1000), ("cut", 5000)]
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-", "bytes=6000-"]


def test_a_file_without_a_known_sum_goes_on_too(server, tmp_path):
    server.script = [("cut", 1000)]
    download(server.url, tmp_path / "f", None, attempts=3, pause=0, timeout=10)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-"]


def test_goes_on_in_a_later_call(server, tmp_path):
    server.script = [("cut", 1000), ("cut", 0), ("cut", 0), ("cut", 0)]
    with pytest.raises(
        Unreachable,
        match=r"the whole of http://.*/file, found a broken connection after "
        r"1,000 bytes \(.*\); run the same command again to go on",
    ):
        get(server, tmp_path / "f")
    assert len(server.requests) == 4 and (tmp_path / "f.part").stat().st_size == 1000
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT and not (tmp_path / "f.part").exists()
    assert server.requests[-1] == ("/file", "bytes=1000-")


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"something older")
    server.script = [("ignore range", None)]
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_the_wrong_range_is_not_used(server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT[:100])
    server.script = [("wrong range", 5)]
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_killed_between_the_last_byte_and_the_renaming(server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT)
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == [("/file", f"bytes={len(CONTENT)}-")]


def test_no_length_given(server, tmp_path):
    server.script = [("no length", None)]
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("start", [b"", b"spoiled", b"longer" * 100_000])
def test_wrong_sum(server, tmp_path, start):
    if start:
        (tmp_path / "f.part").write_bytes(start)
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(
        Refused,
        match=r"expected sha256:[0-9a-f]{64} for http://.*/file, found sha256:.* "
        r"run the same command again to fetch it afresh",
    ):
        get(server, tmp_path / "f")
    assert not list(tmp_path.iterdir())
    server.content = CONTENT
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_busy_server_is_asked_again(server, tmp_path):
    server.script = [("status", 503), ("status", 429)]
    get(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_missing_address_is_not(server, tmp_path):
    server.url = server.url.replace("/file", "/other")
    with pytest.raises(
        Unreachable,
        match=r"expected a file at http://.*/other, found HTTP status 404 "
        r"\(Not Found\); fetch it by hand",
    ):
        get(server, tmp_path / "f")
    assert len(server.requests) == 1


def test_nobody_answers(server, tmp_path):
    server.url = "http://127.0.0.1:9/file"
    with pytest.raises(Unreachable, match="found a broken connection after 0 bytes"):
        get(server, tmp_path / "f")


def test_copying_checks_the_sum(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    copy_checked(tmp_path / "a", tmp_path / "b", digest_of(CONTENT, "md5"))
    assert (tmp_path / "b").read_bytes() == CONTENT
    with pytest.raises(Refused, match="expected md5:.* for .*a, found md5:.*; replace the file"):
        copy_checked(tmp_path / "a", tmp_path / "c", digest_of(b"", "md5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert file_digest(tmp_path / "a", "sha256") == digest_of(CONTENT)


@pytest.mark.parametrize("needs", [len(CONTENT), None])
def test_no_room_is_told_at_once_and_gone_on_from(server, tmp_path, monkeypatch, needs):
    """A full disk is no broken connection: nothing is asked for again, and what came is kept."""

    def full(stream, content):
        stream.write(content[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    server.script = [("serve" if needs else "no length", None)]
    path = tmp_path / "file"
    what = "100 KiB" if needs else "more"
    with monkeypatch.context() as patch:
        patch.setattr("seqsru.data.download.write_all", full)
        with pytest.raises(
            NoRoom,
            match=rf"^expected room for {what} at {path}.part, found \S+ \w+ free; free some, then go on$",
        ):
            download(server.url, path, digest_of(CONTENT))
    assert len(server.requests) == 1
    download(server.url, path, digest_of(CONTENT))
    assert path.read_bytes() == CONTENT and server.requests[1][1] == "bytes=1000-"
