"""A run directory into a trained model, with what it was trained with."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from seqsru.cells.stack import trained_already
from seqsru.pipelines.compiled import CompiledModel
from seqsru.pipelines.lowering import lowered
from seqsru.tasks.checks import check_size
from seqsru.tasks.run_settings import settings_in, task_of
from seqsru.tasks.task import Trained
from seqsru.training import RunDirectory, checkpoints
from seqsru.training.covered import check_covered, config_sums
from seqsru.training.weights import load_model, select_average


def open_trained(
    run: str | os.PathLike[str],
    checkpoint: str,
    average: int,
    device: torch.device,
    compiled: Literal["float32", "int8"] | None = None,
) -> Trained:
    """Load a run directory with what it was trained with; see `seqsru.runs.load`.

    Parameters
    ----------
    run : path
    checkpoint : str
    average : int
    device : torch.device
    compiled : {"float32", "int8"} or None
        Decode with the engine, in this precision; None decodes with torch.
    """
    directory, which = RunDirectory(Path(run)), checkpoint
    settings, config = settings_in(directory)
    task = task_of(settings)
    chosen = checkpoints.select(directory.checkpoints, which)
    tokenizers = task.load_tokenizers(directory.path)
    checkpoints.check_fingerprints(chosen, {role: made.fingerprint for role, made in tokenizers.items()})
    sums = directory.sums_now(task.tokenizer_files().values())
    check_covered(chosen, sums | config_sums(config), directory.path)
    check_size(task, tokenizers)
    if average == 1:
        tensors, weights = chosen.model(), checkpoints.weights_name(chosen)
    else:
        tensors = select_average(directory.checkpoints, which, average)
        weights = f"mean-of-{average}-{which}"
    chosen.release()
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away
        with trained_already():
            model: nn.Module = task.model(tokenizers)
    load_model(model, tensors, str(chosen.path))
    model = model.to(device).eval()
    made = None if compiled is None else CompiledModel(lowered(model, int8=compiled == "int8"))
    pipeline: Any = task.pipeline(model, tokenizers)
    if made is not None:
        pipeline = replace(pipeline, engine=made)
    return Trained(task, pipeline, weights, chosen.record.get("start"))
