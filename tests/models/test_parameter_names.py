"""Checkpoints stay readable: names, shapes and order of the tensors of every cell and model, as recorded.

Optimizers keep their moments by position, so the order of the parameters counts too.
"""

import json
from pathlib import Path

import pytest

from seqsru.cells import CELLS, Stack
from seqsru.models import Decoder, LanguageModel, Translator

RECORDED = json.loads((Path(__file__).parent.parent / "fixtures" / "parameters.json").read_text())


def cell(name, input_size, hidden_size, options):
    return CELLS[name](input_size, hidden_size, **options)


def language_model(stack, model):
    made = Stack(**stack)
    return LanguageModel(20, made, made.input_size, **model)


def translator(encoder, decoder, model):
    made = Stack(**encoder)
    inner = Decoder(**decoder, input_size=made.input_size, memory_size=made.output_size)
    return Translator(23, 23, made, inner, made.input_size, **model)


MAKE = {"cell": cell, "stack": Stack, "language_model": language_model, "translator": translator}


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: json.dumps(entry["arguments"]))
def test_names_shapes_and_order(entry):
    module = MAKE[entry["what"]](**entry["arguments"])
    assert [[name, *tensor.shape] for name, tensor in module.state_dict().items()] == entry["tensors"]
    assert [name for name, _ in module.named_parameters()] == entry["parameters"]
