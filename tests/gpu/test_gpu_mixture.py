"""The cross entropy of a mixture of softmaxes on a GPU: against float64, never waiting for the device."""

import pytest
import torch

from seqsru.ops.mixture import mixture_cross_entropy


def problem(rows, components, width, vocabulary, dtype, device="cuda"):
    """Latents, log priors, weight, bias; targets, and which rows count."""
    torch.manual_seed(rows)
    leaves = [
        torch.randn(rows, components, width),
        torch.log_softmax(torch.randn(rows, components), -1),
        torch.randn(vocabulary, width),
        torch.randn(vocabulary),
    ]
    leaves = [leaf.to(device, dtype, copy=True).requires_grad_() for leaf in leaves]
    targets, valid = torch.randint(vocabulary, (rows,)), torch.arange(rows) % 5 != 2
    targets[~valid] = -7  # whatever it holds
    return leaves, targets.to(device), valid.to(device)


def run(leaves, targets, valid, smoothing):
    loss, nll = mixture_cross_entropy(*leaves, targets, valid=valid, smoothing=smoothing)
    return [loss.detach(), nll, *torch.autograd.grad(2.0 * loss, leaves)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_equals_float64_on_a_cpu(dtype, smoothing):
    leaves, targets, valid = problem(70, 3, 32, 1025, dtype)
    exact = [leaf.detach().double().cpu().requires_grad_() for leaf in leaves]
    expected = run(exact, targets.cpu(), valid.cpu(), smoothing)
    near = 1e-11 if dtype == torch.float64 else 2e-5
    for one, other in zip(run(leaves, targets, valid, smoothing), expected, strict=True):
        assert (one.double().cpu() - other).norm() <= near * other.norm().clamp(min=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_never_waits_for_the_device(smoothing):
    given = problem(50, 3, 16, 300, torch.float32)
    run(*given, smoothing)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(*given, smoothing)
    finally:
        torch.cuda.set_sync_debug_mode("default")
