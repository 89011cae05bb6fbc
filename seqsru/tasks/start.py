"""A run that starts from the weights of another: what may be chosen, and what the two must share."""

# Annotations are read at run time: these fields are the section `start_from` of a config.
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqsru.errors import Refused
from seqsru.settings import SettingsError, Values, shown
from seqsru.tasks.task import Task, Trained

INHERITED = ("tokenizer", "model")  # sections that are the other run's where a config does not give them
# Settings of a model that any weights fit: what is dropped, what is trained, and what computes it.
FREE = ("backend", "frozen_embedding")
SUFFIX = "dropout"


@dataclass(frozen=True)
class Start:
    """Another run, whose weights and tokenizers this one begins with: fine-tuning.

    The sections model and tokenizer are the other run's, and may be left out; what is dropped may differ.
    Everything else is this run's own. Once it has begun, the other run is not needed any more.

    Parameters
    ----------
    run : Path
        The other run's directory; a run of the same task.
    checkpoint : str
        Which of its checkpoints: best, last or a step number.
    average : int
        Take the mean of the weights of so many of its best or last checkpoints; 1 takes one as it is.
    """

    run: Path
    checkpoint: str = "best"
    average: int = 1


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
        expected = f"a run of the task {settings.chosen}"
        refusal = Refused(expected, f"one of {others.chosen} in {run}", "name another", "run")
        raise settings["start_from"].error(refusal)
    differing = list(_differing(settings, others, "model"))
    if not _same_tokenizers(task, earlier):
        differing += _differing(settings, others, "tokenizer")
    problems = []
    for name, theirs, ours in differing:
        what = f"{shown(theirs)}, as the run in {run} has it, whose weights and tokenizers are taken over"
        refusal = Refused(what, shown(ours), "put it back, or leave it out", name)
        problems.append(settings.error(refusal).problems[0])
    if problems:
        raise SettingsError(problems)


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
    made = {role: task.new_tokenizer(None, file) for role, file in files.items() if file != "labels"}
    return all(made[role].fingerprint == theirs[role].fingerprint for role in made)
