"""How sections of `gpu_check.py` measure: seconds on the device or from Python, beside those predicted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from statistics import median

import bench_layers
import gpu_predictions as predictions
import torch
from bench_layers import timed
from gpu_predictions import Machine, Work

Rows = list[dict[str, object]]
PRECISIONS = ("float32", "tf32", "bfloat16")


@functools.cache
def here(device: torch.device, size: int) -> Machine:
    """The device with the bandwidth of a copy of `size` bytes; one that nobody knows counts as slow."""
    copied = 2 * size / copy_seconds(size, device)
    name = torch.cuda.get_device_name(device) if bench_layers.on_gpu(device) else device.type
    return predictions.machine(name, copied) or Machine(copied, dict.fromkeys(PRECISIONS, 1e11))


def beside(
    found: float, work: Work, device: torch.device, tiny: bool, precision: str = "float32", graph: bool = True
) -> dict[str, object]:
    """Columns of a figure: microseconds, those that are predicted, and the ratio of the two."""
    expected = predictions.seconds(work, here(device, 1 << (20 if tiny else 30)), precision, graph)
    return {
        "us": round(1e6 * found, 2),
        "predicted us": round(1e6 * expected, 2),
        "ratio": round(found / expected, 3),
    }


def copy_seconds(size: int, device: torch.device) -> float:
    """Seconds to copy `size` bytes from one place of a device's memory to another."""
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return kernel_seconds([lambda: target.copy_(source)], device)


def kernel_seconds(turns: list[Callable[[], object]], device: torch.device) -> float:
    """Seconds of one of some calls, made in turn, on the device alone: median over replays of a graph."""
    if not bench_layers.on_gpu(device):
        return eager_seconds(turns[0], device)
    times = max(1, 10 // len(turns))
    graph = bench_layers.captured(lambda: [call() for call in turns], times)
    graph.replay()
    return median(timed(graph.replay, device, 5) for _ in range(7)) / (times * len(turns))


def eager_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call made from Python, in rows of twenty."""
    call()
    return median(timed(call, device, 20) for _ in range(5))
