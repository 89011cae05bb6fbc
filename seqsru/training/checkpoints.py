"""Checkpoints: tensors, JSON and a manifest of checksums, written whole or not at all.

``checkpoints/step-00001200/`` holds ``model.safetensors`` (weights, or their average where there is one),
``training.safetensors`` (optimizer, carried state, generators, and beside an average the weights),
``state.json`` (counters, the validation at this step, sums of the texts) and ``manifest.json`` (sha256 of the
others, and of the run's files that it was trained with).
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from seqsru.data.files import check_no_link, flush, flush_folder, sha256, write_whole
from seqsru.data.room import room
from seqsru.errors import Refused
from seqsru.regular import is_folder, read_json
from seqsru.training.held import MOVED, Held
from seqsru.training.records import Manifest, State, misfit

MODEL, TRAINING, RECORD, MANIFEST = "model.safetensors", "training.safetensors", "state.json", "manifest.json"
FILES = (MODEL, TRAINING, RECORD, MANIFEST)
REPLACED = ".replaced-"
RENAME = "give one back the name that it had, such as step-00000010"
MOST_MANIFEST, MOST_RECORD = 2**20, 2**24  # bytes; a thousand times what they have
TRIES = 100  # of reading what is renamed meanwhile, a few milliseconds apart
ADVICE = "the checkpoint is damaged: delete it or restore it from a copy"


class CheckpointError(Refused):
    """A checkpoint that is damaged, missing, or does not fit what it is loaded into."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were found right.

    Attributes
    ----------
    path : Path
    step : int
        Updates made before it was written.
    record : dict
        Content of ``state.json``.
    covered : dict of str to list of str
        Sums of the run's own files by name, any of which a file may have: settings that change are written
        after the sum that they will have. Empty where an older version wrote it.
    """

    path: Path
    step: int
    record: dict[str, Any]
    covered: dict[str, list[str]] = field(repr=False)
    _held: Held = field(repr=False, compare=False)

    def model(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return self._tensors(MODEL)

    def training(self) -> dict[str, Tensor]:
        """Everything else that is a tensor, by name."""
        return self._tensors(TRAINING)

    def release(self) -> None:
        """Read nothing more: what of it is deleted then gives its room back to the disk."""
        self._held.close()

    def _tensors(self, file: str) -> dict[str, Tensor]:
        try:
            return self._held.tensors(file)
        except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            expected = f"tensors in {self.path / file}"
            raise CheckpointError(expected, f"something else ({error})", ADVICE) from None


def name_of(step: int) -> str:
    """Folder name of the checkpoint after a number of updates."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The number of updates in a name that `name_of` gives; None for every other name, such as of a copy."""
    found = re.fullmatch("step-([0-9]{8,18})", name)
    return int(found[1]) if found and name_of(int(found[1])) == name else None


def weights_name(checkpoint: Checkpoint) -> str:
    """What a signature calls the weights of a checkpoint: those of a step, or an average up to it."""
    return f"{'average-to-' if checkpoint.record.get('averaged') else ''}step-{checkpoint.step}"


def is_unfinished(path: Path) -> bool:
    """Whether a name is one that a killed process may leave."""
    mark, _, name = path.name[1:].partition("-")
    return path.name[:1] == "." and mark in ("partial", "replaced", "gone") and step_of(name) is not None


def save(
    folder: Path,
    step: int,
    model: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    record: Mapping[str, Any],
    covered: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint beside its final name, flush it to disk, and rename it once.

    Parameters
    ----------
    folder : Path
        The run's ``checkpoints`` folder.
    step : int
    model, training : mapping of str to Tensor
        Each tensor once (see :func:`seqsru.training.weights.model_tensors`).
    record : mapping
        JSON values; ``record["validation"]`` is null or a validation as `rank` takes it, with ``at_end``
        where only the end of training asked for it.
    covered : mapping of str to str, optional
        Sums of the run's own files, by name.

    Returns
    -------
    Path
        The checkpoint's folder.

    Raises
    ------
    NoRoom
        Nothing of it is left, and the checkpoints before are as they were.
    """
    final, partial = folder / name_of(step), folder / f".partial-{name_of(step)}"
    check_no_link(folder)
    contents = {MODEL: model, TRAINING: training}
    with room(final, sum(t.numel() * t.element_size() for one in contents.values() for t in one.values())):
        try:
            _clear(partial)
            partial.mkdir(parents=True)
            for file, tensors in contents.items():
                _write_tensors(partial / file, tensors)
            _write_json(partial / RECORD, record)
            manifest: dict[str, object] = {f: sha256(partial / f) for f in (MODEL, TRAINING, RECORD)}
            if covered:
                manifest["run"] = {name: [one] for name, one in covered.items()}
            _write_json(partial / MANIFEST, manifest)
            flush_folder(partial)
        except OSError:
            _clear(partial)
            raise
    replaced = folder / f"{REPLACED}{name_of(step)}"
    if os.path.lexists(final):
        final.rename(replaced)
    partial.rename(final)
    flush_folder(folder)
    if os.path.lexists(replaced):
        _discard(replaced, final)
    return final


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
    except SafetensorError as error:  # its number is in the text alone
        found = re.search(r"os error ([0-9]+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
    flush(path)


def _clear(left: Path) -> None:
    """Delete what a killed process, or somebody else, left under a name of one that is being written."""
    if is_folder(left):
        shutil.rmtree(left)
    else:
        left.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Finish what a killed process left half done: call it once the run directory is held."""
    for left in filter(is_unfinished, list(folder.glob(".*"))):
        mark, _, name = left.name[1:].partition("-")
        if mark == "partial":
            _clear(left)
        elif mark == "replaced" and not (folder / name).exists():
            left.rename(folder / name)
        else:
            _discard(left, folder / name)


def remove(path: Path) -> None:
    """Delete a checkpoint so that no half of it is ever seen under its name.

    What somebody else put into its folder stays there, and a link to a folder stays whole.
    """
    if path.is_symlink():
        return
    gone = path.with_name(f".gone-{path.name}")
    path.rename(gone)
    _discard(gone, path)


def _discard(left: Path, home: Path) -> None:
    """Delete what a checkpoint has in a folder; what else is there goes to the folder `home`."""
    if not is_folder(left):  # a link, or what somebody put there
        left.unlink(missing_ok=True)
        return
    for file in FILES:
        (left / file).unlink(missing_ok=True)
    for other in list(left.iterdir()):
        home.mkdir(exist_ok=True)
        other.rename(home / other.name)
    left.rmdir()


def paths(folder: Path) -> list[Path]:
    """Folders of all checkpoints of a run, oldest first, unverified.

    A folder is one by its exact name and a file of a checkpoint in it: copies, renamed ones and whatever else
    lies there are not.
    """
    if not is_folder(folder):
        return []
    named = [path for path in folder.iterdir() if step_of(path.name) is not None]
    return sorted(filter(_has_files, named), key=lambda path: step_of(path.name) or 0)


def _readable(folder: Path) -> list[Path]:
    """Folders of all checkpoints that a reader may find, oldest first.

    Where one has just been renamed, or a process was killed between two renamings, it is the one that is to
    be replaced: it is whole.
    """
    if not is_folder(folder):
        return []
    found = {step: path for path in paths(folder) if (step := step_of(path.name)) is not None}
    for path in folder.glob(f"{REPLACED}step-*"):
        step = step_of(path.name.removeprefix(REPLACED))
        if step is not None and step not in found and _has_files(path):
            found[step] = path
    return [found[step] for step in sorted(found)]


def misnamed(folder: Path) -> list[str]:
    """Names of copies and renamed checkpoints that lie among a run's."""
    return sorted(
        path.name for path in folder.glob("step-*") if step_of(path.name) is None and _has_files(path)
    )


def check_free(folder: Path, after: int) -> None:
    """Refuse a folder in which a checkpoint of more updates could not get its name.

    Raises
    ------
    CheckpointError
        Something that is no folder has it.
    """
    for path in folder.glob("step-*"):
        if (step_of(path.name) or 0) > after and not path.is_dir():
            raise CheckpointError(
                f"the names of later checkpoints free in {folder}", f"the file {path.name}", "move it away"
            )


def _has_files(path: Path) -> bool:
    """Whether a folder has a file of a checkpoint; also one that nobody can look into, or a link to one."""
    try:
        return any(name in FILES for name in os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError:
        return True


def verified(path: Path) -> Checkpoint:
    """Open a checkpoint after comparing every file with the manifest.

    What was opened stays open: renaming and deleting, as a training does beside, change nothing for whoever
    has it. A folder that is renamed while it is opened is tried again under its name.

    Raises
    ------
    CheckpointError
        A file is missing, cannot be read, or is not what was written; the message names it.
    """
    for attempt in range(TRIES):
        held = None
        try:
            held = Held(path, CheckpointError, "check the step's number")
            return _compared(path, held)
        except CheckpointError:
            if attempt + 1 == TRIES or not (_in_motion(path) if held is None else held.moved()):
                raise
        time.sleep(0.002)
    raise AssertionError  # the last attempt returned or raised


def _in_motion(path: Path) -> bool:
    """Whether a checkpoint is being written under a name that has none at the moment."""
    return not os.path.lexists(path) and os.path.lexists(path.with_name(f"{REPLACED}{path.name}"))


def _compared(path: Path, held: Held) -> Checkpoint:
    manifest = held.json(MANIFEST, MOST_MANIFEST, ADVICE)
    _check_types(path / MANIFEST, manifest, Manifest)
    for file in (MODEL, TRAINING, RECORD):
        found, expected = held.sha256(file, ADVICE), manifest.get(file)
        if found != expected:
            raise CheckpointError(f"{path / file} with sha256 {str(expected)[:80]}", found, ADVICE)
    record = held.json(RECORD, MOST_RECORD, ADVICE)
    _check_types(path / RECORD, record, State)
    step = step_of(path.name.removeprefix(REPLACED)) or 0
    return Checkpoint(path, step, record, manifest.get("run", {}), held)


def _own_json(path: Path, name: str, most: int, kind: type) -> dict[str, Any]:
    """What a file of a checkpoint says, no link being followed on the way."""
    if not is_folder(path):
        raise CheckpointError(f"a checkpoint folder at {path}", "a link", MOVED)
    content = read_json(path / name, most, ADVICE, refusal=CheckpointError)
    _check_types(path / name, content, kind)
    return content


def _check_types(path: Path, content: dict[str, Any], kind: type) -> None:
    wrong = misfit(content, kind)
    if wrong:
        raise CheckpointError(f"what a training writes in {path}", wrong, ADVICE)


def newest(folder: Path) -> Checkpoint | None:
    """Open the newest good checkpoint, warning of each damaged one passed over; None where there is none."""
    return _first_good(lambda: _readable(folder)[::-1])


def best(folder: Path) -> Checkpoint | None:
    """Open the good checkpoint with the best validation; None where there is none.

    Of equals it is the oldest; where none was validated it is the newest checkpoint.
    """
    return _first_good(lambda: ranking(folder) or _readable(folder)[::-1])


def rank(validation: Mapping[str, Any]) -> tuple[float, float]:
    """What validations of one run are ordered by, the best first; of equals the earlier is the better.

    Parameters
    ----------
    validation : mapping
        ``metric``, ``value`` and ``higher_is_better``; where something decides between equal values, that as
        ``tie_breaker``, the lower the better. Without it, as before there was any, the earlier stays best.
    """
    value, tie = validation["value"], validation.get("tie_breaker")
    return -value if validation["higher_is_better"] else value, -math.inf if tie is None else tie


def ranking(folder: Path) -> list[Path]:
    """Folders of the validated checkpoints, best first, the oldest of equals before, unverified.

    A validation that only the end of training asked for counts as long as no checkpoint follows: a run that
    went on from there is ranked as if it had not stopped.
    """
    values = []
    every = _readable(folder)
    for path in every:
        try:
            record = _own_json(path, RECORD, MOST_RECORD, State)
        except CheckpointError as error:
            if os.path.lexists(path):  # else it was deleted or renamed meanwhile
                warnings.warn(f"{error}; it has no rank", RuntimeWarning, stacklevel=2)
            continue
        validation = record.get("validation")
        if validation is not None and (path == every[-1] or not validation.get("at_end")):
            values.append((rank(validation), path))
    return [path for _, path in sorted(values, key=lambda pair: pair[0])]


def select(folder: Path, checkpoint: str = "best") -> Checkpoint:
    """Open the checkpoint of a run that a user names.

    Parameters
    ----------
    folder : Path
        The run's ``checkpoints`` folder.
    checkpoint : str
        ``best``, ``last``, or a step number.

    Raises
    ------
    CheckpointError
        There is none, or ``checkpoint`` is something else.
    """
    if checkpoint.isdecimal():
        return verified(folder / name_of(int(checkpoint)))
    if checkpoint not in ("best", "last"):
        raise CheckpointError("best, last or a step number", repr(checkpoint), "choose one", "checkpoint")
    found = best(folder) if checkpoint == "best" else newest(folder)
    if found is None:
        renamed, do = misnamed(folder), "train first, or check the folder"
        there = f"none but {', '.join(renamed)}, which is not a name of one" if renamed else "none"
        raise CheckpointError(
            f"a good checkpoint in {folder}", there, RENAME if renamed else do, "checkpoint"
        )
    return found


def check_fingerprints(checkpoint: Checkpoint, fingerprints: Mapping[str, str]) -> None:
    """Refuse tokenizers other than those a checkpoint was trained with.

    Raises
    ------
    CheckpointError
        A fingerprint differs, or there are none.
    """
    if "fingerprints" not in checkpoint.record:
        raise CheckpointError(f"fingerprints in {checkpoint.path / RECORD}", "none", ADVICE)
    for name, expected in checkpoint.record["fingerprints"].items():
        found = fingerprints.get(name, "none")
        if found != expected:
            raise CheckpointError(
                f"the {name} with sha256 {expected}, which {checkpoint.path} was trained with",
                found,
                "put that tokenizer back, or train again",
            )


def cover(folder: Path, sums: Mapping[str, list[str]]) -> None:
    """Let every checkpoint that covers files of the run accept these sums, before they are written."""
    for path in paths(folder):
        try:
            manifest = _own_json(path, MANIFEST, MOST_MANIFEST, Manifest)
        except CheckpointError:
            continue  # whoever opens it says so
        covered = manifest.get("run", {})
        if covered.keys() & sums.keys():
            covered.update((name, accepted) for name, accepted in sums.items() if name in covered)
            _write_json(path / MANIFEST, manifest)


def _first_good(candidates: Callable[[], Iterable[Path]]) -> Checkpoint | None:
    """The first of the candidates that is good; they are asked for anew when one of them has gone."""
    bad: set[Path] = set()
    for _ in range(TRIES):
        for path in candidates():
            if path in bad:
                continue
            try:
                return verified(path)
            except CheckpointError as error:
                if not os.path.lexists(path):
                    break
                warnings.warn(f"{error}; using another checkpoint", RuntimeWarning, stacklevel=3)
                bad.add(path)
        else:
            return None
    return None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_whole(path, text.encode())
