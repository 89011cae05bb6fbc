"""Arguments of functions that people call, checked against their annotations as settings are."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from seqsru.errors import Refused, check_known
from seqsru.settings.kinds import alternatives, checked, choices, element, kind_text, spellable

F = TypeVar("F", bound=Callable[..., Any])


def checked_arguments(function: F) -> F:
    """Refuse arguments of another type than the annotations say, named as a setting would be.

    A number or text is held to its annotation as `seqsru.settings.kinds.checked` does: 2.0 stands for the
    whole number 2, a whole number for a number, and NumPy's numbers for Python's. An object is held to its
    class. Annotations that are neither, and lists, are left to the function.

    Parameters
    ----------
    function : callable
        A function, a method, or a class whose constructor is checked.
    """
    if inspect.isclass(function):
        setattr(function, "__init__", checked_arguments(function.__init__))  # noqa: B010 -- mypy forbids =
        return function
    signature = inspect.signature(function)

    @functools.cache  # at the first call: annotations may name what is defined later
    def hints() -> dict[str, Held]:
        found = typing.get_type_hints(function)
        single = {
            name
            for name, parameter in signature.parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        return {name: Held(kind) for name, kind in found.items() if name in single}

    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)  # a TypeError of Python's own names what is amiss
        for name, held in hints().items():
            if name in bound.arguments:
                bound.arguments[name] = held(bound.arguments[name], name)
        return function(*bound.args, **bound.kwargs)

    return typing.cast(F, wrapper)


class Held:
    """What an annotation says of a value, found out once: a sentence takes milliseconds, and many arguments.

    Parameters
    ----------
    kind : annotation
    """

    def __init__(self, kind: object) -> None:
        members = alternatives(kind)
        simple = tuple(member for member in members if spellable(member))
        self._simple = typing.Union[simple] if simple else None  # noqa: UP007 -- of as many as there are
        self._known = choices(kind)
        self._chosen = len(members) == 1 and bool(self._known) and set(map(type, self._known)) == {str}
        self._free = typing.Any in members or any(element(member) is not None for member in simple)
        self._same = tuple(kind for kind in (float, str, bool, type(None)) if kind in simple)
        classes: list[type] = []
        for member in members:
            if member not in simple:
                one = typing.get_origin(member) or member
                self._free = self._free or not inspect.isclass(one) or getattr(one, "_is_protocol", False)
                classes.append(one)  # type: ignore[arg-type]
        self._classes = tuple(classes)

    def __call__(self, value: object, name: str) -> object:
        """A value as its annotation has it; one that the annotation does not tell about is given back."""
        if self._free or type(value) in self._same or isinstance(value, self._classes):
            return value
        value = _plain(value)
        if self._chosen:
            check_known(self._known, **{name: value})
            return value
        do = "change it"
        if self._simple is not None:
            try:
                found = checked(value, self._simple, name)
            except Refused as refusal:
                do = refusal.do
            else:
                return value if isinstance(found, os.PathLike) else found  # a path stays as it was given
        words = [] if self._simple is None else [kind_text(self._simple)]
        expected = " or ".join([*words, *(f"a {one.__name__}" for one in self._classes)])
        raise Refused(expected, _short(value), do, name)


def _plain(value: object) -> object:
    """NumPy's numbers as Python's; anything else as it is."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
