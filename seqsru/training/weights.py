"""The weights of a model: taken from it, put back, averaged over checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from seqsru.errors import check_at_least
from seqsru.training.checkpoints import Checkpoint, CheckpointError, paths, ranking, verified

OTHER = "the configuration and the checkpoint do not belong together: use the run's own"


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
        Names, shapes or types differ from the model's.
    """
    own = model.state_dict(keep_vars=True)
    first = _first_names(own)
    for name in sorted(set(first.values()) ^ tensors.keys()):
        where = "the checkpoint" if name in own else "the model"
        raise CheckpointError(
            f"the same tensors in {source} and in the model", f"no {name} in {where}", OTHER
        )
    for name in tensors:
        expected, found = tuple(own[name].shape), tuple(tensors[name].shape)
        if expected != found:
            raise CheckpointError(f"{name} of shape {expected} in {source}", found, OTHER)
        if own[name].dtype.is_floating_point != tensors[name].dtype.is_floating_point:
            raise CheckpointError(f"{name} of {own[name].dtype} in {source}", str(tensors[name].dtype), OTHER)
    model.load_state_dict({name: tensors[first[name]] for name in own})


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
                "the tensors of the other checkpoints to average",
                f"others in {checkpoint.path}",
                "average checkpoints of one run",
            )
        for name, t in tensors.items():
            wide = t.to(torch.promote_types(t.dtype, torch.float32))
            total[name] = total[name].add_(wide) if count else wide.clone()
            types[name] = t.dtype
        count += 1
    if not count:
        raise CheckpointError("at least one checkpoint to average", "none", "train first")
    return {name: t.div_(count).to(types[name]) for name, t in total.items()}


def select_average(folder: Path, checkpoint: str, count: int) -> dict[str, Tensor]:
    """Averaged weights of the last or the best ``count`` checkpoints of a run.

    Parameters
    ----------
    folder : Path
        The run's ``checkpoints`` folder.
    checkpoint : str
        ``last`` or ``best``.
    count : int
        At least 1.

    Raises
    ------
    CheckpointError
        Fewer of them exist, one is damaged, or ``checkpoint`` is something else.
    Refused
        ``count`` is below 1.
    """
    check_at_least(1, average=count)
    if checkpoint not in ("last", "best"):
        raise CheckpointError("last or best to average", repr(checkpoint), "choose one of them", "checkpoint")
    chosen = (ranking(folder) if checkpoint == "best" else list(reversed(paths(folder))))[:count]
    if len(chosen) < count:
        raise CheckpointError(
            f"{count} checkpoints to average (the {checkpoint} ones) in {folder}",
            str(len(chosen)),
            f"average fewer, or train with a larger {'keep_best' if checkpoint == 'best' else 'keep'}",
            "average",
        )
    return average(verified(path) for path in chosen)


def _first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name, the first one of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(t), name) for name, t in tensors.items()}
