"""Checkpoints: tensors in safetensors, the rest in JSON, a manifest of checksums; written whole or not at
all.

``checkpoints/step-00001200/`` holds ``model.safetensors`` (weights), ``training.safetensors`` (optimizer,
carried state, generators), ``state.json`` (counters, the validation at this step) and ``manifest.json``
(sha256 of the others).
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqsru.training.files import ADVICE, CheckpointError, flush, flush_folder, read_json, sha256, write_json

MODEL, TRAINING, STATE, MANIFEST = "model.safetensors", "training.safetensors", "state.json", "manifest.json"
OTHER = "the configuration and the checkpoint do not belong together: use the run's own"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were found right.

    Attributes
    ----------
    path : Path
    step : int
        Updates made before it was written.
    state : dict
        Content of ``state.json``.
    """

    path: Path
    step: int
    state: dict[str, Any]

    def model(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return load_file(self.path / MODEL)

    def training(self) -> dict[str, Tensor]:
        """Everything else that is a tensor, by name."""
        return load_file(self.path / TRAINING)


def name_of(step: int) -> str:
    """Folder name of the checkpoint after a number of updates."""
    return f"step-{step:08d}"


def save(
    folder: Path,
    step: int,
    model: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> Path:
    """Write a checkpoint beside its final name, flush it to disk, and rename it once.

    Parameters
    ----------
    folder : Path
        The run's ``checkpoints`` folder.
    step : int
    model, training : mapping of str to Tensor
        Each tensor once (see :func:`model_tensors`).
    state : mapping
        JSON values; ``state["validation"]`` is null or holds ``metric``, ``value``, ``higher_is_better``.

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
    write_json(partial / STATE, state)
    write_json(partial / MANIFEST, {file: sha256(partial / file) for file in (MODEL, TRAINING, STATE)})
    flush_folder(partial)
    replaced = folder / f".replaced-{name_of(step)}"
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    flush_folder(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def tidy(folder: Path) -> None:
    """Finish what a killed process left half done: call it once the run directory is held."""
    for left in folder.glob(".replaced-step-*"):
        final = folder / left.name.removeprefix(".replaced-")
        if not final.exists():
            left.rename(final)
    for pattern in (".partial-step-*", ".replaced-step-*", ".gone-step-*"):
        for left in folder.glob(pattern):
            shutil.rmtree(left)


def remove(path: Path) -> None:
    """Delete a checkpoint so that no half of it is ever seen under its name."""
    gone = path.with_name(f".gone-{path.name}")
    path.rename(gone)
    shutil.rmtree(gone)


def paths(folder: Path) -> list[Path]:
    """Folders of all checkpoints of a run, oldest first, unverified."""
    return sorted(folder.glob("step-*"), key=lambda p: (len(p.name), p.name))


def verified(path: Path) -> Checkpoint:
    """Open a checkpoint after comparing every file with the manifest.

    Raises
    ------
    CheckpointError
        A file is missing, cannot be read, or is not what was written; the message names it.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: expected a checkpoint folder, found none; check the step's number")
    manifest = read_json(path / MANIFEST)
    for file in (MODEL, TRAINING, STATE):
        if not (path / file).is_file():
            raise CheckpointError(f"{path / file}: expected a file, found none; {ADVICE}")
        found, expected = sha256(path / file), manifest.get(file)
        if found != expected:
            raise CheckpointError(f"{path / file}: expected sha256 {expected}, found {found}; {ADVICE}")
    state = read_json(path / STATE)
    return Checkpoint(path, int(path.name.removeprefix("step-")), state)


def newest(folder: Path) -> Checkpoint | None:
    """Open the newest good checkpoint, warning of each damaged one passed over; None where there is none."""
    return _first_good(reversed(paths(folder)))


def best(folder: Path) -> Checkpoint | None:
    """Open the good checkpoint with the best validation (the oldest of equals), or where none was validated
    the newest; None where there is none."""
    ranked = ranking(folder)
    return _first_good(ranked) if ranked else newest(folder)


def ranking(folder: Path) -> list[Path]:
    """Folders of the validated checkpoints, best first, the oldest of equals before, unverified."""
    values = []
    for path in paths(folder):
        try:
            validation = read_json(path / STATE).get("validation")
        except CheckpointError:
            continue  # a damaged one has no rank; `verified` names it when it is asked for
        if validation is not None:
            sign = -1.0 if validation["higher_is_better"] else 1.0
            values.append((sign * validation["value"], path))
    return [path for _, path in sorted(values, key=lambda pair: pair[0])]


def select(folder: Path, which: str = "best") -> Checkpoint:
    """Open the checkpoint of a run that a user names.

    Parameters
    ----------
    folder : Path
        The run's ``checkpoints`` folder.
    which : str
        ``best``, ``last``, or a step number.

    Raises
    ------
    CheckpointError
        There is none, or ``which`` is something else.
    """
    if which.isdecimal():
        return verified(folder / name_of(int(which)))
    if which not in ("best", "last"):
        raise CheckpointError(f"{folder}: expected best, last or a step number, found {which!r}; choose one")
    found = best(folder) if which == "best" else newest(folder)
    if found is None:
        raise CheckpointError(
            f"{folder}: expected a good checkpoint, found none; train first, or check the folder"
        )
    return found


def average(checkpoints: Iterable[Checkpoint]) -> dict[str, Tensor]:
    """Arithmetic mean of the weights of several checkpoints, in float32 (float64 weights in float64).

    Raises
    ------
    CheckpointError
        None given, or their tensors differ in name or shape.
    """
    total: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    count = 0
    for checkpoint in checkpoints:
        tensors = checkpoint.model()
        shapes = {name: t.shape for name, t in tensors.items()}
        if count and shapes != {name: t.shape for name, t in total.items()}:
            raise CheckpointError(
                f"{checkpoint.path}: expected the tensors of the other checkpoints to "
                "average, found others; average checkpoints of one run"
            )
        for name, t in tensors.items():
            wide = t.to(torch.promote_types(t.dtype, torch.float32))
            total[name] = total[name].add_(wide) if count else wide.clone()
            types[name] = t.dtype
        count += 1
    if not count:
        raise CheckpointError("average: expected at least one checkpoint, found none; train first")
    return {name: t.div_(count).to(types[name]) for name, t in total.items()}


def select_average(folder: Path, which: str, count: int) -> dict[str, Tensor]:
    """Averaged weights of the last or the best ``count`` checkpoints of a run.

    Raises
    ------
    CheckpointError
        Fewer of them exist, one is damaged, or ``which`` is neither ``last`` nor ``best``.
    """
    if which not in ("last", "best"):
        raise CheckpointError(f"average: expected last or best, found {which!r}; choose one of them")
    chosen = (ranking(folder) if which == "best" else list(reversed(paths(folder))))[:count]
    if len(chosen) < count or count < 1:
        raise CheckpointError(
            f"{folder}: expected {count} checkpoints to average (the {which} ones), found {len(chosen)}; "
            f"average fewer, or train with a larger {'keep_best' if which == 'best' else 'keep'}"
        )
    return average(verified(path) for path in chosen)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a model saves, by name; a tensor that has several names only under the first of them."""
    tensors = model.state_dict(keep_vars=True)
    return {name: tensors[name] for name, first in _first_names(tensors).items() if name == first}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a model.

    Parameters
    ----------
    model : nn.Module
    tensors : mapping of str to Tensor
        As :func:`model_tensors` gives them.
    source : str
        What to call them in an error.

    Raises
    ------
    CheckpointError
        Names or shapes differ from the model's.
    """
    own = model.state_dict(keep_vars=True)
    first = _first_names(own)
    for name in sorted(set(first.values()) ^ tensors.keys()):
        where = "the checkpoint" if name in own else "the model"
        raise CheckpointError(
            f"{source}: expected the same tensors in checkpoint and model, found no "
            f"{name} in {where}; {OTHER}"
        )
    for name in tensors:
        if own[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{source}: expected {name} of shape {tuple(own[name].shape)}, found "
                f"{tuple(tensors[name].shape)}; {OTHER}"
            )
    model.load_state_dict({name: tensors[first[name]] for name in own})


def _first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name, the first one of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(t), name) for name, t in tensors.items()}


def check_fingerprints(checkpoint: Checkpoint, fingerprints: Mapping[str, str]) -> None:
    """Refuse tokenizers other than those a checkpoint was trained with.

    Raises
    ------
    CheckpointError
        A fingerprint differs.
    """
    for name, expected in checkpoint.state["fingerprints"].items():
        if fingerprints.get(name) != expected:
            raise CheckpointError(
                f"{checkpoint.path}: expected the {name} with sha256 {expected}, found "
                f"{fingerprints.get(name)}; the checkpoint was trained with another one: put that back, or "
                "train again"
            )


def _first_good(candidates: Iterable[Path]) -> Checkpoint | None:
    for path in candidates:
        try:
            return verified(path)
        except CheckpointError as error:
            warnings.warn(f"{error}; using another checkpoint", RuntimeWarning, stacklevel=3)
    return None
