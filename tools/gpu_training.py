"""Updates of the project's own `Trainer` on random batches, under the clock and under torch's profiler."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import bench_layers
import gpu_predictions as predictions
import torch
from bench_layers import synchronize
from gpu_predictions import Work
from torch import Tensor, nn

from seqsru.models.language_model import LanguageModel
from seqsru.training import OPTIMIZERS, SCHEDULES, TrainingOptions
from seqsru.training.objective import BatchLoss, Objective
from seqsru.training.run_directory import RunDirectory
from seqsru.training.trainer import Trainer

# Batches before the clock runs: kernels are compiled, and the fourth, the third that goes on from a state, is
# captured.
WARM = 5


class RandomTokens(Objective):
    """Batches of random tokens, and the time from one of them to the last."""

    metric, higher_is_better = "loss", False

    def __init__(self, model: nn.Module, T: int, B: int, device: torch.device, count: int) -> None:
        self.count, self.device, self.fingerprints = count, device, {}
        vocabulary = next(m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding))
        self.tokens = torch.randint(1, vocabulary, (T + 1, B), device=device)
        self.marks: list[float] = []

    def epoch_length(self) -> int:
        return self.count

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        for number in range(start, self.count):
            if number in (WARM, self.count - 1):
                synchronize(self.device)
                self.marks.append(time.perf_counter())
            yield self.tokens

    def counts(self, batch: Tensor) -> tuple[int, int]:
        return batch[1:].numel(), batch.shape[1]

    def loss(self, model: nn.Module, batch: Tensor, carried: tuple[Tensor, ...] | None) -> BatchLoss:
        into, wanted = batch[:-1], batch[1:]
        if isinstance(model, LanguageModel):
            features, state = model(into, carried)
            loss, nll = model.cross_entropy(features, wanted)
        else:
            state = ()
            loss, nll = model.cross_entropy(model(into, None, into), wanted, None, 0.1)
        return BatchLoss(loss, nll.sum(), *self.counts(batch), state)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {"loss": 0.0}


def _train(
    model: nn.Module, T: int, B: int, part: str, device: torch.device, count: int, graphs: bool
) -> tuple[RandomTokens, str]:
    """Train, and return the objective and the log."""
    objective = RandomTokens(model, T, B, device, WARM + count + 1)
    options = TrainingOptions(
        steps=objective.count,
        tensorboard=False,
        clip=5.0,
        precision=part,
        keep=1,
        cuda_graphs="auto" if graphs else "off",
    )
    with TemporaryDirectory() as folder:
        optimizer = OPTIMIZERS["sgd"](model.parameters(), 1e-3)
        Trainer(
            model, objective, optimizer, SCHEDULES["constant"](1e-3), RunDirectory(Path(folder)), options
        ).fit()
        return objective, (Path(folder) / "log").read_text(encoding="utf-8")


def update_seconds(
    model: nn.Module, T: int, B: int, part: str, device: torch.device, count: int, graphs: bool = False
) -> tuple[float, str | None]:
    """Seconds of an update, over `count` of them, and what the log says of CUDA graphs, if anything."""
    objective, log = _train(model, T, B, part, device, count, graphs)
    first, last = objective.marks
    said = "; ".join(line for line in log.splitlines() if "CUDA graphs" in line)
    return (last - first) / count, said or None


def profiled(
    model: nn.Module, T: int, B: int, part: str, device: torch.device, count: int
) -> list[tuple[str, float, int]]:
    """The eight costliest kernels of a training (operators on a CPU): name, seconds and calls an update."""
    with torch.profiler.profile() as profile:
        objective, _ = _train(model, T, B, part, device, count, False)
    spent = "self_device_time_total" if bench_layers.on_gpu(device) else "self_cpu_time_total"
    where = "CUDA" if bench_layers.on_gpu(device) else "CPU"
    events = [event for event in profile.key_averages() if event.device_type.name == where]
    events = sorted(events, key=lambda event: -getattr(event, spent))[:8]
    updates = objective.count
    return [(e.key, getattr(e, spent) / 1e6 / updates, round(e.count / updates)) for e in events]


def work(name: str, model: nn.Module, T: int, B: int, part: str) -> Work:
    """What an update must do."""
    size, parameters = 2 if part == "bfloat16" else 4, sum(p.numel() for p in model.parameters())
    width = next(m.embedding_dim for m in model.modules() if isinstance(m, nn.Embedding))
    vocabulary = next(m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding))
    layer = predictions.layer("SRU", T, B, width, part, True)
    assert layer is not None
    layers = Work(0, launches=6)
    # The translator has six layers of two directions, and six of twice the width.
    for _ in range(6 if name.startswith("ptb") else 6 * (2 + 4)):
        layers += layer
    return predictions.training_step(
        parameters, layers, predictions.cross_entropy(T * B, width, vocabulary, size)
    )
