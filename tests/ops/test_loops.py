"""The loops of mgu and pru: plain autograd through the equations, gradients, operators, half precision."""

import pytest
import torch

from seqsru.errors import Refused
from seqsru.ops import loop_operators, mgu_loop, pru_loop


def mgu_plain(u, h, weight, valid):
    W, V = weight.chunk(2)
    out = []
    for t in range(len(u)):
        u_f, u_n = u[t].chunk(2, dim=1)
        f = torch.sigmoid(u_f + h @ W.t())
        new = (1 - f) * h + f * torch.tanh(u_n + (f * h) @ V.t())
        here = valid[t].unsqueeze(1)
        h = torch.where(here, new, h)
        out.append(new * here)
    return torch.stack(out), h


def pru_plain(u, s, weight, valid):
    out = []
    for t in range(len(u)):
        n, c = (u[t] + s @ weight.t()).chunk(2, dim=1)
        new = torch.sigmoid(c) * s + (1 - torch.sigmoid(c)) * torch.tanh(n)
        here = valid[t].unsqueeze(1)
        s = torch.where(here, new, s)
        out.append(new * here)
    return torch.stack(out), s


LOOPS = [(mgu_loop, mgu_plain), (pru_loop, pru_plain)]
over_loops = pytest.mark.parametrize("loop, plain", LOOPS, ids=["mgu", "pru"])


def problem(T, B, D, dtype=torch.float64, wide=torch.float64):
    u = torch.randn(T, B, 2 * D, dtype=torch.float64).to(dtype).requires_grad_()
    state = torch.randn(B, D, dtype=wide).requires_grad_()
    weight = (torch.randn(2 * D, D, dtype=torch.float64) * D**-0.5).to(dtype).requires_grad_()
    lengths = torch.randint(0, T + 1, (B,))
    return u, state, weight, torch.arange(T).unsqueeze(1) < lengths


@over_loops
@pytest.mark.parametrize("T, B, D", [(1, 1, 1), (7, 3, 5), (4, 1, 8), (12, 6, 3)])
@pytest.mark.parametrize("padded", [True, False])
def test_equals_autograd_through_the_equations(loop, plain, T, B, D, padded):
    u, state, weight, valid = problem(T, B, D)
    valid = valid if padded else torch.ones_like(valid)
    found = loop(u, state, weight, valid=valid if padded else None)
    expected = plain(u, state, weight, valid)
    weights = [torch.randn_like(tensor) for tensor in expected]
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)
    for a, b in zip(
        torch.autograd.grad(found, (u, state, weight), weights),
        torch.autograd.grad(expected, (u, state, weight), weights),
    ):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        for a, b in zip(loop(u, state, weight, valid=valid if padded else None), found):
            assert torch.equal(a, b)


@over_loops
def test_gradients_equal_differences(loop, plain):
    u, state, weight, valid = problem(4, 3, 2)
    assert torch.autograd.gradcheck(lambda *inputs: loop(*inputs, valid=valid), (u, state, weight))


@over_loops
def test_only_the_last_state_or_only_the_outputs_may_be_used(loop, plain):
    u, state, weight, valid = problem(5, 2, 3)
    for which in (0, 1):
        found = torch.autograd.grad(loop(u, state, weight)[which].sum(), (u, state, weight))
        expected = torch.autograd.grad(
            plain(u, state, weight, torch.ones_like(valid))[which].sum(), (u, state, weight)
        )
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "forward, backward",
    [
        (loop_operators.mgu_forward, loop_operators.mgu_backward),
        (loop_operators.pru_forward, loop_operators.pru_backward),
    ],
    ids=["mgu", "pru"],
)
def test_operators_are_registered_as_torch_wants(forward, backward):
    u, state, weight, valid = problem(3, 2, 4)
    torch.library.opcheck(forward, (u, state, weight, valid, True))
    torch.library.opcheck(
        forward, (u, state, weight, valid, False), test_utils=("test_schema", "test_faketensor")
    )
    _, _, before, gates = forward(u, state, weight, valid, True)
    arguments = (torch.rand_like(before), torch.rand_like(state), before, gates, u, state, weight, valid)
    torch.library.opcheck(
        backward,
        tuple(tensor.detach() for tensor in arguments),
        test_utils=("test_schema", "test_faketensor"),
    )


@over_loops
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_keep_a_wide_state(loop, plain, dtype):
    u, state, weight, valid = problem(20, 4, 16, dtype, torch.float32)
    y, last = loop(u, state, weight, valid=valid)
    expected, end = plain(u.double(), state.double(), weight.double(), valid)
    assert y.dtype == dtype and last.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=0.03)
    torch.testing.assert_close(last.double(), end, rtol=0, atol=0.03)
    gradients = torch.autograd.grad(y.float().sum() + last.sum(), (u, state, weight))
    assert [g.dtype for g in gradients] == [dtype, torch.float32, dtype]


@over_loops
def test_no_steps_and_no_rows(loop, plain):
    for T, B in ((0, 3), (4, 0)):
        u, state, weight, _ = problem(T, B, 5)
        y, last = loop(u, state, weight)
        assert y.shape == (T, B, 5) and torch.equal(last, state)
        (y.sum() + last.sum()).backward()
        assert torch.equal(state.grad, torch.ones(B, 5, dtype=torch.float64))


@over_loops
def test_errors_say_what_was_expected_and_found(loop, plain):
    u, state, weight, valid = problem(4, 3, 2)
    shape, order = r"beside a state of shape \(3, 2\)", "check the order of the axes"
    with pytest.raises(Refused, match=rf"u: expected shape \(4, 3, 4\) {shape}, found \(4, 3, 3\); {order}"):
        loop(u[..., :3], state, weight)
    with pytest.raises(Refused, match=rf"weight: expected shape \(4, 2\) {shape}, found \(2, 2\); {order}"):
        loop(u, state, weight[:2])
    with pytest.raises(Refused, match=rf"valid: expected shape \(4, 3\) {shape}, found \(3, 3\); {order}"):
        loop(u, state, weight, valid=valid[:3])
    name = "h0" if loop is mgu_loop else "s0"
    message = (
        f"{name}: expected a state in torch.float64 beside u in torch.float64, found torch.float32; cast it"
    )
    with pytest.raises(Refused, match=message):
        loop(u, state.float(), weight)
