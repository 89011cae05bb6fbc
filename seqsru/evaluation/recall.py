"""How far a language model remembers: of the copy task, the share of symbols that it knows after each gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from seqsru.data.copying import parts
from seqsru.data.lines import text_lines
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused
from seqsru.models.language_model import LanguageModel


class Recall(NamedTuple):
    """What was remembered over one gap.

    Attributes
    ----------
    gap : int
        Steps between the symbols and the cue; what is recalled lies symbols + gap + 1 steps back.
    symbols : int
        Symbols that were asked for, of all lines with that gap.
    right : int
        Of these, how many were the likeliest one among all types, after those before them.
    """

    gap: int
    symbols: int
    right: int

    @property
    def accuracy(self) -> float:
        """The share that was right."""
        return self.right / self.symbols

    @property
    def error(self) -> float:
        """Standard error of the accuracy, the symbols taken as independent."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.symbols)


@torch.no_grad()
def recall(
    model: LanguageModel, tokenizer: Tokenizer, lines: Sequence[str], *, before: Sequence[str] = ()
) -> list[Recall]:
    """Ask a language model for the symbols after the cue.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    tokenizer : Tokenizer
        The one it was trained with, a token a symbol.
    lines : sequence of str
        Lines of the copy task, see `seqsru.data.copying`.
    before : sequence of str
        What is read before each of the lines, from the initial state. A model that was trained on a stream
        has met that state once, and need not remember anything in it; with a few lines of the task before, a
        line is read in the state that it was trained in.

    Returns
    -------
    list of Recall
        By gap, nearest first.

    Raises
    ------
    Refused
        No lines, one of another form, or a tokenizer of other tokens.
    """
    groups: dict[tuple[int, int], list[list[int]]] = {}
    for text in text_lines(lines):
        gap, symbols = parts(text)
        ids = list(tokenizer.encode(text))
        if len(ids) != 2 * symbols + gap + 1:
            raise Refused(
                "a token a symbol", f"{len(ids)} of {text!r}", "train with tokenizer words", "tokenizer"
            )
        groups.setdefault((gap, symbols), []).append([tokenizer.eos, *ids])
    if not groups:
        raise Refused("lines of the copy task", "none", "check the file")
    device = model.embedding.weight.device
    start = [token for text in text_lines(before) for token in (*tokenizer.encode(text), tokenizer.eos)]
    _, state = model.begin(torch.tensor([tokenizer.eos, *start][:-1], device=device)[:, None])
    found: dict[int, Recall] = {}
    for (gap, symbols), rows in groups.items():
        tokens = torch.tensor(rows, device=device).T  # (1 + 2·symbols + gap + 1, B)
        features, _ = model(tokens[:-1], tuple(one.repeat_interleave(len(rows), 0) for one in state))
        right = model.logits(features[-symbols:]).argmax(-1) == tokens[-symbols:]
        others = found.get(gap, Recall(gap, 0, 0))
        found[gap] = Recall(gap, others.symbols + right.numel(), others.right + int(right.sum()))
    return [found[gap] for gap in sorted(found)]
