"""Strict reading: a YAML file and ``key.path=value`` overrides, checked against a schema.

`load` finds every problem, with its place, before anything else is loaded, and fills in the defaults;
`seqsru.settings.dump` writes the result as YAML that alone gives the same settings again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqsru.errors import Refused, did_you_mean, one_of
from seqsru.regular import size_text
from seqsru.settings.kinds import checked, element, is_text, kind_text, shown, without_null
from seqsru.settings.places import KEY, MOST_BYTES, Node, parse
from seqsru.settings.problems import COMMAND_LINE, Problem, SettingsError, UnknownSetting, refuse
from seqsru.settings.schema import REQUIRED, Choice, Schema, Section, Setting, paths, renamed
from seqsru.settings.values import Values


@dataclass(frozen=True)
class Override:
    """A setting that wins over a file, given elsewhere than on the command line.

    Attributes
    ----------
    path : str
        Its dotted name.
    node : Node
        Its value, and the place where that was given.
    """

    path: str
    node: Node


def load(
    path: Path | str | File,
    schema: Schema,
    overrides: Iterable[str | Override] = (),
    *,
    base: Path | str | None = None,
    inherited: Iterable[str] = (),
) -> Values:
    """Read, override, check and complete the settings of a file.

    Parameters
    ----------
    path : path
        YAML file, UTF-8.
    schema : Section or Choice
        What may be set.
    overrides : iterable of str or Override
        ``key.path=value``, the value in YAML; each wins over the file and may be given once.
    base : path, optional
        Another file, for sections that this one does not give, or not all of.
    inherited : names, optional
        Those sections.

    Raises
    ------
    SettingsError
        If anything is unknown, missing, given twice or of the wrong type: all such problems, one line each.
    OSError
        If the file cannot be read.
    """
    root = _tree(read_tree(path), schema, overrides)
    if base is not None:
        _inherit(root, _tree(read_tree(base), schema, ()), inherited)
    return filled(schema, root)


def given(
    path: Path | str | File, schema: Schema, overrides: Iterable[str | Override], name: str
) -> Node | None:
    """What a file or an override says for a dotted name, not checked yet; None where neither says anything.

    Parameters, errors : those of `load`.
    """
    node: Node | None = _tree(read_tree(path), schema, overrides)
    for part in name.split("."):
        node = node.value.get(part) if node is not None and isinstance(node.value, dict) else None
    return node


class File:
    """A file of settings as it is read: once, since it may be a pipe, and no further than settings go.

    Parameters
    ----------
    path : path
    data : bytes, optional
        What is in it, where that was read already.
    """

    def __init__(self, path: Path | str, data: bytes | None = None) -> None:
        if data is None:
            with open(path, "rb") as stream:
                data = stream.read(MOST_BYTES + 1)
        self.path, self.data = path, data


def read_tree(file: Path | str | File, *, dotted: bool = False) -> Node:
    """The tree of a file, not checked yet: a section, in which names may be ``dotted`` ones.

    Parameters, errors : those of `load`.
    """
    file = file if isinstance(file, File) else File(file)
    path, data = file.path, file.data
    if len(data) > MOST_BYTES:
        most = f"settings of at most {size_text(MOST_BYTES)}"
        raise refuse(f"{path}:1", most, "a larger file", "name a file of settings")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(
            f"{path}:{data.count(bytes([10]), 0, error.start) + 1}",
            "UTF-8",
            f"the byte 0x{data[error.start]:02x} at offset {error.start}",
            "save the file as UTF-8",
        ) from None
    root = parse(text, lambda line: f"{path}:{line}", dotted=dotted)
    root.value = {} if root.value is None else root.value
    if not isinstance(root.value, dict):
        raise refuse(root.place, "settings", str(root), "write name: value")
    return root


def resolve(schema: Schema, overrides: Iterable[str]) -> Values:
    """Settings that are given on the command line alone, as ``key.path=value``."""
    return _resolved(schema, Node({}, COMMAND_LINE), overrides)


def check(section: Section, values: Mapping[str, str | list[str]]) -> Values:
    """Settings given as one text a name, such as the flags of a command, checked as `load` does.

    A setting that is text takes what is given as it is; for others it is YAML, and never null. A list has a
    text an element.
    """

    def node(name: str, given: str | list[str], kind: object) -> Node:
        if isinstance(given, list):
            return Node([node(name, text, element(kind)) for text in given], COMMAND_LINE)
        return Node(given, COMMAND_LINE) if is_text(kind) else parse(given, lambda line: COMMAND_LINE, name)

    entries = {
        name: replace(entry, kind=without_null(entry.kind)) if isinstance(entry, Setting) else entry
        for name, entry in section.entries.items()
    }
    kinds = {name: entry.kind for name, entry in entries.items() if isinstance(entry, Setting)}
    nodes = {name: node(name, given, kinds.get(name, str)) for name, given in values.items()}
    return _resolved(replace(section, entries=entries), Node(nodes, COMMAND_LINE), ())


def _resolved(schema: Schema, root: Node, overrides: Iterable[str]) -> Values:
    return filled(schema, _tree(root, schema, overrides))


def _tree(root: Node, schema: Schema, overrides: Iterable[str | Override]) -> Node:
    """The tree with every setting under its present name, and with the overrides in it."""
    given = [_parsed(one) if isinstance(one, str) else one for one in overrides]
    formerly = renamed(_chosen_first(schema, root, given))
    for old, new in formerly.items():
        _rename(root, old, new)
    _override(root, given, formerly)
    return root


def _inherit(node: Node, base: Node, names: Iterable[str]) -> None:
    """Take over settings by name from a base, but for those that are given, down to every section.

    Where another entry of a choice is given than the base has, its settings are not those of the base's.
    """
    for name in names:
        if name not in base.value:
            continue
        own, other = node.value.get(name), base.value[name]
        if own is None or own.value is None:
            node.value[name] = other
        elif isinstance(other.value, dict):
            chosen = other.value.get("name")
            if isinstance(own.value, str):  # the short form of a choice
                own.value = {"name": Node(own.value, own.place)}
            if not isinstance(own.value, dict):
                continue  # is refused later
            picked = own.value.get("name", chosen)
            if chosen is None or (picked is not None and picked.value == chosen.value):
                _inherit(own, other, other.value)


def filled(schema: Schema, root: Node) -> Values:
    """The settings of a tree, checked against a schema and completed.

    Raises
    ------
    SettingsError
        As `load`.
    """
    reader = _Reader()
    values = reader.fill(schema, root, "", root.place, list(paths(schema)))
    if reader.problems:
        raise SettingsError(reader.problems)
    assert isinstance(values, Values)
    return values


def _chosen_first(schema: Schema, root: Node, overrides: Iterable[Override]) -> Schema:
    """The section that all settings are in, where a setting of their own picks it: names are that one's."""
    if not isinstance(schema, Choice):
        return schema
    picked = [one.node.value for one in overrides if one.path == schema.key]
    given = root.value.get(schema.key)
    chosen = picked[-1] if picked else schema.default if given is None else given.value
    return schema.entries.get(chosen, schema) if isinstance(chosen, str) else schema


def _rename(root: Node, old: str, new: str) -> None:
    """Give a setting that a file has under an earlier name the name it has now."""
    *outer, name = old.split(".")
    node: Node | None = root
    for part in outer:
        node = node.value.get(part) if node is not None and isinstance(node.value, dict) else None
    if node is None or not isinstance(node.value, dict) or name not in node.value:
        return
    now = new.rpartition(".")[2]
    if now in node.value:
        before, after = node.value[now], node.value[name]
        found = f"it twice, as {name} at {after.place} too"
        raise refuse(before.place, "it once", found, f"remove {name}", new)
    node.value = {now if key == name else key: value for key, value in node.value.items()}


def _parsed(text: str) -> Override:
    """The override of a text, ``key.path=value``."""
    path, equals, value = text.partition("=")
    if not equals or not re.fullmatch(rf"{KEY}(\.{KEY})*", path):
        raise refuse(COMMAND_LINE, "key.path=value", repr(text), "write for example optimizer.lr=1e-3")
    return Override(path, parse(value, lambda line: COMMAND_LINE, path))


def _override(root: Node, overrides: Iterable[Override], formerly: Mapping[str, str]) -> None:
    """Put each override into the tree."""
    seen: set[str] = set()
    for one in overrides:
        path, place = one.path, one.node.place
        for old, new in formerly.items():
            if path == old or path.startswith(old + "."):
                path = new + path[len(old) :]
        if path in seen:
            raise refuse(place, "it once", "it twice", "remove one", path)
        seen.add(path)
        _put(root, path, deepcopy(one.node))  # what it is put into may be changed later


def _put(node: Node, path: str, value: Node) -> None:
    parts = path.split(".")
    for depth, part in enumerate(parts):
        inside: Any = node.value
        at: str | int = part
        if isinstance(inside, list) and part.isdecimal() and int(part) < len(inside):
            at = int(part)
        elif inside is None:
            inside = node.value = {}
        elif isinstance(inside, str):  # the short form of a choice, `cell: sru`: it stays chosen
            inside = node.value = {"name": Node(inside, node.place)}
        elif not isinstance(inside, dict):
            outer = ".".join(parts[:depth])
            found = f"{outer} = {node}, which has no settings of its own"
            raise refuse(value.place, "a section around it", found, "set it whole", path)
        if depth == len(parts) - 1:
            inside[at] = value
        else:
            node = inside[at] if isinstance(at, int) else inside.setdefault(at, Node(None, value.place))


class _Reader:
    """Values from nodes: what is wrong is gathered on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.places: dict[str, str] = {}

    def refuse(self, place: str, expected: str, found: object, do: str, setting: str | None) -> None:
        self.problems.append(Problem(place, Refused(expected, found, do, setting)))

    def fill(self, schema: Schema, node: Node | None, path: str, place: str, known: Sequence[str]) -> Any:
        """The value of ``schema`` from ``node`` (None: not given)."""
        if node is not None:
            self.places[path] = place = node.place
        if (
            not isinstance(schema, Choice)
            and schema.several
            and node is not None
            and type(node.value) is list
        ):
            return self._several(schema.several, node.value, path, place, known)
        if isinstance(schema, Setting):
            return self._setting(schema, node, path, place)
        given = None if node is None else node.value
        if given is None and schema.optional:
            return None
        if isinstance(schema, Choice) and schema.key == "name" and isinstance(given, str):
            given = {"name": Node(given, place)}
        if given is None:
            given = {}
        if not isinstance(given, dict):
            self.refuse(place, "a section", str(node), "write its settings below it", path or None)
            return None
        given = dict(given)
        if isinstance(schema, Choice):
            chosen = self._chosen(schema, given.pop(schema.key, None), path, place)
            if chosen is None:
                return None
            section = schema.entries[chosen]
            known = known if path else list(paths(section))  # what the other tasks have is no suggestion
            values = self._section(section, given, path, place, known)
            return Values(section, values, path, self.places, schema, chosen)
        return Values(schema, self._section(schema, given, path, place, known), path, self.places)

    def _several(
        self, item: Section, nodes: list[Node], path: str, place: str, known: Sequence[str]
    ) -> Values | None:
        """A list of sections."""
        if not nodes:
            self.refuse(place, "at least one section in the list", "none", "write - and its settings", path)
            return None
        section = Section({str(n): item for n in range(len(nodes))}, item.text, listed=True)
        values = {
            name: self.fill(item, node, f"{path}.{name}", place, known)
            for name, node in zip(section.entries, nodes)
        }
        return Values(section, values, path, self.places)

    def _setting(self, setting: Setting, node: Node | None, path: str, place: str) -> object:
        if node is None:
            if setting.default is REQUIRED:
                kind = kind_text(setting.kind)
                do = f"set it: {setting.text.rstrip('.')}" if setting.text else "set it"
                self.refuse(place, kind, "nothing", do, path)
            return setting.default
        try:
            value = checked(node.plain(), setting.kind, path or None)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, float) and not math.isfinite(one):
                    raise Refused("a finite number", shown(one), "give such a number", path or None)
            return value
        except Refused as refusal:
            self.problems.append(Problem(place, refusal))
            return None

    def _chosen(self, choice: Choice, picked: Node | None, path: str, place: str) -> str | None:
        """The name of the entry that is picked, None where it is none."""
        key = f"{path}.{choice.key}".lstrip(".")
        chosen = choice.default if picked is None else picked.value
        if picked is not None:
            self.places[key] = place = picked.place
        if isinstance(chosen, str) and chosen in choice.entries:
            return chosen
        found = "nothing" if picked is None else str(picked)
        near = "" if picked is None else did_you_mean(picked.plain(), choice.entries)
        self.refuse(place, one_of(choice.entries), found, near or "choose one", key)
        return None

    def _section(
        self, section: Section, given: Mapping[str, Node], path: str, place: str, known: Sequence[str]
    ) -> dict[str, Any]:
        for entry, below in given.items():
            if entry not in section.entries:
                full = f"{path}.{entry}".lstrip(".")
                self.problems.append(Problem(below.place, _unknown(entry, full, section, known)))
        return {
            entry: self.fill(inner, given.get(entry), f"{path}.{entry}".lstrip("."), place, known)
            for entry, inner in section.entries.items()
        }


def _unknown(entry: str, full: str, section: Section, known: Sequence[str]) -> UnknownSetting:
    """The refusal of a name, with the nearest one beside it, else the same elsewhere, else all there are."""
    expected, do = "a setting", did_you_mean(entry, section.entries)
    elsewhere = [path for path in known if path.rpartition(".")[2] == entry and path != full]
    if not do and elsewhere:
        expected, do = "a setting there", f"did you mean {elsewhere[0]!r}?"
    do = do or "there are " + (", ".join(section.entries) or "none here")
    return UnknownSetting(expected, repr(entry), do, full)
