"""How long a host takes to launch the CUDA kernels, measured without a GPU.

    python tools/bench_host.py [OUT.json]

Everything runs as it does on a GPU, down to the driver's call that would start a kernel: the recording driver
(`recording_driver`) returns from it at once. Tensors of a few numbers on the CPU stand for those on a GPU, so
products take what a host needs for a small one. Beside each figure is that of the path before it: operators
of `torch.library` where a gradient is wanted, and launches through numba's dispatcher with a DLPack capsule
a tensor, and one scan after the other for two directions. The least and the median of many repeats are
printed, in microseconds; a product of torch's own is measured between them, so that a busy machine shows.

What torch itself asks CUDA's runtime for (the current device and stream, about half a microsecond each) is
not in these times, as torch may be a CPU build here.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import timeit
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import recording_driver
import torch
from torch.nn.functional import linear

from seqsru.cells import SRU, Stack, highway
from seqsru.models import LanguageModel
from seqsru.ops import cuda, cuda_build, cuda_launch, dlpack, operators, scan
from seqsru.ops.calls import LAYOUTS, given, parts

STEPS, ROWS, FEATURES, LAYERS = 4, 2, 16, 4


def measured(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Microseconds of one call, the least and the median of so many measurements.

    A measurement is as many calls as take a tenth of a millisecond: short enough to be left alone by others.
    """
    once = min(timeit.repeat(run, number=1, repeat=10))
    number = max(1, int(1e-4 / once))
    times = timeit.repeat(run, number=number, repeat=repeats)
    return min(times) / number * 1e6, statistics.median(times) / number * 1e6


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """Take CPU tensors for those of device 0, and say of CUDA's runtime what is true of it."""
    told = {
        "current_device": lambda: 0,
        "is_current_stream_capturing": lambda: False,
        "get_device_capability": lambda index: recording_driver.CAPABILITY,
    }
    with contextlib.ExitStack() as stack:
        for name, answer in told.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stream = mock.patch.object(torch._C, "_cuda_getCurrentRawStream", lambda index: 0, create=True)
        stack.enter_context(stream)
        stack.enter_context(mock.patch.object(cuda_launch, "CUDA", dlpack.CPU))
        stack.enter_context(mock.patch.object(operators, "backend_module", lambda name, device: cuda))
        stack.enter_context(mock.patch.object(scan, "_sums_in_products", lambda x: True))
        yield


class Dispatched:
    """A launch as numba's dispatcher does it, with a DLPack capsule for each tensor."""

    def __init__(self) -> None:
        self._kernels: dict[Any, Any] = {}

    def __call__(self, call: Any, variant: Any, grid: Any, threads: int, *more: Any) -> None:
        """Stand for `cuda_launch.launch`."""
        from numba import cuda as numba_cuda

        kind: Any = type(call)
        tensors, numbers = parts(call)
        buffers = [None if tensor is None else dlpack.Buffer(tensor) for tensor in tensors]
        assert len({(b.device_type, b.device_index) for b in buffers if b is not None}) == 1
        dtype = next(tensor.dtype for tensor in tensors if tensor is not None)
        key = kind, variant, dtype, grid
        if key not in self._kernels:
            jit: Any = numba_cuda.jit
            function, signature = cuda_build.source(kind, str(dtype).removeprefix("torch."), variant)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numba's, of a grid this small
                self._kernels[key] = jit(signature)(function)[grid, threads, 0]
        pointers = (0 if buffer is None else buffer.pointer for buffer in buffers)
        self._kernels[key](*pointers, *numbers, *more)


def stages() -> dict[str, Callable[[], object]]:
    """Give what is measured, by name."""
    shape = STEPS, ROWS, FEATURES
    u = torch.randn(*shape[:2], 3, FEATURES, requires_grad=True)
    x, c0 = torch.randn(shape, requires_grad=True), torch.zeros(ROWS, FEATURES)
    v, b = torch.zeros(2, FEATURES, requires_grad=True), torch.zeros(2, FEATURES, requires_grad=True)
    gh, gc = torch.ones(shape), torch.ones(ROWS, FEATURES)
    given = u.detach(), x.detach(), c0, v.detach(), b.detach(), None, None, 0, 1.0
    _, _, c = cuda.sru_forward(*given, True)
    layer, inputs = SRU(FEATURES, FEATURES), torch.randn(shape, requires_grad=True)
    pair = SRU(FEATURES, FEATURES // 2, bidirectional=True)
    valid = torch.arange(STEPS)[:, None] < torch.tensor([STEPS, 1])
    model = LanguageModel(50, Stack("sru", FEATURES, FEATURES, LAYERS), FEATURES).eval()
    tokens, state = torch.zeros(ROWS, dtype=torch.int64), model.initial_state(ROWS)

    leaves = (
        u,
        x,
        v,
        b,
        inputs,
        *layer.parameters(),
        *pair.parameters(),
    )  # listed once: to look for them is an optimizer's work

    def both(run: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
        y, _ = run()
        y.backward(gh)  # type: ignore[no-untyped-call]
        for leaf in leaves:
            leaf.grad = None

    @torch.no_grad()
    def step() -> object:
        return model.step(tokens, (), state)

    return {
        "forward kernel, with its outputs": lambda: cuda.sru_forward(*given, True),
        "backward kernel, with its outputs": lambda: cuda.sru_backward(gh, gc, *given[:7], c, *given[7:]),
        "sru_scan, forward and backward": lambda: both(lambda: scan.sru_scan(u, x, c0, v, b)),
        "SRU layer, forward and backward": lambda: both(lambda: layer(inputs)),
        "two directions of padded rows, likewise": lambda: both(lambda: pair(inputs, None, valid)),
        f"decoding step of {LAYERS} layers": step,
    }


def chunked() -> dict[str, Callable[[], object]]:
    """Give a scan of linear recurrences in chunks, and whole."""
    a, c0 = torch.rand(STEPS, ROWS, FEATURES), torch.zeros(ROWS, FEATURES)

    def run(span: int) -> None:
        with mock.patch.object(cuda, "_span", lambda T, B, D, device: span):
            cuda.linear_forward(a, a, c0, None, False)

    return {"scan, whole": lambda: run(STEPS), "scan, in chunks": lambda: run(1)}


def measure(repeats: int) -> list[dict[str, Any]]:
    """Measure each stage by the path of now, then by that of before.

    Parameters
    ----------
    repeats : int
        Measurements of a stage.

    Returns
    -------
    list of dict
        Of each stage its name, the least microseconds now and before, and the medians of both.
    """
    with pretended():
        call = _example()
        variant = cuda_build.variant(call, given(x=call.x, v=call.v, c=call.c))
        grid = cuda_build.blocks(ROWS, FEATURES, 1, variant.lanes)
        launches = {"now": cuda_launch.launch, "before": Dispatched()}
        found: dict[str, dict[str, float]] = {}
        for name, start in launches.items():
            watched = scan.watched if name == "now" else lambda *tensors: torch.is_grad_enabled()
            joins = scan._sums_in_products if name == "now" else lambda x: False
            at_once = name == "now"
            with (
                mock.patch.object(cuda, "launch", start),
                mock.patch.object(scan, "watched", watched),
                mock.patch.object(scan, "_sums_in_products", joins),
                mock.patch.object(highway, "scans_both", lambda x, backend, at_once=at_once: at_once),
            ):
                alone = functools.partial(start, call, variant, grid, cuda_build.THREADS, STEPS)
                product = {"a product of torch, to compare": functools.partial(linear, *torch.ones(2, 8, 8))}
                everything = {"launch of the forward kernel": alone, **stages(), **chunked(), **product}
                for stage, run in everything.items():
                    run()  # the first use compiles
                    least, median = measured(run, repeats)
                    found.setdefault(stage, {}).update({name: least, f"{name}, median": median})
    return [{"stage": stage, **times} for stage, times in found.items()]


def _example() -> Any:
    """Return the call of a forward scan with its highway, states kept."""
    from seqsru.ops.calls import SruForward

    shape = STEPS, ROWS, FEATURES
    h, c, x = torch.zeros(3, *shape)
    u, c0, c_last = torch.zeros(*shape[:2], 3, FEATURES), torch.zeros(shape[1:]), torch.zeros(shape[1:])
    v, b = torch.zeros(2, 2, FEATURES)
    sizes = STEPS, ROWS, 3, FEATURES, ROWS * FEATURES, FEATURES
    call = SruForward(u, c0, x, v, b, None, None, h, c_last, c, *sizes, 0, 1.0)
    assert len(call) == len(LAYOUTS[SruForward].kinds)
    return call


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", nargs="?", type=Path, help="where the rows are written as JSON")
    parser.add_argument("--repeats", type=int, default=1000, help="measurements of a stage (default: 1000)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recording_driver.install(recording=False)
    rows = measure(given.repeats)
    columns = "now", "now, median", "before", "before, median"
    print(f"{'host time in microseconds':40}" + "".join(f"{column:>16}" for column in columns))
    for row in rows:
        print(f"{row['stage']:40}" + "".join(f"{row[column]:16.1f}" for column in columns))
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
