"""The subset of YAML that settings are written in, read with the place of every value.

Only ``true`` and ``false`` are booleans (``no`` is Norwegian), ``1e-4`` is a number, a date is text, a key
given twice is an error, and there are no tags.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from seqsru.settings.kinds import short, shown
from seqsru.settings.problems import refuse

MOST_BYTES = 2**20  # of a file of settings, which has a few thousand
MOST_DEPTH = 50  # sections and lists in one another
MOST_NODES = 20_000  # values, each as often as an alias repeats it
KEY = r"[^\s.=]+"  # what the name of a setting may be
Place = Callable[[int], str]  # puts a line number, from 1, into words


@dataclass
class Node:
    """A value and where it was given: a scalar, a list of nodes, or a dict of nodes."""

    value: Any
    place: str

    def plain(self) -> Any:
        """The value alone."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def __str__(self) -> str:
        return shown(self.plain())


def parse(text: str, place: Place, path: str = "", *, dotted: bool = False) -> Node:
    """Read YAML, the value of ``path`` if it is not a whole file; no text at all is null.

    Names in it may be ``dotted`` ones, of settings further down, where that is said.

    Raises
    ------
    SettingsError
        If it is not YAML, or more than the plain subset.
    """
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark, what = error.problem_mark or error.context_mark, error.problem or error.context
        raise refuse(
            place(mark.line + 1 if mark else 1),
            "YAML",
            f"a mistake ({what})",
            "check indentation, colons, brackets and quotes there",
            path or None,
        ) from None
    except yaml.reader.ReaderError as error:
        raise refuse(
            place(text.count("\n", 0, error.position) + 1),
            "text",
            f"the control character #x{error.character:04x}",
            "remove it",
            path or None,
        ) from None
    except (ValueError, OverflowError):  # of an escape for a character beyond the last one
        line = place(1 if loader is None else loader.line + 1)
        raise refuse(line, "YAML", "an escape of no character", "remove it", path or None) from None
    return Node(None, place(1)) if root is None else _Tree(place, dotted).node(root, [], path)


def dump(values: Mapping[str, Any]) -> str:
    """Write plain values, and paths, so that `parse` gives them back."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(below) for name, below in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    text: str = yaml.dump(plain(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_DEPTH} in one another", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_str(self, data: str) -> Any:
        # Characters that YAML takes for the end of a line come back from quotes alone, which escape them.
        style = '"' if any(one in data for one in "\x85\u2028\u2029") else None
        return self.represent_scalar(f"{_TAG}str", data, style=style)


_TAG = "tag:yaml.org,2002:"
_Dumper.add_representer(str, _Dumper.represent_str)
_SCALARS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "null": (r"~|null|", "~n", lambda text: None),
    "bool": (r"true|false", "tf", lambda text: text == "true"),
    "int": (r"[-+]?[0-9]{1,40}", "-+0123456789", int),  # Python reads no number of thousands of digits
    "float": (
        r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf",
        "-+0123456789.",
        lambda text: float(text.replace(".inf", "inf")),
    ),
}
for _kind, (_pattern, _first, _) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            _TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), [*_first, ""] if _kind == "null" else list(_first)
        )


class _Tree:
    """Nodes of the package from those of YAML; what aliases repeat is counted each time."""

    def __init__(self, place: Place, dotted: bool) -> None:
        self.place, self.count = place, 0
        self.key = re.compile(rf"{KEY}(\.{KEY})*" if dotted else KEY)

    def node(self, node: yaml.Node, outer: list[yaml.Node], path: str) -> Node:
        here, name = self.place(node.start_mark.line + 1), path or None
        kind = node.tag.removeprefix(_TAG)
        if any(node is one for one in outer):
            raise refuse(here, "a value that ends", "one that contains itself", "remove the alias", name)
        self.count += 1
        if self.count > MOST_NODES or len(outer) > MOST_DEPTH:
            most = f"at most {MOST_NODES:,} values, {MOST_DEPTH} in one another, aliases followed"
            raise refuse(here, most, "more", "remove aliases or lists", name)
        outer = [*outer, node]
        if isinstance(node, yaml.ScalarNode):
            if kind == "str":
                if any("\ud800" <= one <= "\udfff" for one in node.value):
                    raise refuse(here, "text", "half of a character's escape", "remove it", name)
                return Node(node.value, here)
            # The tag may have been written there, and the text be something else.
            if kind in _SCALARS and re.fullmatch(_SCALARS[kind][0], node.value):
                value = _SCALARS[kind][2](node.value)
                if value in (math.inf, -math.inf) and "inf" not in node.value:
                    what, found = "a number below 1.8e308", short(node.value)
                    raise refuse(here, what, found, "give such a number", name)
                return Node(value, here)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return Node([self.node(item, outer, path) for item in node.value], here)
        if not isinstance(node, yaml.MappingNode) or kind != "map":
            raise refuse(here, "a plain value", f"the tag {node.tag}", "remove it", name)
        values: dict[str, Node] = {}
        for key, value in node.value:
            at = self.place(key.start_mark.line + 1)
            if not isinstance(key, yaml.ScalarNode) or not self.key.fullmatch(key.value):
                found = short(repr(key.value)) if isinstance(key, yaml.ScalarNode) else "a list or a section"
                raise refuse(at, "the name of a setting", found, "write name: value")
            below = f"{path}.{key.value}".lstrip(".")
            if key.value in values:
                found = f"it twice, first at {values[key.value].place}"
                raise refuse(at, "it once", found, "remove one", below)
            values[key.value] = replace(self.node(value, outer, below), place=at)
        return Node(values, here)
