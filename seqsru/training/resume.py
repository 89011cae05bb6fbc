"""What a run is stopped and gone on with: everything that the next update depends on, as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.errors import Refused
from seqsru.training import checkpoints
from seqsru.training.checkpoints import Checkpoint, CheckpointError
from seqsru.training.objective import Carried
from seqsru.training.progress import Progress
from seqsru.training.run_directory import RunDirectory
from seqsru.training.schedules import Schedule
from seqsru.training.training_options import TrainingOptions
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
        The validation of this very state, if there was one, as `checkpoints.rank` takes it, and ``at_end``
        where only the end of training asked for it. Such a one is no part of `progress` or of what the
        schedule observed, so that a run that goes on from there is the one that never stopped.
    saved : Path or None
        Its checkpoint, if it was written.
    """

    progress: Progress
    carried: Carried | None = None
    validation: dict[str, Any] | None = None
    saved: Path | None = None

    @property
    def ended(self) -> bool:
        """Whether only the end of training asked for the validation of this state."""
        return self.validation is not None and bool(self.validation.get("at_end"))


def save(
    run: RunDirectory,
    at: Standing,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    record: Mapping[str, Any],
    *,
    keep: int,
    keep_best: int,
) -> Path:
    """Write a checkpoint, note it in ``at.saved``, and delete those that are not to be kept.

    ``record`` is what it holds as JSON besides where the run is: ``fingerprints`` of the tokenizers,
    ``total_steps`` and what else the trainer keeps.
    """
    device = next(model.parameters()).device
    saved = at.saved = checkpoints.save(
        run.checkpoints,
        at.progress.step,
        model_tensors(model),
        _tensors(optimizer, at.carried, device),
        {
            "progress": asdict(at.progress),
            "schedule": schedule.record(),
            "validation": at.validation,
            "machine": machine(device),
            **record,
        },
    )
    newest = checkpoints.paths(run.checkpoints)[-keep:]
    best = checkpoints.ranking(run.checkpoints)[:keep_best]
    for path in checkpoints.paths(run.checkpoints):
        if path not in (saved, *newest, *best):
            checkpoints.remove(path)
    return saved


def newest(run: RunDirectory) -> Checkpoint | None:
    """The checkpoint that a run goes on from; None where there is nothing yet.

    Raises
    ------
    CheckpointError
        Only damaged or renamed checkpoints are there, or something has the name of a later one.
    """
    found = checkpoints.newest(run.checkpoints)
    if found is None and run.begun:
        raise CheckpointError(
            f"a good checkpoint to go on from in {run.checkpoints}",
            "only damaged ones",
            "restore one from a copy, or delete the folder to begin anew",
        )
    if found is None and (renamed := checkpoints.misnamed(run.checkpoints)):
        raise CheckpointError(
            f"a checkpoint to go on from in {run.checkpoints}",
            f"only {', '.join(renamed)}, which is not a name of one",
            f"{checkpoints.RENAME}, or move it away to begin anew",
        )
    checkpoints.check_free(run.checkpoints, -1 if found is None else found.step)
    return found


def resume(
    found: Checkpoint | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    fingerprints: Mapping[str, str],
) -> Standing:
    """Put back what :func:`save` wrote; without a checkpoint, stand at the beginning.

    Raises
    ------
    CheckpointError
        The checkpoint does not belong to what is given.
    """
    if found is None:
        return Standing(Progress())
    checkpoints.check_fingerprints(found, fingerprints)
    load_model(model, found.model(), str(found.path))
    carried = _restore(found.training(), optimizer, next(model.parameters()).device)
    schedule.load_record(found.record["schedule"])
    return Standing(Progress(**found.record["progress"]), carried, found.record["validation"], found.path)


def check_end(
    found: Checkpoint, options: TrainingOptions, total: int, began: int | None, run: RunDirectory
) -> None:
    """Refuse an end of training that a run cannot go on to.

    Parameters
    ----------
    found : Checkpoint
        What it goes on from.
    options : TrainingOptions
        When it is to end.
    total : int
        Updates in all, by these options.
    began : int or None
        Those that its schedule began with; None for a schedule that does not need them.
    run : RunDirectory

    Raises
    ------
    Refused
        Fewer steps or epochs than were made, or another end than the schedule's.
    """
    at = Progress(**found.record["progress"])
    epochs = at.epoch if at.batch else at.epoch - 1
    for name, asked, made in (("steps", options.steps, at.step), ("epochs", options.epochs, epochs)):
        if asked and asked < made:
            expected = f"at least the {made} {name} that the run in {run.path} has made"
            raise Refused(expected, asked, "raise it, or choose another output", name)
    if began is not None and total != began:
        raise Refused(
            f"{began} updates in all, which the schedule of the run in {run.path} began with",
            total,
            f"put it back, or train another run with start_from.run={run.path}",
            "steps" if options.steps else "epochs",
        )


def machine(device: torch.device) -> dict[str, object]:
    """What the last bits of a result depend on besides settings and data."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


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
