"""The file of a comparison: what it may say, read as strictly as the settings of a run."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from seqsru import runs
from seqsru import settings as strict
from seqsru.comparing.options import Budget, Options, Timing
from seqsru.comparing.search import Drawn, Search, drawn_from
from seqsru.errors import Refused, check_at_least, unknown
from seqsru.settings import Choice, Override, Section, Setting, Values, from_signature, joined
from seqsru.settings.places import Node
from seqsru.training.schedules import Schedule

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_.-]{0,99}")  # of a system: a folder is called so
FREE = ("set", "systems", "by_seed", "evaluate")  # sections whose names are not known before
TAKEN = ("output", "seed")  # what every training of a comparison has its own of


def _parameters() -> Section:
    """Settings of the equal size; one of them has a name that no argument can have."""
    return Section(
        {
            "count": Setting(int | None, None, "How many parameters each system has."),
            "as": Setting(str | None, None, "The system that the others are as large as, in place of count."),
            "by": Setting(list[str], text="The settings that are solved for; several get the same value."),
            "within": Setting(float, 0.01, "Share of the count that a system's size may be off."),
            "multiple": Setting(int, 4, "What the settings are a multiple of."),
        },
        "Equal size: settings of width are solved for.",
        optional=True,
    )


def schema() -> Section:
    """Everything that a comparison may set, but for what stands below `FREE` and search.settings."""
    free = {
        "set": "Overrides of the base for all systems, by dotted key.",
        "systems": "The systems: for each name its overrides, by dotted key.",
        "by_seed": "Settings that differ from seed to seed, by dotted key: a list with a value a seed.",
        "evaluate": "Flags of `seqsru evaluate` for the test, such as beam.",
    }
    search = from_signature(Search, sections={"budget": from_signature(Budget)}, optional=True)
    settings = {"settings": Setting(str | None, None, "What is searched: lists, or from, to and scale.")}
    return joined(
        from_signature(Options),
        Section({name: Setting(str | None, None, text) for name, text in free.items()}),
        Section(
            {
                "parameters": _parameters(),
                "budget": from_signature(Budget),
                "search": joined(search, Section(settings)),
                "latency": from_signature(Timing, optional=True),
            }
        ),
    )


@dataclass(frozen=True)
class Size:
    """The size that is solved for.

    Attributes
    ----------
    count : int or None
    like : str or None
        The system that gives it in place of `count`.
    by : tuple of str
    within : float
    multiple : int
    """

    count: int | None
    like: str | None
    by: tuple[str, ...]
    within: float
    multiple: int


@dataclass(frozen=True)
class Spec:
    """A comparison, read and checked as far as its own settings go.

    Attributes
    ----------
    path : Path
    values : Values
        Its own settings, which know their places.
    options : Options
    budget : Budget
    size : Size or None
    search : Search or None
    drawn : mapping of str to Drawn
        What is searched, by setting.
    timing : Timing or None
    systems : mapping of str to list of Override
        Each system's, those for all before them.
    by_seed : mapping of str to list of Node
        Values by setting, one a seed.
    evaluate : tuple of str
        Flags for the test.
    base : File
        The settings that all share.
    known : Choice
        Every setting that there is.
    """

    path: Path
    values: Values
    options: Options
    budget: Budget
    size: Size | None
    search: Search | None
    drawn: Mapping[str, Drawn]
    timing: Timing | None
    systems: Mapping[str, list[Override]]
    by_seed: Mapping[str, list[Node]]
    evaluate: tuple[str, ...]
    base: strict.File = field(repr=False)
    known: Choice = field(repr=False)

    def settings(self, system: str, seed: int, folder: str, *more: Override) -> Values:
        """All settings of one training.

        Parameters
        ----------
        system : str
        seed : int
        folder : str
            Below the output.
        *more : Override
            What else is set, each winning over those before.
        """
        place = self.values.places.get("seeds", str(self.path))
        turn = self.options.seeds.index(seed) if seed in self.options.seeds else 0
        own = [
            *self.systems[system],
            *(Override(name, nodes[turn]) for name, nodes in self.by_seed.items()),
            *more,
            Override("seed", Node(seed, place)),
            Override("output", Node(str(self.options.output / folder), place)),
        ]
        last: dict[str, Override] = {}
        for one in own:
            last.pop(one.path, None)  # in the order in which they were said last
            last[one.path] = one
        return runs.load_settings(self.base, last.values(), self.known)

    def may_cut(self, settings: Values) -> bool:
        """Whether trainings end with a time, and their schedule with a number of updates."""
        return self.budget.timed and _schedule(settings).needs_total

    def goes_on(self, settings: Values) -> bool:
        """Whether a trial can go on to a larger budget: a schedule with an end has its own."""
        assert self.search is not None
        schedule = _schedule(settings)
        return not schedule.needs_time and (self.search.budget.timed or not schedule.needs_total)

    def within_budget(self, budget: Budget) -> list[Override]:
        """The settings of a budget, placed where the file gives it."""
        place = self.values.places.get("budget", str(self.path))
        return [Override(name, Node(value, place)) for name, value in budget.settings().items()]


def read(path: Path) -> Spec:
    """Read a comparison's file.

    Raises
    ------
    SettingsError
        Anything unknown, missing or of the wrong type, with its place.
    OSError
        If it, or the base, cannot be read.
    """
    root = strict.read_tree(path, dotted=True)
    free = {name: root.value.pop(name, None) for name in FREE}
    search = root.value.get("search")
    searched = search.value.pop("settings", None) if search is not None and _is_map(search) else None
    timing = root.value.get("latency", Node(True, root.place))
    if timing.value is True or timing.value is False:  # a section has no such value
        root.value["latency"] = Node({} if timing.value else None, timing.place)
    values = strict.filled(schema(), root)
    options: Options = values.of(Options).make()
    with values["budget"].blamed():
        budget: Budget = values["budget"].make()
    if not options.base.is_file():
        raise values.error(Refused(f"a file of settings at {options.base}", "none", "check the path", "base"))
    systems = _systems(values, free["systems"], free["set"], root)
    base = strict.File(options.base)
    size = _size(values, systems)
    by_seed = _by_seed(free["by_seed"], options, root)
    if options.baseline is not None and options.baseline not in systems:
        raise values.error(unknown(options.baseline, systems, "baseline"))
    made: Search | None = None
    if values["search"] is not None:
        made = values["search"].of(Search).make()
    drawn = _drawn(searched, values) if made is not None else {}
    solved = () if size is None else size.by
    check = partial(_check_free, budgets=(budget, made))
    check("set", _section(free["set"], "set"))
    for system, node in _section(free["systems"], "systems").items():
        own_size = size is not None and system == size.like  # which is no other than its settings say
        check(f"systems.{system}", _section(node, f"systems.{system}"), solved=() if own_size else solved)
    for turn in range(len(options.seeds)):
        check("by_seed", {name: nodes[turn] for name, nodes in by_seed.items()}, solved=solved)
    if made is not None:
        check("search.settings", _section(searched, "search.settings"), solved=solved, sections=False)
    for one in (budget, *(() if made is None else (made.budget,))):
        if options.jobs > 1 and one.minutes:
            do = "give processor_minutes, updates or epochs, or set jobs to 1"
            found = f"{one}, of which {options.jobs} trainings at once take each other's"
            raise values.error(Refused("a budget other than minutes of the clock", found, do, "jobs"))
    return Spec(
        path,
        values,
        options,
        budget,
        size,
        made,
        drawn,
        None if values["latency"] is None else values["latency"].make(),
        systems,
        by_seed,
        _flags(free["evaluate"], base, systems, values),
        base,
        runs.schema(),
    )


def _schedule(settings: Values) -> Schedule:
    made: Schedule = settings["schedule"].make(settings["optimizer"]["lr"])
    return made


def _is_map(node: Node | None) -> bool:
    return node is not None and isinstance(node.value, dict)


def _section(node: Node | None, name: str) -> dict[str, Node]:
    """The entries of a section whose names are not known before."""
    if node is None or node.value is None:
        return {}
    if not isinstance(node.value, dict):
        raise strict.refuse(node.place, "a section", str(node), "write name: value below it", name)
    return dict(node.value)


def _overrides(node: Node | None, name: str) -> list[Override]:
    return [Override(path, one) for path, one in _section(node, name).items()]


def _check_free(
    where: str,
    found: Mapping[str, Node],
    *,
    budgets: tuple[Budget, Search | None],
    solved: Sequence[str] = (),
    sections: bool = True,
) -> None:
    """Refuse settings that would be without effect, as something else decides them.

    Parameters
    ----------
    where : str
        Dotted key of what they stand in.
    found : mapping of str to Node
        Settings and sections, by dotted key.
    budgets : (Budget, Search or None)
    solved : sequence of str
        What the equal size decides there.
    sections : bool
        Whether a node may be a section of settings, not what a setting is drawn from.
    """
    budget, search = budgets
    budgeted = {**budget.settings(), **({} if search is None else search.budget.settings())}
    for name, node in found.items():
        for path, place in [(name, node.place), *(_below(name, node) if sections else ())]:
            if path in TAKEN:
                do = "set it for the whole comparison" if path == "output" else "name it in seeds"
                raise strict.refuse(place, "settings other than output and seed", path, do, f"{where}.{path}")
            if path in budgeted:
                raise strict.refuse(place, "what the budget does not set", path, "leave it out", path)
            if path in solved:
                do = "leave it out, or take it out of parameters.by"
                raise strict.refuse(place, "what is not solved for", path, do, path)


def _below(name: str, node: Node) -> Iterator[tuple[str, str]]:
    """The dotted keys below a section, with their places."""
    if isinstance(node.value, dict):
        for key, one in node.value.items():
            yield f"{name}.{key}", one.place
            yield from _below(f"{name}.{key}", one)


def _systems(values: Values, node: Node | None, shared: Node | None, root: Node) -> dict[str, list[Override]]:
    everywhere = _overrides(shared, "set")
    found = _section(node, "systems")
    if not found:
        place = root.place if node is None else node.place
        raise strict.refuse(place, "at least one system", "none", "write NAME: {setting: value}", "systems")
    wrong = [name for name in found if not NAME.fullmatch(name)]
    if wrong:
        expected = "letters, digits, +, -, _ and ., the first a letter or digit"
        raise strict.refuse(found[wrong[0]].place, expected, repr(wrong[0]), "rename it", "systems")
    return {name: [*everywhere, *_overrides(one, f"systems.{name}")] for name, one in found.items()}


def _size(values: Values, systems: Mapping[str, Any]) -> Size | None:
    given = values["parameters"]
    if given is None:
        return None
    count, like = given["count"], given["as"]
    if (count is None) == (like is None):
        found = "neither" if count is None else "both"
        raise given.error(Refused("either count or as", found, "give one of them", "count"))
    if like is not None and like not in systems:
        raise given.error(unknown(like, systems, "as"))
    with given.blamed():
        check_at_least(1, multiple=given["multiple"], count=1 if count is None else count)
        check_at_least(0, within=given["within"])
        if not given["by"] or len(set(given["by"])) < len(given["by"]):
            found = strict.shown(given["by"])
            raise Refused("at least one setting, each once", found, "write [model.stack.hidden_size]", "by")
    return Size(count, like, tuple(given["by"]), given["within"], given["multiple"])


def _by_seed(node: Node | None, options: Options, root: Node) -> dict[str, list[Node]]:
    found = _section(node, "by_seed")
    for name, one in found.items():
        if not isinstance(one.value, list) or len(one.value) != len(options.seeds):
            what = f"a list of {len(options.seeds)} values, one a seed"
            raise strict.refuse(one.place, what, str(one), "change it", f"by_seed.{name}")
    return {name: one.value for name, one in found.items()}


def _drawn(node: Node | None, values: Values) -> dict[str, Drawn]:
    found = _section(node, "search.settings")
    if not found:
        place = values.places["search"] if node is None else node.place
        do = "write setting: [values], or setting: {from: 1, to: 2}"
        raise strict.refuse(place, "settings to search", "none", do, "search.settings")
    return {name: drawn_from(name, one) for name, one in found.items()}


def _flags(
    node: Node | None, base: strict.File, systems: Mapping[str, list[Override]], values: Values
) -> tuple[str, ...]:
    """The flags of the test, held against those that the task's evaluation takes."""
    found, measures = _section(node, "evaluate"), values["measures"]
    if not found and not measures:
        return ()
    first = next(iter(systems.values()))
    task = runs.task_of(runs.load_settings(base, [*first, Override("output", Node("none", ""))]))
    answer = task.answers["evaluate"]
    known = {
        name: replace(one, default=None)  # what is not given is the run's own
        for name, one in answer.flags.entries.items()
        if isinstance(one, Setting) and name not in answer.writes
    }
    loading = from_signature(runs.load, skip=["run", "kind", "threads", "device"])
    checked = strict.filled(Section({**known, **loading.entries}), Node(found, ""))
    for name in measures:
        if name not in answer.measures:
            raise values.error(unknown(name, answer.measures, "measures"))
    flags = ["--measures", ",".join(measures)] if measures else []
    for name in found:
        value = checked[name]
        text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
        flags += ["--" + name.replace("_", "-"), text]
    return tuple(flags)
