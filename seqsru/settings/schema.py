"""What may be set: a tree of `Setting`, `Section` and `Choice`, read from the signatures of what they set.

`from_signature` makes the section of any callable: names and defaults from its signature, types from its
annotations, texts from its numpydoc docstring, and what a dataclass says of a field in its ``metadata``. So
an option is written once, where it is used, and `registry` makes every entry of a registry legal, checked,
suggested and shown by ``--help``. A section remembers the callable, which `Values.make` then calls.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from seqsru.settings.kinds import alternatives, kind_text, spellable

REQUIRED = inspect.Parameter.empty  # the default of what has none


@dataclass(frozen=True)
class Setting:
    """One value.

    Attributes
    ----------
    kind : annotation
        Its type.
    default : object
        `REQUIRED` where there is none.
    text : str
        What it is, for people.
    may_change : bool
        Whether it may differ when a run goes on.
    formerly : str
        The name it had before, which files may still use.
    several : Section or None
        What each item is where a list may stand instead of the one value; None where none may.
    """

    kind: object
    default: object = REQUIRED
    text: str = ""
    may_change: bool = False
    formerly: str = ""
    several: Section | None = None


@dataclass(frozen=True)
class Maker:
    """A callable, and which settings of a section are its parameters."""

    function: Callable[..., Any]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Named settings.

    Attributes
    ----------
    entries : mapping of str to schema
        What may be set in it.
    text : str
        What it is, for people.
    optional : bool
        Whether it may be absent or null, and is then None.
    makers : tuple of Maker
        The callables whose parameters the entries are.
    formerly : str
        The name it had before.
    may_change : bool
        Whether all of it may differ when a run goes on.
    several : Section or None
        What each item is where a list may stand instead of the one section; None where none may.
    listed : bool
        Whether it is such a list; its entries are then named by their places, from 0.
    """

    entries: Mapping[str, Schema]
    text: str = ""
    optional: bool = False
    makers: tuple[Maker, ...] = ()
    formerly: str = ""
    may_change: bool = False
    several: Section | None = None
    listed: bool = False


@dataclass(frozen=True)
class Choice:
    """A registry: the setting ``key`` picks the entry whose settings are then legal beside it.

    Attributes
    ----------
    entries : mapping of str to Section
        What can be picked.
    key : str
        Name of the setting that picks.
    default : object
        What is picked where nothing is said; `REQUIRED` where something must be.
    text : str
        What is picked, for people.
    optional : bool
        Whether it may be absent or null, and is then None.
    options : str
        Where the callable around it wants the entry's name and its options apart: the parameter that takes
        the options. Empty: it wants what the entry makes.
    formerly : str
        The name it had before.
    """

    entries: Mapping[str, Section]
    key: str = "name"
    default: object = REQUIRED
    text: str = ""
    optional: bool = False
    options: str = ""
    formerly: str = ""


Schema = Union[Setting, Section, Choice]  # noqa: UP007 -- the members are not defined yet where it is evaluated


# ---- signatures ------------------------------------------------------------------------------------


def from_signature(
    function: Callable[..., Any],
    *,
    skip: Iterable[str] = (),
    sections: Mapping[str, Schema] | None = None,
    optional: bool = False,
    formerly: Mapping[str, str] | None = None,
    may_change: Iterable[str] = (),
) -> Section:
    """The section whose settings are the parameters of ``function``.

    Parameters
    ----------
    function : callable
        Function or class; every parameter that becomes a setting is annotated, and none is ``**kwargs``. The
        metadata of a dataclass's fields may have ``may_change`` and ``formerly``.
    skip : names, optional
        Parameters the caller gives itself; each must exist.
    sections : mapping of str to schema, optional
        Parameters that are sections of their own; each must exist. A `Choice` takes the parameter's default.
    optional : bool
        Whether the section may be absent.
    formerly : mapping of str to str, optional
        Earlier names of parameters.
    may_change : names, optional
        Parameters that may differ when a run goes on; each must exist.

    Raises
    ------
    TypeError
        If a parameter has no annotation, or one that no setting can have: the program is wrong, not a file.
    """
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    doc = inspect.getdoc(function) or ""
    texts = _parameter_texts(doc)
    parameters = inspect.signature(function).parameters
    skip, sections, formerly = set(skip), dict(sections or {}), dict(formerly or {})
    free = set(may_change)
    metadata: dict[str, Mapping[str, Any]] = {}
    if inspect.isclass(function) and dataclasses.is_dataclass(function):
        metadata = {field.name: field.metadata for field in dataclasses.fields(function)}
    named = f"{getattr(function, '__qualname__', function)}"
    missing = sorted((skip | sections.keys() | formerly.keys() | free) - parameters.keys())
    if missing:
        raise TypeError(f"{named} has no parameter {missing[0]}")
    entries: dict[str, Schema] = {}
    taken = {schema.options for schema in sections.values() if isinstance(schema, Choice)}
    for name, parameter in parameters.items():
        if name in skip or name in taken:
            continue
        said = metadata.get(name, {})
        before = formerly.get(name) or said.get("formerly", "")
        changes = name in free or said.get("may_change", False)
        if name in sections:
            given = replace(
                sections[name],
                text=sections[name].text or texts.get(name, ""),
                formerly=sections[name].formerly or before,
            )
            if isinstance(given, Choice) and given.default is REQUIRED:
                given = replace(given, default=parameter.default)
            if isinstance(given, Section):
                given = replace(given, may_change=changes)
            entries[name] = given
            continue
        if name not in hints or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise TypeError(f"{named}: parameter {name} is not one named, annotated setting")
        # What only Python can give, such as a torch.device beside its name, is no setting.
        members = tuple(filter(spellable, alternatives(hints[name])))
        if set(members) <= {types.NoneType}:
            try:
                kind_text(hints[name])
            except TypeError as error:
                raise TypeError(f"{named}: parameter {name}: {error}") from None
        entries[name] = Setting(
            typing.Union[members],  # noqa: UP007 -- of as many as there are
            parameter.default,
            texts.get(name, ""),
            changes,
            before,
        )
    summary = " ".join(doc.split("\n\n")[0].split())
    return Section(entries, summary, optional, (Maker(function, tuple(entries)),))


def joined(first: Section, *others: Section) -> Section:
    """One section with the settings of several, whose names are all different; its text is the first one's.

    What it makes is asked for one callable at a time: ``values.of(function).make()``.
    """
    entries = dict(first.entries)
    for other in others:
        twice = sorted(entries.keys() & other.entries.keys())
        if twice:
            raise TypeError(f"the setting {twice[0]} would mean two things in one section")
        entries |= other.entries
    makers = tuple(maker for section in (first, *others) for maker in section.makers)
    return replace(first, entries=entries, makers=makers)


def registry(
    entries: Mapping[str, Callable[..., Any]],
    *,
    default: object = REQUIRED,
    skip: Iterable[str] = (),
    optional: bool = False,
    options: str = "",
) -> Choice:
    """The choice between the callables of a registry; an entry need not take everything in ``skip``."""
    skip = set(skip)
    sections = {
        name: from_signature(function, skip=skip & inspect.signature(function).parameters.keys())
        for name, function in entries.items()
    }
    return Choice(sections, "name", default, "", optional, options)


def _parameter_texts(doc: str) -> dict[str, str]:
    """Texts of the *Parameters* section of a numpydoc docstring, by name."""
    lines = doc.split("\n")
    heads = [n for n in range(len(lines) - 1) if lines[n : n + 2] == ["Parameters", "----------"]]
    texts: dict[str, str] = {}
    names: list[str] = []
    for n in range(heads[0] + 2 if heads else len(lines), len(lines)):
        if n + 1 < len(lines) and re.fullmatch("-+", lines[n + 1]):
            break  # the next section's title
        if re.match(r"[\w*]", lines[n]):
            names = [name.strip(" *") for name in lines[n].split(":")[0].split(",")]
            texts.update(dict.fromkeys(names, ""))
        for name in names if lines[n].startswith(" ") else ():
            texts[name] = f"{texts[name]} {lines[n].strip()}".strip()
    return texts


# ---- paths -----------------------------------------------------------------------------------------


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every dotted path with its schema, depth first; each entry of a `Choice`, so that some come twice."""
    if path:
        yield path, schema
    for section in schema.entries.values() if isinstance(schema, Choice) else (schema,):
        for name, below in section.entries.items() if isinstance(section, Section) else ():
            yield from walk(below, _below(path, name))


def paths(schema: Schema, path: str = "") -> Iterator[str]:
    """Every legal dotted path, depth first; those of each entry of a `Choice`, so that some come twice."""
    for at, below in [("", schema), *walk(schema)]:
        if at:
            yield _below(path, at)
        if isinstance(below, Choice):
            yield _below(path, _below(at, below.key))


def renamed(schema: Schema) -> dict[str, str]:
    """The present path of each setting or section that had another name, by the path it had.

    An entry of a `Choice` may have a setting of the name that another entry's had: then it is that setting.
    """
    present = set(paths(schema))
    before = {
        _below(path.rpartition(".")[0], below.formerly): path
        for path, below in walk(schema)
        if below.formerly
    }
    return {old: new for old, new in before.items() if old not in present}


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
