"""What a run is stopped and gone on with: everything that the next update depends on, as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.training import checkpoints
from seqsru.training.checkpoints import CheckpointError
from seqsru.training.objective import Carried
from seqsru.training.progress import Progress
from seqsru.training.run_directory import RunDirectory
from seqsru.training.schedules import Schedule
from seqsru.training.weights import load_model, model_tensors


@dataclass
class Standing:
    """Where a run is, besides what model, optimizer, schedule and generators hold themselves.

    Attributes
    ----------
    progress : Progress
    carried : tuple of Tensor or None
        What the next batch starts from.
    validation : dict or None
        The validation of this very state, if there was one: ``metric``, ``value``, ``higher_is_better``.
    saved : Path or None
        Its checkpoint, if it was written.
    """

    progress: Progress
    carried: Carried | None = None
    validation: dict[str, Any] | None = None
    saved: Path | None = None


def save(
    run: RunDirectory,
    at: Standing,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    fingerprints: Mapping[str, str],
    *,
    keep: int,
    keep_best: int,
) -> Path:
    """Write a checkpoint, note it in ``at.saved``, and delete those that are not to be kept."""
    saved = at.saved = checkpoints.save(
        run.checkpoints,
        at.progress.step,
        model_tensors(model),
        _tensors(optimizer, at.carried, next(model.parameters()).device),
        {
            "progress": asdict(at.progress),
            "schedule": schedule.record(),
            "validation": at.validation,
            "fingerprints": dict(fingerprints),
        },
    )
    newest = checkpoints.paths(run.checkpoints)[-keep:]
    best = checkpoints.ranking(run.checkpoints)[:keep_best]
    for path in checkpoints.paths(run.checkpoints):
        if path not in (saved, *newest, *best):
            checkpoints.remove(path)
    return saved


def resume(
    run: RunDirectory,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    fingerprints: Mapping[str, str],
) -> Standing:
    """Put back what :func:`save` wrote last; where there is nothing, stand at the beginning.

    Raises
    ------
    CheckpointError
        Only damaged checkpoints are there, or the newest good one does not belong to what is given.
    """
    found = checkpoints.newest(run.checkpoints)
    if found is None:
        if run.begun:
            raise CheckpointError(
                f"a good checkpoint to go on from in {run.checkpoints}",
                "only damaged ones",
                "restore one from a copy, or delete the folder to begin anew",
            )
        if renamed := checkpoints.misnamed(run.checkpoints):
            raise CheckpointError(
                f"a checkpoint to go on from in {run.checkpoints}",
                f"only {', '.join(renamed)}, which is not a name of one",
                f"{checkpoints.RENAME}, or move it away to begin anew",
            )
        checkpoints.check_free(run.checkpoints, -1)
        return Standing(Progress())
    checkpoints.check_free(run.checkpoints, found.step)
    checkpoints.check_fingerprints(found, fingerprints)
    load_model(model, found.model(), str(found.path))
    carried = _restore(found.training(), optimizer, next(model.parameters()).device)
    schedule.load_record(found.record["schedule"])
    return Standing(Progress(**found.record["progress"]), carried, found.record["validation"], found.path)


def _tensors(
    optimizer: torch.optim.Optimizer, carried: Carried | None, device: torch.device
) -> dict[str, Tensor]:
    """Optimizer state, carried state and generators, by name."""
    tensors = {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None  # SGD without momentum keeps an empty buffer
    }
    tensors |= {f"carried.{i}": t for i, t in enumerate(carried or ())}
    tensors["generator.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["generator.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def _restore(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, device: torch.device
) -> Carried | None:
    """Put back what :func:`_tensors` gave, and return the carried state.

    The optimizer keeps its own settings: those of the configuration.
    """
    state: dict[int, dict[str, Tensor]] = {}
    carried = []
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        elif kind == "carried":
            carried.append((int(rest), tensor.to(device)))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["generator.cpu"])
    if "generator.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["generator.cuda"], device)
    return tuple(t for _, t in sorted(carried, key=lambda pair: pair[0])) or None
