"""A language model whose output is a mixture of softmaxes: probabilities, gradients, streaming, runs."""

import re

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import LANGUAGE_MODEL, settings, write_texts

import seqsru
from seqsru import runs
from seqsru.cells import Stack
from seqsru.errors import Refused
from seqsru.models import LanguageModel
from seqsru.pipelines.lowering import lowered
from seqsru.settings import SettingsError


def build(hidden=12, embedding=12, *, components=3, dropout=0.0, **options):
    torch.manual_seed(5)
    stack = Stack("sru", embedding, hidden, 2)
    given = {"components": components, "dropout": dropout}
    return LanguageModel(20, stack, embedding, output="mixture", output_options=given, **options)


def text(steps=9, rows=3):
    return torch.randint(20, (steps, rows), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("sizes", [{}, {"hidden": 16}, {"hidden": 16, "tied": False}])
def test_probabilities_are_those_of_the_formula(sizes):
    model, tokens = build(**sizes).double().eval(), text()
    h, _ = model(tokens)
    latent = torch.tanh(h @ model.mixture.latent.weight.T + model.mixture.latent.bias)
    prior = torch.softmax(h @ model.mixture.prior.weight.T, -1)
    p = 0
    for k, part in enumerate(latent.chunk(3, -1)):
        p = p + prior[..., k, None] * torch.softmax(part @ model.output.weight.T + model.output.bias, -1)
    torch.testing.assert_close(p.sum(-1), torch.ones(9, 3).double())
    torch.testing.assert_close(model.logits(h), p.log())
    loss, nll = model.cross_entropy(h, tokens, smoothing=0.1)
    expected = F.cross_entropy(p.log().flatten(0, 1), tokens.flatten(), reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(loss, expected.sum())
    torch.testing.assert_close(nll, -p.log().gather(-1, tokens.unsqueeze(-1)).squeeze(-1))
    memory, state = model.begin(tokens[:4])
    for t in range(4, 9):
        log_probs, attention, state = model.step(tokens[t], memory, state)
        assert attention is None
        torch.testing.assert_close(log_probs, p.log()[t])


def test_padding_reaches_neither_loss_nor_gradient():
    model, tokens = build(dropout=0.0), text()
    valid = torch.arange(9)[:, None] < torch.tensor([9, 4, 1])
    whole = torch.zeros(())
    for row, length in enumerate((9, 4, 1)):
        features, _ = model(tokens[:length, row : row + 1])
        whole = whole + model.cross_entropy(features, tokens[:length, row : row + 1])[0]
    expected = torch.autograd.grad(whole, list(model.parameters()))
    features, _ = model(tokens, None, valid)
    features = torch.where(valid.unsqueeze(-1), features, torch.nan)
    loss, nll = model.cross_entropy(features, tokens, valid)
    torch.testing.assert_close(loss, whole)
    assert not nll[~valid].any()
    for a, b in zip(torch.autograd.grad(loss, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_its_parts():
    wide = build(hidden=16)
    assert wide.projection is None and wide.output.weight is wide.embedding.weight
    shapes = {name: tuple(p.shape) for name, p in wide.named_parameters() if name.startswith("mixture")}
    assert shapes == {
        "mixture.latent.weight": (36, 16),
        "mixture.latent.bias": (36,),
        "mixture.prior.weight": (3, 16),
    }
    plain = LanguageModel(20, Stack("sru", 12, 16, 2), 12)
    assert plain.mixture is None and not any("mixture" in name for name in plain.state_dict())


def test_the_table_may_have_any_rank():
    """One softmax of 2 features gives log probabilities of rank 3 at most; a mixture more."""
    model, _ = build(hidden=2, embedding=2, components=5).double(), None
    h = torch.randn(50, 2).double() * 3
    with torch.no_grad():
        mixed, plain = model.logits(h), torch.log_softmax(h @ model.output.weight.T, -1)
    assert torch.linalg.matrix_rank(plain) <= 3 < torch.linalg.matrix_rank(mixed, rtol=1e-8)


def test_latents_are_dropped_once_a_window():
    model = build(dropout=0.5).train()
    h = torch.ones(4, 2, 12)
    latent, _ = model.mixture(h)
    assert torch.equal(latent[0] == 0, latent[3] == 0) and 0.2 < (latent[0] == 0).float().mean() < 0.8
    model.eval()
    assert (model.mixture(h)[0] != 0).all()


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"output": "mixtur"},
            "output: expected one of softmax, mixture, found 'mixtur'; did you mean 'mixture'?",
        ),
        (
            {"output": "mixture", "output_options": {"components": 0}},
            "output.components: expected at least 1, found 0; raise it",
        ),
        (
            {"output": "mixture", "output_options": {"components": 1001}},
            "output.components: expected at most 1,000, found 1001; lower it",
        ),
        (
            {"output": "mixture", "output_options": {"dropout": 1.0}},
            "output.dropout: expected a probability from 0 to below 1, found 1.0; 0 switches it off",
        ),
        (
            {"output": "softmax", "output_options": {"components": 2}},
            "components: expected no option, as output 'softmax' has none, found 'components'; leave it out",
        ),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(Refused, match=f"^{re.escape(message)}$"):
        LanguageModel(20, Stack("sru", 12, 12), 12, **given)


def test_the_engine_refuses_it():
    told = "expected one softmax in what the compiled engine runs, found a mixture of 3; choose engine torch"
    with pytest.raises(Refused, match=f"^engine: {re.escape(told)}$"):
        lowered(build(), int8=False)


def test_a_run(tmp_path):
    write_texts(tmp_path)
    mixture = "model.output={name: mixture, components: 3, dropout: 0.1}"
    values = settings(tmp_path, LANGUAGE_MODEL, mixture)
    outcome = runs.train(values, lambda line: None)
    loaded = seqsru.load(tmp_path / "run")
    assert loaded.model.mixture.components == 3 and outcome.best < 40
    assert "|layers:2|output:mixture-3|" in (tmp_path / "run" / "signature.txt").read_text()
    assert loaded.score(["one two"])[0] == loaded.score(["one two", "three four five"])[0]
    assert loaded.generate("one", seed=1)
    with pytest.raises(
        SettingsError, match=r"^command line: model\.output\.components: expected at least 1, found 0; "
    ):
        runs.rehearse(settings(tmp_path, LANGUAGE_MODEL, "model.output={name: mixture, components: 0}"))
