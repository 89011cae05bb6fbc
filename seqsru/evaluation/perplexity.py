"""Perplexity and its relatives: every token and every end of line counted, sums in float64 divided once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seqsru.data.padding import pad
from seqsru.data.stream import TokenStream
from seqsru.errors import Refused
from seqsru.evaluation.adaptation import Adaptation, check_carried
from seqsru.evaluation.adapted import adapted_nlls, tempered_nlls
from seqsru.evaluation.text_score import TextScore
from seqsru.models.language_model import LanguageModel

# Tokens of one stream read in a forward call: long enough that the products are whole, short enough for
# memory.
WINDOW = 1024
# Padded tokens of sentences read in a forward call.
ROOM = 4096


def perplexity(
    model: LanguageModel,
    text: TokenStream,
    *,
    carried: bool = True,
    window: int = WINDOW,
    adaptation: Adaptation | None = None,
    rms: Sequence[Tensor] | None = None,
) -> TextScore:
    """Score a text.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    text : TokenStream
        At least one line.
    carried : bool
        True: one stream, the state carried across lines, the first token predicted from ``<eos>`` and the
        initial state. False: each line alone, from ``<eos>`` and the initial state.
    window : int
        Tokens read at once where the state is carried; the result does not depend on it beyond rounding.
        Not with an adaptation, which has a window of its own.
    adaptation : Adaptation, optional
        How the text is scored beyond the weights as they are.
    rms : sequence of Tensor, optional
        From `seqsru.evaluation.learning.gradient_rms`, for dynamic evaluation by the rule rms.

    Raises
    ------
    Refused
        No lines, a cache or dynamic evaluation of lines apart, or weights that diverge as they learn.
    """
    return perplexity_by_line(model, text, carried=carried, window=window, adaptation=adaptation, rms=rms)[0]


@torch.no_grad()
def perplexity_by_line(
    model: LanguageModel,
    text: TokenStream,
    *,
    carried: bool = True,
    window: int = WINDOW,
    adaptation: Adaptation | None = None,
    rms: Sequence[Tensor] | None = None,
) -> tuple[TextScore, list[float]]:
    """Score a text, and say what each line and its end add to the negative log probability.

    Parameters and errors are those of `perplexity`; it is one pass over the text.
    """
    if not len(text.tokens):
        raise Refused("at least one line of text", "none", "check the file", "text")
    if adaptation is not None:
        check_carried(adaptation.carries, carried)
    ends = (text.tokens == text.eos).nonzero().squeeze(1) + 1
    if not carried:
        temperature = 1.0 if adaptation is None else adaptation.temperature
        sentences = [part.tolist() for part in text.tokens.tensor_split(ends[:-1])]
        lines = sentence_nlls(model, sentences, text.eos, temperature)
        nll = math.fsum(lines)
    else:
        if adaptation is not None:
            parts = [adapted_nlls(model, text.tokens, text.eos, adaptation, rms)]
        else:
            parts = list(_by_window(model, text.tokens, text.eos, window))
        nll = float(sum(part.sum() for part in parts))  # window by window
        lines = [float(part.sum()) for part in torch.cat(parts).cpu().tensor_split(ends[:-1])]
    state = "carried" if carried else "separate"
    return TextScore(nll, len(text.tokens), text.words, text.lines, text.bytes, text.unknown, state), lines


def _by_window(model: LanguageModel, tokens: Tensor, eos: int, window: int) -> Iterator[Tensor]:
    """Negative log probability of each token of a stream, (T,) in float64, a window after the other."""
    tokens = tokens.to(model.embedding.weight.device, torch.int64)
    inputs = torch.cat([tokens.new_tensor([eos]), tokens[:-1]])
    state = model.initial_state(1)
    for start in range(0, len(tokens), window):
        here = slice(start, start + window)
        features, state = model(inputs[here, None], state)
        yield model.cross_entropy(features, tokens[here, None])[1].double().flatten()


@torch.no_grad()
def sentence_nlls(
    model: LanguageModel, sentences: Sequence[Sequence[int]], eos: int, temperature: float = 1.0
) -> list[float]:
    """Negative log probability of each sentence alone, from ``eos`` and the initial state.

    Parameters
    ----------
    model : LanguageModel
    sentences : sequence of sequences of int
        Each ends with ``eos``.
    eos : int
    temperature : float
        Divides the logits.

    Returns
    -------
    list of float
        In input order.
    """
    device = model.embedding.weight.device
    scores = [0.0] * len(sentences)
    for batch in _by_length(sentences):
        targets, valid = (tensor.to(device) for tensor in pad([sentences[i] for i in batch], eos))  # (T, B)
        inputs = torch.cat([torch.full_like(targets[:1], eos), targets[:-1]])
        features, _ = model(inputs, None, valid)
        _, nll = model.cross_entropy(features, targets, valid)
        if temperature != 1.0:
            rows, wanted = features.flatten(0, 1), targets.flatten()
            (other,) = tempered_nlls(model, rows, wanted, nll.flatten(), [temperature])
            nll = torch.where(valid, other.view_as(nll), 0.0)
        for i, value in zip(batch, nll.double().sum(0).tolist()):
            scores[i] = value
    return scores


def _by_length(sentences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices in batches of at most ROOM padded tokens, longest first."""
    batch: list[int] = []
    for i in sorted(range(len(sentences)), key=lambda i: -len(sentences[i])):
        if batch and (len(batch) + 1) * len(sentences[batch[0]]) > ROOM:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
