"""Run the CUDA backend in numba's simulator on every case and print how far it was.

A program of its own, run by test_cuda_simulator.py: the simulator has to be chosen before numba is imported.
"""

import json
import os

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import torch
from cuda_cases import (
    DTYPES,
    both_directions,
    distances,
    every_variant,
    some_variants,
    time_parallel,
    whole_groups,
)

from seqsru.ops import cuda, cuda_build, cuda_kernels, operators, scan

# The simulator starts a thread of Python for each of a block's threads, which is nearly all of its time,
# and most cases have fewer than ten features. Those of whole groups run in blocks as large as a GPU's too.
FEW = 8


def block_size(threads: int) -> None:
    """Have launches, grids and kernels take blocks of so many threads."""
    for module in (cuda, cuda_build, cuda_kernels):
        module.THREADS = threads


def through_the_operators() -> float:
    """Largest difference of outputs and gradients of `sru_scan` between the simulator and the reference."""

    def run(backend):
        torch.manual_seed(1)
        leaves = [torch.randn(shape) for shape in ((5, 2, 3, 4), (5, 2, 4), (2, 4), (2, 4), (2, 4))]
        for leaf in leaves:
            leaf.requires_grad_()
        h, c_last = scan.sru_scan(*leaves, activation="tanh", scale=1.5, backend=backend)
        (h * torch.randn(h.shape)).sum().add(c_last.square().sum()).backward()
        return [h, c_last, *(leaf.grad for leaf in leaves)]

    choose = operators.backend_module
    expected = run("reference")
    operators.backend_module = lambda name, device: cuda
    try:
        found = run("cpu")
    finally:
        operators.backend_module = choose
    return max((a - b).abs().max().item() for a, b in zip(found, expected))


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    assert cuda.simulated()
    report = {}
    for case in whole_groups(torch.float32) + both_directions(torch.bfloat16):
        report[f"{case}-in-blocks-of-{cuda.THREADS}"] = distances(cuda, case)
    block_size(FEW)
    for dtype in DTYPES:
        cases = every_variant(dtype) if dtype == torch.float32 else some_variants(dtype)
        for case in cases + whole_groups(dtype) + both_directions(dtype):
            report[str(case)] = distances(cuda, case)
    chunks = {}
    for span in (2, 4, 18):  # time in chunks: where the recurrence is linear
        cuda._span = lambda T, B, D, device, span=span: span
        for dtype in DTYPES:
            for case in time_parallel(dtype):
                chunks[f"{case}-in-chunks-of-{span}"] = distances(cuda, case)
    print(json.dumps({"cases": report, "chunks": chunks, "operators": through_the_operators()}))
