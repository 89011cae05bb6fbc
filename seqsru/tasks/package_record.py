"""What a file says of the run it was made of: every value that is read later, and what it has to be.

A right checksum says that nothing was damaged, not that the file was made by us.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from seqsru.data.lines import OnBadLine
from seqsru.decoding import RULES, Decoding
from seqsru.errors import Refused
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer
from seqsru.tasks.language_answers import TextState

# Roles of the tokenizers of each task that the engine runs, and how many files a split has at least.
ROLES = {"language_model": ["tokenizer"], "translation": ["source tokenizer", "target tokenizer"]}
FEWEST = {"language_model": 1, "translation": 2}
DEEPEST = 30  # of settings: far more than a config has
MOST = 2**62
LATER = {"guard"}  # settings of a search that files of earlier versions lack

Check = Callable[[Any], bool]


def check_record(record: Mapping[str, Any], path: Path, files: Collection[str]) -> None:
    """Refuse a record that lacks a value, or has one of another kind.

    Parameters
    ----------
    record : mapping
        Plain JSON values, or what claims to be.
    path : Path
        Where it stands.
    files : collection of str
        Names of the files beside it.

    Raises
    ------
    Refused
        The first value that cannot be meant, by its name.
    """
    for name, (expected, check) in _checks(record, files).items():
        value: Any = record
        for key in name.split("."):
            value = value[key] if isinstance(value, dict) and key in value else _Nothing
        if value is _Nothing or not check(value):
            found = "nothing" if value is _Nothing else _shown(value)
            do = "copy it again, or make it with `seqsru quantize`"
            raise Refused(f"{expected} as {name} in {path}", found, do)


class _Nothing:
    """No value."""


def _checks(record: Mapping[str, Any], files: Collection[str]) -> dict[str, tuple[str, Check]]:
    """Return what is expected of each value, in words and as a check; those of the task once it is known."""
    checks: dict[str, tuple[str, Check]] = {
        "task": (" or ".join(ROLES), lambda v: _text(v) and v in ROLES),
        "settings": (f"an object at most {DEEPEST} levels deep", lambda v: isinstance(v, dict) and _plain(v)),
        "settings.seed": ("a whole number", _whole),
        "settings.data": ("an object", lambda v: isinstance(v, dict)),
        "settings.data.on_bad_line": _choice(get_args(OnBadLine)),
        "weights": ("one line of text", _line),
        "model": ("one line of text", _line),
        "start": ("one line of text or null", lambda v: v is None or _line(v)),
        "parameters": ("a whole number", _whole),
        "fields": (
            "an object of lines of text and numbers",
            lambda v: isinstance(v, dict) and all(map(_said, [*v, *v.values()])),
        ),
    }
    task = record.get("task")
    if not (_text(task) and task in ROLES):
        return checks
    roles, fewest = ROLES[task], FEWEST[task]
    checks["tokenizers"] = (
        f"the name of a file beside it for each {' and '.join(roles)}",
        lambda v: (
            isinstance(v, dict)
            and sorted(v) == roles
            and all(_text(file) and f"{file}.json" in files for file in v.values())
        ),
    )
    checks["files"] = (
        f"lists of no path or at least {fewest}" if fewest > 1 else "lists of one path or none",
        lambda v: isinstance(v, dict) and all(_paths(paths, fewest) for paths in v.values()),
    )
    if task == "translation":
        checks["settings.training.validation_tokenize"] = _choice(get_args(BleuTokenizer))
        checks["shortlist"] = ("one line of text or null", lambda v: v is None or _line(v))
        names = sorted(one.name for one in fields(Decoding))
        checks["decoding"] = (
            f"an object of {', '.join(names)}",
            lambda v: isinstance(v, dict) and sorted(v.keys() | LATER) == names,
        )
        checks["decoding.rules"] = ("a list of rules and their settings", _rules)
    else:
        checks["settings.training.validation_state"] = _choice(get_args(TextState))
        checks["shortlist"] = ("null", lambda v: v is None)
        checks["decoding"] = ("null", lambda v: v is None)
    return checks


def _choice(known: tuple[str, ...]) -> tuple[str, Check]:
    return f"one of {', '.join(known)}", lambda v: _text(v) and v in known


def _text(value: Any) -> bool:
    """Say whether a value is text that can be written, and be a path."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character
        return False
    return True


def _line(value: Any) -> bool:
    """Say whether a value is text that a signature can hold."""
    return _text(value) and value.isprintable()


def _said(value: Any) -> bool:
    """Say whether a value is a line of text, a number or nothing."""
    return _line(value) if isinstance(value, str) else _plain(value, 1)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _plain(value: Any, left: int = DEEPEST) -> bool:
    """Say whether JSON is of text and finite numbers, and not deep."""
    if isinstance(value, (dict, list)):
        below = [*value, *value.values()] if isinstance(value, dict) else value
        return left > 1 and all(_plain(one, left - 1) for one in below)
    if isinstance(value, float):
        return math.isfinite(value)
    if type(value) is int:
        return abs(value) < MOST
    return value is None or isinstance(value, bool) or _text(value)


def _paths(value: Any, fewest: int) -> bool:
    if not (isinstance(value, list) and all(_text(path) for path in value)):
        return False
    return not value or (len(value) == 1 if fewest == 1 else len(value) >= fewest)


def _rules(value: Any) -> bool:
    """Say whether a value is a list of [name, settings], whose settings are numbers or lists of them."""
    if not isinstance(value, list):
        return False
    for rule in value:
        if not (isinstance(rule, list) and len(rule) == 2 and _text(rule[0]) and rule[0] in RULES):
            return False
        name, given = rule
        if not (isinstance(given, dict) and given.keys() == inspect.signature(RULES[name]).parameters.keys()):
            return False
        for setting, one in given.items():
            if not (all(map(_whole, one)) if isinstance(one, list) else _whole(one)):
                return False
            if isinstance(one, list) != (setting == "tokens"):
                return False
    return True


def _shown(value: Any) -> str:
    """Return a value in a few characters, however deep it is."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
