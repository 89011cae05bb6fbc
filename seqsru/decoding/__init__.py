"""Beam search and sampling over a step function: nothing here knows what a model is.

A step is ``step(tokens (N,), memory, state) -> (log_probs (N, V), attention (N, S) or None, state)``.
`memory` is a tuple of tensors with one row a sentence, `state` a tuple with one row a hypothesis; row n of
the state belongs to sentence ``n // (N // B)``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from seqsru.decoding.decoding import BatchBy, Decoding, Stop
from seqsru.decoding.hypothesis import Hypothesis, Memory, State, Step
from seqsru.decoding.penalties import PENALTIES, Penalty, coverage_penalty
from seqsru.decoding.rules import RULES, ForbiddenTokens, MinimumLength, NoRepeatedNgram, Rule

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.decoding.beam import beam_search as beam_search
    from seqsru.decoding.sampling import sample as sample

# Where what needs torch is: importing it takes a second.
_PLACES = {
    "beam_search": "beam",
    "sample": "sampling",
}

__all__ = [
    "BatchBy",
    "Decoding",
    "ForbiddenTokens",
    "Hypothesis",
    "Memory",
    "MinimumLength",
    "NoRepeatedNgram",
    "PENALTIES",
    "Penalty",
    "RULES",
    "Rule",
    "State",
    "Step",
    "Stop",
    "beam_search",
    "coverage_penalty",
    "sample",
]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.decoding.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.decoding' has no attribute {name!r}")
