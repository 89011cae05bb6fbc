"""Perplexity and its relatives: every token and every end of line counted, sums in float64 divided once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from seqsru.data.padding import pad
from seqsru.data.stream import TokenStream
from seqsru.errors import Refused
from seqsru.models.language_model import LanguageModel

# Tokens of one stream read in a forward call: long enough that the products are whole, short enough for
# memory.
WINDOW = 1024
# Padded tokens of sentences read in a forward call.
ROOM = 4096


@dataclass(frozen=True)
class TextScore:
    """What a language model makes of a text.

    Attributes
    ----------
    nll : float
        Negative log probability of the text, natural logarithm: every token and every ``<eos>``.
    tokens : int
        Tokens and ends of lines predicted.
    words, lines, bytes : int
        Size of the text: words as white space separates them, UTF-8 bytes with one line end a line.
    unknown : int
        How many of the tokens are the unknown type: with many, no value below can be compared.
    state : str
        ``carried`` across lines, or ``separate``: each line from the initial state.
    """

    nll: float
    tokens: int
    words: int
    lines: int
    bytes: int
    unknown: int
    state: str

    @property
    def perplexity(self) -> float:
        """``exp(nll / (words + lines))``: comparable between tokenizers; a token's where tokens are words."""
        return _exp(self.nll / (self.words + self.lines))

    @property
    def token_perplexity(self) -> float:
        """``exp(nll / tokens)``."""
        return _exp(self.nll / self.tokens)

    @property
    def bits_per_token(self) -> float:
        """``nll / (ln 2 · tokens)``; with a vocabulary of characters, bits per character."""
        return self.nll / (math.log(2.0) * self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """``nll / (ln 2 · bytes)``."""
        return self.nll / (math.log(2.0) * self.bytes)

    def values(self) -> dict[str, float]:
        """The four of them, by name."""
        return {
            name: getattr(self, name)
            for name in ("perplexity", "token_perplexity", "bits_per_token", "bits_per_byte")
        }

    def as_dict(self) -> dict[str, Any]:
        """The four values, and what they were computed from, as plain JSON values."""
        return {**self.values(), **asdict(self)}


def perplexity(
    model: LanguageModel, text: TokenStream, *, carried: bool = True, window: int = WINDOW
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

    Raises
    ------
    Refused
        No lines.
    """
    return scored(
        text,
        carried,
        lambda tokens, eos: stream_nll(model, tokens, eos, window=window),
        lambda sentences: [-nll for nll in sentence_nlls(model, sentences, text.eos)],
    )


def scored(
    text: TokenStream,
    carried: bool,
    stream: Callable[[Tensor, int], float],
    separate: Callable[[Sequence[Sequence[int]]], list[float]],
) -> TextScore:
    """Score a text by what a model makes of it.

    Parameters
    ----------
    text, carried
        As in `perplexity`.
    stream : callable
        Tokens, and the one before the first, to the negative log probability of the stream.
    separate : callable
        Sentences to the log probability of each, alone.
    """
    if not len(text.tokens):
        raise Refused("at least one line of text", "none", "check the file", "text")
    if carried:
        nll = stream(text.tokens, text.eos)
    else:
        ends = (text.tokens == text.eos).nonzero().squeeze(1) + 1
        sentences = [part.tolist() for part in text.tokens.tensor_split(ends[:-1])]
        nll = -math.fsum(separate(sentences))
    return TextScore(
        nll,
        len(text.tokens),
        text.words,
        text.lines,
        text.bytes,
        text.unknown,
        "carried" if carried else "separate",
    )


@torch.no_grad()
def stream_nll(model: LanguageModel, tokens: Tensor, eos: int, *, window: int = WINDOW) -> float:
    """Negative log probability of one stream, summed in float64.

    Parameters
    ----------
    model : LanguageModel
    tokens : integer Tensor of shape (N,)
        Every one is predicted; the first from ``eos`` and the initial state.
    eos : int
    window : int
        Tokens in a forward call.
    """
    device = model.embedding.weight.device
    tokens = tokens.to(device, torch.int64)
    inputs = torch.cat([tokens.new_tensor([eos]), tokens[:-1]])
    state, total = model.initial_state(1), torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(tokens), window):
        here = slice(start, start + window)
        features, state = model(inputs[here, None], state)
        _, nll = model.cross_entropy(features, tokens[here, None])
        total += nll.double().sum()
    return total.item()


@torch.no_grad()
def sentence_nlls(model: LanguageModel, sentences: Sequence[Sequence[int]], eos: int) -> list[float]:
    """Negative log probability of each sentence alone, from ``eos`` and the initial state.

    Parameters
    ----------
    model : LanguageModel
    sentences : sequence of sequences of int
        Each ends with ``eos``.
    eos : int

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


def _exp(x: float) -> float:
    return math.exp(x) if x < 700.0 else math.inf
