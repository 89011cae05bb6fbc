"""Dense skips of a stack: what each layer reads, streaming, gradients, and what refuses them."""

import re

import pytest
import torch
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, TRANSLATION, settings, write_texts
from torch.nn import functional

import seqsru
from seqsru import runs
from seqsru.cells import CELLS, SRU, Stack
from seqsru.errors import Refused
from seqsru.models import LanguageModel
from seqsru.pipelines.lowering import lowered

T, B, I, D = 7, 4, 5, 4
VALID = torch.arange(T).unsqueeze(1) < torch.tensor([7, 3, 1, 0])
over_cells = pytest.mark.parametrize("cell", CELLS)
over_skips = pytest.mark.parametrize("skips", ["dense", "dense_output"])


def made(cell, **options):
    """A stack with parameters off their initial values, in evaluation mode."""
    stack = Stack(cell, I, D, **options).double().eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(0.0, 0.5)
    return stack


@over_skips
@pytest.mark.parametrize("project", [False, True])
def test_a_layer_reads_all_before_it(skips, project):
    stack = made("gru", num_layers=3, skips=skips, project_input=project, normalize_after=True)
    x = torch.randn(T, B, I).double()
    parts = [functional.linear(x, stack.input_map.weight) if project else x]
    for layer, norm in zip(stack.layers, stack.norms):
        y, _ = layer[0](torch.cat(parts, -1), stack.initial_state(B)[:1])
        parts.append(norm(y))
    expected = torch.cat(parts, -1) if skips == "dense_output" else parts[-1]
    torch.testing.assert_close(stack(x)[0], expected)
    assert (
        stack.output_size == expected.shape[-1] == (D if skips == "dense" else (D if project else I) + 3 * D)
    )


def test_two_directions_are_read_together():
    stack = made("gru", num_layers=2, skips="dense", bidirectional=True)
    x, start = torch.randn(T, B, I).double(), stack.initial_state(B)[:1]
    (a, b), (c, d) = stack.layers
    first = torch.cat([x, a(x, start)[0], b(x.flip(0), start)[0].flip(0)], -1)
    expected = torch.cat([c(first, start)[0], d(first.flip(0), start)[0].flip(0)], -1)
    torch.testing.assert_close(stack(x)[0], expected)


@over_skips
def test_the_layer_has_them_too(skips):
    layer = SRU(I, D, 2, skips=skips)
    y, state = layer(torch.randn(T, B, I))
    assert y.shape == (T, B, layer.stack.output_size) and state.shape == (2, B, D)


@over_cells
@over_skips
def test_streaming_equals_whole(cell, skips):
    stack = made(cell, num_layers=3, skips=skips)
    x = torch.randn(T, B, I).double()
    for valid in (None, VALID):
        whole, last = stack(x, None, valid)
        state, outputs = None, []
        for at in range(T):
            y, state = stack(x[at : at + 1], state, None if valid is None else valid[at : at + 1])
            outputs.append(y)
        torch.testing.assert_close((torch.cat(outputs), state), (whole, last))


def test_a_dropped_feature_is_dropped_for_all_that_read_it():
    stack = Stack("gru", I, D, 3, dropout=0.5, skips="dense_output").train()
    y, _ = stack(torch.randn(T, 2, I))
    dropped = (y[..., I : I + 2 * D] == 0).all(0)
    assert 0 < dropped.sum() < dropped.numel() and not (y[..., I + 2 * D :] == 0).any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"skips": "dens"}, "expected one of none, dense, dense_output, found 'dens'; did you mean 'dense'?"),
        (
            {"skips": "dense", "residual": True},
            "expected none with residual, found 'dense'; set one of them alone: a layer would read more "
            "features than it gives",
        ),
        (
            {"skips": "dense_output", "bidirectional": True},
            "expected none or dense in two directions, found 'dense_output'; take dense, or set "
            "bidirectional to false",
        ),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(Refused, match=f"^skips: {re.escape(message)}$"):
        Stack("sru", I, D, 2, **options)


@over_skips
def test_the_engine_refuses_them(skips):
    model = LanguageModel(20, Stack("sru", 12, 12, 2, skips=skips), 12)
    told = f"engine: expected a stack without skips in what the compiled engine runs, found skips {skips}"
    with pytest.raises(Refused, match=f"^{told}; choose engine torch$"):
        lowered(model, int8=False)


RUNS = {
    "lm": (LANGUAGE_MODEL, "model.stack.skips=dense_output"),
    "mt": (TRANSLATION, "model.encoder.skips=dense"),
    "class": (CLASSIFICATION, "model.encoder.skips=dense"),
}


@pytest.mark.parametrize("task", RUNS)
def test_a_run(tmp_path, task):
    write_texts(tmp_path)
    text, skips = RUNS[task]
    layers = "model.stack.num_layers=2" if task == "lm" else "model.encoder.num_layers=2"
    runs.train(settings(tmp_path, text, skips, layers), lambda line: None)
    model = seqsru.load(tmp_path / "run").model
    stack = model.stack if task == "lm" else model.encoder
    assert stack.skips == skips.partition("=")[2]
    assert (
        stack.layers[1][0].input_size == stack.input_size + stack.layers[0][0].output_size * stack.directions
    )
