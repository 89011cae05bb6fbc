"""The definition: by hand, by finite differences, and its written-out gradients by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from scan_cases import VARIANTS, assert_close, linear_case, linear_definition, sru_case, sru_definition

from seqsru.ops import linear_scan, sru_scan
from seqsru.ops.reference import accumulation_dtype, linear_loop, sru_loop


def test_two_steps_by_hand():
    def sigmoid(y):
        return 1 / (1 + math.exp(-y))

    u = [(0.5, -1.0, 2.0, 0.25), (-1.5, 0.75, -0.5, 1.0)]
    c, m, v_f, v_r, b_f, b_r, outputs = 0.8, 1.25, 0.3, -0.6, 0.1, -0.2, []
    for u0, u1, u2, skip in u:
        f, r = sigmoid(u1 + v_f * c + b_f), sigmoid(u2 + v_r * c + b_r)
        c = f * c + (1 - f) * u0
        outputs.append(skip + (math.tanh(c) - skip) * m * r)
    h, c_last, states = sru_loop(
        torch.tensor(u, dtype=torch.float64).view(2, 1, 4, 1),
        None,
        torch.tensor([[0.8]], dtype=torch.float64),
        torch.tensor([[v_f], [v_r]], dtype=torch.float64),
        torch.tensor([[b_f], [b_r]], dtype=torch.float64),
        torch.tensor([[m]], dtype=torch.float64),
        None,
        1,
        1.0,
    )
    assert h.flatten().tolist() == pytest.approx(outputs, rel=1e-14)
    assert c_last.item() == pytest.approx(c, rel=1e-14) and states[1].item() == c_last.item()


def test_the_highway_scales_x_and_without_one_the_gate_is_all():
    u, c0, b = torch.zeros(1, 1, 3, 1), torch.full((1, 1), 2.0), torch.zeros(2, 1)  # f = r = 1/2, so c = 1
    x = torch.full((1, 1, 1), 10.0)
    assert sru_loop(u, x, c0, None, b, None, None, 0, 3.0)[0].item() == 30 + (1 - 30) * 0.5
    assert sru_loop(u, None, c0, None, b, None, None, 0, 1.0)[0].item() == 0.5


def test_linear_scan_by_hand():
    a = torch.tensor([0.5, 2.0, 7.0, 1.0]).view(4, 1, 1)
    b = torch.tensor([1.0, -1.0, 7.0, 0.5]).view(4, 1, 1)
    valid = torch.tensor([[True], [True], [False], [True]])
    out, c_last, c = linear_loop(a, b, torch.tensor([[4.0]]), valid)
    assert out.flatten().tolist() == [3.0, 5.0, 0.0, 5.5]
    assert c.flatten().tolist() == [3.0, 5.0, 5.0, 5.5] and c_last.item() == 5.5


@pytest.mark.parametrize("version, highway, activation, masked, padded", VARIANTS)
def test_written_out_gradients_are_those_of_autograd(version, highway, activation, masked, padded):
    case = sru_case(20, 5, 3, 4, version, highway, activation, masked, padded)
    assert_close(case.run(sru_scan, backend="reference"), case.run(sru_definition), 1e-15, 1e-14)


@pytest.mark.parametrize("padded", [False, True])
def test_written_out_gradients_of_the_linear_scan_are_those_of_autograd(padded):
    case = linear_case(21, 5, 3, 4, padded)
    assert_close(case.run(linear_scan, backend="reference"), case.run(linear_definition), 1e-15, 1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_cast_up_once_and_rounded_once(dtype):
    case = sru_case(22, 7, 3, 5, 2, "identity", "tanh", True, True).to(dtype)
    found, exact = (each.run(sru_scan, backend="reference") for each in (case, case.to(torch.float32)))
    for name, result in found.items():
        assert torch.equal(result, exact[name].to(result.dtype)), name
        assert result.dtype == (dtype if name in ("h", "gu", "gx") else torch.float32)


def test_accumulation_is_float32_except_beside_float64():
    assert accumulation_dtype(torch.float64) == torch.float64
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert accumulation_dtype(dtype) == torch.float32
