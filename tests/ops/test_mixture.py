"""The cross entropy of a mixture against its formula, for every way that it is computed."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from seqsru.errors import Refused
from seqsru.ops import cross_entropy, mixture
from seqsru.ops.mixture import mixture_cross_entropy

K, E, V = 3, 5, 11


def made(rows=(4, 3), dtype=torch.float64, bias=True):
    latent = torch.randn(*rows, K, E, dtype=dtype)
    log_prior = torch.log_softmax(torch.randn(*rows, K, dtype=dtype), -1)
    weight, shift = torch.randn(V, E, dtype=dtype), torch.randn(V, dtype=dtype)
    inputs = [t.requires_grad_() for t in (latent, log_prior.detach(), weight, shift)]
    return [*inputs[:3], inputs[3] if bias else None], torch.randint(V, rows)


def by_hand(latent, log_prior, weight, bias, targets, valid=None, smoothing=0.0):
    """Probabilities as they are defined, a component at a time."""
    p = 0
    for k in range(latent.shape[-2]):
        z = latent[..., k, :] @ weight.T + (0 if bias is None else bias)
        p = p + log_prior[..., k, None].exp() * torch.softmax(z, -1)
    log_p = p.log()
    nll, spread = -log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1), -log_p.sum(-1)
    kept = torch.ones_like(targets, dtype=torch.bool) if valid is None else valid
    nll, spread = nll * kept, spread * kept
    return ((1 - smoothing) * nll + smoothing / log_p.shape[-1] * spread).sum(), nll.detach()


@pytest.fixture(params=[1 << 23, 2 * K * V, 1], ids=["one block", "two rows", "a row"])
def block(request, monkeypatch):
    monkeypatch.setattr(mixture, "BLOCK", request.param)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients_are_those_of_the_formula(block, smoothing, padded, bias):
    inputs, targets = made(bias=bias)
    valid = torch.arange(4)[:, None] < torch.tensor([4, 2, 0]) if padded else None
    given = [t for t in inputs if t is not None]
    expected, nlls = by_hand(*inputs, targets, valid, smoothing)
    loss, nll = mixture_cross_entropy(*inputs, targets, valid=valid, smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, nlls)
    theirs = torch.autograd.grad(expected * 0.7, given)
    for ours, other in zip(torch.autograd.grad(loss * 0.7, given), theirs, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients_of_gradients(smoothing):
    inputs, targets = made((2,))
    assert gradcheck(
        lambda *given: mixture_cross_entropy(*given, targets, smoothing=smoothing)[0],
        inputs,
        nondet_tol=1e-12,
    )
    assert gradgradcheck(
        lambda *given: mixture_cross_entropy(*given, targets, smoothing=smoothing)[0], inputs
    )


def test_a_second_backward_pass_gives_the_same():
    inputs, targets = made()
    loss, _ = mixture_cross_entropy(*inputs, targets)
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, inputs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_float32_and_bfloat16(smoothing):
    inputs, targets = made((40,), torch.float32)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    expected, _ = by_hand(*exact, targets, None, smoothing)
    theirs = torch.autograd.grad(expected, exact)
    for tolerance, narrow in ((1e-5, False), (3e-2, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss, _ = mixture_cross_entropy(*inputs, targets, smoothing=smoothing)
        assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
        for ours, other in zip(torch.autograd.grad(loss, inputs), theirs, strict=True):
            assert ours.dtype == torch.float32
            assert (ours - other).norm() <= tolerance * other.norm()


def test_far_logits_stay_finite():
    inputs, targets = made(dtype=torch.float32)
    with torch.no_grad():
        inputs[0].mul_(1e3)
        inputs[1][..., 0] = -200.0
    for smoothing in (0.0, 0.1):
        loss, nll = mixture_cross_entropy(*inputs, targets, smoothing=smoothing)
        assert nll.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, inputs))


def test_of_one_component_it_is_the_cross_entropy():
    (latent, _, weight, bias), targets = made()
    ours = mixture_cross_entropy(latent[..., :1, :], torch.zeros(4, 3, 1).double(), weight, bias, targets)
    theirs = cross_entropy.linear_cross_entropy(latent[..., 0, :], weight, bias, targets)
    torch.testing.assert_close(ours, theirs)


def test_no_table_of_all_rows_is_made(monkeypatch):
    monkeypatch.setattr(mixture, "BLOCK", 4 * K * V)
    sizes, linear = [], mixture.linear
    monkeypatch.setattr(mixture, "linear", lambda x, w: sizes.append(len(x)) or linear(x, w))
    inputs, targets = made((10,))
    mixture_cross_entropy(*inputs, targets)
    assert sizes == [4 * K, 4 * K, 2 * K]


def test_no_rows():
    inputs, targets = made((0, 3))
    loss, nll = mixture_cross_entropy(*inputs, targets)
    assert loss == 0.0 and nll.shape == (0, 3)
    assert all(not g.any() for g in torch.autograd.grad(loss, inputs))


def test_transforms_of_functions_see_it():
    inputs, targets = made((4,))
    plain = [t.detach() for t in inputs]
    found = torch.func.grad(lambda *given: mixture_cross_entropy(*given, targets)[0], (0, 1, 2, 3))(*plain)
    loss, _ = mixture_cross_entropy(*inputs, targets)
    torch.testing.assert_close(found, torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda i, t: mixture_cross_entropy(*i, t[1:]),
            r"targets: expected latents \(\.\.\., K, E\), priors \(\.\.\., K\) and targets \(\.\.\.\), "
            r"found \(4, 3, 3, 5\), \(4, 3, 3\) and \(3, 3\); give K latents and priors and one target "
            "for each row",
        ),
        (
            lambda i, t: mixture_cross_entropy(*i, t + 9),
            r"targets: expected indices from 0 to 10, found \d+; check that the vocabulary is the model's",
        ),
        (
            lambda i, t: mixture_cross_entropy(*i, -t - 1, smoothing=0.1),
            r"targets: expected indices from 0 to 10, found -\d+; check that the vocabulary is the model's",
        ),
        (
            lambda i, t: mixture_cross_entropy(*i, t, smoothing=1.0),
            r"smoothing: expected a probability from 0 to below 1, found 1\.0; 0 switches it off",
        ),
    ],
)
def test_what_does_not_fit(change, message):
    with pytest.raises(Refused, match=f"^{message}$"):
        change(*made())
