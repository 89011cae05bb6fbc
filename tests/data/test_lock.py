"""The lock of a run directory on systems without the module that this one has."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from seqsru.data import lock
from seqsru.errors import Busy
from seqsru.training.run_directory import RunDirectory


class Windows:
    """What msvcrt does, one holder a file."""

    LK_NBLCK = 2

    def __init__(self):
        self.held = False

    def locking(self, descriptor, mode, count):
        assert (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)) == (self.LK_NBLCK, 1, lock.BEHIND)
        if self.held:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held = True


def test_windows_locks_a_byte_behind_the_content(tmp_path, monkeypatch):
    windows = Windows()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    run = RunDirectory(tmp_path / "run")
    with run.exclusive():
        assert run.lock.read_text() == f"{os.getpid()}\n"
    with (
        pytest.raises(
            Busy, match=f"expected no other run in {run.path}, found that process {os.getpid()} is"
        ),
        run.exclusive(),
    ):
        pass


def test_without_either_module_there_is_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "importlib", SimpleNamespace(import_module=missing))
    with RunDirectory(tmp_path / "run").exclusive():
        assert (tmp_path / "run" / "lock").exists()


def missing(name):
    raise ImportError(name)


@pytest.mark.slow
def test_nothing_needs_what_another_system_lacks_to_be_imported():
    code = """
import importlib, pkgutil, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import seqsru
for module in pkgutil.walk_packages(seqsru.__path__, "seqsru."):
    if not module.name.startswith(("seqsru.ops.cuda", "seqsru.evaluation.plots")):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
