"""What a run is stopped and gone on with: everything that the next update depends on, as a checkpoint."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.errors import Refused
from seqsru.training import checkpoints
from seqsru.training.averaging import Average
from seqsru.training.checkpoints import ADVICE, Checkpoint, CheckpointError
from seqsru.training.objective import Carried
from seqsru.training.optimizers import Muon
from seqsru.training.progress import Progress
from seqsru.training.run_directory import RunDirectory
from seqsru.training.schedules import Schedule
from seqsru.training.training_options import TrainingOptions
from seqsru.training.weights import OTHER, load_model, model_tensors


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
    average: Average,
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
        model_tensors(model) | average.weights,
        _tensors(optimizer, at.carried, device) | average.beside(),
        {
            "progress": asdict(at.progress),
            "schedule": schedule.record(),
            "averaging": average.rule.record(),
            "averaged": bool(average.weights),
            "validation": at.validation,
            "machine": machine(device),
            **record,
        },
        run.sums,
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
        Only damaged or renamed checkpoints are there, something has the name of a later one, or the newest
        says too little to go on from.
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
    for name in () if found is None else ("progress", "schedule", "validation", "fingerprints"):
        if found is not None and name not in found.record:
            raise CheckpointError(f"{name} in {found.path / checkpoints.RECORD}", "none", ADVICE)
    return found


def resume(
    found: Checkpoint | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    fingerprints: Mapping[str, str],
    like: Callable[[], Carried],
    average: Average,
) -> Standing:
    """Put back what :func:`save` wrote; without a checkpoint, stand at the beginning.

    ``like`` gives what a batch may start from, in shape. Where there is an average, it is the weights of the
    checkpoint, and those that training goes on with are beside.

    Raises
    ------
    CheckpointError
        The checkpoint does not belong to what is given.
    """
    if found is None:
        return Standing(Progress())
    checkpoints.check_fingerprints(found, fingerprints)
    load_model(model, found.model(), str(found.path))
    carried = _restore(found, optimizer, model, like, average)
    for what, load, record in (
        ("schedule", schedule.load_record, found.record["schedule"]),
        ("averaging", average.rule.load_record, found.record.get("averaging", {})),
    ):
        try:
            load(record)
        except KeyError as error:
            expected = f"the {what}'s {error} in {found.path / checkpoints.RECORD}"
            raise CheckpointError(expected, "none", OTHER) from None
    found.release()
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


def check_limits(found: Checkpoint, limits: list[float] | None, run: RunDirectory) -> None:
    """Refuse another time than the one that a run's schedule goes over.

    Parameters
    ----------
    found : Checkpoint
        What it goes on from.
    limits : list of float or None
        Minutes of the clock and of processors; None for a schedule that goes over none.
    run : RunDirectory

    Raises
    ------
    Refused
        They are others than those that the run began with.
    """
    began = found.record.get("time_limits")
    if limits is None or began is None:
        return
    for name, now, before in zip(("max_minutes", "max_processor_minutes"), limits, began):
        if now != before:
            raise Refused(
                f"{before:g}, which the schedule of the run in {run.path} goes over",
                f"{now:g}",
                f"put it back, or train another run with start_from.run={run.path}",
                name,
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
    found: Checkpoint,
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    like: Callable[[], Carried],
    average: Average,
) -> Carried | None:
    """Put back what :func:`_tensors` gave, all of it known to fit before, and return the carried state.

    The optimizer keeps its own settings: those of the configuration.
    """
    state: dict[int, dict[str, Tensor]] = {}
    carried: dict[int, Tensor] = {}
    generators: dict[str, Tensor] = {}
    beside: dict[str, Tensor] = {}
    source = str(found.path / checkpoints.TRAINING)
    for name, tensor in found.training().items():
        if name.startswith(("weights.", "average.")):
            beside[name] = tensor
            continue
        place = re.fullmatch(r"optimizer\.([0-9]{1,9})\.(\w+)|carried\.([0-9]{1,9})|generator\.(\w+)", name)
        if place is None:
            raise CheckpointError(f"optimizer, carried state and generators in {source}", name, ADVICE)
        index, key, number, generator = place.groups()
        if index is not None:
            state.setdefault(int(index), {})[key] = tensor
        elif number is not None:
            carried[int(number)] = tensor
        else:
            generators[generator] = tensor
    device = next(model.parameters()).device
    if isinstance(optimizer, Muon):
        state = optimizer.taken(state)
    _check_optimizer(state, optimizer, source)
    _check_carried(carried, like, source)
    _check_average(beside, average, source)
    before = torch.get_rng_state()
    try:
        torch.set_rng_state(generators["cpu"])
        if "cuda" in generators and device.type == "cuda":
            torch.cuda.set_rng_state(generators["cuda"], device)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        torch.set_rng_state(before)
        raise CheckpointError(f"the state of the generators in {source}", str(error), ADVICE) from None
    average.restore(beside)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return tuple(carried[number].to(device) for number in sorted(carried)) or None


def _check_optimizer(
    state: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer, source: str
) -> None:
    """Refuse a state other than the optimizer itself would have: its names, shapes and types."""
    parameters, kinds = [], []
    for group in optimizer.param_groups:
        parameters += group["params"]
        kinds += [_state_names(optimizer, group)] * len(group["params"])
    for index, values in state.items():
        if index >= len(parameters):
            expected = f"the optimizer's state of {len(parameters)} parameters in {source}"
            raise CheckpointError(expected, f"that of another, {index}", OTHER)
        names = kinds[index]
        if values.keys() != names.keys():
            expected = f"{', '.join(sorted(names)) or 'nothing'} of parameter {index} in {source}"
            raise CheckpointError(expected, ", ".join(sorted(values)), OTHER)
        for name, value in values.items():
            like = names[name]
            like = parameters[index] if like is None else like
            _check_like(f"optimizer.{index}.{name}", value, like, source)


def _state_names(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, Tensor | None]:
    """What the optimizer keeps of each parameter of a group: None where it is like the parameter.

    Told by another of its kind, which makes a step with one parameter of an odd shape.
    """
    shape = (3, 5)
    own = torch.zeros(shape, requires_grad=True)
    own.grad = torch.zeros(shape)
    wanted = inspect.signature(type(optimizer)).parameters
    options = {name: value for name, value in optimizer.defaults.items() if name in wanted}
    alike = {name: value for name, value in group.items() if name != "param_names"}
    if "capturable" in wanted:
        options["capturable"] = alike["capturable"] = False
    probe = type(optimizer)([{**alike, "params": [own]}], **options)
    probe.step()
    kept = {name: value for name, value in probe.state[own].items() if value is not None}
    return {name: None if value.shape == shape else value for name, value in kept.items()}


def _check_carried(carried: Mapping[int, Tensor], like: Callable[[], Carried], source: str) -> None:
    """Refuse a carried state that no batch of the objective could start from."""
    if not carried:
        return
    expected = like()
    if sorted(carried) != list(range(len(expected))):
        found = f"those of {sorted(carried)}"
        raise CheckpointError(f"a carried state of {len(expected)} tensors in {source}", found, OTHER)
    for number, one in enumerate(expected):  # the type may be a lower precision
        found_type = carried[number].dtype
        same = one.to(found_type) if one.is_floating_point() == found_type.is_floating_point else one
        _check_like(f"carried.{number}", carried[number], same, source)


def _check_average(beside: Mapping[str, Tensor], average: Average, source: str) -> None:
    """Refuse what no average of these weights has beside it; nothing is what none has."""
    expected = average.expected()
    if not beside:
        return
    if not average.rule.every:
        raise CheckpointError(f"no average of the weights in {source}", "one", OTHER)
    for name in sorted(beside.keys() ^ expected.keys()):
        found = f"no {name}" if name in expected else name
        raise CheckpointError(f"the weights and the count of their average in {source}", found, OTHER)
    for name, tensor in beside.items():
        _check_like(name, tensor, expected[name], source)
    count = beside["average.count"].item()
    if not 0 <= count < math.inf:
        raise CheckpointError(f"a count of averaged weights in {source}", str(count), ADVICE)


def _check_like(name: str, found: Tensor, expected: Tensor, source: str) -> None:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        shapes = [f"{tuple(one.shape)}, {str(one.dtype).removeprefix('torch.')}" for one in (expected, found)]
        raise CheckpointError(f"{name} of shape {shapes[0]} in {source}", shapes[1], OTHER)
