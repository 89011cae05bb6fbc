"""The one function that is called from Python: it is given the address of what `layout` names."""

from __future__ import annotations

from seqsru.engine import layout as a
from seqsru.engine.scoring import draw, follow, score
from seqsru.engine.search import translate


def run(g):
    """Do what WHAT says; STATUS is then 1 where the model gave what is no number, else 0."""
    if g[a.WHAT] == a.SEARCH:
        g[a.STATUS] = translate(g)
    elif g[a.WHAT] == a.SCORE:
        g[a.STATUS] = score(g)
    elif g[a.WHAT] == a.DRAW:
        g[a.STATUS] = draw(g)
    else:
        g[a.STATUS] = follow(g)
