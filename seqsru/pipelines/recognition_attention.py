"""A recogniser's decoder with attention: the texts that it would write, and what it makes of given ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import torch
from torch import Tensor

from seqsru.data.padding import SOURCE_MULTIPLE, between_ends, pad
from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding
from seqsru.decoding.beam import beam_search
from seqsru.decoding.ctc import CtcHypothesis, Fusion
from seqsru.decoding.fusion import CtcDecoding
from seqsru.decoding.hypothesis import Memory, State, Step
from seqsru.models.recognizer import Recognizer
from seqsru.models.replay import stepper
from seqsru.pipelines.batches import padded

BEFORE = -1  # the number of the text of a row that has read nothing


@torch.no_grad()
def attended(
    model: Recognizer,
    heard: Tensor,
    valid: Tensor,
    tokenizer: Tokenizer,
    decoding: CtcDecoding,
    fusion: Fusion | None,
) -> list[list[CtcHypothesis]]:
    """The texts that the decoder writes, best first, by beam search.

    A score is the log probability of the units and the end, and what a language model adds: no penalty, since
    a text has at most as many units as there are steps. The search ends when no live text can be better.

    Parameters
    ----------
    model : Recognizer
        In evaluation mode, with a decoder.
    heard : Tensor of shape (T, B, O)
        The encoder's output.
    valid : bool Tensor of shape (T, B)
    tokenizer : Tokenizer
    decoding : CtcDecoding
    fusion : Fusion, optional
        The language model.
    """
    memory, state = model.begin(heard, valid)
    steps = valid.sum(0)
    step: Step = stepper(model)
    if fusion is not None:
        step = FusedStep(step, fusion, tokenizer.eos)
        state = (*state, torch.full_like(steps, BEFORE))
    # With a bonus a live text may still overtake those that are finished.
    rises = fusion is not None and decoding.lm_bonus > 0
    found = beam_search(
        step,
        memory,
        state,
        torch.full_like(steps, tokenizer.bos),
        eos=tokenizer.eos,
        max_length=steps.cpu() + 1,
        decoding=Decoding(
            beam=decoding.beam,
            n_best=decoding.n_best,
            penalty="none",
            stop="all" if rises else "exact",
        ),
    )
    texts = [
        [
            CtcHypothesis([unit for unit in one.tokens if unit != tokenizer.eos], one.log_prob, one.score)
            for one in some
        ]
        for some in found
    ]
    if fusion is None:
        return texts
    units = [[one.tokens for one in some] for some in texts]
    scores = spelled(model, heard, valid, units, tokenizer)
    return [
        [replace(one, log_prob=own) for one, own in zip(some, log_probs)]
        for some, log_probs in zip(texts, scores)
    ]


@torch.no_grad()
def rescored(
    model: Recognizer,
    heard: Tensor,
    valid: Tensor,
    tokenizer: Tokenizer,
    ctc_weight: float,
    texts: Sequence[Sequence[CtcHypothesis]],
) -> list[list[CtcHypothesis]]:
    """Texts of CTC, ordered by both outputs (Watanabe et al. 2017, doi 10.1109/JSTSP.2017.2763455, eq. 48).

    With λ the weight of CTC, log P(y) = λ·log P_ctc(y) + (1 − λ)·log P_decoder(y), and the score is that and
    what the language model added.

    Parameters
    ----------
    model, heard, valid, tokenizer
        As those of `attended`.
    ctc_weight : float
        λ.
    texts : sequence of sequence of CtcHypothesis
        Those of each utterance.
    """
    units = [[one.tokens for one in some] for some in texts]
    found = []
    for some, log_probs in zip(texts, spelled(model, heard, valid, units, tokenizer)):
        both = []
        for one, own in zip(some, log_probs):
            if one.log_prob == -math.inf:  # what CTC gives where it can write nothing
                both.append(one)
                continue
            log_prob = ctc_weight * one.log_prob + (1.0 - ctc_weight) * own
            both.append(CtcHypothesis(one.tokens, log_prob, log_prob + (one.score - one.log_prob)))
        found.append(sorted(both, key=lambda one: -one.score))  # equal ones as CTC has them
    return found


@torch.no_grad()
def spelled(
    model: Recognizer,
    heard: Tensor,
    valid: Tensor,
    texts: Sequence[Sequence[Sequence[int]]],
    tokenizer: Tokenizer,
) -> list[list[float]]:
    """Log probability of each text and its end by the decoder, texts of each utterance.

    Texts share a product only with those of the same utterance and padded length, so that its bits depend on
    no other utterance.

    Parameters
    ----------
    model, heard, valid, tokenizer
        As those of `attended`.
    texts : sequence of sequence of sequence of int
        Units of the texts, without the end.
    """
    memory, state = model.begin(heard, valid)
    found = []
    for row, some in enumerate(texts):
        own = tuple(tensor[row : row + 1] for tensor in memory)
        scores = [0.0] * len(some)
        groups: dict[int, list[int]] = {}
        for place, units in enumerate(some):
            groups.setdefault(padded([*units, tokenizer.eos]), []).append(place)
        for places in groups.values():
            ids, there = pad([some[place] for place in places], tokenizer.pad)
            units_in, units_out, there = (
                _padded(one).to(model.device)
                for one in between_ends(ids, there, tokenizer.bos, tokenizer.eos)
            )
            begun = tuple(tensor[row : row + 1].repeat_interleave(len(places), 0) for tensor in state)
            _, nll = model.cross_entropy(own, begun, units_in, units_out, there)
            for place, values, kept in zip(places, nll.t().tolist(), there.t().tolist()):
                # fsum rounds once, whatever the order
                scores[place] = -math.fsum(value for value, inside in zip(values, kept) if inside)
        found.append(scores)
    return found


class FusedStep:
    """A decoder's step with what a language model adds to each unit, and to the end.

    The last tensor of the state is (N,), the number of each row's text: what the language model remembers of
    it is no tensor, and stays here.

    Parameters
    ----------
    step : callable
        As `beam_search` takes it, without attention.
    fusion : Fusion
    eos : int
    """

    def __init__(self, step: Step, fusion: Fusion, eos: int) -> None:
        self._step, self._fusion, self._eos = step, fusion, eos
        self._texts: list[Any] = []

    def __call__(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor | None, State]:
        """Take a step."""
        *own, numbers = state
        log_probs, attention, after = self._step(tokens, memory, tuple(own))
        before = numbers.tolist()
        if before[0] == BEFORE:
            texts = [self._fusion.begin()] * len(before)
        else:
            texts = self._fusion.extend([self._texts[number] for number in before], tokens.tolist())
        added = numpy.stack(self._fusion.gains(texts))  # (N, V)
        added[:, self._eos] = self._fusion.ends(texts)
        first = len(self._texts)
        self._texts += texts
        new = torch.arange(first, len(self._texts), device=numbers.device)
        return log_probs.double() + torch.from_numpy(added).to(log_probs.device), attention, (*after, new)


def _padded(tensor: Tensor) -> Tensor:
    """Add steps (zeros) up to the padded length."""
    missing = -len(tensor) % SOURCE_MULTIPLE
    return torch.cat([tensor, tensor.new_zeros(missing, tensor.shape[1])])
