"""Beam search with fixed semantics: a sentence gives the same output whatever is beside it in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.decoding.decoding import Decoding
from seqsru.decoding.hypothesis import Hypothesis, Memory, State, Step
from seqsru.decoding.rules import Rule
from seqsru.decoding.search import Search
from seqsru.errors import Refused


@torch.no_grad()
def beam_search(
    step: Step,
    memory: Memory,
    state: State,
    start: Tensor,
    *,
    eos: int,
    max_length: Tensor,
    decoding: Decoding,
    source_valid: Tensor | None = None,
    with_attention: bool = False,
) -> list[list[Hypothesis]]:
    """Search the best continuations of each sentence.

    The score of a hypothesis of L tokens, ``</s>`` included, is ``log_prob / lp(L) + coverage * cp``
    (`PENALTIES`, `coverage_penalty`). Each step ranks the 2 * beam best candidates by summed log probability
    down, then by flat index (row * V + token) up. ``</s>`` finishes a hypothesis only from the best `beam` of
    them; the best `beam` others live on. At a sentence's `max_length` only ``</s>`` may follow. The first
    step has one row a sentence, every later one `beam` rows, also where fewer hypotheses are live.

    Parameters
    ----------
    step : callable
        ``step(tokens (N,), memory, state) -> (log_probs (N, V) float32, attention (N, S) or None, state)``.
    memory : tuple of Tensor, each (B, ...)
        Handed to `step`. A sentence that is done leaves it; rows are never reordered or repeated.
    state : tuple of Tensor, each (B, ...)
        State before the first step.
    start : Tensor of shape (B,), int64
        Token fed to the first step.
    eos : int
        The token that ends a hypothesis.
    max_length : Tensor of shape (B,), integer
        Most tokens of an output, ``</s>`` included.
    decoding : Decoding
        How to search; what it says of lengths and batches is the caller's to do.
    source_valid : Tensor of shape (S, B), bool, or None
        True on real source tokens; needed with a coverage penalty.
    with_attention : bool
        Whether hypotheses carry their attention; `step` must then give it.

    Returns
    -------
    list of list of Hypothesis
        For each sentence at most `n_best`, best first. A sentence that cannot end, because the model gives
        ``</s>`` no probability, has its live hypotheses instead, unfinished.

    Raises
    ------
    Refused
        A limit is below 1, the model gives NaN, or attention is needed and not given.
    """
    limits = check_limits(start, max_length)
    if decoding.coverage and source_valid is None:
        raise Refused("the source's mask with a coverage penalty", None, "pass it", "source_valid")
    beam, rules = decoding.beam, decoding.rules
    real = [None] * len(limits) if source_valid is None else list(source_valid.t().cpu().numpy())
    needs_attention = with_attention or decoding.coverage > 0
    searches = [
        Search(limit, valid, eos=eos, decoding=decoding, with_attention=with_attention)
        for limit, valid in zip(limits, real)
    ]
    active, tokens, length = list(searches), start, 0
    history = start.new_empty(start.shape[0], 0)
    while active:
        length += 1
        log_probs, attention, state = step(tokens, memory, state)
        width = tokens.shape[0] // len(active)
        weights: list[Tensor] | list[None] = [None] * len(active)
        if needs_attention:
            if attention is None:
                raise Refused(
                    "attention weights from the step",
                    None,
                    "ask the model for them, or use a model that attends",
                    "with_attention" if with_attention else "coverage",
                )
            weights = list(torch.split(attention.float().cpu(), width))
        last = [search.limit == length for search in active]
        limited = _constrain(log_probs, history, last, width, eos, rules)
        candidates = rank(limited, np.stack([search.totals for search in active]), 2 * beam)
        for search, *ranked in zip(active, *candidates, weights):
            search.advance(*ranked)
        kept = [index for index, search in enumerate(active) if not search.done]
        if not kept:
            break
        if len(kept) < len(active):
            stay = torch.tensor(kept, device=start.device)
            memory = tuple(tensor.index_select(0, stay) for tensor in memory)
        rows = torch.from_numpy(np.concatenate([index * width + active[index].parents[-1] for index in kept]))
        active = [active[index] for index in kept]
        rows = rows.to(start.device)  # (sentences * beam,)
        state = tuple(tensor.index_select(0, rows) for tensor in state)
        tokens = torch.from_numpy(np.concatenate([search.tokens[-1] for search in active])).to(start.device)
        if rules:
            history = torch.cat([history.index_select(0, rows), tokens.unsqueeze(1)], dim=1)
    return [search.finished[: decoding.n_best] for search in searches]


def check_limits(start: Tensor, max_length: Tensor) -> list[int]:
    """Return `max_length` as numbers, or refuse it where it does not fit `start`."""
    if start.dim() != 1 or max_length.shape != start.shape:
        raise Refused(
            "start and max_length of one shape (B,)",
            f"{tuple(start.shape)} and {tuple(max_length.shape)}",
            "give one of each a sentence",
            "max_length",
        )
    limits = [int(limit) for limit in max_length.tolist()]
    if limits and min(limits) < 1:
        raise Refused("at least 1", min(limits), "</s> is a token too", "max_length")
    return limits


def rank(
    log_probs: Tensor, totals: NDArray[Any], count: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return each sentence's best candidates, summed log probability down, then flat index up.

    Sums are float64: two candidates of one row tie only where their float32 log probabilities do. No row can
    place more than `count` candidates, so each row is first cut to its own best.

    Parameters
    ----------
    log_probs : Tensor of shape (sentences * width, V), float32
        Log probabilities of the next token.
    totals : ndarray of shape (sentences, width), float64
        Log probabilities of the rows; minus infinity for a row without a hypothesis.
    count : int
        Candidates wanted.

    Returns
    -------
    totals, rows, tokens : ndarray of shape (sentences, at most count)
        Summed log probability, row within the sentence, and token of each candidate.

    Raises
    ------
    Refused
        If a log probability is NaN.
    """
    sentences, width = totals.shape
    vocabulary = log_probs.shape[1]
    if count < vocabulary:
        values, tokens = log_probs.topk(count + 1, dim=1)
        # topk leaves open which of equal values it takes: sort if the first left out ties with the last.
        torn = (values[:, count - 1] == values[:, count]) & (values[:, count] > -torch.inf)
        if torn.any():
            ordered = log_probs[torn].sort(dim=1, descending=True, stable=True)
            values[torn], tokens[torn] = ordered.values[:, : count + 1], ordered.indices[:, : count + 1]
        values, tokens = values[:, :count], tokens[:, :count]
    else:
        values, tokens = log_probs.sort(dim=1, descending=True, stable=True)
    best = values.cpu().numpy().astype(np.float64)
    if np.isnan(best).any():
        raise Refused(
            "log probabilities",
            "NaN",
            "the weights are damaged or training diverged: load another checkpoint",
        )
    sums = (totals.reshape(-1, 1) + best).reshape(sentences, -1)
    words = tokens.cpu().numpy().reshape(sentences, -1)
    rows = np.repeat(np.arange(width), best.shape[1])  # (width * kept,)
    order = np.lexsort((rows * vocabulary + words, -sums), axis=-1)[:, :count]
    return np.take_along_axis(sums, order, 1), rows[order], np.take_along_axis(words, order, 1)


def _constrain(
    log_probs: Tensor, history: Tensor, last: list[bool], width: int, eos: int, rules: Sequence[Rule]
) -> Tensor:
    """Apply the rules, and leave only ``</s>`` to the sentences at their last position."""
    limited = log_probs
    for rule in rules:
        limited = rule(limited, history, eos)
    if any(last):
        closing = torch.tensor(last, device=log_probs.device).repeat_interleave(width)
        limited = limited.masked_fill(closing.unsqueeze(1), -torch.inf)
        limited[closing, eos] = log_probs[closing, eos]
    return limited
