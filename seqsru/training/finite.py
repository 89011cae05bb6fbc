"""Numbers that are not finite: told with what they came from, and kept out of every checkpoint."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from seqsru.errors import Refused
from seqsru.regular import is_regular
from seqsru.training.objective import Carried
from seqsru.training.pending import Seen

TAIL = 4096  # bytes that hold a line of metrics
SHOWN = 3  # ranges of lines in a sentence; the log has all
Places = Mapping[str, Sequence[int]]  # lines, from 1 and in order, by file
HELP = ("optimizer.lr", "training.clip")  # what a run that stopped here may go on with other values of
STOPPED = "stopped"  # kind of the last line of its metrics, which is cut off when it goes on
GO_ON = "lower optimizer.lr, and go on from the last checkpoint"


class TrainingDiverged(Refused):
    """The learning rate, the gradient, the loss, the weights or the validation is no longer finite."""

    @classmethod
    def at(cls, seen: Seen, places: Places) -> TrainingDiverged:
        """That an update is none, with the lines of its batches."""
        what, found = trouble(seen)
        where = f" in {_lines(places, SHOWN)}" if places else ""
        return cls(
            f"a finite {what} at step {seen.made.step}",
            f"{found}{where}",
            "lower optimizer.lr or training.clip, or set training.on_nan to skip, and go on from the last "
            "checkpoint",
        )


def together(places: Iterable[Places]) -> dict[str, list[int]]:
    """The lines of several batches, by file and in order."""
    found: dict[str, set[int]] = {}
    for one in places:
        for name, numbers in one.items():
            found.setdefault(name, set()).update(numbers)
    return {name: sorted(numbers) for name, numbers in found.items()}


def _lines(places: Places, most: int) -> str:
    """Lines in words, neighbours as one range, so many ranges a file."""
    parts = []
    for name, numbers in places.items():
        ranges: list[list[int]] = []
        for number in numbers:
            if ranges and number == ranges[-1][1] + 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges[:most])
        left = sum(b - a + 1 for a, b in ranges[most:])
        more = f" and {left:,} more, which the log names," if left else ""
        parts.append(f"{'line' if len(numbers) == 1 else 'lines'} {shown}{more} of {name}")
    return " and ".join(parts)


def stopped(metrics: Path) -> bool:
    """Whether a run stopped at numbers that are not finite, by its metrics."""
    if not is_regular(metrics):
        return False
    with open(metrics, "rb") as stream:
        stream.seek(max(0, metrics.stat().st_size - TAIL))
        last = stream.read().splitlines()[-1:]
    try:
        record = json.loads(last[0]) if last else None
    except (ValueError, RecursionError):  # a damaged line, which is told where the file is gone on with
        return False
    return isinstance(record, dict) and record.get("kind") == STOPPED


def trouble(seen: Seen) -> tuple[str, str]:
    """What of an update is not finite, and its value."""
    if math.isfinite(seen.norm):
        return "loss", str(seen.nll)
    return "gradient", f"norm {seen.norm}"


def told(seen: Seen, batches: Sequence[int], places: Places, skipped: int) -> str:
    """A line of the log about an update that is none: its batches, and all their lines."""
    what, found = trouble(seen)
    done = f"skipped, {skipped:,} so far" if skipped else "training stops"
    numbers = ", ".join(str(number + 1) for number in batches)
    where = f": {_lines(places, sys.maxsize)}" if places else ""
    noun = "batch" if len(batches) == 1 else "batches"
    return (
        f"step {seen.made.step}: {what} {found} ({done}), {noun} {numbers} of epoch {seen.made.epoch}{where}"
    )


def check_rate(rate: float, step: int) -> None:
    """Refuse to make an update with a learning rate that is not finite."""
    if not math.isfinite(rate):
        raise TrainingDiverged(f"a finite learning rate at step {step}", str(rate), GO_ON)


def check_value(name: str, value: float, step: int) -> None:
    """Refuse to go on from a validation that is not finite."""
    if not math.isfinite(value):
        do = "lower the learning rate, and go on from the last checkpoint"
        raise TrainingDiverged(f"a finite {name} at step {step}", str(value), do)


def check_saved(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    carried: Carried | None,
    averages: Mapping[str, Tensor],
) -> None:
    """Refuse to save what no training can go on from: weights, averages or a state that are not finite.

    A finite gradient and a rate that is too high lead there: the next update would be the first to notice.
    """
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for index, values in enumerate(optimizer.state.values()):
        tensors |= {
            f"{name} {index} of the optimizer": t for name, t in values.items() if isinstance(t, Tensor)
        }
    tensors |= {f"the average of {name}": t for name, t in averages.items()}
    tensors |= {f"tensor {index} of the carried state": t for index, t in enumerate(carried or ())}
    floating = {name: t.detach() for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    largest = torch._foreach_norm(list(floating.values()), math.inf)
    bad = [
        name
        for name, value in zip(floating, torch.stack([t.double() for t in largest]).tolist())
        if not math.isfinite(value)
    ]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise TrainingDiverged(
            f"finite weights after step {step}",
            f"nan or infinity in {bad[0]}{more}",
            f"{GO_ON}; nothing was saved",
        )
