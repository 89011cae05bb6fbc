"""Processes that start together: one compiles, and the others wait for it, unless it dies."""

import errno
import fcntl
import os
import select
import subprocess
import sys
import threading
import warnings

import pytest
from test_compiled import called, files

from seqsru.ops import compiled

WAITING = "seqsru: another process compiles what this one needs; waiting for it\n"
# Compiles once it is told to, on standard input.
PROGRAM = """
import sys; sys.path[:0] = {path!r}
import test_compiled as test
from seqsru.ops import compiled
compiled.TOLD_AFTER = 0
def body():
    print("compiling", flush=True)
    sys.stdin.readline()
    return test.double
compiled.address(body, ["int64*", "int64"], name="double", sources=(), fastmath=())
print(test.called(), "numba" in sys.modules, flush=True)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "seqsru"


@pytest.fixture
def start(cache):
    """Start a process that needs the code; all are ended with the test."""
    started = []

    def start():
        program = PROGRAM.format(path=[*sys.path, os.path.dirname(__file__)])
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def waits(process):
    """Say whether a process says that it waits, and nothing else."""
    return process.stderr.readline() == WAITING and not select.select([process.stdout], [], [], 0.3)[0]


def test_one_compiles_and_the_others_wait(start, cache):
    first = start()
    assert first.stdout.readline() == "compiling\n"
    others = [start(), start()]
    assert all(waits(other) for other in others)
    assert first.communicate("\n") == ("[3, 5, 7] True\n", "")
    for other in others:
        assert other.communicate() == ("[3, 5, 7] False\n", "")  # loaded, without Numba
    assert [path.suffix for path in files(cache)] == [".code"]


def test_when_the_first_dies_another_takes_over(start, cache):
    first = start()
    assert first.stdout.readline() == "compiling\n"
    second = start()
    assert waits(second)
    first.kill()
    assert second.stdout.readline() == "compiling\n"
    third = start()
    assert waits(third)
    assert second.communicate("\n") == ("[3, 5, 7] True\n", "")
    assert third.communicate() == ("[3, 5, 7] False\n", "")
    assert [path.suffix for path in files(cache)] == [".code"]


@pytest.mark.slow
def test_nobody_waits_for_ever(start, cache, monkeypatch):
    """One that is stopped, or asks a file server that has gone, keeps its lock."""
    first = start()
    assert first.stdout.readline() == "compiling\n"
    monkeypatch.setattr(compiled, "PATIENCE", 0.0)
    assert called() == [3, 5, 7]
    monkeypatch.setattr(compiled, "_compile", None)
    assert first.communicate("\n")[0] == "[3, 5, 7] True\n"
    assert called() == [3, 5, 7]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_a_file_system_without_locks(number, cache, monkeypatch):
    def refused(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refused)
    assert called() == [3, 5, 7]
    assert [path for path in files(cache) if path.suffix == ".code"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_without_room_for_a_lock(number, cache, monkeypatch):
    opened = os.open

    def refused(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(compiled.os, "open", refused)
    with warnings.catch_warnings():  # nor can the code be kept there, which is told
        warnings.filterwarnings("ignore", "compiled code is not taken from")
        assert called() == [3, 5, 7]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "file"])
def test_something_else_in_the_place_of_the_lock(kind, cache):
    called()
    (path,) = files(cache)
    path.unlink()
    lock = path.with_suffix(".lock")
    elsewhere = cache.parent / "elsewhere"
    elsewhere.write_text("mine")
    {
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "link": lambda: lock.symlink_to(elsewhere),
        "file": lambda: lock.write_text("left by one that died"),
    }[kind]()
    assert called() == [3, 5, 7]
    assert path.exists() and elsewhere.read_text() == "mine"


@pytest.mark.slow
def test_several_threads_of_several_processes(start, cache):
    first = start()
    assert first.stdout.readline() == "compiling\n"
    found = []
    threads = [threading.Thread(target=lambda: found.append(called())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert first.communicate("\n")[0] == "[3, 5, 7] True\n"
    for thread in threads:
        thread.join()
    assert found == [[3, 5, 7]] * 3
    assert [path.suffix for path in files(cache)] == [".code"]
