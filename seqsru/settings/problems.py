"""What is wrong with settings, and where: refusals with the place of the value that they refuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seqsru.errors import Refused

COMMAND_LINE = "command line"


class UnknownSetting(Refused):
    """A name that nothing has; told in the words that everybody expects."""

    def __str__(self) -> str:
        return f"{self.setting} is not {self.expected}; {self.do}"


@dataclass(frozen=True)
class Problem:
    """A refusal and the place of what it refuses: ``file:line``, ``command line``, or empty."""

    place: str
    refusal: Refused

    def __str__(self) -> str:
        return f"{self.place}: {self.refusal}" if self.place else str(self.refusal)


class SettingsError(Refused):
    """Settings that cannot be used: one line a problem, each starting with its place.

    Parameters
    ----------
    problems : iterable of Problem
        At least one; the attributes of the refusal are those of the first.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0].refusal
        super().__init__(first.expected, first.found, first.do, first.setting)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))

    def __reduce__(self) -> tuple[type[SettingsError], tuple[object, ...]]:
        return type(self), (self.problems,)


def refuse(place: str, expected: str, found: object, do: str, setting: str | None = None) -> SettingsError:
    """The error of one problem."""
    return SettingsError([Problem(place, Refused(expected, found, do, setting))])
