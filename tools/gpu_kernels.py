"""Sections of `gpu_check.py` about kernels: bandwidth, long sequences, prefill, what a sanitizer finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bench_layers
import torch
from gpu_measures import Rows, beside, eager_seconds, here, kernel_seconds
from gpu_predictions import Work

from seqsru.cells import Stack
from seqsru.ops.backends import backend_module
from seqsru.ops.calls import IDENTITY
from seqsru.ops.reference import accumulation_dtype

ROOT = Path(__file__).resolve().parents[1]


def bandwidth(device: torch.device, tiny: bool, part: str) -> Rows:
    """Bytes a second of each kernel, against a copy of the device's own memory in the same run.

    The bytes are those that must move: each input read once, each output written once. Buffers take turns
    until they are four times the cache, so that none is found there. On a GPU a row's kernels are captured in
    a graph, so that the time is the device's; `eager us` is what one call takes from Python.
    """
    size = 1 << (20 if tiny else 30)
    copy = here(device, size).bandwidth
    rows: Rows = [
        {"kernel": "copy", "T,B,D": "", "MB": round(2 * size / 1e6, 1), "GB/s": round(copy / 1e9, 1)}
    ]
    sizes = (
        [(3, 2, 8)] if tiny else [(32, 32, 256), (35, 32, 910), (64, 64, 1024), (128, 128, 2048), (1, 1, 512)]
    )
    for T, B, D in sizes:
        rows += scan_rows(device, tiny, getattr(torch, part), T, B, D)
    return rows


def long(device: torch.device, tiny: bool, part: str) -> Rows:
    """Scans of 8 rows of 1,536 features over 2,048 to 65,536 steps, as a share of what a copy moves."""
    rows: Rows = []
    for T in (5,) if tiny else (2048, 8192, 32_768, 65_536):
        free = torch.cuda.mem_get_info(device)[0] if bench_layers.on_gpu(device) else 1 << 62
        if T * 8 * 1536 * 4 * 16 > free:
            rows.append({"kernel": "all", "T,B,D": f"{T},8,1536", "note": "does not fit into memory"})
            continue
        rows += scan_rows(device, tiny, getattr(torch, part), T, *((2, 8) if tiny else (8, 1536)))
        if bench_layers.on_gpu(device):
            torch.cuda.empty_cache()
    return rows


def scan_rows(device: torch.device, tiny: bool, dtype: torch.dtype, T: int, B: int, D: int) -> Rows:
    """A row for each of the backend's functions on one size, its buffers taking turns."""
    rows: Rows = []
    sets = [kernel_calls(device, dtype, T, B, D)]
    least = min(moved for _, _, moved in sets[0])
    if bench_layers.on_gpu(device):
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        sets += [kernel_calls(device, dtype, T, B, D) for _ in range(min(64, 4 * cache // max(least, 1)))]
    copy = here(device, 1 << (20 if tiny else 30)).bandwidth
    for number, (name, call, moved) in enumerate(sets[0]):
        turns = [calls[number][1] for calls in sets]
        found = kernel_seconds(turns, device)
        rows.append(
            {
                "kernel": name,
                "T,B,D": f"{T},{B},{D}",
                "MB": round(moved / 1e6, 3),
                "GB/s": round(moved / found / 1e9, 1),
                "of copy": round(moved / found / copy, 3),
                **beside(found, Work(moved), device, tiny),
                "eager us": round(eager_seconds(call, device) * 1e6, 1),
            }
        )
    return rows


def kernel_calls(
    device: torch.device,
    dtype: torch.dtype,
    T: int,
    B: int,
    D: int,
) -> list[tuple[str, Callable[[], object], int]]:
    """The backend's functions on random data: (name, call, bytes that must move)."""
    module, wide = backend_module("auto", device), accumulation_dtype(dtype)
    u, x, gh = (
        torch.randn(shape, device=device, dtype=dtype) for shape in ((T, B, 3, D), (T, B, D), (T, B, D))
    )
    c0, v, b = (torch.randn(shape, device=device, dtype=wide) for shape in ((B, D), (2, D), (2, D)))
    _, _, c = module.sru_forward(u, x, c0, v, b, None, None, IDENTITY, 1.0, True)
    a = torch.rand(T, B, D, device=device, dtype=dtype)
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


def prefill(device: torch.device, tiny: bool, part: str) -> Rows:
    """Linear scans of one row over many steps: microseconds, and those of moving the inputs twice."""
    rows: Rows = []
    for T, D in [(6, 8)] if tiny else [(256, 512), (1024, 512), (4096, 512), (16384, 512), (4096, 2048)]:
        for name, call, moved in kernel_calls(device, getattr(torch, part), T, 1, D)[3:]:
            found = kernel_seconds([call], device)
            rows.append(
                {
                    "kernel": name,
                    "T,D": f"{T},{D}",
                    **beside(found, Work(2 * moved, launches=3), device, tiny),
                }
            )
    return rows


def every_kernel(device: torch.device) -> None:
    """Run one variant of each kernel at odd sizes, which is what the sanitizer looks at."""
    from seqsru.ops.cross_entropy import linear_cross_entropy

    for dtype in (torch.float32, torch.bfloat16):
        for T, B, D in ((9, 3, 37), (300, 1, 5)):
            for _, call, _ in kernel_calls(device, dtype, T, B, D):
                call()
        leaves = [
            torch.randn(shape, device=device).to(dtype).requires_grad_()
            for shape in ((7, 9), (601, 9), (601,))
        ]
        valid = torch.arange(9, device=device)[:, None] < torch.tensor([9, 0, 4], device=device)
        stack = Stack("sru", 9, 19, bidirectional=True).to(device, dtype)  # both directions in one launch
        y, _ = stack(torch.randn(9, 3, 9, device=device, dtype=dtype), valid=valid)
        y.float().square().sum().backward()
        targets, valid = torch.arange(7, device=device), torch.arange(7, device=device) != 3
        loss, _ = linear_cross_entropy(*leaves, targets, valid=valid, smoothing=0.1)
        torch.autograd.grad(loss, leaves)
    if bench_layers.on_gpu(device):
        torch.cuda.synchronize(device)


def sanitizer(device: torch.device, tiny: bool, part: str) -> Rows:
    """What compute-sanitizer's tool of that name says of `every_kernel`; on a CPU that runs alone."""
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tools')]!r}; import gpu_kernels, torch; "
    code += f"gpu_kernels.every_kernel(torch.device({str(device)!r}))"
    program = shutil.which("compute-sanitizer") or str(
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "compute-sanitizer"
    )
    if bench_layers.on_gpu(device) and not Path(program).exists():
        return [{"tool": part, "outcome": "skipped", "message": "compute-sanitizer is not installed"}]
    command = [program, "--tool", part, "--error-exitcode", "9"] if bench_layers.on_gpu(device) else []
    run = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True)
    print(run.stdout + run.stderr)
    text = (run.stdout + run.stderr).strip()
    summary = [line for line in text.splitlines() if "SUMMARY" in line] or text.splitlines()[-1:]
    return [
        {"tool": part, "outcome": "failed" if run.returncode else "ok", "message": " ".join(summary)[:300]}
    ]
