"""Run the CUDA kernel of the output softmax in numba's simulator and print how far it was from float64.

A program of its own, run by test_cuda_softmax.py: the simulator has to be chosen before numba is imported.
"""

import json
import os

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import torch
from cuda_cases import ROUNDING

from seqsru.ops import cross_entropy, cuda, cuda_loss, cuda_softmax
from seqsru.ops.calls import LEFT_OUT

SIZES = [
    (3, 1),
    (2, 7),
    (2, 8),
    (3, 9),
    (2, 33),
    (2, 67),
]  # below, at and above the threads of a block, and groups


def worst(found, exact, tolerance, rounding):
    """Largest error in units of what is allowed; infinite where one is a number and the other is not."""
    allowed = tolerance * exact.abs().max().clamp(min=1) + rounding * exact.abs()
    ratio = ((found.double() - exact).abs() / allowed).max().item()
    return ratio if ratio == ratio else float("inf")


def compare(dtype, rows, vocabulary, smoothing, biased, gradient, left_out):
    """Errors of nll, spread and the gradient, of the kernel and in float64 by torch's operators."""
    torch.manual_seed(rows * vocabulary)
    logits = (torch.randn(rows, vocabulary) * 6).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    bias = torch.randn(vocabulary, dtype=wide) if biased else None
    targets = torch.randint(vocabulary, (rows,))
    if left_out:
        targets[0] = LEFT_OUT
        logits[0] = float("nan")
    mine, exact = logits.clone(), logits.double()
    nll, spread = cuda_loss.softmax_cross_entropy(mine, bias, targets, smoothing, gradient)
    expected = cross_entropy._softmax_in_place(
        exact, None if bias is None else bias.double(), targets, smoothing or 1e-30, gradient
    )
    assert nll.dtype == spread.dtype == wide
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    found = {
        "nll": worst(nll, expected[0], tolerance, 0.0),
        "spread": worst(spread, expected[1], tolerance, 0.0),
    }
    if gradient:
        found["gradient"] = worst(mine, exact, tolerance, ROUNDING.get(dtype, 0.0))
    else:
        assert torch.equal(mine.nan_to_num(7.0), logits.nan_to_num(7.0))
    return found


def whole(rows, width, vocabulary, smoothing):
    """Loss, nll and gradients of `linear_cross_entropy` by the kernel and separately, with rows left out."""
    torch.manual_seed(5)
    leaves = [
        torch.randn(shape).requires_grad_() for shape in ((rows, width), (vocabulary, width), (vocabulary,))
    ]
    targets = torch.randint(vocabulary, (rows,))
    valid = torch.arange(rows) % 3 != 1
    with torch.no_grad():
        leaves[0][1] = float("nan")
    targets[1] = -5  # whatever it holds
    loss, nll = cross_entropy.linear_cross_entropy(*leaves, targets, valid=valid, smoothing=smoothing)
    return [loss.detach(), nll, *torch.autograd.grad(2.0 * loss, leaves)]


def whole_compared(smoothing):
    """Largest difference between the kernel, called as on a GPU and in blocks of two rows, and the CPU's."""
    expected = whole(7, 4, 11, smoothing)
    kept = cross_entropy._softmax_for, cross_entropy._rows_at_once, cross_entropy._waits
    kernel = cuda_loss.softmax_cross_entropy, cross_entropy._column_sums
    cross_entropy._softmax_for = lambda x: kernel
    cross_entropy._rows_at_once = lambda x, vocabulary: 2
    cross_entropy._waits = lambda device: True
    try:
        found = whole(7, 4, 11, smoothing)
    finally:
        cross_entropy._softmax_for, cross_entropy._rows_at_once, cross_entropy._waits = kept
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def special(values, target, dtype=torch.float32, bias=None):
    """nll of one row, and its gradient, as JSON can hold them."""
    logits = torch.tensor([values], dtype=dtype)
    nll, _ = cuda_loss.softmax_cross_entropy(logits, bias, torch.tensor([target]), 0.0, True)
    return [str(number) for number in (nll.item(), *logits[0].tolist())]


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    assert cuda.simulated()
    cuda_softmax.BLOCK = 8  # a barrier takes the simulator milliseconds a thread
    report = {}
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        for i, (rows, vocabulary) in enumerate(SIZES if dtype == torch.float32 else SIZES[-2:]):
            smoothing, biased, left_out = (0.0, 0.1)[i % 2], i % 3 != 0, i > 2
            gradient = dtype != torch.float32 or i != 1
            case = f"{dtype} {rows}x{vocabulary} {smoothing} {biased} {gradient} {left_out}"
            report[case] = compare(dtype, rows, vocabulary, smoothing, biased, gradient, left_out)
    inf, nan = float("inf"), float("nan")
    specials = {
        "no rows": str(
            cuda_loss.softmax_cross_entropy(torch.empty(0, 3), None, torch.empty(0).long(), 0.0, True)[0]
        ),
        "banned": special([-inf] * 9 + [0.0, 0.0], 10),
        "all banned": special([-inf] * 3, 0),
        "large": special([-300.0, 88.0, 300.0], 2),
        "nan": special([0.0] * 10 + [nan], 0),
        "inf": special([0.0, inf], 0),
        "outside": special([0.0, 0.0], 2),
        "below": special([0.0, 0.0], -1),
        "ignored elsewhere": special([0.0, 0.0], -100),
    }
    print(
        json.dumps(
            {"cases": report, "whole": [whole_compared(0.0), whole_compared(0.1)], "special": specials}
        )
    )
