"""Lines of a stream, and whether the next has to be waited for."""

import io
import os
import random
import threading

import pytest

from seqsru.data import inputs
from seqsru.data.inputs import Arriving


@pytest.fixture
def pipe():
    """A pipe: what reads it, and a function that writes to it."""
    read, write = os.pipe()
    with open(read, "rb") as stream, open(write, "wb", buffering=0) as end:
        yield stream, end


def test_lines_are_those_of_a_file(pipe):
    """Whatever pieces they arrive in: those of a binary file that is gone through."""
    stream, end = pipe
    draw = random.Random(0)
    content = b"".join(
        draw.choice([b"a", b"\n", b"\r\n", b"\0", b"\xff", b"long " * 999]) for _ in range(300)
    )

    def write():
        with end:
            rest = content
            while rest:
                size = draw.randint(1, 3000)
                end.write(rest[:size])
                rest = rest[size:]

    writer = threading.Thread(target=write)
    writer.start()
    assert list(Arriving(stream)) == list(io.BytesIO(content))
    writer.join()


@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\n", b"a\n\nb", b"\n\n", b"a\r\n" * 70_000])
def test_in_memory(content):
    assert list(Arriving(io.BytesIO(content))) == list(io.BytesIO(content))


def test_what_is_there_is_told(pipe):
    stream, end = pipe
    arriving = Arriving(stream)
    assert not arriving.more()
    end.write(b"one\ntwo\nthr")
    lines = iter(arriving)
    assert next(lines) == b"one\n" and arriving.more()
    assert next(lines) == b"two\n" and not arriving.more()  # a line that has begun is none yet
    end.write(b"ee\n")
    assert arriving.more() and next(lines) == b"three\n" and not arriving.more()
    end.write(b"last")
    assert not arriving.more()
    end.close()
    assert arriving.more() and list(lines) == [b"last"] and not arriving.more()


def test_a_person_at_a_terminal():
    """Each line is there as soon as it is typed, and Ctrl-D is the end."""
    ours, theirs = os.openpty()
    with open(theirs, "rb") as stream, open(ours, "wb", buffering=0) as keys:
        arriving = Arriving(stream)
        assert not arriving.more()
        for line in (b"one\n", b"\n", b"two\n"):
            keys.write(line)
            assert next(iter(arriving)) == line and not arriving.more()
        keys.write(b"\x04")
        assert list(arriving) == []


def test_a_pipe_that_does_not_wait(pipe):
    """Another process may have set it so; nothing there is not its end."""
    stream, end = pipe
    os.set_blocking(stream.fileno(), False)
    lines = iter(Arriving(stream))
    timer = threading.Timer(0.05, end.write, [b"late\n"])
    timer.start()
    assert next(lines) == b"late\n"
    timer.join()


def test_a_pipe_that_is_full_is_given_a_moment(pipe, monkeypatch):
    """Whoever fills it writes more as soon as it is read: those lines are there too."""
    stream, end = pipe
    monkeypatch.setattr(inputs, "SOON", 10.0)  # nothing else of the machine takes so long
    count = 20_000
    writer = threading.Thread(target=lambda: (end.write(b"a line\n" * count), end.close()))
    writer.start()
    arriving, found = Arriving(stream), 0
    for line in arriving:
        found += 1
        assert line == b"a line\n" and (found == count or arriving.more())
    assert found == count
    writer.join()
