"""Files that are read back, which anybody may have put there: regular files alone, through a limit.

A pipe would be waited for, a device read without an end, a link would lead elsewhere, and a file may be as
large as it likes: each is refused in one sentence before a byte of it is taken.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqsru.errors import NotFound, Refused

# 0 where a system has no such flag; a link is then found by its status before, and no file is waited for.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = os.O_RDONLY | NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)
KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """What a mode is that is none of a regular file, in words; empty for a regular file."""
    return next((name for is_kind, name in KINDS if is_kind(mode)), "")


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a regular file itself, not by way of a link; False for what cannot be looked at."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder itself, not by way of a link; False for what cannot be looked at."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def size_text(count: float) -> str:
    """A number of bytes for a person: ``512 bytes``, ``3.2 MiB``."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}".replace(".0 ", " ")
    return f"{count:,.0f} byte" + ("" if count == 1 else "s")


@contextmanager
def opened(
    path: Path,
    most: float,
    do: str,
    *,
    what: str = "a file",
    within: int | None = None,
    refusal: type[Refused] = Refused,
) -> Iterator[int]:
    """Give the descriptor of a regular file, opened for reading.

    Parameters
    ----------
    path : Path
        The file; where `within` is given only its name is looked up, in that folder.
    most : float
        Most bytes that it may have.
    do : str
        What a user can do about a file that is none.
    what : str
        What it should be: ``a tokenizer``.
    within : int, optional
        Descriptor of the open folder that it lies in.
    refusal : type of Refused
        The class of what is raised.

    Raises
    ------
    NotFound
        There is none; a `refusal` if that is no plain `Refused`.
    Refused
        A `refusal`: it is a link, a folder, a pipe, a device, too large, or cannot be opened.
    """
    name = path if within is None else path.name
    expected = f"{what} at {path}"
    try:
        if not NO_LINK and os.path.islink(path):
            raise refusal(expected, "a link", do)
        descriptor = os.open(name, _FLAGS, dir_fd=within)
    except FileNotFoundError:
        raise (NotFound if refusal is Refused else refusal)(expected, "none", do) from None
    except (OSError, ValueError) as error:  # ValueError: no name has a NUL
        raise refusal(expected, _why(error), do) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise refusal(expected, kind_of(found.st_mode), do)
        if found.st_size > most:
            raise refusal(
                f"{what} of at most {size_text(most)} at {path}", f"one of {size_text(found.st_size)}", do
            )
        yield descriptor
    finally:
        os.close(descriptor)


def read(
    path: Path,
    most: float,
    do: str,
    *,
    what: str = "a file",
    within: int | None = None,
    refusal: type[Refused] = Refused,
) -> bytes:
    """Return what is in a regular file; parameters and errors are those of `opened`."""
    with opened(path, most, do, what=what, within=within, refusal=refusal) as descriptor:
        parts, left = [], int(most) + 1  # it may grow meanwhile
        try:
            while left > 0 and (part := os.read(descriptor, min(left, 1 << 20))):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise refusal(f"{what} at {path}", _why(error), do) from None
    if left <= 0:
        raise refusal(f"{what} of at most {size_text(most)} at {path}", "a larger one", do)
    return b"".join(parts)


def read_json(
    path: Path,
    most: float,
    do: str,
    *,
    what: str = "a file",
    within: int | None = None,
    refusal: type[Refused] = Refused,
) -> dict[str, Any]:
    """Return the JSON object in a regular file; parameters and errors are those of `opened`.

    Raises
    ------
    Refused
        Also where it is no JSON, nested too deep, or something other than an object.
    """
    return parsed(
        read(path, most, do, what=what, within=within, refusal=refusal), f"in {path}", do, refusal=refusal
    )


def parsed(content: bytes, where: str, do: str, *, refusal: type[Refused] = Refused) -> dict[str, Any]:
    """Return the JSON object that bytes are; ``where`` says in a sentence where they were."""
    try:
        value = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise refusal(f"JSON {where}", "values nested too deep", do) from None
    except ValueError as error:  # also of an integer of thousands of digits, and of bytes that are no text
        raise refusal(f"JSON {where}", str(error)[:200], do) from None
    if not isinstance(value, dict):
        raise refusal(f"a JSON object {where}", type(value).__name__, do)
    return value


def _finite(text: str) -> float:
    """A number of JSON, which has no infinity and nothing that is no number, though readers take both."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text}, which is no finite number")
    return value


def _why(error: Exception) -> str:
    """What is wrong with a path that cannot be opened or read."""
    number = getattr(error, "errno", None)
    if number in (errno.ELOOP, errno.EMLINK):  # the second is what FreeBSD says
        return "a link"
    if number == errno.ENXIO:
        return "a socket"
    text = getattr(error, "strerror", None) or str(error)
    return f"one that cannot be read ({text})"
