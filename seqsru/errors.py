"""Every refusal of the package is an object of one grammar: what was expected, what was found, what to do.

A refusal tells its user how to go on; anything else that is raised is a bug. ``setting`` names the argument
or the setting that is to blame, so that whoever knows where it was given can say so.
"""

from __future__ import annotations

import difflib
import errno
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says where nothing more can be written


class Refused(ValueError):
    """Something that cannot be used: one sentence, ``[setting: ]expected …, found …; do``.

    Parameters
    ----------
    expected : str
        What would have been right.
    found : object
        What was there instead; an object that is not text is shown by its ``repr``.
    do : str
        What the user can do now.
    setting : str, optional
        Name of the argument or setting to blame.
    """

    def __init__(self, expected: str, found: object, do: str, setting: str | None = None) -> None:
        Exception.__init__(self, expected, found, do, setting)
        self.expected, self.do, self.setting = expected, do, setting
        self.found = found if isinstance(found, str) else repr(found)

    @property
    def sentence(self) -> str:
        """The refusal without the name of what is to blame."""
        return f"expected {self.expected}, found {self.found}; {self.do}"

    def __str__(self) -> str:
        return f"{self.setting}: {self.sentence}" if self.setting else self.sentence

    def __reduce__(self) -> tuple[type[Refused], tuple[object, ...]]:
        return type(self), (self.expected, self.found, self.do, self.setting)


class NotFound(Refused, FileNotFoundError):
    """A file or folder that is not there."""


class NotInstalled(Refused, ImportError):
    """A package that is needed and cannot be imported."""


class Unreachable(Refused, ConnectionError):
    """An address that gives nothing."""


class Elsewhere(Refused):
    """What another of several processes refused, and has said."""


class Busy(Refused, BlockingIOError):
    """Something that another process holds."""


class NoRoom(Refused, OSError):
    """A file that there is no room for."""


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """``did you mean 'x'?`` for the nearest of the known names, empty where none is near."""
    near = difflib.get_close_matches(str(name), [str(one) for one in known], 1)
    return f"did you mean {near[0]!r}?" if near else ""


def one_of(known: Iterable[object]) -> str:
    """The known values as text: ``one of a, b, c``, or the only one there is."""
    names = [str(one) for one in known]
    return ("one of " if len(names) > 1 else "") + ", ".join(names)


def unknown(name: object, known: Iterable[object], setting: str | None = None, what: str = "") -> Refused:
    """The refusal of a name that is not known.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable
        What there is.
    setting : str, optional
        What it was given for.
    what : str
        What such a name names, where `setting` does not say: ``the name of a corpus``.
    """
    known = list(known)
    expected = f"{what} ({', '.join(map(str, known))})" if what else one_of(known)
    return Refused(expected, repr(name), did_you_mean(name, known) or "choose one of these", setting)


@contextmanager
def within(outer: str) -> Iterator[None]:
    """Name what is refused inside as a part of ``outer``, which may have arguments of the same names."""
    try:
        yield
    except Refused as refusal:
        if refusal.setting is not None:
            refusal.setting = f"{outer}.{refusal.setting}"
        raise


def check_known(known: Iterable[object], **given: object) -> None:
    """Refuse a value that is not among the known ones, named by its keyword.

    Parameters
    ----------
    known : iterable
        What there is: the keys of a registry, or ``typing.get_args`` of a ``Literal``.
    **given : object
        Values by the name of their setting.
    """
    known = list(known)
    for setting, value in given.items():
        if value not in known:
            raise unknown(value, known, setting)


def check_at_least(least: float, **given: float) -> None:
    """Refuse a number below a bound, or one that is not a finite number, named by its keyword."""
    for setting, value in given.items():
        if not math.isfinite(value):
            raise Refused(f"a finite number of at least {least}", str(value), "give such a number", setting)
        if value < least:
            raise Refused(f"at least {least}", str(value), "raise it", setting)


def check_between(low: float, high: float, **given: float) -> None:
    """Refuse a number outside a range, both ends included, or none at all, named by its keyword.

    The range is that of what can be meant, much wider than what is of use.
    """
    for setting, value in given.items():
        if not low <= value <= high:
            raise Refused(f"from {low:,g} to {high:,g}", str(value), "give a number in this range", setting)


def check_at_most(most: float, **given: float) -> None:
    """Refuse a number above a bound, named by its keyword."""
    for setting, value in given.items():
        if value > most:
            raise Refused(f"at most {most:,}", str(value), "lower it", setting)


def check_threads(least: int = 1, **given: int) -> None:
    """Refuse a number of threads that no processor has, named by its keyword: starting them ends the process.

    A config of one machine is to run on a smaller one, so the bound is wide: four a processor, or 256.
    """
    most = max(256, 4 * (os.cpu_count() or 1))
    for setting, value in given.items():
        if not least <= value <= most:
            do = "give as many as there are processors to use"
            raise Refused(f"from {least} to {most} threads", str(value), do, setting)


def check_share(**given: float) -> None:
    """Refuse a number outside 0 to 1, both included, named by its keyword."""
    for setting, value in given.items():
        if not 0.0 <= value <= 1.0:
            raise Refused("a number from 0 to 1", str(value), "give a share", setting)


def check_probability(**given: float) -> None:
    """Refuse a number that is not from 0 to below 1, named by its keyword."""
    for setting, value in given.items():
        if not 0.0 <= value < 1.0:
            raise Refused("a probability from 0 to below 1", str(value), "0 switches it off", setting)


def check_seed(**given: int) -> None:
    """Refuse a number that no generator of torch can be seeded with, named by its keyword."""
    for setting, value in given.items():
        if not -(2**63) <= value < 2**64:
            raise Refused("a number of 64 bits", str(value), "give a smaller one", setting)
