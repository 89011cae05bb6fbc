"""What `gpu_check.py` measures: each section is a function of (device, tiny) that returns rows for a table.

Nothing here needs more than torch, numba-cuda and this checkout. With `tiny` the sizes are small enough for a
test on a CPU; graphs are captured on CUDA devices only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from xml.etree import ElementTree

import torch
from bench_layers import compare, synchronize, timed
from torch import Tensor, nn

from seqsru.cells import Stack
from seqsru.models.language_model import LanguageModel
from seqsru.ops.backends import backend_module
from seqsru.ops.calls import IDENTITY
from seqsru.ops.reference import accumulation_dtype

ROOT = Path(__file__).resolve().parents[1]
Rows = list[dict[str, object]]


def gpu_tests(device: torch.device, tiny: bool) -> Rows:
    """Run ``tests/gpu`` and give the outcome of every test that did not pass.

    Warnings are not errors here: the machine's versions are its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests/gpu",
            "-q",
            "-W",
            "default",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
        ]
        run = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        if not report.exists():
            raise RuntimeError(f"pytest wrote no report: {(run.stdout + run.stderr)[-2000:]}")
        return test_rows(report.read_text(encoding="utf-8"))


def test_rows(report: str) -> Rows:
    """Turn a JUnit report into a first row of counts, and one for each test that failed or was skipped."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    rest: Rows = []
    for case in ElementTree.fromstring(report).iter("testcase"):
        outcome, text = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if child.tag == "skipped" else "failed"
                text = (child.get("message") or "").strip()
        counts[outcome] += 1
        if outcome != "passed":
            rest.append({"test": case.get("name"), "outcome": outcome, "message": text[:300]})
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return [{"test": "all", "outcome": "failed" if counts["failed"] else "ok", "message": summary}, *rest]


def bandwidth(device: torch.device, tiny: bool) -> Rows:
    """Bytes a second of each kernel, against a copy of the device's own memory in the same run.

    The bytes are those that must move: each input read once, each output written once. On a GPU a row's
    kernels are captured in a graph, so that the time is the device's; `eager us` is what one call takes
    from Python.
    """
    size = 1 << (20 if tiny else 30)
    seconds = copy_seconds(size, device)
    copy = 2 * size / seconds / 1e9
    rows: Rows = [
        {
            "kernel": "copy",
            "dtype": "uint8",
            "T,B,D": "",
            "MB": round(2 * size / 1e6, 1),
            "us": round(seconds * 1e6, 1),
            "GB/s": round(copy, 1),
            "of copy": 1.0,
            "eager us": None,
        }
    ]
    sizes = [(3, 2, 8)] if tiny else [(35, 32, 910), (64, 64, 1024), (256, 64, 2048), (1, 1, 512)]
    for dtype in (torch.float32, torch.bfloat16):
        for T, B, D in sizes:
            for name, call, moved in kernel_calls(device, dtype, T, B, D):
                seconds = kernel_seconds(call, device)
                rate = moved / seconds / 1e9
                rows.append(
                    {
                        "kernel": name,
                        "dtype": str(dtype).removeprefix("torch."),
                        "T,B,D": f"{T},{B},{D}",
                        "MB": round(moved / 1e6, 3),
                        "us": round(seconds * 1e6, 2),
                        "GB/s": round(rate, 1),
                        "of copy": round(rate / copy, 3),
                        "eager us": round(eager_seconds(call, device) * 1e6, 1),
                    }
                )
    return rows


def copy_seconds(size: int, device: torch.device) -> float:
    """Seconds to copy `size` bytes from one place of a device's memory to another."""
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return kernel_seconds(lambda: target.copy_(source), device)


def kernel_calls(
    device: torch.device,
    dtype: torch.dtype,
    T: int,
    B: int,
    D: int,
) -> list[tuple[str, Callable[[], object], int]]:
    """The backend's functions on random data: (name, call, bytes that must move)."""
    module, wide = backend_module("auto", device), accumulation_dtype(dtype)
    torch.manual_seed(0)
    u, x, gh = (torch.randn(shape, device=device).to(dtype) for shape in ((T, B, 3, D), (T, B, D), (T, B, D)))
    c0, v, b = (torch.randn(shape, device=device, dtype=wide) for shape in ((B, D), (2, D), (2, D)))
    _, _, c = module.sru_forward(u, x, c0, v, b, None, None, IDENTITY, 1.0, True)
    a = torch.rand(T, B, D, device=device).to(dtype)
    _, _, linear_c = module.linear_forward(a, x, c0, None, True)
    e, w, n, state = u.element_size(), c0.element_size(), T * B * D, B * D * c0.element_size()
    return [
        (
            "sru forward",
            lambda: module.sru_forward(u, x, c0, v, b, None, None, IDENTITY, 1.0, False),
            n * 5 * e + 2 * state,
        ),
        (
            "sru forward, c kept",
            lambda: module.sru_forward(u, x, c0, v, b, None, None, IDENTITY, 1.0, True),
            n * (5 * e + w) + 2 * state,
        ),
        (
            "sru backward",
            lambda: module.sru_backward(gh, c0, u, x, c0, v, b, None, None, c, IDENTITY, 1.0),
            n * (9 * e + w) + 7 * state,
        ),
        ("linear forward", lambda: module.linear_forward(a, x, c0, None, False), n * 3 * e + 2 * state),
        (
            "linear backward",
            lambda: module.linear_backward(gh, c0, a, c0, linear_c, None),
            n * (4 * e + w) + 3 * state,
        ),
    ]


def prefill(device: torch.device, tiny: bool) -> Rows:
    """Scans of one row over many steps, in chunks of time and whole: microseconds and their ratio.

    On a CPU both are the same scan. A chunked scan moves its inputs twice.
    """
    from seqsru.ops import cuda

    rows: Rows = []
    for T, D in [(6, 8)] if tiny else [(256, 512), (1024, 512), (4096, 512), (16384, 512), (4096, 2048)]:
        calls = kernel_calls(device, torch.float32, T, 1, D)[3:] + version_1_calls(device, T, D)
        for name, call, _ in calls:
            chunks = cuda._chunks(T, cuda._span(T, 1, D, device)) if device.type == "cuda" else 1
            chunked = kernel_seconds(call, device)
            chosen, cuda._span = cuda._span, lambda T, B, D, device: T
            try:
                whole = kernel_seconds(call, device)
            finally:
                cuda._span = chosen
            rows.append(
                {
                    "kernel": name,
                    "T,D": f"{T},{D}",
                    "chunks": chunks,
                    "whole us": round(1e6 * whole, 2),
                    "chunked us": round(1e6 * chunked, 2),
                    "whole / chunked": round(whole / chunked, 3),
                }
            )
    return rows


def version_1_calls(device: torch.device, T: int, D: int) -> list[tuple[str, Callable[[], object], int]]:
    """The scan of version 1 of the SRU on one row, forward and backward, as `kernel_calls` gives it."""
    module = backend_module("auto", device)
    torch.manual_seed(0)
    u, x, gh = (torch.randn(shape, device=device) for shape in ((T, 1, 3, D), (T, 1, D), (T, 1, D)))
    c0, b = torch.randn(1, D, device=device), torch.randn(2, D, device=device)
    _, _, c = module.sru_forward(u, x, c0, None, b, None, None, IDENTITY, 1.0, True)
    return [
        (
            "sru v1 forward",
            lambda: module.sru_forward(u, x, c0, None, b, None, None, IDENTITY, 1.0, False),
            20 * T * D,
        ),
        (
            "sru v1 backward",
            lambda: module.sru_backward(gh, c0, u, x, c0, None, b, None, None, c, IDENTITY, 1.0),
            40 * T * D,
        ),
    ]


def layers(device: torch.device, tiny: bool) -> Rows:
    """One layer of each kind, as ratios to the SRU: `bench_layers.compare`."""
    sizes = [(4, 2, 8)] if tiny else [(32, 32, 256), (128, 32, 512), (35, 32, 910), (64, 64, 1024)]
    rows: Rows = []
    for precision in ("float32",) if tiny else ("float32", "bfloat16"):
        for row in compare(sizes, device, precision, 3 if tiny else 7, 0.001 if tiny else 0.03):
            ms, ratio = row["ms"], row["ratio"]
            rows.append(
                {
                    "precision": precision,
                    "T,B,D": f"{row['T']},{row['B']},{row['D']}",
                    "pass": row["pass"],
                    "layer": row["layer"],
                    "ms": round(ms["median"], 4),
                    "ms q1": round(ms["q1"], 4),
                    "ms q3": round(ms["q3"], 4),
                    "to SRU": round(ratio["median"], 3),
                    "q1": round(ratio["q1"], 3),
                    "q3": round(ratio["q3"], 3),
                }
            )
    return rows


def training(device: torch.device, tiny: bool) -> Rows:
    """Tokens a second of language models on the shapes of PTB, with random tokens: batch 32, windows of 35.

    The SRU is the paper's 6 x 910, version 1; the LSTM has about as many parameters. A step is forward,
    backward, clipping to 5 and SGD, with the recipe's dropouts.
    """
    vocabulary, width, B, T, steps = (50, 16, 2, 5, 2) if tiny else (10_000, 910, 32, 35, 30)
    recipes = {"sru": (6, {"version": 1, "highway_bias": -3.0}), "lstm": (2, {})}
    rows: Rows = []
    for cell, (depth, options) in recipes.items():
        for precision in ("float32", "bfloat16"):
            torch.manual_seed(0)
            stack = Stack(cell, width, width, depth, dropout=0.2, options=options)
            model = LanguageModel(vocabulary, stack, width, embedding_dropout=0.5, output_dropout=0.5)
            model = model.to(device).train()
            seconds = step_seconds(model, device, precision, vocabulary, T, B, steps)
            count = sum(parameter.numel() for parameter in model.parameters())
            usual = median(seconds)
            rows.append(
                {
                    "model": f"{cell} {depth} x {width}",
                    "parameters": count,
                    "precision": precision,
                    "ms a step": round(1e3 * usual, 3),
                    "tokens/s": round(T * B / usual),
                    "first step s": round(seconds[0], 2),
                }
            )
    return rows


def step_seconds(
    model: LanguageModel, device: torch.device, precision: str, vocabulary: int, T: int, B: int, steps: int
) -> list[float]:
    """Seconds of each training step, the first one, which compiles, included."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    state, found = model.initial_state(B), []
    for _ in range(steps):
        tokens = torch.randint(vocabulary, (T + 1, B), device=device)
        synchronize(device)
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            features, state = model(tokens[:-1], state)
            loss, _ = model.cross_entropy(features, tokens[1:])
        optimizer.zero_grad(set_to_none=True)
        (loss / B).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        state = tuple(tensor.detach() for tensor in state)
        synchronize(device)
        found.append(time.perf_counter() - start)
    return found


@torch.no_grad()
def decoding(device: torch.device, tiny: bool) -> Rows:
    """Microseconds of one step of a language model, from Python and as a captured graph.

    A step is what decoding calls: one token a row in, log probabilities out. The device is idle at both ends.
    """
    vocabulary, width, steps = (50, 16, 3) if tiny else (8_000, 512, 300)
    rows: Rows = []
    for cell, depth in (("sru", 4), ("lstm", 2)):
        for count in (1, 5, 32):
            torch.manual_seed(0)
            model = LanguageModel(vocabulary, Stack(cell, width, width, depth), width).to(device).eval()
            tokens = torch.randint(vocabulary, (count,), device=device)
            step = step_in_place(model, tokens, model.initial_state(count))
            row: dict[str, object] = {"model": f"{cell} {depth} x {width}", "rows": count}
            row |= microseconds("eager", step, device, steps)
            if device.type == "cuda":
                try:
                    row |= microseconds("graph", captured(step).replay, device, steps)
                except RuntimeError as error:  # some version of cuDNN may not let itself be captured
                    row["graph"] = str(error)[:200]
            rows.append(row)
    return rows


def step_in_place(model: LanguageModel, tokens: Tensor, state: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """Return one decoding step as a call that keeps its state where it is, as a captured graph must."""

    def step() -> Tensor:
        log_probs, _, after = model.step(tokens, (), state)
        for old, new in zip(state, after):
            old.copy_(new)
        return log_probs

    return step


def microseconds(
    name: str,
    call: Callable[[], object],
    device: torch.device,
    steps: int,
) -> dict[str, object]:
    """P50 and P90 of single calls."""
    for _ in range(3):
        call()
    times = [1e6 * timed(call, device, 1) for _ in range(steps)]
    return {
        f"{name} P50 us": round(median(times), 1),
        f"{name} P90 us": round(quantiles(times, n=10, method="inclusive")[-1], 1),
    }


def captured(call: Callable[[], object], times: int = 1) -> torch.cuda.CUDAGraph:
    """Capture a call, repeated, in a CUDA graph, after running it outside one to compile and load."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    return graph


def kernel_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call on the device alone: median over replays of a graph that holds ten of them."""
    if device.type != "cuda":
        return eager_seconds(call, device)
    graph = captured(call, 10)
    graph.replay()
    return median(timed(graph.replay, device, 5) for _ in range(7)) / 10


def eager_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call made from Python, in rows of twenty."""
    call()
    return median(timed(call, device, 20) for _ in range(5))


SECTIONS: dict[str, tuple[Callable[[torch.device, bool], Rows], float]] = {
    # section: function, seconds it may take
    "tests": (gpu_tests, 240),
    "bandwidth": (bandwidth, 120),
    "prefill": (prefill, 60),
    "layers": (layers, 120),
    "training": (training, 120),
    "decoding": (decoding, 90),
}
