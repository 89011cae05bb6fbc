"""The optimizers against their formulas, in float64."""

import pytest
import torch
from torch import nn

from seqsru.errors import Refused
from seqsru.training.optimizers import OPTIMIZERS

START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
GRADIENTS = torch.tensor([[0.1, 0.2, -0.3], [-0.4, 0.1, 0.2], [0.3, -0.1, 0.1]], dtype=torch.float64)


def run(name, **options):
    parameter = nn.Parameter(START.clone())
    optimizer = OPTIMIZERS[name]([parameter], **options)
    for gradient in GRADIENTS:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def adam_by_hand(lr, beta1, beta2, eps, coupled=0.0, decoupled=0.0):
    w, m, v = START.clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for t, gradient in enumerate(GRADIENTS, 1):
        w = w * (1 - lr * decoupled)
        g = gradient + coupled * w
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
    return w


def test_adam():
    found = run("adam", lr=0.1, beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.2)
    torch.testing.assert_close(found, adam_by_hand(0.1, 0.8, 0.9, 1e-4, coupled=0.2))


def test_adamw():
    found = run("adamw", lr=0.1, beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.2)
    torch.testing.assert_close(found, adam_by_hand(0.1, 0.8, 0.9, 1e-4, decoupled=0.2))


def test_sgd_with_momentum_and_penalty():
    w, step = START.clone(), torch.zeros(3).double()
    for gradient in GRADIENTS:
        step = 0.9 * step + gradient + 0.2 * w
        w = w - 0.1 * step
    torch.testing.assert_close(run("sgd", lr=0.1, momentum=0.9, weight_decay=0.2), w)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_weight_may_get_its_first_gradient_late(name):
    """It then moves as it would alone."""
    options = {"momentum": 0.9} if name in ("sgd", "muon") else {}

    def made(weights):
        return OPTIMIZERS[name](list(weights.items()), lr=0.1, **options)

    first, late, alone = (torch.nn.Parameter(torch.eye(3).double()) for _ in range(3))
    both, one = made({"first": first, "late": late}), made({"late": alone})
    for number, scale in enumerate((0.5, -0.2, 1.0, 0.3)):
        first.grad = torch.ones(3, 3).double()
        if number >= 2:
            late.grad = scale * torch.arange(9.0).double().view(3, 3)
            alone.grad = late.grad.clone()
            one.step()
        both.step()
    assert torch.equal(late, alone) and not torch.equal(late, torch.eye(3).double())


def test_sgd_shrinks_after_the_step_whatever_the_rate():
    w = START.clone()
    for gradient in GRADIENTS:
        w = (w - 0.1 * gradient) * (1 - 0.25)
    torch.testing.assert_close(run("sgd", lr=0.1, shrink=0.25), w)


@pytest.mark.parametrize(
    "name, theirs", [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_defaults_are_those_of_torch_but_for_the_rate(name, theirs):
    parameter = nn.Parameter(START.clone())
    ours = OPTIMIZERS[name]([parameter], lr=0.3).defaults
    assert {**ours, "fused": None} == {**theirs([parameter], lr=0.3).defaults, "fused": None}


@pytest.mark.parametrize(
    "name, option, value, message",
    [
        ("adam", "lr", -1.0, r"expected from 0 to 1,000, found -1\.0; give a number in this range$"),
        ("adam", "lr", 1e308, r"expected from 0 to 1,000, found 1e\+308; give a number in this range$"),
        ("adam", "eps", 0.0, r"expected from 1e-45 to 1, found 0\.0; give a number in this range$"),
        ("adam", "beta1", 1.0, r"expected a probability from 0 to below 1, found 1\.0"),
        ("adamw", "beta2", -0.1, r"expected a probability from 0 to below 1, found -0\.1"),
        ("adamw", "eps", float("nan"), "expected from 1e-45 to 1, found nan"),
        ("adamw", "weight_decay", -0.1, "expected from 0 to 100, found -0.1"),
        ("adamw", "weight_decay", 100000.0, "expected from 0 to 100, found 100000.0"),
        ("sgd", "lr", float("inf"), "expected from 0 to 1,000, found inf; give a number in this range$"),
        ("sgd", "momentum", -0.9, r"expected a probability from 0 to below 1, found -0\.9"),
        ("sgd", "momentum", 1.0, r"expected a probability from 0 to below 1, found 1\.0"),
        ("sgd", "shrink", 1.5, r"expected a number from 0 to 1, found 1\.5"),
    ],
)
def test_impossible_options_are_refused(name, option, value, message):
    with pytest.raises(Refused, match=f"^{option}: {message}"):
        run(name, **{option: value})
