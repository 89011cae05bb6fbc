"""The operators: gradients, registration, compilers, layouts, and what they refuse."""

from __future__ import annotations

import re

import pytest
import torch
from scan_cases import VARIANTS, assert_close, linear_case, scan_and_definition, sru_case
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from seqsru.errors import Refused
from seqsru.ops import linear_scan, scan, sru_scan
from seqsru.ops.reference import linear_loop

BACKENDS = ["reference", "cpu"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version, highway, activation, masked, padded", VARIANTS)
def test_gradients_of_every_variant_are_exact(version, highway, activation, masked, padded, backend):
    case = sru_case(48, 3, 2, 1, version, highway, activation, masked, padded, poison=False)
    if padded:
        assert case.tensors["valid"].sum(0).tolist() == [0, 2]
    check_gradients(case, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_of_the_linear_scan_are_exact(padded, backend):
    check_gradients(linear_case(31, 4, 3, 2, padded, poison=False), backend)


def check_gradients(case, backend, check=gradcheck):
    """Compare with finite differences."""
    run, _ = scan_and_definition(case)
    wanted = case.differentiable()
    given = [case.tensors[name].detach().clone().requires_grad_() for name in wanted]
    assert check(
        lambda *values: run(**(case.tensors | dict(zip(wanted, values))), **case.options, backend=backend),
        given,
    )


def test_the_gradient_of_one_output_alone():
    def alone(case, scan_, part):
        def weighed(**given):
            return [out if i == part else 0 * out for i, out in enumerate(scan_(**given))]

        return case.run(weighed)

    for case in (sru_case(32, 5, 3, 4, 2, "identity", "tanh", True), linear_case(33, 5, 3, 4)):
        run, definition = scan_and_definition(case)
        for part in (0, 1):
            assert_close(alone(case, run, part), alone(case, definition, part), 1e-13, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_output_that_nobody_reads_needs_no_gradient(backend):
    case = sru_case(34, 5, 3, 4)
    u = case.tensors["u"].requires_grad_()
    for part in (0, 1):
        outputs = sru_scan(**case.tensors, **case.options, backend=backend)
        (gradient,) = torch.autograd.grad(outputs[part].sum(), u)
        both = sru_scan(**case.tensors, **case.options, backend=backend)
        zero = torch.zeros_like(both[1 - part])
        (want,) = torch.autograd.grad([both[part].sum(), both[1 - part]], u, [torch.ones(()).double(), zero])
        assert torch.equal(gradient, want)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_gradients_are_exact(padded, backend):
    check_gradients(linear_case(31, 3, 2, 2, padded, poison=False), backend, gradgradcheck)
    for number, (highway, activation) in enumerate(
        (("identity", "identity"), ("project", "tanh"), ("none", "tanh"), ("identity", "relu"))
    ):
        case = sru_case(
            60 + number, 3, 2, 1, 2 - number % 2, highway, activation, padded, padded, poison=False
        )
        check_gradients(case, backend, gradgradcheck)


def test_a_third_derivative_and_inputs_computed_from_one_another():
    c0 = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    a, b = torch.rand(2, 4, 2, 3, dtype=torch.float64)

    def run(c0):
        return linear_scan(a * c0, b + c0.square(), c0.square())[0].pow(3).sum()

    gradient = run(c0)
    for _ in range(3):
        (gradient,) = torch.autograd.grad(gradient.sum(), c0, create_graph=True)
    expected = linear_loop(a * c0, b + c0.square(), c0.square(), None)[0].pow(3).sum()
    for _ in range(3):
        (expected,) = torch.autograd.grad(expected.sum(), c0, create_graph=True)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    "case, backend",
    [
        (sru_case(36, 3, 2, 5, 2, "identity", "tanh", True, True), "cpu"),
        (sru_case(37, 3, 2, 5, 1, "none"), "cpu"),
        (linear_case(39, 3, 2, 5, True), "cpu"),
        (linear_case(40, 3, 2, 5), "reference"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*non-leaf Tensor")
def test_operators_are_registered_as_torch_wants(case, backend):
    is_sru = "u" in case.tensors
    given = {
        name: None if value is None else value.clone().requires_grad_(value.is_floating_point())
        for name, value in case.to(torch.float32).tensors.items()
    }
    for keep in (True, False):
        if is_sru:
            given["mask"] = None if given["mask"] is None else given["mask"].detach()
            arguments = (*given.values(), 1, case.options["scale"], keep, backend)
            forward = torch.ops.seqsru.sru_forward
        else:
            arguments, forward = (*given.values(), keep, backend), torch.ops.seqsru.linear_forward
        if not keep:
            arguments = tuple(each.detach() if isinstance(each, torch.Tensor) else each for each in arguments)
        torch.library.opcheck(forward, arguments)
    plain = {name: None if value is None else value.detach() for name, value in given.items()}
    gh, gc_last = case.gh.float(), case.gc_last.float()
    if is_sru:
        *_, c = forward(*plain.values(), 1, case.options["scale"], True, backend)
        arguments = (gh, gc_last, *plain.values(), c, 1, case.options["scale"], backend)
        torch.library.opcheck(torch.ops.seqsru.sru_backward, arguments)
    else:
        *_, c = forward(*plain.values(), True, backend)
        arguments = (gh, gc_last, plain["a"], plain["b"], plain["c0"], c, plain["valid"], backend)
        torch.library.opcheck(torch.ops.seqsru.linear_backward, arguments)


# Compilers


@pytest.mark.parametrize(
    "case",
    [
        sru_case(41, 6, 3, 7, 2, "identity", "tanh", True, True),
        sru_case(42, 6, 3, 7, 1, "project"),
        linear_case(43, 6, 3, 7, True),
    ],
)
def test_compiles_as_one_graph_with_gradients(case):
    run, _ = scan_and_definition(case)
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    case = case.to(torch.float32)
    want = case.run(run)
    for name, result in case.run(compiled).items():
        assert torch.equal(result, want[name]), name
    with torch.no_grad():
        for result, name in zip(compiled(**case.tensors, **case.options), ("h", "c_last")):
            assert torch.equal(result, want[name])


def test_exports_with_any_number_of_steps():
    class Both(torch.nn.Module):
        def forward(self, u, x, c0, v, b, valid, a):
            h, c_last = sru_scan(u, x, c0, v, b, valid=valid, activation="tanh", scale=1.5)
            return h, *linear_scan(a, h, c_last, valid=valid)

    def given(T):
        tensors = sru_case(T, T, 3, 7, padded=True, poison=False).to(torch.float32).tensors
        return (*(tensors[name] for name in ("u", "x", "c0", "v", "b", "valid")), torch.rand(T, 3, 7))

    steps = torch.export.Dim("steps", min=1)
    timed = {0: steps}
    shapes = (timed, timed, None, None, None, timed, timed)
    program = torch.export.export(Both(), given(5), dynamic_shapes=shapes)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    for operator in (torch.ops.seqsru.sru_forward, torch.ops.seqsru.linear_forward):
        assert operator.default in called
    for T in (1, 2, 9):
        arguments = given(T)
        for found, want in zip(program.module()(*arguments), Both()(*arguments), strict=True):
            assert torch.equal(found, want)


def test_fake_and_meta_tensors_give_shapes_without_running():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        u, x, c0, b = torch.empty(4, 2, 3, 5), torch.empty(4, 2, 5), torch.empty(2, 5), torch.empty(2, 5)
        h, c_last = sru_scan(u, x, c0, None, b)
        assert h.shape == (4, 2, 5) and c_last.shape == (2, 5)
    meta = [value.to("meta") for value in (torch.empty(4, 2, 5), torch.empty(4, 2, 5), torch.empty(2, 5))]
    assert [out.shape for out in linear_scan(*meta)] == [(4, 2, 5), (2, 5)]


# The direct call


@pytest.mark.parametrize(
    "case", [sru_case(44, 6, 3, 7, 2, "identity", "tanh", True, True), linear_case(45, 6, 3, 7, True)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unless_somebody_watches_the_operator_is_passed_by(case, dtype, monkeypatch):
    run, _ = scan_and_definition(case)
    case = case.to(dtype)
    want = case.run(run)
    for name in ("sru_forward", "linear_forward"):
        monkeypatch.setattr(scan, name, None)
    for result, name in zip(run(**case.tensors, **case.options), ("h", "c_last")):
        assert torch.equal(result, want[name])
    first = next(iter(case.tensors.values())).requires_grad_()
    assert first.requires_grad
    with torch.no_grad():
        run(**case.tensors, **case.options)
    h, _ = run(**case.tensors, **case.options)
    assert type(h.grad_fn).__name__ in ("SruNodeBackward", "LinearNodeBackward")
    with TorchDispatchMode(), pytest.raises(TypeError, match="not callable"):
        run(**case.tensors, **case.options)


# Layouts and sizes


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_arguments_give_what_contiguous_ones_do(backend):
    case = sru_case(46, 5, 3, 8, 2, "identity", "tanh", True, True)
    want = case.run(sru_scan, backend=backend)
    spread = {
        name: None if value is None else torch.stack([value, value], -1)[..., 0]
        for name, value in case.tensors.items()
    }
    assert not spread["u"].is_contiguous() and spread["x"].stride(2) == 2
    case.tensors.update(spread)
    for name, result in case.run(sru_scan, backend=backend).items():
        assert torch.equal(result, want[name]), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_x_may_be_a_slice_and_its_gradient_reaches_the_whole(backend):
    wide = torch.randn(5, 3, 12, dtype=torch.float64, requires_grad=True)
    case = sru_case(47, 5, 3, 4)
    case.tensors["x"] = wide[:, :, 4:8]
    h, _ = sru_scan(**case.tensors, **case.options, backend=backend)
    (gradient,) = torch.autograd.grad(h, wide, case.gh)
    case.tensors["x"] = wide[:, :, 4:8].detach().clone()
    assert torch.equal(gradient[:, :, 4:8], case.run(sru_scan, backend=backend)["gx"])
    assert not gradient[:, :, :4].any() and not gradient[:, :, 8:].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(0, 3, 5), (4, 0, 5), (4, 3, 0)])
def test_axes_of_size_zero(shape, dtype, backend):
    T, B, D = shape
    for case in (sru_case(48, T, B, D, masked=True), linear_case(49, T, B, D)):
        case = case.to(dtype)
        run, _ = scan_and_definition(case)
        found = case.run(run, backend=backend)
        assert found["h"].shape == shape and found["h"].dtype == dtype
        assert torch.equal(found["c_last"], case.tensors["c0"]) if T == 0 else found["c_last"].shape == (B, D)
        if T == 0:
            assert torch.equal(found["gc0"], case.gc_last)
            assert all(not found[name].any() for name in ("gv", "gb") if name in found)


def test_outputs_share_no_memory_with_arguments():
    case = sru_case(50, 0, 2, 3)
    _, c_last = sru_scan(**case.tensors, **case.options)
    c_last += 1
    assert not torch.equal(c_last, case.tensors["c0"])
    case = linear_case(51, 0, 2, 3)
    _, c_last = linear_scan(**case.tensors)
    c_last += 1
    assert not torch.equal(c_last, case.tensors["c0"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_outputs_and_states_have_the_promised_dtypes(dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for case in (sru_case(52, 2, 2, 3), linear_case(53, 2, 2, 3)):
        run, _ = scan_and_definition(case)
        found = case.to(dtype).run(run)
        for name, result in found.items():
            halved = name in ("h", "gu", "gx", "ga") or (name == "gb" and "ga" in found)
            assert result.dtype == (dtype if halved else wide), name


# Refusals


def arguments(**changes):
    given = {
        "u": torch.zeros(4, 2, 3, 5),
        "x": torch.zeros(4, 2, 5),
        "c0": torch.zeros(2, 5),
        "v": torch.zeros(2, 5),
        "b": torch.zeros(2, 5),
    }
    return given | changes


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"u": torch.zeros(4, 2, 15)},
            "u: expected shape (T, B, k, D) with k 3 or 4, found (4, 2, 15); view the product as (T, B, k, "
            "D), slices before features",
        ),
        ({"u": torch.zeros(4, 2, 5, 5)}, "with k 3 or 4, found (4, 2, 5, 5); "),
        (
            {"c0": torch.zeros(2, 6)},
            "c0: expected shape (B, D) = (2, 5) to go with u, found (2, 6); project the input to the state's "
            "size, or begin a state for this batch",
        ),
        ({"c0": torch.zeros(5)}, "c0: expected shape (B, D) = (2, 5) to go with u, found (5,); "),
        (
            {"x": torch.zeros(4, 2, 6)},
            "x: expected shape (T, B, D) = (4, 2, 5) to go with u, found (4, 2, 6); where x has another "
            "width, project it and pass it as u's fourth slice",
        ),
        (
            {"u": torch.zeros(4, 2, 4, 5)},
            "x: expected None beside a u with k = 4, whose last slice is the highway input, found both; pass "
            "x=None, or a u with k = 3",
        ),
        (
            {"x": None, "scale": 2.0},
            "scale: expected 1 without x, found 2.0; pass x, which it multiplies, or multiply the highway "
            "slice of u by it",
        ),
        (
            {"b": torch.zeros(10)},
            "b: expected shape (2, D) = (2, 5), the forget and reset biases, found (10,); view it so",
        ),
        (
            {"v": torch.zeros(10)},
            "v: expected shape (2, D) = (2, 5), the forget and reset weights, found (10,); view it so, or "
            "pass None for version 1",
        ),
        (
            {"mask": torch.zeros(1, 2, 5)},
            "mask: expected shape (B, D) = (2, 5), one draw for all steps, found (1, 2, 5); drop its time "
            "axis",
        ),
        (
            {"mask": torch.zeros(2, 5, requires_grad=True)},
            "mask: expected a tensor without gradient, found one that requires it; pass mask.detach()",
        ),
        (
            {"valid": torch.ones(2, 4).bool()},
            "valid: expected shape (T, B) = (4, 2) to go with u, found (2, 4); transpose it if it is batch "
            "first",
        ),
        (
            {"valid": torch.ones(4, 2)},
            "valid: expected bool, True on real tokens, found float32; pass valid != 0",
        ),
        (
            {"u": torch.zeros(4, 2, 3, 5).int()},
            "u: expected float64, float32, bfloat16 or float16, found int32; cast it",
        ),
        (
            {"x": torch.zeros(4, 2, 5).double()},
            "x: expected float32 as u is, found float64; cast it to the dtype of u",
        ),
        ({"mask": torch.zeros(2, 5).bfloat16()}, "mask: expected float32 as u is, found bfloat16; "),
        (
            {"c0": torch.zeros(2, 5).bfloat16()},
            "c0: expected float32 beside u in float32, found bfloat16; keep states, weights and biases in it",
        ),
        ({"v": torch.zeros(2, 5).double()}, "v: expected float32 beside u in float32, found float64; "),
        (
            {"u": torch.zeros(4, 2, 3, 5).half(), "x": None, "b": torch.zeros(2, 5).half()},
            "b: expected float32 beside u in float16, found float16; ",
        ),
        (
            {"c0": torch.zeros(2, 5, device="meta")},
            "c0: expected device 'cpu' as u is on, found 'meta'; move it there",
        ),
        ({"x": torch.zeros(4, 2, 5, device="meta")}, "x: expected device 'cpu' as u is on, found 'meta'; "),
        (
            {"valid": torch.ones(4, 2, device="meta").bool()},
            "valid: expected device 'cpu' as u is on, found 'meta'; ",
        ),
        (
            {"activation": "tahn"},
            "activation: expected one of identity, tanh, relu, found 'tahn'; did you mean 'tanh'?",
        ),
        (
            {"activation": "softmax"},
            "activation: expected one of identity, tanh, relu, found 'softmax'; choose one of these",
        ),
        ({"backend": "gpu"}, "backend: expected one of auto, reference, cpu, cuda, found 'gpu'; "),
        (
            {"backend": "cuda"},
            "backend: expected cuda tensors for backend 'cuda', found tensors on 'cpu'; move them there, "
            "or pass backend='auto'",
        ),
    ],
)
def test_sru_scan_says_what_is_wrong(changes, message):
    given = arguments(**changes)
    with pytest.raises(Refused, match=re.escape(message)):
        sru_scan(**given)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"a": torch.zeros(4, 5)},
            "a: expected shape (T, B, D), found (4, 5); add the axes it lacks",
        ),
        (
            {"b": torch.zeros(4, 2, 1)},
            "b: expected the shape of a, (4, 2, 5), found (4, 2, 1); expand it",
        ),
        (
            {"c0": torch.zeros(3, 5)},
            "c0: expected shape (B, D) = (2, 5) to go with a, found (3, 5); project the input to the state's "
            "size, or begin a state for this batch",
        ),
        (
            {"a": torch.zeros(4, 2, 5).long()},
            "a: expected float64, float32, bfloat16 or float16, found int64; cast it",
        ),
        (
            {"b": torch.zeros(4, 2, 5).half()},
            "b: expected float32 as a is, found float16; cast it to the dtype of a",
        ),
        ({"c0": torch.zeros(2, 5).double()}, "c0: expected float32 beside a in float32, found float64; "),
        (
            {"c0": torch.zeros(2, 5, device="meta")},
            "c0: expected device 'cpu' as a is on, found 'meta'; move it there",
        ),
        (
            {"valid": torch.ones(4, 3).bool()},
            "valid: expected shape (T, B) = (4, 2) to go with a, found (4, 3); ",
        ),
        (
            {"backend": "cpuu"},
            "backend: expected one of auto, reference, cpu, cuda, found 'cpuu'; did you mean 'cpu'?",
        ),
    ],
)
def test_linear_scan_says_what_is_wrong(changes, message):
    given = {"a": torch.zeros(4, 2, 5), "b": torch.zeros(4, 2, 5), "c0": torch.zeros(2, 5)} | changes
    with pytest.raises(Refused, match=re.escape(message)):
        linear_scan(**given)
