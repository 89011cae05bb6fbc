"""The functions that are called from Python: each is given the address of what `layout` names."""

from __future__ import annotations

from seqsru.engine import layout as a
from seqsru.engine import scoring
from seqsru.engine import search as searching


def search(g):
    """Search the best outputs; STATUS is 1 where the model gives what is no number."""
    g[a.STATUS] = searching.translate(g)


def score(g):
    """Score given tokens; STATUS as above."""
    g[a.STATUS] = scoring.score(g)


def draw(g):
    """Draw continuations; STATUS as above."""
    g[a.STATUS] = scoring.draw(g)


def follow(g):
    """Give the log probabilities of every next token; STATUS as above."""
    g[a.STATUS] = scoring.follow(g)
