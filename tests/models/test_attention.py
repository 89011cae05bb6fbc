"""Attention: what it computes, what it must not see, and that a row does not depend on the others."""

import math

import pytest
import torch

from seqsru.errors import Refused
from seqsru.models.attention import ATTENTIONS, AdditiveAttention, DotAttention, product

Q, O, D, S, B = 10, 12, 8, 6, 3


def make(name, **options):
    return ATTENTIONS[name](Q, O, D, **options).double()


def bias_of(valid):
    return (
        torch.zeros(valid.shape, dtype=torch.float64)
        .masked_fill(~valid, torch.finfo(torch.float64).min)
        .t()
        .contiguous()
    )


VALID = (torch.arange(S).unsqueeze(1) < torch.tensor([6, 4, 1])).clone()  # (S, B)


def by_definition(attention, query, memory):
    """Context and weights for one query (Q,) and one memory (S, O): the docstrings' equations."""
    if isinstance(attention, AdditiveAttention):
        mixed = attention.query.weight @ query + attention.query.bias + memory @ attention.key.weight.T
        weights = torch.softmax(torch.tanh(mixed) @ attention.score, 0)
        return attention.output.weight @ (weights @ memory), weights
    contexts, weights = [], []
    width = attention.width
    for head in range(attention.heads):
        rows = slice(head * width, (head + 1) * width)
        q = attention.query.weight[rows] @ query
        weights.append(torch.softmax(memory @ attention.key.weight[rows].T @ q / math.sqrt(width), 0))
        contexts.append(weights[-1] @ (memory @ attention.value.weight[rows].T))
    return attention.output.weight @ torch.cat(contexts), sum(weights) / len(weights)


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize(
    "name, options",
    [
        ("dot", {"heads": 4}),
        ("dot", {"heads": 1, "size": 6}),
        ("dot", {"heads": 2, "size": 14}),
        ("additive", {}),
        ("additive", {"size": 5}),
    ],
)
def test_is_its_definition(name, options, beam):
    attention, steps = make(name, **options), 2
    query = torch.randn(steps, B * beam, Q, dtype=torch.float64)
    memory = torch.randn(S, B, O, dtype=torch.float64)
    keys, values = attention.remember(memory)
    assert keys.shape[0] == values.shape[0] == B
    context, weights = attention(query, keys, values, bias_of(VALID), True)
    assert context.shape == (steps, B * beam, D) and weights.shape == (steps, B * beam, S)
    for t in range(steps):
        for row in range(B * beam):
            sentence = row // beam
            length = int(VALID[:, sentence].sum())
            expected, expected_weights = by_definition(attention, query[t, row], memory[:length, sentence])
            torch.testing.assert_close(context[t, row], expected)
            torch.testing.assert_close(weights[t, row, :length], expected_weights)
            assert (weights[t, row, length:] == 0).all()
    assert torch.equal(attention(query, keys, values, bias_of(VALID))[0], context)
    assert attention(query, keys, values, bias_of(VALID))[1] is None


@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradients(name):
    attention = make(name)
    keys = torch.randn(S, B, O, dtype=torch.float64, requires_grad=True)
    query = torch.randn(2, B, Q, dtype=torch.float64, requires_grad=True)

    def run(query, memory):
        return attention(query, *attention.remember(memory), bias_of(VALID))[0]

    assert torch.autograd.gradcheck(run, (query, keys))
    run(query, keys).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in attention.parameters())


@pytest.mark.parametrize("name", ATTENTIONS)
def test_dropout_is_for_training(name):
    attention = make(name, dropout=0.5)
    memory, query = torch.randn(S, B, O, dtype=torch.float64), torch.randn(1, B, Q, dtype=torch.float64)
    kept = attention.remember(memory)
    plain = make(name)
    plain.load_state_dict(attention.state_dict())
    expected, _ = plain(query, *kept, bias_of(VALID))
    assert not torch.equal(attention(query, *kept, bias_of(VALID))[0], expected)
    assert torch.equal(attention.eval()(query, *kept, bias_of(VALID))[0], expected)


@pytest.mark.parametrize("threads", [1, 2, 5], indirect=True)
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_bits_do_not_depend_on_the_batch(name, heads, threads):
    """Float32 on the CPU, without gradients: any beam, any padded length, any number of threads."""
    options = {"heads": heads} if name == "dot" else {}
    attention = ATTENTIONS[name](64, 64, 64, **options)
    for length in (8, 24) if threads == 1 else (8,):
        for beam in (1, 2, 5, 7):
            memory, query = torch.randn(length, 13, 64), torch.randn(1, 13 * beam, 64)
            bias = torch.zeros(13, length)
            bias[::2, length // 2 :] = torch.finfo(torch.float32).min
            with torch.no_grad():
                whole = attention(query, *attention.remember(memory), bias, True)
                for first, last in ((0, 1), (5, 6), (3, 5), (0, 7), (12, 13)):
                    rows = slice(first * beam, last * beam)
                    kept = attention.remember(memory[:, first:last])
                    part = attention(query[:, rows], *kept, bias[first:last], True)
                    for one, other in zip(part, whole):
                        assert torch.equal(one, other[:, rows])


@pytest.mark.parametrize("threads", [4], indirect=True)
def test_product_is_bmm(threads):
    a, b = torch.randn(1, 3, 5), torch.randn(1, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(product(a, b), a @ b)
    torch.testing.assert_close(product(a, b), a @ b)


@pytest.mark.parametrize(
    "make_it, message",
    [
        (lambda: DotAttention(4, 4, 6, heads=4), "heads: expected a size that 4 heads divide, found 6"),
        (lambda: DotAttention(4, 4, 8, heads=0), "heads: expected at least 1, found 0"),
        (
            lambda: DotAttention(4, 4, 8, dropout=1.0),
            "dropout: expected a probability from 0 to below 1, found 1.0",
        ),
        (lambda: AdditiveAttention(4, 4, 8, size=-1), "size: expected at least 0, found -1"),
    ],
)
def test_impossible_options(make_it, message):
    with pytest.raises(Refused, match=message):
        make_it()


@pytest.mark.parametrize("under", ["float32", "autocast", "bfloat16", "float16"])
def test_the_bits_of_a_product_do_not_depend_on_how_many_there_are(under):
    """Few matrices of half precision are rarely rounded as many are: in one of some hundred draws."""
    torch.manual_seed(0)
    kind = torch.float32 if under in ("float32", "autocast") else getattr(torch, under)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=under == "autocast"):
        for _ in range(1500):
            a, b = torch.randn(16, 1, 64).to(kind), torch.randn(16, 64, 16).to(kind)
            whole = product(a, b)
            assert whole.dtype == (torch.bfloat16 if under == "autocast" else kind)
            assert torch.equal(whole[:4], product(a[:4], b[:4]))
