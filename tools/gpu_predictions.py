"""What each figure of `gpu_sections` should be, from bytes, operations and launches: counted, never measured.

A thing takes as long as all that it must do: move its bytes at the bandwidth of a copy (that of the same run
where it was measured), multiply at the device's rate for its precision, start its kernels one by one.
"""

from __future__ import annotations

from typing import NamedTuple

# Nominal figures of the vendor's tables: bytes a second, and operations a second of dense products by
# precision (a multiplication and an addition are two).
PRODUCTS = {"float32": 67e12, "tf32": 495e12, "bfloat16": 989e12}
DEVICES = {
    "H200": (4.8e12, PRODUCTS),
    "H100": (3.35e12, PRODUCTS),
    "A100": (2.0e12, {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}),
}
COPY = 0.9  # of the nominal bandwidth that a copy reaches
REACHED = 0.7  # of the nominal rate that a product of usual size reaches
HOST, GRAPH = 6e-6, 1.5e-6  # seconds from one kernel's start to the next: from Python, and inside a graph
STEP = 2e-6  # seconds of one step of cuDNN's recurrence, which waits for all multiprocessors

# What forward and backward together are held against: an LSTM's time over the SRU's, by (T, B, D), precision
# and whether both run in a graph; and the seconds of a step of Penn Treebank's 6 x 910.
LSTM_OVER_SRU = {
    ((32, 32, 256), "float32", False): 2.6,
    ((32, 32, 256), "float32", True): 10.0,
    ((128, 32, 512), "float32", False): 11.0,
    ((128, 32, 512), "float32", True): 20.0,
    ((64, 64, 1024), "tf32", False): 7.0,
    ((64, 64, 1024), "bfloat16", False): 7.0,
}
PTB_STEP = 1.5e-3
SCAN_OF_COPY = 0.85  # of a copy's bandwidth, from 64 x 64 x 1024 on


class Machine(NamedTuple):
    """A device: bytes a second of a copy, and operations a second of products by precision."""

    bandwidth: float
    products: dict[str, float]


class Work(NamedTuple):
    """What must be done: bytes moved, operations of products, kernels started, seconds of steps that wait."""

    bytes: float
    operations: float = 0.0
    launches: float = 1.0
    waits: float = 0.0

    def __add__(self, other: tuple) -> Work:  # type: ignore[override]
        return Work(*(mine + its for mine, its in zip(self, other)))


def machine(name: str, copied: float | None = None) -> Machine | None:
    """The device of that name, with the bandwidth of a copy that was measured; None where it is not known."""
    for known, (bandwidth, products) in DEVICES.items():
        if known in name:
            return Machine(copied or COPY * bandwidth, products)
    return None


def seconds(work: Work, device: Machine, precision: str, graph: bool) -> float:
    """How long it takes: what the device has to do, or starting it from Python if that takes longer."""
    moved = work.bytes / device.bandwidth
    multiplied = work.operations / (REACHED * device.products[precision])
    busy = moved + multiplied + work.waits + GRAPH * work.launches
    return busy if graph else max(busy, HOST * work.launches)


def sru_scan(elements: int, size: int, training: bool) -> Work:
    """The scan alone, of T · B · D elements: forward, or forward with the state kept and backward."""
    forward = Work(elements * 5 * size)
    return forward + Work(elements * (9 * size + 8)) if training else forward


def product(rows: int, inputs: int, outputs: int, size: int, training: bool) -> Work:
    """A product, and its two backward."""
    once = Work(size * (rows * (inputs + outputs) + inputs * outputs), 2 * rows * inputs * outputs)
    return once + once + once if training else once


def layer(name: str, T: int, B: int, D: int, precision: str, training: bool) -> Work | None:
    """One layer of D features; None for one that nobody counted."""
    rows, size = T * B, 2 if precision == "bfloat16" else 4
    if name == "SRU":
        casts = Work(6 * rows * D, launches=2) if size == 2 else Work(0, launches=0)
        return product(rows, D, 3 * D, size, training) + sru_scan(rows * D, size, training) + casts
    if name in ("LSTM", "GRU"):
        gates = 4 if name == "LSTM" else 3
        given, carried = (product(rows, D, gates * D, size, training) for _ in range(2))
        steps = T * (3 if training else 1)
        return given + Work(carried.bytes, carried.operations, steps, steps * STEP)
    if name == "conv k=3":
        return product(rows, 3 * D, D, size, training)
    return None


def cross_entropy(rows: int, width: int, vocabulary: int, size: int) -> Work:
    """Output product, softmax and the gradients: logits are written, read, written and read twice."""
    table = Work(rows * vocabulary * size * 3, launches=1)
    return product(rows, width, vocabulary, size, True) + table + Work(0, launches=8)


def training_step(parameters: int, layers: Work, output: Work) -> Work:
    """A step: layers, output, and an update that reads and writes weights, gradients and their norm."""
    return layers + output + Work(parameters * 4 * 5, launches=12)


def collected(parameters: int) -> Work:
    """What a step does besides where its batch is a CUDA graph: each gradient is copied to where it stays."""
    return Work(parameters * 4 * 2, launches=1)
