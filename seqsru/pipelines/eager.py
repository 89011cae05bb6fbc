"""Decoding with torch: what a pipeline asks of a model, answered by its `begin`, `step` and losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqsru.data.padding import SOURCE_MULTIPLE, pad
from seqsru.data.stream import TokenStream
from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding, Hypothesis
from seqsru.decoding.beam import beam_search
from seqsru.decoding.sampling import sample
from seqsru.evaluation.adaptation import Adaptation
from seqsru.evaluation.perplexity import perplexity_by_line, sentence_nlls
from seqsru.evaluation.text_score import TextScore
from seqsru.models.ensemble import Ensemble
from seqsru.models.language_model import LanguageModel
from seqsru.models.replay import stepper
from seqsru.models.translator import Translator
from seqsru.pipelines.batches import padded

__all__ = ["continuations", "draw", "perplexity_of", "score_pairs", "search", "sentence_nlls"]

Ids = Sequence[int]

# Padded pairs of tokens that are scored at once: it bounds memory, and the scores do not depend on it.
SCORED_AT_ONCE = 8192


@torch.no_grad()
def search(
    model: Translator | Ensemble,
    sources: Sequence[Ids],
    filler: int,
    tokenizer: Tokenizer,
    decoding: Decoding,
    attention: bool,
) -> list[list[Hypothesis]]:
    """Decode sources that are padded to the same length.

    Parameters
    ----------
    model : Translator or Ensemble
    sources : sequence of token ids
        With ``</s>``.
    filler : int
        Id that pads them.
    tokenizer : Tokenizer
        Of the target.
    decoding : Decoding
    attention : bool
        Whether hypotheses carry their attention.
    """
    source, valid = _padded(model, sources, filler)
    memory, state = model.begin(source, valid)
    start = torch.full((len(sources),), tokenizer.bos, device=source.device)
    step = stepper(model, with_attention=attention or decoding.coverage > 0)
    limits = torch.tensor([decoding.longest(len(tokens)) for tokens in sources])
    return beam_search(
        step,
        memory,
        state,
        start,
        eos=tokenizer.eos,
        max_length=limits,
        decoding=decoding,
        source_valid=valid,
        with_attention=attention,
    )


@torch.no_grad()
def score_pairs(
    model: Translator | Ensemble, pairs: Sequence[tuple[Ids, Ids]], filler: int, tokenizer: Tokenizer
) -> list[float]:
    """Return the log probability of each target given its source, both with ``</s>``, in nats.

    Parameters
    ----------
    model : Translator or Ensemble
    pairs : sequence of (source ids, target ids)
    filler : int
        Id that pads sources.
    tokenizer : Tokenizer
        Of the target.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (line, translation) in enumerate(pairs):
        groups.setdefault((padded(line), padded(translation)), []).append(index)
    scores = [0.0] * len(pairs)
    for (length, steps), members in sorted(groups.items()):
        size = max(1, SCORED_AT_ONCE // max(length, steps))
        for first in range(0, len(members), size):
            batch = members[first : first + size]
            source, valid = _padded(model, [pairs[index][0] for index in batch], filler)
            out, real = _padded(model, [pairs[index][1] for index in batch], tokenizer.pad)
            into = torch.cat([torch.full_like(out[:1], tokenizer.bos), out[:-1]])
            features: Any = model(source, valid, into)  # of an ensemble a list, which is its own to read
            _, nll = model.cross_entropy(features, out, real)
            for index, row, kept in zip(batch, nll.t().tolist(), real.t().tolist()):
                # fsum rounds once, whatever the order
                scores[index] = -math.fsum(value for value, inside in zip(row, kept) if inside)
    return scores


def _padded(model: Translator | Ensemble, sequences: Sequence[Ids], filler: int) -> tuple[Tensor, Tensor]:
    """Return tokens (T, B) and their validity, on the model's device."""
    device = next(model.parameters()).device
    tokens, valid = pad(sequences, filler, multiple=SOURCE_MULTIPLE)
    return tokens.to(device), valid.to(device)


def perplexity_of(
    model: LanguageModel,
    lines: Sequence[str],
    tokenizer: Tokenizer,
    carried: bool,
    adaptation: Adaptation | None = None,
    rms: Sequence[Tensor] | None = None,
) -> tuple[TextScore, list[float]]:
    """Return what a language model makes of a text, and of each of its lines."""
    text = TokenStream.from_lines(lines, tokenizer)
    return perplexity_by_line(model, text, carried=carried, adaptation=adaptation, rms=rms)


def draw(
    model: LanguageModel,
    context: Ids,
    count: int,
    *,
    eos: int,
    max_length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> list[Hypothesis]:
    """Draw continuations of a context, whose last token the first step reads; see `sample`."""
    state, start = _begun(model, context, count)
    return sample(
        stepper(model),
        (),
        state,
        start,
        eos=eos,
        max_length=torch.full((count,), max_length),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        generator=torch.Generator().manual_seed(seed),
    )


def continuations(
    model: LanguageModel, context: Ids, eos: int, max_length: int, decoding: Decoding
) -> list[Hypothesis]:
    """Return the likeliest continuations of a context, best first."""
    state, start = _begun(model, context, 1)
    (found,) = beam_search(
        stepper(model), (), state, start, eos=eos, max_length=torch.tensor([max_length]), decoding=decoding
    )
    return found


def _begun(model: LanguageModel, context: Ids, rows: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the state before the last token of a context, and that token, each so many times."""
    tokens = torch.tensor(list(context), device=model.embedding.weight.device)
    with torch.no_grad():
        _, state = model.begin(tokens[:-1, None])
    return tuple(t.repeat_interleave(rows, 0) for t in state), tokens[-1:].repeat(rows)
