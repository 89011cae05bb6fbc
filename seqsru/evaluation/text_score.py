"""What a language model makes of a text, and the text that it is of."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seqsru.data.tokenizers import Tokenizer
from seqsru.data.vocabulary import split_words
from seqsru.errors import Refused


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


class EncodedText:
    """Lines as one stream of tokens, the end of the line after each: what `TokenStream` is without torch.

    Parameters
    ----------
    lines : sequence of str
        At least one.
    tokenizer : Tokenizer

    Raises
    ------
    Refused
        No lines.
    """

    def __init__(self, lines: Sequence[str], tokenizer: Tokenizer) -> None:
        if not lines:
            raise Refused("at least one line of text", "none", "check the file", "text")
        self.tokens, self._ends = array("i"), [0]
        self._words = self._bytes = self._unknown = 0
        for line in lines:
            ids = tokenizer.encode(line)
            self._unknown += ids.count(tokenizer.unk)
            self.tokens.extend([*ids, tokenizer.eos])
            self._ends.append(len(self.tokens))
            self._words += len(split_words(line))
            self._bytes += len(line.encode("utf-8", "surrogatepass")) + 1

    def sentences(self) -> list[list[int]]:
        """Return the tokens of each line, its end included."""
        return [self.tokens[first:last].tolist() for first, last in zip(self._ends, self._ends[1:])]

    def scored(self, nll: float, carried: bool) -> TextScore:
        """Return what a model makes of it that gives it this negative log probability."""
        lines = len(self._ends) - 1
        state = "carried" if carried else "separate"
        return TextScore(nll, len(self.tokens), self._words, lines, self._bytes, self._unknown, state)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700.0 else math.inf
