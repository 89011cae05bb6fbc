"""A folder held open with its files, so that renaming and deleting change nothing for who reads them."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path
from typing import Any

from safetensors.torch import load, load_file
from torch import Tensor

from seqsru.data.files import CHUNK
from seqsru.data.room import memory
from seqsru.errors import Refused
from seqsru.regular import NO_LINK, is_folder, opened, read_json

MOVED = "put the folder itself there"
POSIX = os.open in os.supports_dir_fd and bool(NO_LINK)  # elsewhere files go by their names


class Held:
    """A folder that is open, and those of its files that were asked for.

    Parameters
    ----------
    path : Path
        The folder.
    refusal : type of Refused
        What is raised.
    do : str
        What a user can do where there is none.

    Raises
    ------
    Refused
        A `refusal`: there is none, or something else.
    """

    def __init__(self, path: Path, refusal: type[Refused], do: str) -> None:
        self.path, self._refusal = path, refusal
        self._files: dict[str, int] = {}
        self._folder: int | None = None
        self._opened: list[int] = []
        self.close = weakref.finalize(self, _close, self._opened)  # at once, or with the last reference
        if not is_folder(path):
            found = "a link" if path.is_symlink() else "none"
            do = MOVED if path.is_symlink() else do
            raise refusal(f"a checkpoint folder at {path}", found, do)
        if POSIX:
            try:
                self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | NO_LINK | os.O_CLOEXEC)
            except OSError as error:
                found = f"one that cannot be read ({error.strerror})"
                raise refusal(f"a checkpoint folder at {path}", found, "change its permissions") from None
            self._opened.append(self._folder)

    def moved(self) -> bool:
        """Whether its name is now that of another folder, or of none."""
        try:
            now = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        if self._folder is None:
            return False
        then = os.fstat(self._folder)
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)

    def json(self, name: str, most: int, do: str) -> dict[str, Any]:
        """The JSON object in a file of at most so many bytes."""
        what = "the file"
        return read_json(self.path / name, most, do, what=what, within=self._folder, refusal=self._refusal)

    def sha256(self, name: str, do: str) -> str:
        """The sum of a file, which is then open."""
        with opened(
            self.path / name, memory(), do, what="the file", within=self._folder, refusal=self._refusal
        ) as descriptor:
            digest = hashlib.sha256()
            try:
                while chunk := os.read(descriptor, CHUNK):
                    digest.update(chunk)
            except OSError as error:
                found = f"one that cannot be read ({error.strerror})"
                raise self._refusal(f"the file {self.path / name}", found, do) from None
            if POSIX and name not in self._files:
                self._files[name] = os.dup(descriptor)
                self._opened.append(self._files[name])
        return digest.hexdigest()

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What is in a safetensors file, of the very bytes whose sum was taken."""
        if name not in self._files:
            return load_file(self.path / name)
        again = f"/dev/fd/{self._files[name]}"
        if os.path.exists(again):  # the file itself, whatever its name is now
            return load_file(again)
        with open(os.dup(self._files[name]), "rb") as stream:
            stream.seek(0)
            return load(stream.read())


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
