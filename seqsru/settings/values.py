"""Resolved settings: sections of values that know what they are the settings of, and make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqsru.errors import Refused
from seqsru.settings.problems import Problem, SettingsError
from seqsru.settings.schema import Choice, Section, Setting


class Values(Mapping[str, Any]):
    """The values of a section, by name; sections in it are `Values` of their own, or None where absent.

    Parameters
    ----------
    section : Section
        What may be set. For a `Choice`, the section of the chosen entry.
    values : mapping of str to object
        Every setting of it.
    path : str
        Where it stands, dotted; empty for all settings.
    places : mapping of str to str
        Where each dotted path was given: ``file:line`` or ``command line``. The empty path is the file.
    choice : Choice, optional
        What `section` was chosen from.
    chosen : str
        The name of the chosen entry.
    """

    def __init__(
        self,
        section: Section,
        values: Mapping[str, Any],
        path: str,
        places: Mapping[str, str],
        choice: Choice | None = None,
        chosen: str = "",
    ) -> None:
        self.section, self.path, self.places = section, path, places
        self.choice, self.chosen = choice, chosen
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        if self.choice is not None and name == self.choice.key:
            return self.chosen
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        if self.choice is not None:
            yield self.choice.key
        yield from self._values

    def __len__(self) -> int:
        return len(self._values) + (self.choice is not None)

    def __repr__(self) -> str:
        return f"Values({self.plain()!r})"

    def plain(self) -> dict[str, Any]:
        """The values as nested dictionaries, and lists of them."""
        return {name: value._plain() if isinstance(value, Values) else value for name, value in self.items()}

    def _plain(self) -> dict[str, Any] | list[Any]:
        return list(self.plain().values()) if self.section.listed else self.plain()

    def flat(self) -> dict[str, Any]:
        """Values by dotted path, a list being one value, but for a list of paths: each is one of its own."""
        return {path: value for path, value, _ in self._leaves()}

    def lasting(self) -> dict[str, Any]:
        """Those of `flat` that may not change when a run goes on."""
        return {path: value for path, value, may_change in self._leaves() if not may_change}

    def _leaves(self, outer: bool = False) -> Iterator[tuple[str, Any, bool]]:
        for name, value in self.items():
            path = f"{self.path}.{name}".lstrip(".")
            entry = self.section.entries.get(name)
            may_change = outer or (isinstance(entry, (Setting, Section)) and entry.may_change)
            if isinstance(value, Values):
                yield from value._leaves(may_change)
                continue
            value = list(value) if isinstance(value, tuple) else value
            if isinstance(value, list) and any(isinstance(item, Path) for item in value):
                yield from ((f"{path}.{place}", item, may_change) for place, item in enumerate(value))
            else:
                yield path, value, may_change

    # ---- making ------------------------------------------------------------------------------------

    def make(self, *arguments: object, **given: object) -> Any:
        """Call what this is the settings of, and give what it makes.

        Sections inside, unless they are among ``given``, are made first; a choice with ``options`` gives its
        name and its options. A list of sections gives a list of what each of them makes.

        Parameters
        ----------
        *arguments, **given : object
            What the settings do not say; ``given`` wins over a setting or section of that name.

        Raises
        ------
        SettingsError
            What is called refused a value: with the place of the setting to blame.
        """
        if self.section.listed:
            return [item.make() for item in self.values()]
        (maker,) = self.section.makers  # a joined section is asked with `of`
        for name in maker.names:
            if name in given:
                continue
            value, entry = self[name], self.section.entries[name]
            if isinstance(value, Values) and isinstance(entry, Choice) and entry.options:
                given[name], given[entry.options] = value.chosen, value.options()
            else:
                given[name] = value.make() if isinstance(value, Values) else value
        with self.blamed():
            return maker.function(*arguments, **given)

    def of(self, function: Callable[..., Any]) -> Values:
        """The values that are parameters of one of the callables of a joined section."""
        (maker,) = (maker for maker in self.section.makers if maker.function == function)
        section = replace(
            self.section,
            entries={name: self.section.entries[name] for name in maker.names},
            makers=(maker,),
        )
        return Values(section, {name: self[name] for name in maker.names}, self.path, self.places)

    def options(self) -> dict[str, Any]:
        """The plain values of a chosen entry, without its name."""
        return {name: value for name, value in self.plain().items() if name in self._values}

    # ---- blaming -----------------------------------------------------------------------------------

    @contextmanager
    def blamed(self, setting: str | None = None) -> Iterator[None]:
        """Give a refusal of what is made from these settings its place.

        The refusal names the setting, here or in a section inside; if it names none of them, ``setting``
        does, else it is this section.
        """
        try:
            yield
        except SettingsError:
            raise
        except Refused as refusal:
            raise self.error(refusal, setting) from refusal

    def error(self, refusal: Refused, setting: str | None = None) -> SettingsError:
        """The error of one refusal, with the place of the setting that it names."""
        expected, named = refusal.expected, refusal.setting
        path = self._find(named) if named else None
        if path is None and setting is not None:
            path = f"{self.path}.{setting}".lstrip(".")
        elif path is None:
            path = self.path
            if named:  # an argument that no setting gives: it is named, but not as one
                expected = f"{expected} for {named}"
        at = path
        while at not in self.places:
            at = at.rpartition(".")[0]
        told = Refused(expected, refusal.found, refusal.do, path or None)
        return SettingsError([Problem(self.places[at], told)])

    def _find(self, name: str) -> str | None:
        """The path of a setting of that name or dotted path, the nearest one first."""
        head, _, rest = name.partition(".")
        if head in self:
            below = self[head]
            if rest and isinstance(below, Values):
                return below._find(rest)
            fits = not rest or isinstance(below, (list, tuple)) and rest.isdecimal()  # or one of a list
            return f"{self.path}.{name}".lstrip(".") if fits else None
        found = (value._find(name) for value in self.values() if isinstance(value, Values))
        return next((path for path in found if path is not None), None)
