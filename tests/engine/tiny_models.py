"""Models small enough for a test, every parameter of which matters, and what torch says of them."""

from functools import lru_cache

import numpy as np
import torch

from seqsru.cells import Stack
from seqsru.engine.checks import check_model
from seqsru.engine.inference import Engine
from seqsru.models.decoder import Decoder
from seqsru.models.language_model import LanguageModel
from seqsru.models.translator import Translator
from seqsru.pipelines.lowering import lower, lower_language_model

EOS, START = 2, 1


def stirred(model, sharpness=1.0, seed=0):
    """Move every parameter off its first value, and make the output's distribution less even."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            scale = sharpness if name in ("output_bias", "output.bias") else 0.3 * parameter.shape[-1] ** -0.5
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def translator(
    cell="sru",
    *,
    source=40,
    target=50,
    embedding=24,
    encoder=None,
    decoder=None,
    hidden=24,
    layers=2,
    options=None,
    seed=0,
    sharpness=1.0,
    **tying,
):
    """Make a translator; `encoder` and `decoder` are further settings of each."""
    torch.manual_seed(seed)
    stack = Stack(
        cell, embedding, hidden, layers, **{"bidirectional": True, "options": options, **(encoder or {})}
    )
    reader = Decoder(
        cell, embedding, stack.output_size, hidden, layers, **{"options": options, **(decoder or {})}
    )
    if tying.get("tying") == "all":
        source = target
    return stirred(Translator(source, target, stack, reader, embedding, **tying), sharpness, seed)


def language_model(
    cell="sru",
    *,
    vocabulary=50,
    embedding=24,
    hidden=24,
    layers=2,
    stack=None,
    options=None,
    seed=0,
    sharpness=1.0,
    **tying,
):
    torch.manual_seed(seed)
    made = Stack(cell, embedding, hidden, layers, options=options, **(stack or {}))
    return stirred(LanguageModel(vocabulary, made, embedding, **tying), sharpness, seed)


def lowered(model, int8=False):
    """Lower a model, as a file may then have it."""
    made = (lower if isinstance(model, Translator) else lower_language_model)(model, int8=int8)
    check_model(made)
    return made


def engine(model, int8=False):
    return Engine(lowered(model, int8))


@lru_cache
def small(kind, int8=False, **settings):
    """An engine that several tests use; `kind` is translator or language_model."""
    return engine({"translator": translator, "language_model": language_model}[kind](**settings), int8)


def ids(rng, count, size, lowest=0):
    """Random token ids, a list."""
    return rng.integers(lowest, size, count).tolist()


def torch_follow(model, source, inputs):
    """Return the log probabilities of the next token after each input (T, V), and the last attention (S,)."""
    read = torch.tensor(inputs).unsqueeze(1)
    with torch.no_grad():
        if isinstance(model, LanguageModel):
            features, _ = model(read)
            attention = None
        else:
            memory, state = model.begin(torch.tensor(source).unsqueeze(1))
            for token in inputs:
                _, attention, state = model.step(torch.tensor([token]), memory, state, with_attention=True)
            features = model(torch.tensor(source).unsqueeze(1), None, read)
        log_probs = torch.log_softmax(model.logits(features[:, 0]), -1).numpy()
    return log_probs, None if attention is None else attention[0].numpy()


def same_outputs(found, expected):
    """Compare lists of lists of outputs, to the last bit."""
    plain = [
        [[(o.tokens, o.log_prob, o.score) for o in outputs] for outputs in side] for side in (found, expected)
    ]
    assert plain[0] == plain[1]
    for left, right in zip(found, expected):
        for a, b in zip(left, right):
            assert (a.attention is None) == (b.attention is None)
            if a.attention is not None:
                np.testing.assert_array_equal(a.attention, np.asarray(b.attention))
