"""What may be set: a tree of `Setting`, `Section` and `Choice`, read from the signatures of what they set.

`from_signature` makes the section of any callable: names and defaults from its signature, types from its
annotations, texts from its numpydoc docstring. So an option is written once, where it is used, and `registry`
makes every entry of a registry legal, checked, suggested and shown by ``--help``.
"""

import inspect
import os
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

REQUIRED = inspect.Parameter.empty  # the default of what has none


@dataclass(frozen=True)
class Setting:
    """One value: its type (an annotation), its default or `REQUIRED`, and its text."""

    kind: object
    default: object = REQUIRED
    text: str = ""


@dataclass(frozen=True)
class Section:
    """Named settings; with ``optional`` the whole section may be absent or null, and is then None."""

    entries: "Mapping[str, Schema]"
    text: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Choice:
    """A registry: the setting ``key`` picks the entry whose settings are then legal beside it."""

    entries: Mapping[str, Section]
    key: str = "name"
    default: object = REQUIRED
    text: str = ""
    optional: bool = False


Schema = Union[Setting, Section, Choice]


class Mismatch(ValueError):
    """A value that is not of the type asked for."""


# ---- signatures ------------------------------------------------------------------------------------


def from_signature(
    function: Callable,
    *,
    skip: Iterable[str] = (),
    sections: Mapping[str, Schema] | None = None,
    optional: bool = False,
) -> Section:
    """The section whose settings are the parameters of ``function``.

    Parameters
    ----------
    function : callable
        Function or class; every parameter that becomes a setting is annotated, and none is ``**kwargs``.
    skip : names, optional
        Parameters the caller gives itself; each must exist.
    sections : mapping of str to schema, optional
        Parameters that are sections of their own; each must exist. A `Choice` takes the parameter's default.
    optional : bool
        Whether the section may be absent.

    Raises
    ------
    TypeError
        If a parameter has no annotation, or one that no setting can have: the program is wrong, not a file.
    """
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    doc = inspect.getdoc(function) or ""
    texts = _parameter_texts(doc)
    parameters = inspect.signature(function).parameters
    skip, sections = set(skip), dict(sections or {})
    missing = sorted((skip | sections.keys()) - parameters.keys())
    if missing:
        raise TypeError(f"{function.__qualname__} has no parameter {missing[0]}")
    entries: dict[str, Schema] = {}
    for name, parameter in parameters.items():
        if name in skip:
            continue
        if name in sections:
            given = replace(sections[name], text=sections[name].text or texts.get(name, ""))
            if isinstance(given, Choice) and given.default is REQUIRED:
                given = replace(given, default=parameter.default)
            entries[name] = given
            continue
        if name not in hints or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise TypeError(f"{function.__qualname__}: parameter {name} is not one named, annotated setting")
        try:
            kind_text(hints[name])
        except TypeError as error:
            raise TypeError(f"{function.__qualname__}: parameter {name}: {error}") from None
        entries[name] = Setting(hints[name], parameter.default, texts.get(name, ""))
    return Section(entries, " ".join(doc.split("\n\n")[0].split()), optional)


def registry(
    entries: Mapping[str, Callable],
    *,
    default: object = REQUIRED,
    skip: Iterable[str] = (),
    optional: bool = False,
) -> Choice:
    """The choice between the callables of a registry; an entry need not take everything in ``skip``."""
    skip = set(skip)
    sections = {
        name: from_signature(function, skip=skip & inspect.signature(function).parameters.keys())
        for name, function in entries.items()
    }
    return Choice(sections, "name", default, "", optional)


def _parameter_texts(doc: str) -> dict[str, str]:
    """Texts of the *Parameters* section of a numpydoc docstring, by name."""
    lines = doc.split("\n")
    heads = [n for n in range(len(lines) - 1) if lines[n : n + 2] == ["Parameters", "----------"]]
    texts: dict[str, str] = {}
    names: list[str] = []
    for n in range(heads[0] + 2 if heads else len(lines), len(lines)):
        if n + 1 < len(lines) and re.fullmatch("-+", lines[n + 1]):
            break  # the next section's title
        if re.match(r"\w", lines[n]):
            names = [name.strip() for name in lines[n].split(":")[0].split(",")]
            texts.update(dict.fromkeys(names, ""))
        for name in names if lines[n].startswith(" ") else ():
            texts[name] = f"{texts[name]} {lines[n].strip()}".strip()
    return texts


# ---- types -----------------------------------------------------------------------------------------

_NAMES: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}


def alternatives(kind) -> tuple:
    """The members of a union annotation, flat; an annotation that is no union is its only member."""
    if typing.get_origin(kind) is typing.Annotated:
        return alternatives(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(kind) for member in alternatives(part))
    return (kind,)


def _element(kind):
    """Annotation of the elements if ``kind`` is a list, None if it is not."""
    origin, arguments = typing.get_origin(kind), [a for a in typing.get_args(kind) if a is not Ellipsis]
    listed = origin in (list, Sequence) or (origin is tuple and Ellipsis in typing.get_args(kind))
    return arguments[0] if listed and len(arguments) == 1 else None


def choices(kind) -> tuple:
    """The values an annotation spells out with ``Literal``."""
    return tuple(
        value
        for member in alternatives(kind)
        if typing.get_origin(member) is typing.Literal
        for value in typing.get_args(member)
    )


def is_text(kind) -> bool:
    """Whether every value of an annotation but null is text or a path."""
    return all(
        member in (str, Path, types.NoneType)
        or choices(member)
        and all(isinstance(value, str) for value in choices(member))
        for member in alternatives(kind)
    )


def kind_text(kind) -> str:
    """What a value of annotation ``kind`` is, in words; TypeError for one that no setting can have."""
    words = []
    spelled = choices(kind)
    if spelled:
        words.append(("one of " if len(spelled) > 1 else "") + ", ".join(shown(value) for value in spelled))
    for member in alternatives(kind):
        if typing.get_origin(member) is typing.Literal:
            continue
        if _element(member) is not None:
            words.append(f"a list (each {kind_text(_element(member))})")
        elif member in _NAMES:
            words.append(_NAMES[member])
        else:
            raise TypeError(f"no setting can be of type {member}")
    return " or ".join(words)


def checked(value, kind):
    """``value`` as ``kind`` has it: a whole number may stand for a number, text for a path (made absolute).

    Raises
    ------
    Mismatch
        If it is not of that type.
    """
    for member in alternatives(kind):
        if typing.get_origin(member) is typing.Literal:
            if any(value == choice and type(value) is type(choice) for choice in typing.get_args(member)):
                return value
        elif _element(member) is not None:
            with suppress(Mismatch):  # the message then shows the whole list
                if isinstance(value, list):
                    return [checked(item, _element(member)) for item in value]
        elif member is Path and isinstance(value, str) and value:
            return Path(os.path.abspath(os.path.expanduser(value)))
        elif type(value) is member:
            return value
    if type(value) is int and float in alternatives(kind):
        return float(value)
    raise Mismatch(f"must be {kind_text(kind)}, found {shown(value)}")


def shown(value) -> str:
    """A value as a file would spell it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return repr(str(value)) if isinstance(value, (str, Path)) else str(value)


# ---- help ------------------------------------------------------------------------------------------


def paths(schema: Schema, path: str = "") -> Iterator[str]:
    """Every legal dotted path, depth first; those of each entry of a `Choice`, so that some come twice."""
    if path:
        yield path
    if isinstance(schema, Choice):
        yield f"{path}.{schema.key}".lstrip(".")
    sections = schema.entries.values() if isinstance(schema, Choice) else [schema]
    for section in sections:
        for name, below in section.entries.items() if isinstance(section, Section) else ():
            yield from paths(below, f"{path}.{name}".lstrip("."))


def describe(schema: Schema, *, width: int = 110) -> str:
    """All settings with types, defaults and texts, indented as the file would be."""
    lines: list[str] = []

    def put(depth, head, text):
        indent, text = "  " * depth, text.replace("``", "`")
        body = f"{head}  # {text}" if text else head
        lines.extend(
            textwrap.wrap(
                body,
                width,
                initial_indent=indent,
                subsequent_indent=indent + "      # ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [""]
        )

    def entries(section, depth):
        for name, below in section.entries.items():
            visit(name, below, depth)

    def visit(name, below, depth):
        if isinstance(below, Setting):
            required = below.default is REQUIRED
            default = "" if required else " " + shown(below.default).strip("'")
            kind = kind_text(below.kind) + (" (required)" if required else "")
            put(depth, f"{name}:{default}", f"{kind}. {below.text}" if below.text else kind)
            return
        optional = ["(may be left out)"] if below.optional else []
        put(depth, f"{name}:", " ".join([*optional, *filter(None, [below.text])]))
        visit_inside(below, depth + 1)

    def visit_inside(below, depth):
        if isinstance(below, Section):
            entries(below, depth)
            return
        for choice, section in below.entries.items():
            mark = " (default)" if choice == below.default else ""
            put(depth, f"{below.key}: {choice}", f"{section.text}{mark}".strip())
            entries(section, depth + 1)

    visit_inside(schema, 0)
    return "\n".join(lines)
