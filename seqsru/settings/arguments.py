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
    def hints() -> dict[str, Any]:
        found = typing.get_type_hints(function)
        single = {
            name
            for name, parameter in signature.parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        return {name: kind for name, kind in found.items() if name in single}

    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)  # a TypeError of Python's own names what is amiss
        for name, kind in hints().items():
            if name in bound.arguments:
                bound.arguments[name] = argument(bound.arguments[name], kind, name)
        return function(*bound.args, **bound.kwargs)

    return typing.cast(F, wrapper)


def argument(value: object, kind: object, name: str) -> object:
    """A value as its annotation has it; one that the annotation does not tell about is given back."""
    members = alternatives(kind)
    if typing.Any in members or any(spellable(member) and element(member) is not None for member in members):
        return value
    simple = tuple(member for member in members if spellable(member))
    classes: list[type] = []
    for member in members:
        if member not in simple:
            one = typing.get_origin(member) or member
            if not inspect.isclass(one) or getattr(one, "_is_protocol", False):
                return value
            classes.append(one)
    if isinstance(value, tuple(classes)):
        return value
    value = _plain(value)
    known = choices(kind)
    if known and set(map(type, known)) == {str} and len(members) == 1:
        check_known(known, **{name: value})
    words = [kind_text(typing.Union[simple])] if simple else []  # noqa: UP007 -- of as many as there are
    do = "change it"
    if simple:
        try:
            found = checked(value, typing.Union[simple], name)  # noqa: UP007
        except Refused as refusal:
            do = refusal.do
        else:
            return value if isinstance(found, os.PathLike) else found  # a path stays as it was given
    expected = " or ".join([*words, *(f"a {one.__name__}" for one in classes)])
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
