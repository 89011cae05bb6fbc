"""A scan of two directions: against a scan of each, on every backend, recorded and differentiated twice."""

import pytest
import torch
from scan_cases import VARIANTS, assert_close, sru_case

from seqsru.errors import Refused
from seqsru.ops import product_scan, sru_scan
from seqsru.ops.calls import BOTH, IDENTITY, KEEP, SruForward
from seqsru.ops.cuda_build import Variant, variant

NAMES = "u", "x", "c0", "v", "b", "mask"


def case_of_both(seed, T, B, D, *options):
    """A case whose u has two directions, D features in all."""
    case = sru_case(seed, T, B, D, *options)
    u = case.tensors["u"]
    k = u.shape[2]
    case.tensors["u"] = u.reshape(T, B, 2, k, D // 2)
    return case


def by_two_scans(u, x, c0, v, b, *, mask, valid, activation, scale, backend="reference"):
    """`sru_scan` of each direction; rows are turned around by their lengths, as in a layer of two cells."""
    T, B, half = *u.shape[:2], u.shape[4]
    steps = torch.arange(T)[:, None]
    lengths = torch.full((B,), T) if valid is None else valid.sum(0)
    order = torch.where(steps < lengths, lengths - 1 - steps, steps)
    rows = torch.arange(B)

    def one(direction, tensor, timed=False):
        if tensor is None:
            return None
        tensor = tensor.narrow(-1, direction * half, half)
        return tensor[order, rows] if direction and timed else tensor

    found = []
    for direction in range(2):
        slices = u[order, rows][:, :, 1] if direction else u[:, :, 0]
        given = slices, one(direction, x, True), *(one(direction, tensor) for tensor in (c0, v, b))
        options = {"valid": valid, "activation": activation, "scale": scale, "backend": backend}
        h, last = sru_scan(*given, mask=one(direction, mask), **options)
        found.append((h[order, rows] if direction else h, last))
    return torch.cat([h for h, _ in found], -1), torch.cat([last for _, last in found], -1)


@pytest.mark.parametrize("version, highway, activation, masked, padded", VARIANTS)
def test_the_definition_is_a_scan_of_each_direction(version, highway, activation, masked, padded):
    case = case_of_both(20, 5, 3, 6, version, highway, activation, masked, padded)
    exact = case.run(by_two_scans)
    assert_close(case.run(sru_scan, backend="reference"), exact, 1e-14, 1e-13)
    assert_close(case.run(sru_scan, backend="cpu"), exact, 1e-12, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1, 2), (33, 2, 514), (2, 3, 258), (0, 2, 4)])
def test_kernels_of_a_cpu_in_every_type(dtype, shape):
    for options in ((2, "identity", "tanh", True, True), (1, "project", "identity", False, False)):
        case = case_of_both(7, *shape, *options).to(dtype)
        assert_close(case.run(sru_scan), case.to(torch.float64).run(by_two_scans), 2e-6, 1e-5)


def test_no_gradient_computes_the_same_and_an_operator_shows_one_node():
    case = case_of_both(3, 4, 2, 4, 2, "identity", "tanh", True, True, False)
    given = [case.tensors[name] for name in NAMES]
    h, c_last = sru_scan(*given[:5], mask=given[5], valid=case.tensors["valid"], **case.options)
    assert torch.equal(h, case.run(sru_scan)["h"]) and torch.equal(c_last, case.run(sru_scan)["c_last"])
    leaves = [tensor.detach().requires_grad_() for tensor in given[:5]]
    arguments = *leaves, given[5], case.tensors["valid"], 1, 1.5, True, "auto"
    torch.library.opcheck(torch.ops.seqsru.sru_forward, arguments)


@pytest.mark.parametrize("highway", [0, None])
@pytest.mark.parametrize("directions, rows", [(1, 12), (2, 12), (2, 16)])
def test_the_product_s_rows_are_the_directions_slices(highway, directions, rows):
    if highway is not None and rows == 16:
        pytest.skip("the highway is in the product")
    torch.manual_seed(0)
    x, weight = torch.randn(3, 2, 4), torch.randn(rows, 4)
    c0, b = torch.randn(2, 4), torch.randn(2, 4)
    h, _ = product_scan(x, weight, c0, None, b, highway=highway, directions=directions)
    u = x @ weight.t()
    u = u.view(3, 2, 2, rows // 4, 2) if directions == 2 else u.view(3, 2, 3, 4)
    expected, _ = sru_scan(u, None if highway is None else x, c0, None, b)
    torch.testing.assert_close(h, expected)


@pytest.mark.parametrize("shape", [(2, 1, 3, 3, 4), (2, 1, 2, 5, 4), (2, 1, 1, 3, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(Refused) as refusal:
        sru_scan(torch.zeros(shape), None, torch.zeros(1, 8), None, torch.zeros(2, 8))
    assert str(refusal.value) == (
        f"u: expected shape (T, B, 2, k, D/2) with k 3 or 4 for two directions, found {shape}; "
        f"view the product so, a direction's slices after the other's"
    )
    with pytest.raises(Refused, match=r"c0: expected shape \(B, D\) = \(1, 8\) to go with u, found \(1, 4\)"):
        sru_scan(torch.zeros(2, 1, 2, 3, 4), None, torch.zeros(1, 4), None, torch.zeros(2, 8))


def test_a_thread_takes_two_features_of_one_direction():
    def chosen(D):
        u, h = (
            torch.zeros(1, 1, 2, 3, D // 2, dtype=torch.bfloat16),
            torch.zeros(1, 1, D, dtype=torch.bfloat16),
        )
        c0, b = torch.zeros(1, D), torch.zeros(2, D)
        call = SruForward(u, c0, None, None, b, None, None, h, c0, None, 1, 1, 3, D, 0, 0, IDENTITY, 1.0)
        return variant(call, KEEP | BOTH)

    assert chosen(8) == Variant(IDENTITY, KEEP | BOTH, 2)
    assert chosen(6) == Variant(IDENTITY, KEEP | BOTH, 1)  # three features a direction
