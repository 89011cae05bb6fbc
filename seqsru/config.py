"""Strict settings: a YAML file and ``key.path=value`` overrides, checked against a schema.

`load` finds every problem, with its place, before anything else is loaded, and fills in the defaults; `dump`
writes the result as YAML that alone gives the same settings again.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seqsru.places import KEY, ConfigError, Node, dump, parse
from seqsru.schema import (
    REQUIRED,
    Choice,
    Mismatch,
    Schema,
    Section,
    Setting,
    checked,
    choices,
    is_text,
    kind_text,
    paths,
)

__all__ = ["ConfigError", "Settings", "check", "dump", "load", "resolve"]

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes
    ----------
    values : dict
        Nested plain values, every default filled in; a `Choice` has its key beside the entry's settings.
    places : mapping of str to str
        Where each dotted path was given: ``file:line`` or ``command line``. The empty path is the file.
    """

    values: dict
    places: Mapping[str, str]

    def problem(self, path: str, message: str) -> ConfigError:
        """The error for values below ``path`` that have the right type but were refused by what they set.

        Of the settings given there, the first that ``message`` names provides the line; else ``path`` does.
        """
        named = []
        for given in self.places:
            below = given.startswith(path + ".") if path else given
            if below and not any(other.startswith(given + ".") for other in self.places):
                name = given.rpartition(".")[2].replace("_", "[_ ]")
                named += [(found.start(), given) for found in re.finditer(rf"\b{name}\b", message)]
        at = path = min(named)[1] if named else path
        while at not in self.places:
            at = at.rpartition(".")[0]
        return ConfigError([": ".join(filter(None, [self.places[at], path, message]))])

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Give a ValueError of what is made from the settings below ``path`` their place."""
        try:
            yield
        except ConfigError:
            raise
        except ValueError as error:
            raise self.problem(path, str(error)) from error

    def flat(self) -> dict[str, object]:
        """Values by dotted path, a list being one value."""

        def below(values, path):
            for name, value in values.items():
                if isinstance(value, Mapping):
                    yield from below(value, f"{path}{name}.")
                else:
                    yield path + name, list(value) if isinstance(value, tuple) else value

        return dict(below(self.values, ""))


def load(path: Path | str, schema: Schema, overrides: Iterable[str] = ()) -> Settings:
    """Read, override, check and complete the settings of a file.

    Parameters
    ----------
    path : path
        YAML file, UTF-8.
    schema : Section or Choice
        What may be set.
    overrides : iterable of str
        ``key.path=value``, the value in YAML; each wins over the file and may be given once.

    Raises
    ------
    ConfigError
        If anything is unknown, missing, given twice or of the wrong type: all such problems, one line each.
    OSError
        If the file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [
                f"{path}:{line}: expected UTF-8, found the byte 0x{data[error.start]:02x} at "
                f"offset {error.start}; save the file as UTF-8"
            ]
        ) from None
    root = parse(text, lambda line: f"{path}:{line}")
    root.value = {} if root.value is None else root.value
    if not isinstance(root.value, dict):
        raise ConfigError([f"{root.place}: expected settings, found {root}; write name: value"])
    _override(root, overrides)
    return _resolved(schema, root)


def resolve(schema: Schema, overrides: Iterable[str]) -> Settings:
    """Settings that are given on the command line alone, as ``key.path=value``."""
    root = Node({}, COMMAND_LINE)
    _override(root, overrides)
    return _resolved(schema, root)


def check(section: Section, values: Mapping[str, str]) -> Settings:
    """Settings given as one text a name, such as the flags of a command, checked as `load` does.

    A setting that is text takes what is given as it is; for others it is YAML.
    """

    def node(name, text):
        entry = section.entries.get(name)
        if isinstance(entry, Setting) and is_text(entry.kind):
            return Node(text, COMMAND_LINE)
        return parse(text, lambda line: COMMAND_LINE)

    return _resolved(section, Node({name: node(name, text) for name, text in values.items()}, COMMAND_LINE))


def _override(root: Node, overrides: Iterable[str]) -> None:
    """Put each ``key.path=value`` into the tree."""
    seen: set[str] = set()
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not re.fullmatch(rf"{KEY}(\.{KEY})*", path):
            raise ConfigError(
                [
                    f"{COMMAND_LINE}: expected key.path=value, found {text!r}; write for example "
                    "optimizer.lr=1e-3"
                ]
            )
        if path in seen:
            raise ConfigError([f"{COMMAND_LINE}: {path} is given twice; remove one"])
        seen.add(path)
        _put(root, path, value)


def _put(node: Node, path: str, value: str) -> None:
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if node.value is None:
            node.value = {}
        elif isinstance(node.value, str):  # the short form of a choice, `cell: sru`: it stays chosen
            node.value = {"name": Node(node.value, node.place)}
        elif not isinstance(node.value, dict):
            outer = ".".join(parts[:depth])
            raise ConfigError(
                [f"{COMMAND_LINE}: {path}: {outer} is {node}, which has no settings of its own; set it whole"]
            )
        if depth < len(parts) - 1:
            node = node.value.setdefault(part, Node(None, COMMAND_LINE))
        else:
            node.value[part] = parse(value, lambda line: COMMAND_LINE)


# ---- checking --------------------------------------------------------------------------------------


def _resolved(schema: Schema, root: Node) -> Settings:
    problems: list[str] = []
    places: dict[str, str] = {}
    values = _fill(schema, root, "", root.place, list(paths(schema)), places, problems)
    if problems:
        raise ConfigError(problems)
    return Settings(values, places)


def _fill(schema, node, path, place, known, places, problems):
    """The value of ``schema`` from ``node`` (None: not given); what is wrong goes to ``problems``."""
    if node is not None:
        places[path] = place = node.place
    name = path or "the file"
    if isinstance(schema, Setting):
        if node is None and schema.default is REQUIRED:
            problems.append(f"{place}: {path} is missing; set it: {schema.text or kind_text(schema.kind)}")
        if node is None:
            return schema.default
        try:
            return checked(node.plain(), schema.kind)
        except Mismatch as error:
            problems.append(f"{place}: {name} {error}{_nearest(node.plain(), choices(schema.kind))}")
            return None
    given = None if node is None else node.value
    if given is None and schema.optional:
        return None
    if isinstance(schema, Choice) and schema.key == "name" and isinstance(given, str):
        given = {"name": Node(given, place)}
    if given is None:
        given = {}
    if not isinstance(given, dict):
        problems.append(f"{place}: {name} must be a section, found {node}")
        return None
    given, result = dict(given), {}
    if isinstance(schema, Choice):
        picked = given.pop(schema.key, None)
        key, one_of = f"{path}.{schema.key}".lstrip("."), ", ".join(schema.entries)
        chosen = schema.default if picked is None else picked.value
        if chosen is REQUIRED:
            problems.append(f"{place}: {key} is missing; it is one of {one_of}")
            return None
        if not isinstance(chosen, str) or chosen not in schema.entries:
            problems.append(
                f"{picked.place}: {key} must be one of {one_of}, found {picked}"
                + _nearest(picked.plain(), schema.entries)
            )
            return None
        if picked is not None:
            places[key] = picked.place
        result[schema.key] = chosen
        schema = schema.entries[chosen]
        known = known if path else list(paths(schema))  # what the other tasks have is no suggestion
    for entry, below in given.items():
        if entry not in schema.entries:
            full = f"{path}.{entry}".lstrip(".")
            problems.append(
                f"{below.place}: {full} is not a setting" + _suggestion(entry, full, schema, known)
            )
    for entry, inner in schema.entries.items():
        full = f"{path}.{entry}".lstrip(".")
        result[entry] = _fill(inner, given.get(entry), full, place, known, places, problems)
    return result


def _nearest(value, names: Iterable) -> str:
    close = difflib.get_close_matches(str(value), [str(name) for name in names], 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _suggestion(entry: str, full: str, schema: Section, known: Sequence[str]) -> str:
    """The nearest name beside it, else the same name elsewhere, else all there are."""
    near = _nearest(entry, schema.entries)
    if near:
        return near
    elsewhere = [path for path in known if path.rpartition(".")[2] == entry and path != full]
    if elsewhere:
        return f" there; did you mean {elsewhere[0]!r}?"
    return "; there are " + ", ".join(schema.entries) if schema.entries else "; there are none here"
