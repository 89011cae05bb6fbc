"""JSON that anybody may have written: read in UTF-8, and asked for what it must hold."""

from __future__ import annotations

import json
import math
from os import PathLike, fspath
from typing import Any

from seqsru.data.inputs import opened
from seqsru.data.lines import BOM
from seqsru.errors import Refused


def load_json(path: str | PathLike[str], what: str) -> Any:
    """The content of a file of JSON in UTF-8.

    Raises
    ------
    Refused
        It is none, with the place of the mistake.
    """
    name = fspath(path)
    with opened(path) as stream:
        raw = stream.read().removeprefix(BOM)
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02X} at byte offset {error.start:,}"
        do = "unpack it, it begins as gzip does" if raw[:2] == b"\x1f\x8b" else "convert it to UTF-8"
        raise Refused(f"{what} as JSON, in UTF-8, in {name}", found, do) from None
    except json.JSONDecodeError as error:
        found = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise Refused(f"{what} as JSON in {name}", found, "check the file") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond all measure
        raise Refused(f"{what} as JSON in {name}", str(error)[:80], "check the file") from None


def finite(value: Any) -> Any:
    """The same without numbers that JSON does not have: they are null there."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def member(holder: Any, name: str, kind: type, place: str) -> Any:
    """A member of a JSON object, of the kind that it must be."""
    kinds: dict[type, str] = {list: "a list", str: "text", int: "a whole number"}
    expected = f"{name}, {kinds[kind]}, in {place}"
    if not isinstance(holder, dict):
        raise Refused(expected, f"no object, {shown_text(json.dumps(holder))}", "check the file")
    if name not in holder:
        have = ", ".join(list(holder)[:5]) or "nothing"
        raise Refused(expected, f"an object with {have}", "check the file")
    value = holder[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refused(expected, shown_text(json.dumps(value)), "check the file")
    return value


def text_member(holder: Any, name: str, place: str) -> str:
    """A member of a JSON object that is text of whole characters."""
    text: str = member(holder, name, str, place)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"half a character, {text[error.start]!r}"
        raise Refused(f"whole characters in {name} of {place}", found, "check the file") from None
    return text


def shown_text(text: str) -> str:
    """A text as a refusal quotes it: its beginning."""
    return repr(text if len(text) <= 40 else text[:39] + "…")
