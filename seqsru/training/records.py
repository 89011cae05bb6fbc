"""What the JSON of a checkpoint may hold, in types: anybody may have written it, so none is believed.

A key that is not listed is left alone, since a later version may write it; one that is listed is of its type
where it is there.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from seqsru.training.progress import Progress

MOST = 2**64  # of a counter


class _Validated(TypedDict):
    metric: str
    value: float
    higher_is_better: bool


class Validation(_Validated, total=False):
    """A validation, as `seqsru.training.checkpoints.rank` takes it."""

    tie_breaker: float | None
    at_end: bool


class Averaged(TypedDict, total=False):
    """What `seqsru.training.averaging.TriggeredMean` notes of validations."""

    begun: bool
    before: float | None
    recent: list[float]


class State(TypedDict, total=False):
    """``state.json``."""

    progress: Progress
    schedule: dict[str, float]
    validation: Validation | None
    machine: dict[str, int | str]
    fingerprints: dict[str, str]
    total_steps: int | None
    time_limits: list[float]
    files: dict[str, str]
    start: str | None
    averaging: Averaged
    averaged: bool


class Manifest(TypedDict, total=False):
    """``manifest.json``, but for the sums of the checkpoint's own files, each under its name."""

    run: dict[str, list[str]]


def misfit(value: Any, kind: Any, where: str = "") -> str:
    """What is wrong with a value of JSON, in words; empty where it is of a type.

    Parameters
    ----------
    value : object
    kind : annotation
        int (a counter, not negative), float (finite), bool, str, list, dict, a union, a TypedDict, or a
        dataclass, of which no other key may be there.
    where : str
        What the value is called.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        wrong = [misfit(value, one, where) for one in arguments]
        return "" if "" in wrong else wrong[0]
    if origin is list:
        if not isinstance(value, list):
            return _wrong(where, value, "a list")
        return _first(misfit(one, arguments[0], f"{where}.{place}") for place, one in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            return _wrong(where, value, "an object")
        return _first(misfit(one, arguments[1], f"{where}.{name}") for name, one in value.items())
    if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _object_misfit(value, kind, where)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits, what = {
        int: (type(value) is int and 0 <= value < MOST, "a counter"),
        float: (plain and -sys.float_info.max <= value <= sys.float_info.max, "a number"),
        bool: (isinstance(value, bool), "true or false"),
        str: (isinstance(value, str), "text"),
        types.NoneType: (value is None, "null"),
    }[kind]
    return "" if fits else _wrong(where, value, what)


def _object_misfit(value: Any, kind: Any, where: str) -> str:
    if not isinstance(value, dict):
        return _wrong(where, value, "an object")
    hints: Mapping[str, Any] = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        required: Iterable[str] = ()
        others = [name for name in value if name not in hints]
        if others:
            return f"{where}.{others[0]}".lstrip(".") + ", which is not known"
    else:
        required = kind.__required_keys__
    missing = sorted(name for name in required if name not in value)
    if missing:
        return f"{where} without {missing[0]}".strip()
    return _first(
        misfit(value[name], hint, f"{where}.{name}".lstrip("."))
        for name, hint in hints.items()
        if name in value
    )


def _first(found: Iterable[str]) -> str:
    return next(filter(None, found), "")


def _wrong(where: str, value: Any, what: str) -> str:
    return f"{where} {repr(value)[:60]}, which is not {what}"
