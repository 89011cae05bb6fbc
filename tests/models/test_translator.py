"""The translator: a step is the whole, padding reaches nothing, a row depends on no other, and it learns."""

import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused
from seqsru.models import ATTENTIONS, Decoder, Translator

V_S, V_T, E, S, T, B = 19, 23, 16, 8, 5, 4


def make(
    cell="sru", *, hidden=12, layers=2, tying="target", vocabulary=V_S, decoder=None, options=None, **model
):
    encoder = Stack(cell, E, 10, 2, bidirectional=True, options=options)
    inner = Decoder(cell, E, encoder.output_size, hidden, layers, options=options, **(decoder or {}))
    return Translator(vocabulary, V_T, encoder, inner, E, tying=tying, **model)


def some_batch(batch=B, steps=T, length=S):
    lengths = torch.arange(batch) * 3 % length + 1
    valid = torch.arange(length).unsqueeze(1) < lengths
    return torch.randint(V_S, (length, batch)), valid, torch.randint(V_T, (steps, batch))


def stepped(model, source, valid, target, with_attention=False):
    memory, state = model.begin(source, valid)
    log_probs, attention = [], []
    for tokens in target:
        scores, weights, state = model.step(tokens, memory, state, with_attention)
        log_probs.append(scores)
        attention.append(weights)
    return torch.stack(log_probs), attention


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_steps_are_the_whole(cell, attention):
    model = make(cell, decoder={"attention": attention}).eval()
    source, valid, target = some_batch()
    with torch.no_grad():
        whole = model.logits(model(source, valid, target)).log_softmax(-1)
        steps, attention = stepped(model, source, valid, target, True)
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-5)
    for weights in attention:
        assert weights.shape == (B, S) and (weights.t()[~valid] == 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(B))


@pytest.mark.parametrize("attend", ["all", "first", "last"])
@pytest.mark.parametrize("start", ["bridge", "zeros"])
@pytest.mark.parametrize("hidden", [12, E])
@pytest.mark.parametrize("tying", ["all", "target", "none"])
def test_every_option_reaches_every_parameter(tying, hidden, start, attend):
    """float64 differences in a random direction agree with the gradients, and no parameter is without one."""
    vocabulary = V_T if tying == "all" else V_S
    model = make(
        hidden=hidden,
        tying=tying,
        vocabulary=vocabulary,
        options={"backend": "reference"},
        decoder={"attend": attend, "start": start},
    ).double()
    source, valid, target = some_batch()
    names, parameters = zip(*model.named_parameters())

    def loss():
        return model.cross_entropy(model(source, valid, target), target.flip(0), None, 0.1)[0]

    gradients = torch.autograd.grad(loss(), parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients), names
    directions = [torch.randn_like(parameter) for parameter in parameters]
    expected = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions))
    step = 1e-6
    values = []
    with torch.no_grad():
        for sign in (1, -2, 1):
            for parameter, direction in zip(parameters, directions):
                parameter += sign * step * direction
            values.append(loss())
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), expected, rtol=1e-5, atol=1e-5)
    assert len(model.decoder.attentions) == (2 if attend == "all" else 1)
    assert (model.projection is None) == (tying == "none" or hidden == E)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_reaches_nothing(cell, attention):
    """Other tokens beyond the end, and NaN in what is embedded there: same features, same gradients."""
    model = make(cell, decoder={"attention": attention}).double()
    with torch.no_grad():
        model.source_embedding.weight[0] = torch.nan
    source, valid, target = some_batch()
    source = source.clamp(min=1)
    results = []
    for padding in (3, 0):
        model.zero_grad()
        features = model(source.masked_fill(~valid, padding), valid, target)
        features.square().sum().backward()
        gradients = [p.grad.clone() for name, p in model.named_parameters() if name != "output_bias"]
        results.append([features.detach(), *gradients])
    for one, other in zip(*results):
        assert torch.equal(one, other) and torch.isfinite(one).all()


def test_a_row_alone_and_shorter_padding():
    model = make().double().eval()
    source, valid, target = some_batch()
    with torch.no_grad():
        whole = model(source, valid, target)
        for row in range(B):
            length = int(valid[:, row].sum())
            alone = model(source[:length, row : row + 1], None, target[:, row : row + 1])
            torch.testing.assert_close(alone, whole[:, row : row + 1])


def test_a_source_without_a_token():
    model = make().eval()
    source, valid, target = some_batch()
    valid[:, 1] = False
    with torch.no_grad():
        assert torch.isfinite(model(source, valid, target)).all()


@pytest.mark.parametrize(
    "cell, attention, threads",
    [
        *((cell, attention, 1) for cell in CELLS for attention in ATTENTIONS),
        ("sru", "dot", 2),
    ],
    indirect=["threads"],
)
def test_bits_do_not_depend_on_the_batch(cell, attention, threads):
    """Float32 on the CPU: what a sentence gets is the same to the bit, whoever is beside it."""
    encoder = Stack(cell, 32, 24, 2, bidirectional=True)
    model = Translator(50, 401, encoder, Decoder(cell, 32, 48, 40, 2, attention=attention), 32).eval()
    source, valid, _ = some_batch(batch=13)
    for beam in (1, 3, 5) if threads == 1 else (5,):
        target = torch.randint(V_T, (3, 13)).repeat_interleave(beam, 1)
        with torch.no_grad():
            whole = beamed(model, source, valid, target, beam)
            for rows in (slice(0, 1), slice(6, 9), slice(11, 13)):
                spread = slice(rows.start * beam, rows.stop * beam)
                part = beamed(model, source[:, rows], valid[:, rows], target[:, spread], beam)
                assert torch.equal(part, whole[:, spread])


def beamed(model, source, valid, target, beam):
    """Log probabilities of steps with `beam` rows a sentence."""
    memory, state = model.begin(source, valid)
    state = tuple(tensor.repeat_interleave(beam, 0) for tensor in state)
    found = []
    for tokens in target:
        log_probs, _, state = model.step(tokens, memory, state)
        found.append(log_probs)
    return torch.stack(found)


def test_rows_of_a_beam_read_their_sentence():
    model = make().double().eval()
    source, valid, target = some_batch()
    with torch.no_grad():
        alone = beamed(model, source, valid, target, 1)
        spread = beamed(model, source, valid, target.repeat_interleave(3, 1), 3)
    torch.testing.assert_close(spread, alone.repeat_interleave(3, 1))


def test_log_probabilities_are_float32():
    model = make().eval()
    source, valid, target = some_batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        memory, state = model.begin(source, valid)
        log_probs, _, state = model.step(target[0], memory, state)
    assert log_probs.dtype == torch.float32 and all(tensor.dtype == torch.float32 for tensor in state)
    torch.testing.assert_close(log_probs.logsumexp(1), torch.zeros(B), rtol=0, atol=1e-5)


def test_dropouts_are_for_training():
    zeros = make().state_dict()
    dropouts = [
        ({"embedding_dropout": 0.5}, {}),
        ({"word_dropout": 0.5}, {}),
        ({"output_dropout": 0.5}, {}),
        ({}, {"dropout": 0.5}),
        ({}, {"context_dropout": 0.5}),
        ({}, {"memory_dropout": 0.5}),
        ({}, {"attention_options": {"dropout": 0.5}}),
    ]
    source, valid, target = some_batch()
    plain = make()
    plain.load_state_dict(zeros)
    with torch.no_grad():
        expected = plain(source, valid, target)
        for model_options, decoder_options in dropouts:
            for cell in ("sru", "lstm"):
                model = make(cell, decoder=decoder_options, **model_options)
                torch.manual_seed(1)
                first = model(source, valid, target)
                assert not torch.equal(first, model(source, valid, target))
                if cell == "sru":
                    model.load_state_dict(zeros)
                    assert torch.equal(model.eval()(source, valid, target), expected)


def test_tying():
    assert (
        len({id(p) for p in make(tying="all", vocabulary=V_T).parameters()}) + 2
        == len({id(p) for p in make(tying="none", vocabulary=V_T, hidden=12).parameters()}) + 1
    )
    model = make(tying="all", vocabulary=V_T, hidden=E)
    assert model.output_weight is model.target_embedding.weight is model.source_embedding.weight
    model = make(tying="target", hidden=E)
    assert model.output_weight is model.target_embedding.weight is not model.source_embedding.weight


def test_variances_at_the_start():
    """Embeddings go in with variance about 1, and logits come out with it."""
    torch.manual_seed(0)
    encoder = Stack("sru", 128, 64, 4, bidirectional=True)
    model = Translator(1000, 1000, encoder, Decoder("sru", 128, 128, 128, 2), 128).eval()
    source, target = torch.randint(1000, (8, 16)), torch.randint(1000, (8, 16))
    with torch.no_grad():
        assert 0.8 < model._embed(model.source_embedding, source).var() < 1.2
        assert 0.8 < model.logits(model(source, None, target)).var() < 1.2


@pytest.mark.parametrize(
    "make_it, message",
    [
        (
            lambda: Translator(5, 5, Stack("sru", 8, 8), Decoder("sru", E, 8, 8), E),
            "encoder: expected input_size 16, found 8",
        ),
        (
            lambda: Translator(5, 5, Stack("sru", E, 8), Decoder("sru", 8, 8, 8), E),
            "decoder: expected input_size 16, found 8",
        ),
        (
            lambda: Translator(5, 5, Stack("sru", E, 8, bidirectional=True), Decoder("sru", E, 8, 8), E),
            "decoder: expected memory_size 16, found 8",
        ),
        (lambda: make(tying="both"), "tying: expected one of all, target, none, found 'both'"),
        (
            lambda: make(tying="all"),
            "tying: expected one joint vocabulary for tying 'all', found 19 source and 23 target types",
        ),
        (lambda: make(word_dropout=1.0), "word_dropout: expected a probability from 0 to below 1, found 1.0"),
        (
            lambda: make(decoder={"attention": "dots"}),
            "attention: expected one of dot, additive, found 'dots'",
        ),
        (lambda: make(decoder={"attend": "some"}), "attend: expected one of all, first, last, found 'some'"),
        (lambda: make(decoder={"start": "mean"}), "start: expected one of bridge, zeros, found 'mean'"),
        (lambda: Decoder("srru", 4, 4, 4), "cell: expected one of sru, .*, gru, .*, found 'srru'"),
        (lambda: Decoder("sru", 4, 4, 4, 0), "num_layers: expected at least 1, found 0"),
        (
            lambda: Decoder("sru", 4, 4, 4, context_dropout=-0.1),
            "context_dropout: expected a probability from 0 to below 1, found -0.1",
        ),
        (
            lambda: Decoder("srupp", 4, 4, 4, options={"attention": "full"}),
            "cell: expected cells that see no later word, found 'srupp' with options .*'full'",
        ),
        (
            lambda: Decoder("qrnn", 4, 4, 4, options={"poling": "f"}),
            "poling: expected an option of cell 'qrnn' .*found 'poling'; did you mean 'pooling'",
        ),
        (
            lambda: Decoder("sru", 4, 4, 4, options={"dropout": 0.1}),
            "dropout: expected options of cell 'sru' without it",
        ),
        (lambda: Decoder("qrnn", 4, 4, 4, options={"window": 0}), "window: expected at least 1, found 0"),
        (
            lambda: make(decoder={"attention_options": {"head": 2}}),
            r"head: expected an option of attention 'dot' \(heads, size, dropout\), found 'head'; did",
        ),
        (
            lambda: make(decoder={"attention_options": {"heads": 5}}),
            r"attention\.heads: expected a size that 5 heads",
        ),
    ],
)
def test_impossible_options(make_it, message):
    with pytest.raises(Refused, match=f"^{message}"):
        make_it()
