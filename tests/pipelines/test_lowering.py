"""What the engine computes is what the model computes, for everything that can be lowered."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from seqsru.cells import CELLS
from seqsru.errors import Refused
from seqsru.models.translator import Translator
from seqsru.pipelines.lowering import LOWERED, lower, lower_language_model
from tests.engine.tiny_models import engine, ids, language_model, stirred, torch_follow, translator

TORCH_ONLY = {"srupp", "mgu", "pru"}
RUN = [name for name in CELLS if name not in TORCH_ONLY]

# Options of each cell, beside none.
OPTIONS = {
    "sru": [
        {"version": 1},
        {"highway": "none"},
        {"highway": "project"},
        {"highway": "none", "version": 1, "activation": "relu"},
        {"activation": "tanh"},
        {"activation": "relu", "highway": "project"},
        {"rescale": True, "highway_bias": -1.0},
        {"rescale": True, "highway_bias": -1.0, "highway": "project"},
        {"layer_norm": True},
        {"projection_size": 5},
        {"projection_size": 70, "layer_norm": True, "version": 1, "rescale": True},
    ],
    "qrnn": [
        {"window": 1},
        {"window": 3},
        {"window": 2, "pooling": "f"},
        {"window": 1, "pooling": "ifo"},
        {"window": 3, "pooling": "ifo", "zoneout": 0.3},
        {"zoneout": 0.7, "pooling": "f"},
    ],
    "conv": [{"window": 2}, {"window": 5}],
}
# Embedding, hidden size: equal, not multiples of anything, wider than what they read, of several tiles.
SIZES = [(24, 24), (7, 17), (20, 90), (65, 130), (64, 64), (130, 9)]
NO_PART = {"backend", "dropout", "input_dropout", "slice", "slices"}  # in evaluation, or set by the stack


def cases():
    for name in RUN:
        for number, options in enumerate([{}, *OPTIONS.get(name, [])]):
            label = "-".join([name, *(f"{option}={value}" for option, value in options.items())])
            sizes = SIZES if number == 0 else [SIZES[number % len(SIZES)], SIZES[(number + 3) % len(SIZES)]]
            for embedding, hidden in sizes:
                yield pytest.param(name, options, embedding, hidden, id=f"{label}-{embedding}-{hidden}")


def test_every_option_that_matters_is_here():
    for name in RUN:
        known = set(list(inspect.signature(CELLS[name]).parameters)[2:]) - NO_PART
        assert known == {option for options in OPTIONS.get(name, []) for option in options}, name


def check(model, int8=False, atol=1e-5, seed=0):
    """Compare log probabilities, attention and scores with torch's; return the largest difference."""
    runs, rng = engine(model, int8), np.random.default_rng(seed)
    translates = isinstance(model, Translator)
    worst = 0.0
    for read, length in [(1, 1), (2, 6), (17, 1), (5, 33)]:
        source = ids(rng, read, model.source_vocabulary) if translates else []
        vocabulary = runs.model.vocabulary
        inputs, targets = ids(rng, length, vocabulary), ids(rng, length, vocabulary)
        expected, attention = torch_follow(model, source, inputs)
        weights = np.zeros((1, max(1, len(source))), np.float32)
        found = runs.follow([source], [inputs], weights if translates else None)[0]
        np.testing.assert_allclose(found, expected[-1], rtol=0, atol=atol)
        if attention is not None:
            np.testing.assert_allclose(weights[0], attention, rtol=0, atol=atol)
        (nll,) = runs.score([source], [inputs], [targets])
        np.testing.assert_allclose(-nll, expected[np.arange(length), targets], rtol=0, atol=atol)
        worst = max(worst, np.abs(found - expected[-1]).max())
    return worst


@pytest.mark.parametrize("name, options, embedding, hidden", list(cases()))
def test_a_language_model_is_that_of_torch(name, options, embedding, hidden):
    model = language_model(name, embedding=embedding, hidden=hidden, options=options)
    check(model)
    check(model, int8=True, atol=0.4)


@pytest.mark.parametrize("name, options, embedding, hidden", list(cases()))
def test_a_translator_is_that_of_torch(name, options, embedding, hidden):
    # Attention with heads divides the hidden size: 1 divides all.
    model = translator(
        name,
        embedding=embedding,
        hidden=hidden,
        options=options,
        decoder={"attention_options": {"heads": 1}, "options": options},
    )
    check(model)
    check(model, int8=True, atol=0.4)


@pytest.mark.parametrize("name", RUN)
@pytest.mark.parametrize(
    "stack",
    [
        {"project_input": True},
        {"normalize_after": True},
        {"normalize_after": True, "norm_eps": 0.1},
        {"residual": True},
        {"project_input": True, "normalize_after": True, "residual": True},
    ],
    ids=lambda stack: "+".join(stack),
)
def test_stacks_of_every_cell(name, stack):
    check(language_model(name, embedding=20, hidden=30, layers=3, stack=stack))
    for both in (False, True):
        check(translator(name, embedding=20, hidden=28, layers=3, encoder={**stack, "bidirectional": both}))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("hidden", [24, 50])
def test_tying_and_depth_of_a_language_model(layers, tied, hidden):
    check(language_model(hidden=hidden, layers=layers, tied=tied))


@pytest.mark.parametrize("attention", ["dot", "additive"])
@pytest.mark.parametrize("tying", ["all", "target", "none"])
@pytest.mark.parametrize("hidden", [24, 50])
def test_tying_of_a_translator(attention, tying, hidden):
    heads = {"heads": 2} if attention == "dot" else {}
    check(
        translator(hidden=hidden, tying=tying, decoder={"attention": attention, "attention_options": heads})
    )


@pytest.mark.parametrize("attend", ["all", "first", "last"])
@pytest.mark.parametrize("start", ["zeros", "bridge"])
@pytest.mark.parametrize("name", ["sru", "lstm", "qrnn", "conv", "gru"])
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_where_a_decoder_attends_and_what_it_starts_from(attend, start, name, attention):
    decoder = {"attend": attend, "start": start, "attention": attention}
    check(translator(name, hidden=20, layers=3, decoder=decoder))


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("size", [0, 12, 96, 192])
def test_heads_of_the_dot_product(heads, size):
    check(translator(hidden=24, decoder={"attention_options": {"heads": heads, "size": size}}))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 100, 300])
def test_sizes_of_additive_attention(size):
    check(translator(hidden=24, decoder={"attention": "additive", "attention_options": {"size": size}}))


def test_wide_layers_pass_over_tiles_of_the_kernels():
    check(language_model(embedding=70, hidden=300, layers=1, options={"highway": "project"}), atol=2e-5)
    decoder = {"attention": "additive"}
    check(translator("lstm", embedding=40, hidden=270, layers=1, decoder=decoder), atol=2e-5)


def test_encoder_and_decoder_may_be_of_different_cells():
    from seqsru.cells import Stack
    from seqsru.models.decoder import Decoder

    for encoder in RUN:
        stack = Stack(encoder, 18, 20, 2, bidirectional=True)
        decoder = Decoder("conv", 18, 40, 24, 2, options={"window": 4})
        check(stirred(Translator(30, 30, stack, decoder, 18)))


def test_weights_that_are_no_float32_become_it():
    model = language_model()
    expected = engine(model).follow([[]], [[3, 4]])
    np.testing.assert_array_equal(engine(model.double()).follow([[]], [[3, 4]]), expected)


def test_int8_is_near_on_average():
    for cell in RUN:
        model = translator(cell, hidden=64, embedding=64, layers=2)
        exact, coarse = engine(model), engine(model, int8=True)
        rng = np.random.default_rng(0)
        sources, inputs, targets = ([ids(rng, 12, 40) for _ in range(20)] for _ in range(3))
        a, b = (np.concatenate(e.score(sources, inputs, targets)) for e in (exact, coarse))
        assert abs(a.mean() / b.mean() - 1.0) < 0.005, cell
        assert np.abs(a - b).mean() < 0.05, cell


def test_a_layer_norm_may_have_no_weights():
    model = language_model(stack={"normalize_after": True})
    model.stack.norms[0] = nn.LayerNorm(24, elementwise_affine=False)
    model.stack.norms[1] = nn.LayerNorm(24, bias=False)
    check(model)


# ---- what cannot be lowered ------------------------------------------------------------------------


def test_every_cell_is_lowered_or_said_to_be_for_torch():
    assert {CELLS[name] for name in RUN} == set(LOWERED)
    names = (
        "one of SRUCell, SSRUCell, QRNNCell, MinGRUCell, MinLSTMCell, ConvCell, LSTMCell, GRUCell in what "
        "the compiled engine runs"
    )
    for name in TORCH_ONLY:
        with pytest.raises(Refused) as refusal:
            lower_language_model(language_model(name), int8=False)
        found = CELLS[name].__name__
        assert str(refusal.value) == f"engine: expected {names}, found {found}; choose engine torch"


class Other(nn.LayerNorm):
    """A LayerNorm that may compute anything."""


class OtherLinear(nn.Linear):
    """A linear layer that may compute anything."""


def refused(model, expected, found):
    with pytest.raises(Refused) as refusal:
        (lower if isinstance(model, Translator) else lower_language_model)(model, int8=True)
    assert str(refusal.value) == (
        f"engine: expected {expected} in what the compiled engine runs, found {found}; choose engine torch"
    )


def test_a_module_in_the_place_of_another_is_refused():
    model = language_model(stack={"normalize_after": True})
    model.stack.norms[1] = Other(24)
    refused(model, "LayerNorm", "Other")
    model = language_model(tied=False)
    model.output = OtherLinear(24, 50)
    refused(model, "Linear", "OtherLinear")
    model = language_model(stack={"project_input": True})
    model.stack.input_map = OtherLinear(24, 24)
    refused(model, "Linear", "OtherLinear")
    model = language_model()
    model.embedding.max_norm = 1.0
    refused(model, "an embedding without max_norm", "1.0")
    for part in ("query", "key", "value", "output"):
        model = translator()
        setattr(model.decoder.attentions["1"], part, OtherLinear(24, 24))
        refused(model, "Linear", "OtherLinear")
    model = translator()
    model.decoder.bridge = OtherLinear(24, 24)
    refused(model, "Linear", "OtherLinear")
    model = translator()
    model.decoder.attentions["0"] = nn.Identity()
    refused(model, "one of DotAttention, AdditiveAttention", "Identity")
    model = translator(options={"layer_norm": True})
    model.encoder.layers[0][0].layer_norm = nn.RMSNorm(24)
    refused(model, "LayerNorm", "RMSNorm")


def test_a_class_that_inherits_is_not_what_it_inherits_from():
    class Mine(Translator):
        pass

    model = translator()
    model.__class__ = Mine
    refused(model, "Translator", "Mine")
    model = language_model()
    model.stack.layers[1][0].__class__ = type("MyCell", (CELLS["sru"],), {})
    names = "SRUCell, SSRUCell, QRNNCell, MinGRUCell, MinLSTMCell, ConvCell, LSTMCell, GRUCell"
    refused(model, f"one of {names}", "MyCell")


@pytest.mark.parametrize("name, kind", [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_a_layer_of_torch_that_the_cell_did_not_make_is_refused(name, kind):
    model = language_model(name)
    for rnn in (kind(24, 24, bias=False), kind(24, 24, 2), kind(24, 24, batch_first=True)):
        model.stack.layers[0][0].rnn = rnn
        refused(model, f"one {kind.__name__} layer with biases, time first,", str(rnn))
    model.stack.layers[0][0].rnn = nn.RNN(24, 24)
    refused(model, kind.__name__, "RNN")


def test_a_quantised_model_of_torch_is_refused():
    model = language_model("lstm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch finds its own old-fashioned
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM}, dtype=torch.qint8)
    refused(quantised, "LSTM", "torch.ao.nn.quantized.dynamic.modules.rnn.LSTM")
