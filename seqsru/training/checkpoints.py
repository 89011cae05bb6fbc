"""Checkpoints: tensors, JSON and a manifest of checksums, written whole or not at all.

``checkpoints/step-00001200/`` holds ``model.safetensors`` (weights), ``training.safetensors`` (optimizer,
carried state, generators), ``state.json`` (counters, the validation at this step, sums of the texts) and
``manifest.json`` (sha256 of the others).
"""

from __future__ import annotations

import json
import math
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from seqsru.data.files import flush, flush_folder, sha256, write_whole
from seqsru.errors import Refused

MODEL, TRAINING, RECORD, MANIFEST = "model.safetensors", "training.safetensors", "state.json", "manifest.json"
FILES = (MODEL, TRAINING, RECORD, MANIFEST)
RENAME = "give one back the name that it had, such as step-00000010"
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
    """

    path: Path
    step: int
    record: dict[str, Any]

    def model(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return load_file(self.path / MODEL)

    def training(self) -> dict[str, Tensor]:
        """Everything else that is a tensor, by name."""
        return load_file(self.path / TRAINING)


def name_of(step: int) -> str:
    """Folder name of the checkpoint after a number of updates."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The number of updates in a name that `name_of` gives; None for every other name, such as of a copy."""
    found = re.fullmatch("step-([0-9]{8,18})", name)
    return int(found[1]) if found and name_of(int(found[1])) == name else None


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

    Returns
    -------
    Path
        The checkpoint's folder.
    """
    final, partial = folder / name_of(step), folder / f".partial-{name_of(step)}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file, tensors in ((MODEL, model), (TRAINING, training)):
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, partial / file)
        flush(partial / file)
    _write_json(partial / RECORD, record)
    _write_json(partial / MANIFEST, {file: sha256(partial / file) for file in (MODEL, TRAINING, RECORD)})
    flush_folder(partial)
    replaced = folder / f".replaced-{name_of(step)}"
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    flush_folder(folder)
    if replaced.is_dir():
        _discard(replaced, final)
    return final


def tidy(folder: Path) -> None:
    """Finish what a killed process left half done: call it once the run directory is held."""
    for left in filter(is_unfinished, list(folder.glob(".*"))):
        mark, _, name = left.name[1:].partition("-")
        if mark == "partial":
            shutil.rmtree(left)
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
    if left.is_symlink():
        left.unlink()
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
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if step_of(path.name) is not None]
    return sorted(filter(_has_files, named), key=lambda path: step_of(path.name) or 0)


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
    return any((path / file).is_file() for file in FILES)


def verified(path: Path) -> Checkpoint:
    """Open a checkpoint after comparing every file with the manifest.

    Raises
    ------
    CheckpointError
        A file is missing, cannot be read, or is not what was written; the message names it.
    """
    if not path.is_dir():
        raise CheckpointError(f"a checkpoint folder at {path}", "none", "check the step's number")
    manifest = _read_json(path / MANIFEST)
    for file in (MODEL, TRAINING, RECORD):
        if not (path / file).is_file():
            raise CheckpointError(f"the file {path / file}", "none", ADVICE)
        found, expected = sha256(path / file), manifest.get(file)
        if found != expected:
            raise CheckpointError(f"{path / file} with sha256 {expected}", found, ADVICE)
    return Checkpoint(path, step_of(path.name) or 0, _read_json(path / RECORD))


def newest(folder: Path) -> Checkpoint | None:
    """Open the newest good checkpoint, warning of each damaged one passed over; None where there is none."""
    return _first_good(reversed(paths(folder)))


def best(folder: Path) -> Checkpoint | None:
    """Open the good checkpoint with the best validation; None where there is none.

    Of equals it is the oldest; where none was validated it is the newest checkpoint.
    """
    ranked = ranking(folder)
    return _first_good(ranked) if ranked else newest(folder)


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
    every = paths(folder)
    for path in every:
        try:
            validation = _read_json(path / RECORD).get("validation")
        except CheckpointError:
            continue  # a damaged one has no rank; `verified` names it when it is asked for
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
        A fingerprint differs.
    """
    for name, expected in checkpoint.record["fingerprints"].items():
        found = fingerprints.get(name, "none")
        if found != expected:
            raise CheckpointError(
                f"the {name} with sha256 {expected}, which {checkpoint.path} was trained with",
                found,
                "put that tokenizer back, or train again",
            )


def _first_good(candidates: Iterable[Path]) -> Checkpoint | None:
    for path in candidates:
        try:
            return verified(path)
        except CheckpointError as error:
            warnings.warn(f"{error}; using another checkpoint", RuntimeWarning, stacklevel=3)
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"JSON in {path}", str(error), ADVICE) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"a JSON object in {path}", type(content).__name__, ADVICE)
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_whole(path, text.encode())
