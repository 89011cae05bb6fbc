"""Embeddings in training, whose gradients are added row by row: the same bits as torch's own tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seqsru.cells import Stack
from seqsru.models import Decoder, LanguageModel, Translator
from seqsru.ops.embedding import embed, kept

V, E = 60, 16


def language_model(tied):
    stack = Stack("sru", E, E, 2, dropout=0.1)
    return LanguageModel(V, stack, E, tied=tied, embedding_dropout=0.2, word_dropout=0.1)


def loss_of_text(model, tokens, others):
    features, _ = model(tokens)
    return model.cross_entropy(features, others)[0]


def translator(tying):
    return Translator(V, V, Stack("sru", E, E), Decoder("sru", E, E, E), E, tying=tying, word_dropout=0.1)


def loss_of_translations(model, source, target):
    return model.cross_entropy(model(source, None, target), target)[0]


MODELS = {
    "tied": (lambda: language_model(True), loss_of_text),
    "not tied": (lambda: language_model(False), loss_of_text),
    "all tied": (lambda: translator("all"), loss_of_translations),
    "target tied": (lambda: translator("target"), loss_of_translations),
    "none tied": (lambda: translator("none"), loss_of_translations),
}


def gradients(name, batches, dtype, rows):
    torch.manual_seed(1)
    make, loss_of = MODELS[name]
    model = make()
    for _ in range(batches):
        tokens, others = torch.randint(0, 20, (2, 9, 7))  # words come more than once
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            if rows:
                with kept() as found:
                    loss = loss_of(model, tokens, others)
                found.backward(loss)
            else:
                loss_of(model, tokens, others).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_the_gradients_have_the_bits_of_torchs_own(name, batches, dtype):
    for found, want in zip(*(gradients(name, batches, dtype, rows) for rows in (True, False)), strict=True):
        assert found.layout is torch.strided and found.equal(want)


def test_no_table_is_made_of_what_was_read():
    model = language_model(True)
    with kept() as found:
        features, _ = model(torch.randint(0, V, (9, 7)))
    before = features.sum()
    before.backward(retain_graph=True)
    assert model.embedding.weight.grad is None  # the rows wait in `found`
    found.backward(features.sum())
    assert model.embedding.weight.grad.norm() > 0.0


OTHERS = {
    "padding": lambda: nn.Embedding(V, E, padding_idx=0),
    "norm": lambda: nn.Embedding(V, E, max_norm=0.5),
    "by frequency": lambda: nn.Embedding(V, E, scale_grad_by_freq=True),
    "sparse": lambda: nn.Embedding(V, E, sparse=True),
    "another": lambda: type("Own", (nn.Embedding,), {})(V, E),
    "frozen": lambda: nn.Embedding(V, E).requires_grad_(False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_embeddings_are_torchs_own(name):
    embedding = OTHERS[name]()
    tokens = torch.randint(0, V, (9, 7))
    with kept():
        x = embed(embedding, tokens)
    assert x.equal(embedding(tokens))
    if name != "frozen":
        x.sum().backward()
        assert embedding.weight.grad.to_dense().norm() > 0.0


def test_whoever_watches_sees_torchs_own():
    embedding, tokens, seen = nn.Embedding(V, E), torch.randint(0, V, (9, 7)), []
    with embedding.register_forward_hook(lambda *given: seen.append(given)), kept():
        embed(embedding, tokens)
    embedding.weight.register_hook(seen.append)
    with kept():
        embed(embedding, tokens).sum().backward()
    assert len(seen) == 2 and seen[1].equal(embedding.weight.grad)
    other = nn.Embedding(V, E)
    other.weight.register_post_accumulate_grad_hook(lambda weight: seen.append(weight.grad.clone()))
    with kept():
        embed(other, tokens).sum().backward()
    assert len(seen) == 3 and seen[2].equal(other.weight.grad)


def test_outside_a_training_the_gradient_is_autograds():
    embedding, tokens = nn.Embedding(V, E), torch.randint(0, V, (9, 7))
    (gradient,) = torch.autograd.grad(embed(embedding, tokens).sum(), embedding.weight)
    assert gradient.sum() == tokens.numel() * E
