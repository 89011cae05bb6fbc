"""Encoded texts, kept from one start to the next: arrays of numbers in a folder, each with its sum.

What is kept is named after all that it depends on: the content of the text, the tokenizers, how bad lines are
taken. It is written beside its name and renamed once it is whole, and read after a look at its sums.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from seqsru.data.arrays import Arrays
from seqsru.data.facts import LARGE, make_folder, settled, stamp
from seqsru.data.files import file_digest, flush, flush_folder, write_whole
from seqsru.data.lock import hold
from seqsru.data.mapped import Mapped, Numbers
from seqsru.errors import NO_ROOM, Refused

FORMAT = 1  # of the files and of what is encoded into them; part of every name
KEPT = LARGE  # bytes of text whose encoding takes seconds; less is encoded anew at every start
PAUSE = 0.2  # seconds between two looks at a lock

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Encoded:
    """An encoded text.

    Parameters
    ----------
    facts : mapping
        JSON values: what was noted while it was encoded.
    arrays : mapping of str to Numbers
    origin : str
        Where it comes from, in words; empty where nothing is kept.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, Numbers]
    origin: str = ""


Build = Callable[[Arrays], Mapping[str, Any]]  # fills arrays, and gives facts


class TextCache:
    """Where encoded texts are kept.

    Parameters
    ----------
    folder : Path or None
        The folder; None is ``$XDG_CACHE_HOME/seqsru/texts``, by default ``~/.cache/seqsru/texts``. It is made
        when something is first kept.
    tell : callable
        Is given what a person should know on the way, a line at a time.

    Attributes
    ----------
    facts : Path or None
        Folder for `seqsru.data.facts.facts_of`.
    """

    def __init__(self, folder: Path | None, tell: Tell) -> None:
        self.tell = tell
        self._given = folder
        self._folder = folder if folder is not None else _default()
        self.facts = facts_folder(folder)

    def encoded(self, what: str, size: int, key: Mapping[str, object], build: Build) -> Encoded:
        """An encoded text: the one that is kept, else a new one.

        Parameters
        ----------
        what : str
            What the text is called, to those who wait for it.
        size : int
            Bytes of text; a small one is not kept.
        key : mapping
            JSON values: all that the result depends on.
        build : callable
            Fills arrays, and gives JSON values beside them.

        Raises
        ------
        Refused
            A folder that was given cannot be written to, or there is no room in it.
        """
        folder = self._made() if size >= KEPT else None
        if size < KEPT:
            arrays = Arrays(None)
            return Encoded(build(arrays), arrays.finished())
        if folder is None:
            return self._unkept(what, build)
        name = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True).encode()).hexdigest()[:32]
        place = folder / name
        if (found := self._open(place)) is not None:
            return found
        with self._alone(folder / f"{name}.lock", what):
            if (found := self._open(place)) is not None:  # made by another process in the meantime
                return found
            for left in folder.glob(f"{name}.*.part"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".part", dir=folder))
            try:
                self._write(part, what, build)
                if place.exists():  # it is damaged
                    os.replace(place, part / "before")
                    shutil.rmtree(part / "before", ignore_errors=True)
                os.replace(part, place)
                flush_folder(folder)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            made = self._open(place, trusted=True)
        assert made is not None
        return Encoded(made.facts, made.arrays, f"encoded now, and kept in {place}")

    # ---- folders -----------------------------------------------------------------------------------

    def _made(self) -> Path | None:
        """The folder, made if need be; None where that of the system cannot be had."""
        if self._folder is None:
            return None
        try:
            make_folder(self._folder)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(None, "it cannot be written to")
        except OSError as error:
            if self._given is None:
                return None
            found = f"{self._folder}: {error.strerror}"
            do = "name a folder that can be written to, or leave it out"
            raise Refused("a folder for encoded texts", found, do, "cache") from None
        return self._folder

    def _unkept(self, what: str, build: Build) -> Encoded:
        """A large text where nothing can be kept: in files that end with the process."""
        self.tell(
            f"{what}: {self._folder or 'the cache folder'} cannot be written to, so it is encoded anew at "
            "every start; set cache to another folder"
        )
        part = Path(tempfile.mkdtemp(prefix="seqsru-texts-"))
        try:
            facts, arrays = self._filled(part, what, build)
            return Encoded(facts, arrays.finished())
        finally:
            shutil.rmtree(part, ignore_errors=True)  # what is mapped stays until it is not needed

    @contextmanager
    def _alone(self, lock: Path, what: str) -> Iterator[None]:
        """Hold a lock, waiting for who holds it; its file is gone afterwards."""
        told = False
        while True:
            with open(lock, "a+", encoding="utf-8") as file:
                try:
                    hold(file.fileno())
                    held = lock.exists() and os.fstat(file.fileno()).st_ino == lock.stat().st_ino
                except (BlockingIOError, FileNotFoundError):
                    held = False
                if held:
                    try:
                        yield
                    finally:
                        with suppress(OSError):
                            lock.unlink()
                    return
            if not told:
                self.tell(f"{what}: another process encodes it; waiting for that")
                told = True
            time.sleep(PAUSE)

    # ---- entries -----------------------------------------------------------------------------------

    def _filled(self, part: Path, what: str, build: Build) -> tuple[Mapping[str, Any], Arrays]:
        arrays = Arrays(part)
        try:
            return build(arrays), arrays
        except BaseException as error:
            arrays.abandon()
            if not isinstance(error, OSError):
                raise
            if error.errno not in NO_ROOM:
                raise
            free = shutil.disk_usage(part).free
            raise Refused(
                f"room for the encoded text of {what} in {part.parent}",
                f"{free / 2**20:,.0f} MiB free after {arrays.bytes / 2**20:,.0f} MiB were written",
                "free some, or set cache to a folder with more",
                "cache",
            ) from None

    def _write(self, part: Path, what: str, build: Build) -> None:
        def whole(arrays: Arrays) -> Mapping[str, Any]:
            record = {"format": FORMAT, "facts": build(arrays), "arrays": arrays.kept()}
            content = json.dumps(record)  # in the order in which things were noted
            digest = hashlib.sha256(content.encode()).hexdigest()
            (part / "record.json").write_text(f"{digest}\n{content}\n", encoding="utf-8")
            flush(part / "record.json")
            flush_folder(part)
            return record

        self._filled(part, what, whole)

    def _open(self, place: Path, trusted: bool = False) -> Encoded | None:
        """What is kept in a folder, None where there is nothing, or something damaged, which is told."""
        if not place.exists():
            return None
        try:
            record = _record(place)
            paths = {name: place / name for name in record["arrays"]}
            for name, path in paths.items():
                array = record["arrays"][name]
                if path.is_symlink() or not path.is_file():
                    raise _Damaged(f"{name} is missing")
                if path.stat().st_size != array["count"] * numpy.dtype(array["dtype"]).itemsize:
                    raise _Damaged(f"{name} has another size")
            stamps = {name: stamp(path) for name, path in paths.items()}
            checked = trusted or _checked(place) == stamps
            if not checked:
                for name, path in paths.items():
                    if file_digest(path, "sha256") != f"sha256:{record['arrays'][name]['sha256']}":
                        raise _Damaged(f"{name} has another sum")
                if all(map(settled, paths.values())):
                    with suppress(OSError):  # it may be somebody else's
                        write_whole(place / "checked.json", json.dumps(stamps).encode())
            arrays: dict[str, Numbers] = {
                name: Mapped(path, numpy.dtype(record["arrays"][name]["dtype"]))
                for name, path in paths.items()
            }
        except (_Damaged, OSError) as damage:
            self.tell(f"the encoded text in {place} is damaged ({damage}), and made anew")
            return None
        how = "of which no file changed since its sums were checked" if checked else "its sums checked now"
        return Encoded(record["facts"], arrays, f"the encoded text in {place}, {how}")


class _Damaged(Exception):
    """What is wrong with something that was kept."""


def facts_folder(folder: Path | None) -> Path | None:
    """Where the facts of texts are kept that are encoded in a cache's folder, None where they cannot be."""
    found = folder if folder is not None else _default()
    return None if found is None else found / "facts"


def _default() -> Path | None:
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home directory
        return None
    return root.absolute() / "seqsru" / "texts"


def _record(place: Path) -> dict[str, Any]:
    """What was written of the arrays in a folder."""
    try:
        digest, _, content = (place / "record.json").read_text(encoding="utf-8").partition("\n")
        content = content.removesuffix("\n")
        if hashlib.sha256(content.encode()).hexdigest() != digest:
            raise _Damaged("record.json has another sum")
        record: dict[str, Any] = json.loads(content)
    except UnicodeDecodeError:
        raise _Damaged("record.json is no text") from None
    return record


def _checked(place: Path) -> object:
    """What the system said of the files when their sums were last checked."""
    try:
        return json.loads((place / "checked.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
