"""The probe of a model's layers, against variances taken by hand, and from the command line."""

import math
import re

import pytest
import torch
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, write_config, write_texts

from seqsru.cells import CELLS, Stack
from seqsru.commands.main import main
from seqsru.errors import Refused
from seqsru.evaluation.probe import probe, table
from seqsru.models import Decoder, LanguageModel, Translator


def test_variances_are_those_of_the_layers_outputs_states_and_gradients():
    stack = Stack("sru", 8, 8, 3)
    x, weights = torch.randn(7, 4, 8), torch.randn(7, 4, 8)
    valid = torch.arange(7).unsqueeze(1) < torch.tensor([7, 5, 1, 3])
    layers = probe(stack, lambda: (stack(x, valid=valid)[0] * weights).sum())
    assert [layer.name for layer in layers] == ["layers.0.0", "layers.1.0", "layers.2.0"]
    assert all(parameter.grad is None for parameter in stack.parameters())

    read, outputs = x, []
    for cells in stack.layers:
        read, (c,) = cells[0](read, cells[0].initial_state(4), valid)
        read.retain_grad()
        outputs.append((read, c))
    (read * weights).sum().backward()
    for layer, (y, c), cells in zip(layers, outputs, stack.layers):
        assert layer.output == pytest.approx(y[valid].double().var(correction=0).item())
        assert layer.state == pytest.approx(c.double().var(correction=0).item())
        assert layer.gradient == pytest.approx(y.grad[valid].double().var(correction=0).item())
        squares = sum(parameter.grad.double().square().sum().item() for parameter in cells.parameters())
        assert layer.weights == pytest.approx(math.sqrt(squares), rel=1e-5)


def test_a_stack_that_is_set_badly_shows():
    """Weights three times too large grow the signal by a factor a layer; well set ones do not."""

    def growth(factor):
        torch.manual_seed(1)
        stack = Stack("sru", 64, 64, 6, options={"highway": "none"})
        with torch.no_grad():
            for cells in stack.layers:
                cells[0].weight[:64] *= factor
        layers = probe(stack, lambda: stack(torch.randn(20, 8, 64))[0].sum())
        return layers[-1].output / layers[0].output

    assert growth(3.0) > 100 * growth(1.0)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_can_be_probed_in_every_role(name):
    tokens = torch.randint(12, (6, 3))
    model = LanguageModel(12, Stack(name, 16, 16, 2), 16)
    found = probe(model, lambda: model.cross_entropy(model(tokens)[0], tokens)[0])
    translator = Translator(12, 12, Stack(name, 16, 16, 1), Decoder(name, 16, 16, 16, 1), 16)
    valid = torch.ones(6, 3, dtype=torch.bool)
    found += probe(
        translator, lambda: translator.cross_entropy(translator(tokens, valid, tokens), tokens, valid)[0]
    )
    assert len(found) == 4
    assert all(layer.output > 0 and layer.gradient > 0 and layer.weights > 0 for layer in found)
    assert all((layer.state is None) == (name == "conv") for layer in found)
    assert len(table(found).splitlines()) == 5


def test_a_model_without_cells_or_an_unrelated_loss_is_refused():
    with pytest.raises(Refused, match="expected a model with cells in it, found none"):
        probe(torch.nn.Linear(2, 2), lambda: torch.zeros(()))
    stack = Stack("sru", 4, 4, 1)
    with pytest.raises(Refused, match="depends on layers.0.0, found one that does not"):
        probe(stack, lambda: torch.zeros((), requires_grad=True) * 1)


@pytest.mark.parametrize("config, layers", [(LANGUAGE_MODEL, 2), (TRANSLATION, 3)])
def test_doctor_probes_a_config_and_keeps_nothing(config, layers, tmp_path, capsys):
    write_texts(tmp_path)
    path = write_config(tmp_path, config)
    assert main(["doctor", "--probe", str(path), "seed=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s\s+", lines[0]) == ["layer", "cell", "var h", "var c", "var dL/dh", "|dL/dw|"]
    assert len(lines) == 1 + layers
    assert all(float(number) > 0 for line in lines[1:] for number in line.split()[2:])
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_doctor_refuses_settings_without_a_config(capsys):
    assert main(["doctor", "seed=3"]) == 2
    assert "expected settings only with --probe, found 'seed=3'" in capsys.readouterr().err
