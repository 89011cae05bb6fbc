"""The fused output product and cross entropy against torch's separate operations."""

import pytest
import torch
import torch.nn.functional as F

from seqsru.errors import Refused
from seqsru.ops import cpu, cross_entropy
from seqsru.ops.cross_entropy import linear_cross_entropy


def problem(rows, width, vocabulary, dtype=torch.float64, bias=True):
    generator = torch.Generator().manual_seed(rows * 1000 + vocabulary)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    targets = torch.randint(vocabulary, (rows,), generator=generator)
    return draw(rows, width), draw(vocabulary, width), draw(vocabulary) if bias else None, targets


def gradients(loss, tensors):
    kept = [t for t in tensors if t is not None]
    return torch.autograd.grad(loss, kept)


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def softmax(request, monkeypatch):
    """The compiled softmax of a CPU, and the one of torch operations that other devices run."""
    if request.param == "torch":
        functions = cross_entropy._softmax_in_place, cross_entropy._column_sums
        monkeypatch.setattr(cross_entropy, "_softmax_for", lambda x: functions)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 5 rows and chunks of 2, so that every boundary occurs at small sizes."""
    monkeypatch.setattr(cross_entropy, "BLOCK", 5 * 11)
    monkeypatch.setattr(cross_entropy, "CHUNK", 2 * 11)


@pytest.mark.parametrize("rows", [1, 4, 5, 13])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch_in_float64(small_blocks, rows, smoothing, bias):
    x, weight, b, targets = problem(rows, 7, 11, bias=bias)
    logits = F.linear(x, weight, b)
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    loss, nll = linear_cross_entropy(x, weight, b, targets, smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    each = F.cross_entropy(logits, targets, reduction="none").detach()
    torch.testing.assert_close(nll, each, rtol=1e-12, atol=0)
    assert not nll.requires_grad
    for ours, theirs in zip(gradients(3.0 * loss, (x, weight, b)), gradients(3.0 * expected, (x, weight, b))):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_rows_left_out_count_for_nothing_even_when_nan(small_blocks):
    x, weight, bias, targets = problem(12, 7, 11)
    valid = torch.tensor([True, False, True, True, False, False] * 2).view(4, 3)
    with torch.no_grad():
        x[~valid.view(-1)] = float("nan")
    loss, nll = linear_cross_entropy(
        x.view(4, 3, 7), weight, bias, targets.view(4, 3), valid=valid, smoothing=0.1
    )
    kept = valid.view(-1)
    logits = F.linear(x[kept], weight, bias)
    expected = F.cross_entropy(logits, targets[kept], reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
    assert nll.shape == (4, 3) and torch.equal(nll == 0, ~valid)
    for ours, theirs in zip(gradients(loss, (x, weight, bias)), gradients(expected, (x, weight, bias))):
        torch.testing.assert_close(ours, theirs)
    again, _ = linear_cross_entropy(x, weight, bias, targets, valid=kept)
    assert torch.equal(torch.autograd.grad(again, x)[0][~kept], torch.zeros(6, 7, dtype=torch.float64))


def test_no_rows_give_zero_loss_and_zero_gradients():
    x, weight, bias, targets = problem(3, 7, 11)
    loss, nll = linear_cross_entropy(x, weight, bias, targets, valid=torch.zeros(3, dtype=torch.bool))
    assert loss.item() == 0 and torch.equal(nll, torch.zeros(3).double())
    assert all(not g.any() for g in gradients(loss, (x, weight, bias)))


def test_float32_is_as_near_to_float64_as_torch_is():
    x, weight, bias, targets = problem(50, 64, 300, torch.float32)
    loss, _ = linear_cross_entropy(x, weight, bias, targets, smoothing=0.1)
    exact = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    expected = F.cross_entropy(F.linear(*exact), targets, reduction="sum", label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(gradients(loss, (x, weight, bias)), gradients(expected, exact)):
        assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max())


def test_extreme_logits_stay_finite():
    x, weight = torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0], [0.0]])
    loss, nll = linear_cross_entropy(x.requires_grad_(), weight, None, torch.tensor([1]))
    assert loss.item() == nll.item() == 400.0
    assert torch.autograd.grad(loss, x)[0].item() == pytest.approx(2.0)


def test_bfloat16_autocast_is_near_float32_and_keeps_float32_gradients():
    x, weight, bias, targets = problem(20, 32, 50, torch.float32)
    exact, _ = linear_cross_entropy(x, weight, bias, targets, smoothing=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        loss, nll = linear_cross_entropy(x, weight, bias, targets, smoothing=0.1)
    assert loss.dtype == nll.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2) and loss.item() != exact.item()
    for low, full in zip(gradients(loss, (x, weight, bias)), gradients(exact, (x, weight, bias))):
        assert low.dtype == torch.float32
        assert (low - full).norm() <= 2e-2 * full.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [1, 255, 256, 257, 1000])
@pytest.mark.parametrize("smoothing, bias", [(0.0, True), (0.1, False)])
def test_compiled_softmax_equals_torch_s(dtype, vocabulary, smoothing, bias):
    logits = torch.randn(7, vocabulary, dtype=torch.float64).mul_(5).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shift = torch.randn(vocabulary, dtype=wide) if bias else None
    targets = torch.randint(vocabulary, (7,))
    found, expected = logits.clone(), logits.clone()
    ours = cpu.softmax_cross_entropy(found, shift, targets, smoothing, True)
    theirs = cross_entropy._softmax_in_place(expected, shift, targets, smoothing, True)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for one, other in list(zip(ours, theirs))[: 2 if smoothing else 1]:
        assert one.dtype == other.dtype == wide
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    rounding = 2**-7 if dtype == torch.bfloat16 else tolerance
    torch.testing.assert_close(found, expected, rtol=rounding, atol=tolerance)
    torch.testing.assert_close(cpu.column_sums(found), found.sum(0, dtype=wide), rtol=tolerance, atol=1e-6)
    untouched = logits.clone()
    assert torch.equal(cpu.softmax_cross_entropy(untouched, shift, targets, smoothing, False)[0], ours[0])
    assert torch.equal(untouched, logits)


def test_a_row_s_bits_depend_on_no_other_row_and_no_number_of_threads():
    logits, targets = torch.randn(90, 700), torch.randint(700, (90,))
    nll, _ = cpu.softmax_cross_entropy(logits.clone(), None, targets, 0.0, True)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for n in (1, 50, 90):
            found, _ = cpu.softmax_cross_entropy(logits[:n].clone(), None, targets[:n], 0.0, True)
            assert torch.equal(found, nll[:n])


@pytest.mark.parametrize("bad", [-1, 11, 1 << 40])
def test_a_target_outside_the_vocabulary_is_refused(bad):
    """The compiled kernel would write beyond its row; torch's gather refuses in its own words."""
    x, weight, bias, targets = problem(5, 7, 11)
    targets[3] = bad
    message = f"targets: expected indices from 0 to 10, found {bad}; check that the vocabulary is the model's"
    with pytest.raises((Refused, RuntimeError), match=f"{message}|out of bounds"):
        linear_cross_entropy(x, weight, bias, targets)


def test_tensors_need_not_be_contiguous():
    x, weight, bias, targets = problem(6, 7, 11)
    strided = [torch.stack([tensor, tensor.flip(0)], dim=1)[:, 0] for tensor in (x, weight, bias, targets)]
    assert not any(tensor.is_contiguous() for tensor in strided)
    found, expected = linear_cross_entropy(*strided)[0], linear_cross_entropy(x, weight, bias, targets)[0]
    torch.testing.assert_close(found, expected)
    for one, other in zip(gradients(found, (x, weight, bias)), gradients(expected, (x, weight, bias))):
        torch.testing.assert_close(one, other)


def test_a_logit_that_is_not_a_number_gives_a_loss_that_is_not():
    for bad in (float("nan"), float("inf")):
        logits = torch.zeros(2, 300)
        logits[1, 299] = bad
        nll, _ = cpu.softmax_cross_entropy(logits, None, torch.tensor([0, 0]), 0.0, True)
        assert nll[0].isfinite() and nll[1].isnan()


def test_frozen_weights_get_no_gradient_and_no_grad_computes_none():
    x, weight, bias, targets = problem(5, 7, 11)
    loss, _ = linear_cross_entropy(x, weight.detach(), bias.detach(), targets)
    (grad,) = torch.autograd.grad(loss, x)
    expected = F.cross_entropy(F.linear(x, weight, bias), targets, reduction="sum")
    torch.testing.assert_close(grad, torch.autograd.grad(expected, x)[0])
    with torch.no_grad():
        assert not linear_cross_entropy(x, weight, bias, targets)[0].requires_grad


def test_a_second_backward_pass_gives_the_gradients_again():
    x, weight, bias, targets = problem(5, 7, 11)
    loss, _ = linear_cross_entropy(x, weight, bias, targets, smoothing=0.1)
    first = torch.autograd.grad(loss, (x, weight, bias), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, (x, weight, bias)), first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):  # torch freed it
        loss.backward()


def test_errors_say_what_was_expected_and_found():
    x, weight, bias, targets = problem(5, 7, 11)
    with pytest.raises(
        Refused, match=r"targets: expected shape \(5,\) beside x of shape \(5, 7\), found \(4,\); give one"
    ):
        linear_cross_entropy(x, weight, bias, targets[:4])
    with pytest.raises(Refused, match="weight: expected E = 7 as x has, found E = 6; project the features"):
        linear_cross_entropy(x, weight[:, :6], bias, targets)
    with pytest.raises(Refused, match=r"smoothing: expected .* from 0 to below 1, found 1\.0"):
        linear_cross_entropy(x, weight, bias, targets, smoothing=1.0)


def test_autograd_adds_to_the_gradient_of_a_tied_weight_in_its_place(monkeypatch):
    """A new table of vocabulary × width for every update would be as large as the weight."""
    places = []
    by_blocks = cross_entropy._by_blocks

    def noted(*given):
        found = by_blocks(*given)
        places.append(found[2][1].data_ptr())
        return found

    monkeypatch.setattr(cross_entropy, "_by_blocks", noted)
    _, weight, bias, targets = problem(6, 7, 11)
    for factor in (1.0, 3.0):
        weight.grad = None
        x = F.embedding(targets, weight)
        loss, _ = linear_cross_entropy(x, weight, bias, targets)
        (loss * factor).backward()
        again = F.embedding(targets, weight)
        expected = F.cross_entropy(F.linear(again, weight, bias), targets, reduction="sum") * factor
        torch.testing.assert_close(weight.grad, torch.autograd.grad(expected, weight)[0])
        assert weight.grad.data_ptr() == places[-1]
