"""Types of settings, read from annotations: what a value may be, in words and checked."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from seqsru.errors import Refused, did_you_mean, one_of

LONGEST = 400  # characters of a value in a sentence
_NAMES: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}


def alternatives(kind: object) -> tuple[object, ...]:
    """The members of a union annotation, flat; an annotation that is no union is its only member."""
    if typing.get_origin(kind) is typing.Annotated:
        return alternatives(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(kind) for member in alternatives(part))
    return (kind,)


def element(kind: object) -> object | None:
    """Annotation of the elements if ``kind`` is a list, None if it is not."""
    origin, arguments = typing.get_origin(kind), [a for a in typing.get_args(kind) if a is not Ellipsis]
    listed = origin in (list, Sequence) or (origin is tuple and Ellipsis in typing.get_args(kind))
    return arguments[0] if listed and len(arguments) == 1 else None


def choices(kind: object) -> tuple[object, ...]:
    """The values an annotation spells out with ``Literal``."""
    return tuple(
        value
        for member in alternatives(kind)
        if typing.get_origin(member) is typing.Literal
        for value in typing.get_args(member)
    )


def without_null(kind: object) -> object:
    """The annotation without null, which a flag cannot give: it is left out instead."""
    members = tuple(member for member in alternatives(kind) if member is not types.NoneType)
    return typing.Union[members]  # noqa: UP007 -- of as many as there are


def is_text(kind: object) -> bool:
    """Whether every value of an annotation but null is text or a path."""
    return all(
        member in (str, Path, types.NoneType)
        or (choices(member) and all(isinstance(value, str) for value in choices(member)))
        for member in alternatives(kind)
    )


def spellable(kind: object) -> bool:
    """Whether a file or a flag can give a value of an annotation."""
    try:
        kind_text(kind)
    except TypeError:
        return False
    return True


def kind_text(kind: object) -> str:
    """What a value of annotation ``kind`` is, in words; TypeError for one that no setting can have."""
    words = []
    spelled = choices(kind)
    if spelled:
        words.append(one_of(shown(value) for value in spelled))
    for member in alternatives(kind):
        if typing.get_origin(member) is typing.Literal:
            continue
        if element(member) is not None:
            words.append(f"a list (each {kind_text(element(member))})")
        elif member in _NAMES:
            words.append(_NAMES[member])
        else:
            raise TypeError(f"no setting can be of type {member}")
    return " or ".join(words)


def checked(value: object, kind: object, setting: str | None = None) -> object:
    """``value`` as ``kind`` has it: 1 may stand for 1.0, 1e3 for 1000, text for a path (made absolute).

    Raises
    ------
    Refused
        If it is not of that type.
    """
    for member in alternatives(kind):
        if typing.get_origin(member) is typing.Literal:
            if any(value == choice and type(value) is type(choice) for choice in typing.get_args(member)):
                return value
        elif element(member) is not None:
            with suppress(Refused):  # the message then shows the whole list
                if isinstance(value, list):
                    return [checked(item, element(member)) for item in value]
        elif member is Path and isinstance(value, str) and value and "\0" not in value:
            # - is standard input or output, not a name in this folder
            return Path(value if value == "-" else os.path.abspath(os.path.expanduser(value)))
        elif member is int and isinstance(value, (int, float)) and _whole(value):
            if not -(2**63) <= value < 2**64:
                raise Refused("a number of 64 bits", shown(value), "give a smaller one", setting)
            return int(value)
        elif type(value) is member and member is not int:
            return value
    if type(value) is int and float in alternatives(kind):
        with suppress(OverflowError):
            return float(value)
    raise Refused(kind_text(kind), shown(value), did_you_mean(value, choices(kind)) or "change it", setting)


def _whole(value: float) -> bool:
    """Whether it is a whole number however it is written, such as 1e3; true and false are none."""
    return not isinstance(value, bool) and (isinstance(value, int) or value.is_integer())


def shown(value: object) -> str:
    """A value as a file would spell it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, (list, tuple)):
        return short("[" + ", ".join(shown(item) for item in value[:LONGEST]) + "]")
    if isinstance(value, float):
        brief = f"{value:g}"
        return brief if float(brief) == value else repr(value)
    return short(repr(str(value)) if isinstance(value, (str, Path)) else str(value))


def short(text: str) -> str:
    """A text as it stands in a sentence: of a long one its beginning, and how long it is."""
    return text if len(text) <= LONGEST else f"{text[:40]}… ({len(text):,} characters)"
