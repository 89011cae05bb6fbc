"""The output softmax on a real GPU: parity with float64, no wait for the device, capture in a graph."""

import pytest
import torch

from seqsru.ops import cross_entropy
from seqsru.ops.cross_entropy import linear_cross_entropy

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def problem(rows, width, vocabulary, dtype, device="cuda"):
    """Inputs x, weight, bias, targets, and which rows count."""
    torch.manual_seed(rows + vocabulary)
    leaves = [
        torch.randn(shape, dtype=torch.float64)
        for shape in ((rows, width), (vocabulary, width), (vocabulary,))
    ]
    leaves = [leaf.to(device, dtype, copy=True).requires_grad_() for leaf in leaves]
    targets, valid = torch.randint(vocabulary, (rows,)), torch.arange(rows) % 5 != 2
    targets[~valid] = -7  # whatever it holds
    return leaves, targets.to(device), valid.to(device)


def run(leaves, targets, valid, smoothing=0.1):
    loss, nll = linear_cross_entropy(*leaves, targets, valid=valid, smoothing=smoothing)
    return [loss.detach(), nll, *torch.autograd.grad(2.0 * loss, leaves)]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(
    "rows, width, vocabulary", [(1, 8, 1), (9, 16, 255), (70, 32, 1025), (1120, 64, 10_000)]
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_kernel_equals_torch_in_float64(dtype, rows, width, vocabulary, smoothing, monkeypatch):
    leaves, targets, valid = problem(rows, width, vocabulary, dtype)
    monkeypatch.setattr(
        cross_entropy, "GPU_BLOCK", 600 * vocabulary * dtype.itemsize
    )  # 1,120 rows are two blocks
    found = run(leaves, targets, valid, smoothing)
    exact = [leaf.detach().double().cpu().requires_grad_() for leaf in leaves]
    expected = run(exact, targets.cpu(), valid.cpu(), smoothing)
    near = {torch.float64: 1e-11, torch.float32: 2e-5}.get(dtype, 4e-2)
    for one, other in zip(found, expected, strict=True):
        assert (one.double().cpu() - other).norm() <= near * other.norm().clamp(min=1)


def test_it_never_waits_for_the_device():
    leaves, targets, valid = problem(50, 16, 300, torch.float32)
    run(leaves, targets, valid)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(leaves, targets, valid)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_replays_it_on_new_features():
    leaves, targets, valid = problem(50, 16, 300, torch.float32)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run(leaves, targets, valid)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(leaves, targets, valid)
    with torch.no_grad():
        leaves[0].mul_(-0.5)
    graph.replay()
    for one, other in zip(captured, run(leaves, targets, valid), strict=True):
        torch.testing.assert_close(one, other)


def test_a_target_outside_the_vocabulary_gives_no_number():
    leaves, targets, valid = problem(9, 4, 11, torch.float32)
    targets[0] = 11
    loss, nll = linear_cross_entropy(*leaves, targets, valid=valid)
    assert loss.isnan() and nll[0].isnan() and not nll[1:].isnan().any()
