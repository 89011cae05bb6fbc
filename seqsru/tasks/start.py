"""A run that starts from the weights of another: what may be chosen, and what the two must share."""

# Annotations are read at run time: these fields are the section `start_from` of a config.
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqsru.data import TOKENIZERS, LineReport
from seqsru.errors import NotFound, Refused
from seqsru.settings import Choice, File, Override, Problem, SettingsError, Values, given, refuse, shown
from seqsru.settings.kinds import checked
from seqsru.settings.places import Node
from seqsru.tasks.sections import new_tokenizer
from seqsru.tasks.task import Task, Trained
from seqsru.training import RunDirectory

# Sections that are the other run's where a config does not give them.
INHERITED = ("tokenizer", "model", "reading")
# Settings that any weights fit: what is dropped, what is trained, what computes it, the windows of a text.
FREE = ("backend", "frozen_embedding", "max_paragraph", "stride", "max_answer")
SUFFIX = "dropout"


@dataclass(frozen=True)
class Start:
    """Another run, whose weights and tokenizers this one begins with: fine-tuning.

    The sections model, tokenizer and reading are the other run's, and may be left out; what is dropped may
    differ, and windows.
    Everything else is this run's own: optimizer, schedule and averaging begin anew. Once it has begun, the
    other run is not needed any more.

    Parameters
    ----------
    run : Path
        The other run's directory; a run of the same task.
    checkpoint : str or int
        Which of its checkpoints: best, last or a step number; of a run with `averaging`, its average.
    average : int
        Take the mean of the weights of so many of its best or last checkpoints; 1 takes one as it is.
    """

    run: Path
    checkpoint: str | int = "best"
    average: int = 1


def base_of(path: Path | File, schema: Choice, overrides: Sequence[str | Override]) -> Path | None:
    """The file that has the `INHERITED` sections for a config that starts from another run.

    It is that run's config; once the run of this config has begun, its own, so that it needs no other.

    Parameters
    ----------
    path : Path or File
        The config.
    schema : Choice
        Every setting of every task.
    overrides : sequence of str or Override
        ``key.path=value``.

    Returns
    -------
    Path or None
        None where the config starts from no other run.

    Raises
    ------
    SettingsError
        The other run is needed and not there, or of another task.
    """

    def said(name: str) -> Node | None:
        node = given(path, schema, overrides, name)
        return node if node is not None and isinstance(node.value, str) else None

    start, output, task = said("start_from.run"), said("output"), said("task")
    if start is None:
        return None
    own, other = (
        RunDirectory(Path(str(checked(node.value, Path)))) if node is not None and node.value else None
        for node in (output, start)
    )
    if own is not None and own.begun and own.config.is_file():
        return own.config
    if other is None:
        return None
    if not other.config.is_file():
        missing = no_run(other)
        raise refuse(start.place, missing.expected, missing.found, missing.do, "start_from.run")
    theirs = given(other.config, schema, (), "task")
    names = [str(node.value) for node in (task, theirs) if node is not None]
    if len({name for name in names if name in schema.entries}) > 1:
        raise SettingsError([Problem(start.place, other_task(names[0], names[1], other.path))])
    return other.config


def no_run(directory: RunDirectory) -> NotFound:
    """The refusal of a folder that is no run."""
    return NotFound(
        f"a run directory with a {directory.config.name} at {directory.path}",
        "none",
        "check the path, or make one with `seqsru train`",
    )


def check_start(task: Task, earlier: Trained) -> None:
    """Refuse to start a model from the weights of another one.

    Parameters
    ----------
    task : Task
        With the settings of the new run.
    earlier : Trained
        The other run.

    Raises
    ------
    SettingsError
        It is of another task, or a setting of its model or tokenizer differs: each one, with its place.
    """
    settings, others = task.settings, earlier.task.settings
    run = settings["start_from"]["run"]
    if others.chosen != settings.chosen:
        raise settings.error(other_task(settings.chosen, others.chosen, run))
    shared = [name for name in INHERITED if name in settings and name != "tokenizer"]
    differing = [one for name in shared for one in _differing(settings, others, name)]
    if not _same_tokenizers(task, earlier):
        differing += _differing(settings, others, "tokenizer")
    problems = []
    for name, theirs, ours in differing:
        what = f"{shown(theirs)}, as the run in {run} has it, whose weights and tokenizers are taken over"
        refusal = Refused(what, shown(ours), "put it back, or leave it out", name)
        problems.append(settings.error(refusal).problems[0])
    if problems:
        raise SettingsError(problems)


def other_task(ours: str, theirs: str, run: Path) -> Refused:
    """The refusal of a run of another task."""
    found = f"one of {theirs} in {run}"
    return Refused(f"a run of the task {ours}", found, "name another", "start_from.run")


def _differing(settings: Values, others: Values, section: str) -> Iterator[tuple[str, object, object]]:
    """Each setting of a section that must be equal and is not: its name, the other run's value, and this."""
    now, before = settings[section].flat(), others[section].flat()
    for name in {**before, **now}:
        last = name.rpartition(".")[2]
        if now.get(name) != before.get(name) and last not in FREE and not last.endswith(SUFFIX):
            yield name, before.get(name), now.get(name)
            if last == "name":
                return  # the settings of two cells are not compared


def _same_tokenizers(task: Task, earlier: Trained) -> bool:
    """Whether the settings ask for the saved tokenizers that the other run has."""
    if task.settings["tokenizer"].chosen != "saved":
        return False
    theirs = earlier.task.load_tokenizers(task.settings["start_from"]["run"])
    files = earlier.task.tokenizer_files()
    if task.tokenizer_files() != files:
        return False
    return all(
        new_tokenizer(task.settings["tokenizer"], (), file, LineReport(file)).fingerprint
        == theirs[role].fingerprint
        for role, file in files.items()
        if theirs[role].kind in TOKENIZERS
    )
