"""Beam search and sampling over a step function: nothing here knows what a model is.

A step is ``step(tokens (N,), memory, state) -> (log_probs (N, V), attention (N, S) or None, state)``.
`memory` is a tuple of tensors with one row a sentence, `state` a tuple with one row a hypothesis; row n of
the state belongs to sentence ``n // (N // B)``.
"""

from seqsru.decoding.beam import beam_search
from seqsru.decoding.decoding import BatchBy, Decoding, Stop
from seqsru.decoding.hypothesis import Hypothesis, Memory, State, Step
from seqsru.decoding.penalties import PENALTIES, Penalty, coverage_penalty
from seqsru.decoding.rules import RULES, ForbiddenTokens, MinimumLength, NoRepeatedNgram, Rule
from seqsru.decoding.sampling import sample

__all__ = [
    "PENALTIES",
    "RULES",
    "BatchBy",
    "Decoding",
    "ForbiddenTokens",
    "Hypothesis",
    "Memory",
    "MinimumLength",
    "NoRepeatedNgram",
    "Penalty",
    "Rule",
    "State",
    "Step",
    "Stop",
    "beam_search",
    "coverage_penalty",
    "sample",
]
