"""What the CPU kernels were compiled to, kept on disk from one process to the next.

Compiling takes about a second a kernel. What Numba compiled can be written down as a pickle alone, and
whoever can write a pickle that we read can run code as us. So the folder, ``$XDG_CACHE_HOME/seqsru`` (default
``~/.cache/seqsru``), is used only on a POSIX system where no other user could have written to it: it is ours,
and neither it nor a folder above it is writable by others. A folder in it belongs to one state of these
sources.

A file holds one kernel, for one signature, processor, and version of Python and Numba. It begins with the
fingerprint of all these and the sum of what follows, which are compared before anything is unpickled.
Whatever does not fit is compiled anew, and so is everything where there is no folder: what is kept saves
time, and is never needed. Files are written beside their names and renamed, so that any number of processes
may share the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching, compiler, serialize

from seqsru.errors import Refused
from seqsru.ops.cpu_math import FASTMATH

# Numba has no types here.
_rebuild: Any = compiler.CompileResult._rebuild
_dumps: Any = serialize.dumps

_HEAD = b"seqsru kernel 1\n"
_SUM = 2 * hashlib.sha256().digest_size  # of a sum as text
_DO = "kernels are compiled anew in each process, a second each, until XDG_CACHE_HOME names such a folder"


class KernelCache(caching._Cache):
    """Where one function's compiled forms are kept; what Numba asks for them.

    Parameters
    ----------
    name : str
        Of the function and its elements, for the file's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def cache_path(self) -> str | None:
        """The folder, None where there is none."""
        try:
            return str(cache_folder())
        except Refused:
            return None

    def load_overload(self, sig: object, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None."""
        target_context.refresh()  # as Numba's own does, so that it can take what was compiled
        key = self._key(sig, target_context.codegen())
        try:
            path = self._path(key)
        except Refused as refusal:
            _tell(str(refusal))
            return None
        try:
            if not path.exists():
                return None
            if not path.is_file():
                raise OSError("something that is no file")
            payload = _checked(path.read_bytes(), key)
            return _rebuild(target_context, *pickle.loads(payload))
        except Exception as error:  # whatever is wrong with it: without it we are right, only slower
            reason = (
                error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
            )
            _tell(str(Refused(f"{path} as it was written", reason, "it is compiled anew")))
        return None

    def save_overload(self, sig: object, data: Any) -> None:
        """Keep what was compiled for a signature."""
        if data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted):
            return
        key = self._key(sig, data.codegen)
        try:
            path = self._path(key)
        except Refused:  # told when it was looked for
            return
        payload: bytes = _dumps(data._reduce())
        try:
            _write(path, _HEAD + key + b"\n" + _sum(payload) + b"\n" + payload)
        except OSError as error:
            _tell(str(Refused(f"to write {path}", error.strerror or str(error), _DO)))

    def enable(self) -> None:
        """Numba's; there is nothing to do."""

    def disable(self) -> None:
        """Numba's; there is nothing to do."""

    def flush(self) -> None:
        """Numba's; there is nothing to do."""

    def _key(self, sig: object, codegen: Any) -> bytes:
        """Return the fingerprint of all that the machine code depends on beside the sources."""
        versions = sys.version, numba.__version__, llvmlite.__version__
        return _sum(repr((self._name, str(sig), codegen.magic_tuple(), versions, sorted(FASTMATH))).encode())

    def _path(self, key: bytes) -> Path:
        return cache_folder() / f"{self._name}-{key[:16].decode()}"


def cache_folder() -> Path:
    """Return the folder for compiled kernels, made if need be.

    Raises
    ------
    Refused
        None is safe, or can be made.
    """
    expected = "a folder for compiled kernels that nobody else can write to"
    if os.name != "posix":
        raise Refused(expected, f"the system {os.name}, where that is not known", _DO)
    here = Path(__file__).parent
    files = [here / "calls.py", *sorted(here.glob("cpu_*.py"))]  # what the compiled code follows from
    try:
        sources = b"".join(path.read_bytes() for path in files)
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = root.resolve() / "seqsru" / f"kernels-{hashlib.sha256(sources).hexdigest()[:16]}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise Refused(expected, f"{folder} of another user", _DO)
        for place in (folder, *folder.parents):
            if not _closed(place):
                raise Refused(expected, f"that others can write to {place}", _DO)
    except OSError as error:
        raise Refused(expected, f"{error.filename}: {error.strerror}", _DO) from error
    except RuntimeError as error:  # no home directory
        raise Refused(expected, str(error), _DO) from error
    return folder


def _closed(folder: Path) -> bool:
    """Say whether no user but us and root can replace what is in `folder`."""
    found = folder.stat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and (not others or bool(found.st_mode & stat.S_ISVTX))


def _checked(content: bytes, key: bytes) -> bytes:
    """Return the payload of a file that is whole and for this key."""
    head = _HEAD + key + b"\n"
    payload = content[len(head) + _SUM + 1 :]
    if content[: len(head)] != head or content[len(head) : len(head) + _SUM + 1] != _sum(payload) + b"\n":
        raise ValueError("other content")
    return payload


def _write(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _sum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


_told: set[str] = set()


def _tell(sentence: str) -> None:
    """Say something once."""
    if sentence not in _told:
        _told.add(sentence)
        warnings.warn(sentence, RuntimeWarning, stacklevel=2)
