"""What a run that goes on is held against: the settings that it began with, and the content of its files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from seqsru.data.facts import facts_of
from seqsru.data.text_cache import facts_folder
from seqsru.errors import Refused
from seqsru.settings import Problem, SettingsError, Values, shown

SHOWN = 12  # hexadecimal digits of a sum in a sentence


def file_sums(settings: Values) -> dict[str, str]:
    """The sha256 of every file that the training depends on, by the setting that names it.

    A large file that was read before, and that nothing has changed since, is not read again for it.
    """
    paths = {name: path for name, path in settings.lasting().items() if isinstance(path, Path)}
    known = facts_folder(settings["cache"])
    return {name: facts_of(path, known)[0].sha256 for name, path in paths.items() if path.is_file()}


def check_unchanged(
    settings: Values,
    earlier: Values | None,
    sums: Mapping[str, str],
    began: Mapping[str, str],
    run: Path,
    free: Collection[str] = (),
) -> None:
    """Refuse settings or files other than those that a run began with.

    A file is judged by its bytes, wherever it lies now: text to train on, and text to validate with, which
    decides what is best, when patience ends and what a schedule observes. Each setting names one file, so
    the same files in another order are other files. A folder, which is another run, is judged by its path:
    nothing of it is read when a run goes on. A file that the run has no sum of is judged by its path too.

    Parameters
    ----------
    settings, earlier : Values
        Those of now, and those that the run began with, where it still has them.
    sums, began : mapping of str to str
        What `file_sums` gives now, and what it gave when the run began.
    run : Path
        The run directory.
    free : collection of str
        Settings that may be others.

    Raises
    ------
    SettingsError
        Each setting that differs, with both values or sums.
    """
    now = settings.lasting()
    before = now if earlier is None else earlier.lasting()
    problems = []
    for name in [name for name in {**before, **now} if name not in free]:
        if name in sums and name in began:
            if sums[name] != began[name]:
                refusal = Refused(
                    f"the file that the run in {run} began with, whose sha256 begins {began[name][:SHOWN]}",
                    f"{sums[name][:SHOWN]} in {now[name]}",
                    "restore it, or choose another output",
                    name,
                )
                problems.append(settings.error(refusal).problems[0])
        elif before.get(name) != now.get(name):
            refusal = Refused(
                f"the settings that the run in {run} began with",
                f"{name} {shown(now.get(name))} instead of {shown(before.get(name))}",
                "choose another output, or put it back",
            )
            problems.append(Problem("", refusal))
    if problems:
        raise SettingsError(problems)
