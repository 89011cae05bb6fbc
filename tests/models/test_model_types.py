"""Models in other types: float64 throughout, and linear layers that were replaced by quantised ones."""

import warnings

import pytest
import torch
from torch import nn

from seqsru.cells import CELLS, Stack
from seqsru.models.classifier import Classifier
from seqsru.models.decoder import Decoder
from seqsru.models.language_model import LanguageModel
from seqsru.models.translator import Translator

V, E, D = 11, 6, 8


def language_model(cell, **options):
    return LanguageModel(V, Stack(cell, E, D, 2, project_input=True), E, **options).eval()


def translator(cell, attention="dot"):
    decoder = Decoder(cell, E, 2 * D, D, 2, attention=attention)
    return Translator(V, V, Stack(cell, E, D, bidirectional=True), decoder, E).eval()


def quantised(model, kinds):
    with warnings.catch_warnings():  # torch says that another package will have this
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)


@pytest.mark.parametrize("cell", CELLS)
def test_float64_models_give_float64(cell):
    model, tokens = language_model(cell).double(), torch.randint(0, V, (4, 3))
    log_probs, _, _ = model.step(tokens[0], *model.begin(tokens))
    assert log_probs.dtype == torch.float64
    sums = log_probs.exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-14, rtol=0)
    model = translator(cell).double()
    memory, state = model.begin(tokens)
    assert model.step(tokens[0], memory, state)[0].dtype == torch.float64
    for kind in (torch.float32, torch.bfloat16):
        model = language_model(cell).to(kind)
        assert model.step(tokens[0], *model.begin(tokens))[0].dtype == torch.float32


@pytest.mark.parametrize("pooling", ["last", "max", "mean", "attention"])
def test_float64_classifiers_give_float64(pooling):
    model = Classifier(V, 3, Stack("sru", E, D), E, pooling=pooling).double().eval()
    tokens = torch.randint(0, V, (4, 3))
    features = model(tokens, torch.ones_like(tokens, dtype=torch.bool))
    assert model.log_probs(features).dtype == torch.float64


@torch.no_grad()
@pytest.mark.parametrize("kinds", [{nn.Linear}, None], ids=["linear", "torch's own choice"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_a_quantised_language_model_steps_and_scores(cell, tied, kinds):
    model, tokens = language_model(cell, tied=tied), torch.randint(0, V, (4, 3))
    other = quantised(model, kinds)
    assert type(other.output) is not nn.Linear
    found, expected = (each.step(tokens[0], *each.begin(tokens))[0] for each in (other, model))
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
    features, _ = other(tokens)
    valid = torch.arange(4).unsqueeze(1) < torch.tensor([4, 2, 0])
    loss, nll = other.cross_entropy(features, tokens, valid, 0.1)
    expected, each = model.cross_entropy(model(tokens)[0], tokens, valid, 0.1)
    torch.testing.assert_close(nll, each, atol=0.1, rtol=0)
    torch.testing.assert_close(loss, expected, atol=1.0, rtol=0)
    assert not nll[~valid].any()


@torch.no_grad()
@pytest.mark.parametrize("attention", ["dot", "additive"])
@pytest.mark.parametrize("cell", ["sru", "lstm", "mgu"])
def test_a_quantised_translator_steps(cell, attention):
    model, tokens = translator(cell, attention), torch.randint(0, V, (4, 3))
    found = []
    for each in (quantised(model, None), model):
        memory, state = each.begin(tokens)
        found.append(each.step(tokens[0], memory, state)[0])
    torch.testing.assert_close(*found, atol=0.2, rtol=0)


@torch.no_grad()
def test_a_quantised_classifier_classifies():
    model = Classifier(V, 3, Stack("gru", E, D), E).eval()
    tokens = torch.randint(0, V, (4, 3))
    valid, labels, found = torch.ones_like(tokens, dtype=torch.bool), torch.tensor([0, 2, 1]), []
    for each in (quantised(model, None), model):
        features = each(tokens, valid)
        found.append([each.log_probs(features), each.cross_entropy(features, labels)[0]])
        assert each.device == torch.device("cpu")
    torch.testing.assert_close(*found, atol=0.2, rtol=0)
