"""Bytes in: what can be read only once is read once, and one stream is not two texts."""

import io
import os
import re
import socket
import sys
import threading

import pytest

from seqsru.data import read_lines, read_parallel
from seqsru.data.inputs import check_sources, descriptor, readable_once
from seqsru.data.vectors import read_vectors
from seqsru.errors import Refused


@pytest.fixture
def pipe(tmp_path):
    """Make a pipe with a name, into which a thread writes once."""
    threads = []

    def make(name, content):
        path = tmp_path / name
        os.mkfifo(path)
        threads.append(threading.Thread(target=path.write_bytes, args=(content,)))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join()


def test_both_sides_may_be_pipes(pipe):
    lines = b"".join(b"line %d\n" % number for number in range(20_000))  # more than a pipe holds
    pair = read_parallel(pipe("s", lines), pipe("t", lines.upper()))
    assert len(pair.source) == 20_000 and pair.target[-1] == "LINE 19999"


def test_pipes_of_different_length_are_counted(pipe):
    source, target = pipe("s", b"a\nb\n"), pipe("t", b"x\n")
    with pytest.raises(Refused, match=r"^expected as many lines in .*s as in .*t, found 2 and 1; align "):
        read_parallel(source, target)


def test_one_side_is_standard_input(tmp_path, monkeypatch):
    (tmp_path / "t").write_text("x\ny\n")
    for content in (b"a\nb\n", b"a\nb"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert read_parallel("-", tmp_path / "t").source == ["a", "b"]


def test_an_open_file_has_a_path(tmp_path, pipe):
    (tmp_path / "t").write_text("x\ny\n")
    with open(tmp_path / "t", "rb") as stream:
        path = f"/dev/fd/{stream.fileno()}"
        assert descriptor(path) == stream.fileno() and readable_once(path)
        (tmp_path / "link").symlink_to(path)
        assert descriptor(tmp_path / "link") == stream.fileno()
        assert read_parallel(tmp_path / "t", tmp_path / "link").target == ["x", "y"]
    assert descriptor("/dev/stdin") == 0 and descriptor("/proc/self/fd/2") == 2
    (tmp_path / "round").symlink_to("round")
    for path in ("7", "/dev/null", tmp_path / "t", tmp_path / "round", "-"):
        assert descriptor(path) is None


def test_one_stream_is_not_two_texts(tmp_path):
    os.mkfifo(tmp_path / "a")
    (tmp_path / "b").symlink_to("a")
    for pair in (("-", "-"), (tmp_path / "a", tmp_path / "b")):
        first, second = map(str, pair)
        with pytest.raises(
            Refused,
            match=f"^expected a source of its own for each text, found {first} and {second}, one stream "
            "that can be read only once; save it to a file, and name that$",
        ):
            read_parallel(*pair)


def test_standard_input_by_another_name(tmp_path, monkeypatch):
    read, write = os.pipe()
    with open(read, encoding="utf-8") as stream:
        os.close(write)
        monkeypatch.setattr(sys, "stdin", stream)
        for name in (f"/dev/fd/{read}", f"/proc/self/fd/{read}"):
            with pytest.raises(Refused, match=f"found - and {name}, one stream"):
                check_sources("-", tmp_path, name)


def test_a_file_may_be_two_texts(tmp_path):
    (tmp_path / "a").write_text("x\n")
    assert read_parallel(tmp_path / "a", tmp_path / "a").target == ["x"]
    check_sources("/dev/null", "/dev/null", tmp_path / "none", tmp_path / "none")


def test_a_file_that_grows_on_the_way(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x\n")
    monkeypatch.setattr("seqsru.data.lines._count", lambda stream: 2)
    with pytest.raises(
        Refused,
        match=r"^expected 2 lines again on reading .*, found 1; the files are counted first, so give files "
        "that do not change$",
    ):
        read_parallel(tmp_path / "a", tmp_path / "a")


def test_vectors_from_a_pipe(pipe):
    assert read_vectors(pipe("v", b"one 1 2\ntwo 3 4\n"), {"two": 5}, 2).rows.tolist() == [[3, 4]]


def test_a_socket_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its path may not be long
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
        with pytest.raises(
            Refused, match="^expected a text file at s, found a socket; save what it sends to a file$"
        ):
            read_lines("s")


def test_standard_input_that_is_closed(monkeypatch):
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    told = re.escape("expected text on standard input, found that it is closed; give it a file, or /dev/null")
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stdin", stream)
        for name in ("-", "/dev/stdin"):
            with pytest.raises(Refused, match=f"^{told}$"):
                read_lines(name)
