"""Language models for the search of a recogniser: those that were trained here, and n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.arpa import END, Ngrams
from seqsru.data.subwords import Pieces
from seqsru.data.tokenizers import Tokenizer
from seqsru.data.vocabulary import Characters, Words
from seqsru.decoding.ctc import Fusion
from seqsru.decoding.fusion import CtcDecoding, TokenFusion, WordFusion
from seqsru.errors import Refused
from seqsru.models.language_model import LanguageModel
from seqsru.pipelines.language import LanguagePipeline

Floats = NDArray[numpy.float64]
BEGIN = "\u2581"  # of a piece that begins a word


def fused(language_model: LanguagePipeline | Ngrams, tokenizer: Tokenizer, decoding: CtcDecoding) -> Fusion:
    """What a language model adds to the search of units.

    One over the units themselves scores each of them: of the same tokenizer, or of characters where the units
    are characters, or of words where they are words. One over words scores each word once it is written.

    Parameters
    ----------
    language_model : LanguagePipeline or Ngrams
        n-grams are over words.
    tokenizer : Tokenizer
        That of the units.
    decoding : CtcDecoding

    Raises
    ------
    Refused
        A language model whose tokens cannot be told from the units, or one that is compiled; `lm_unknown`
        with one over no words.
    """
    weight, bonus, unknown = decoding.lm_weight, decoding.lm_bonus, decoding.lm_unknown
    if isinstance(language_model, Ngrams):
        if isinstance(tokenizer, Words):
            strange = [word not in language_model.words for word in tokenizer.labels(range(tokenizer.size))]
            lost = unknown * numpy.array(strange, dtype=numpy.float64)
            return TokenFusion(NgramUnits(language_model, tokenizer), weight, bonus, lost)
        return WordFusion(NgramWords(language_model), _units(tokenizer), weight, bonus, unknown)
    model, its = language_model.model, language_model.tokenizer
    if model is None:
        found, do = "a file of the compiled engine", "name its run directory"
        raise Refused("a language model that torch decodes", found, do, "language_model")
    if unknown and not isinstance(its, Words):
        found = f"one over {its.kind}"
        raise Refused("a language model over words with lm_unknown", found, "leave it out", "lm_unknown")
    ids = _same_tokens(its, tokenizer)
    if ids is not None:
        lost = unknown * (ids == its.unk)
        return TokenFusion(NeuralUnits(model, its, ids, tokenizer), weight, bonus, lost)
    if isinstance(its, Words):
        return WordFusion(NeuralWords(model, its), _units(tokenizer), weight, bonus, unknown)
    raise Refused(
        f"a language model over words, or over the recogniser's {tokenizer.kind}",
        f"one over {its.kind} of its own",
        "train it with tokenizer: {name: saved, run: …}, the run being the recogniser's",
        "language_model",
    )


def _same_tokens(its: Tokenizer, units: Tokenizer) -> NDArray[numpy.int64] | None:
    """The token of a language model for each unit (V,), where units and tokens are of one kind."""
    if its.fingerprint == units.fingerprint:
        return numpy.arange(units.size)
    if any(isinstance(its, kind) and isinstance(units, kind) for kind in (Characters, Words)):
        types = units.labels(range(units.size))
        return numpy.array([(its.encode(text) or [its.unk])[0] for text in types])
    return None


def _units(tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """Of each unit whether a new word begins with it, and what it adds to the word."""
    labels = tokenizer.labels(range(tokenizer.size))
    if isinstance(tokenizer, Pieces):
        return [(label.startswith(BEGIN), label.removeprefix(BEGIN)) for label in labels]
    return [(True, "") if label.isspace() else (False, label) for label in labels]


class NgramUnits:
    """N-grams where the units are words.

    Parameters
    ----------
    ngrams : Ngrams
    tokenizer : Words
    """

    def __init__(self, ngrams: Ngrams, tokenizer: Words) -> None:
        self._ngrams, self._words = ngrams, tokenizer.labels(range(tokenizer.size))
        self._eos = tokenizer.eos

    def begin(self) -> Any:
        """The context of the first word."""
        return self._ngrams.begin()

    def log_probs(self, state: Any) -> Floats:
        """Log probability of each word."""
        scores = numpy.array([self._ngrams.score(state, word) for word in self._words])
        scores[self._eos] = -numpy.inf  # it ends a text, and is never written
        return scores

    def end(self, state: Any) -> float:
        """Log probability of the end."""
        return self._ngrams.score(state, END)

    def advance(self, states: Sequence[Any], units: Sequence[int]) -> list[Any]:
        """The contexts after one word each."""
        return [self._ngrams.advance(state, self._words[unit]) for state, unit in zip(states, units)]


class NgramWords:
    """N-grams as a model over words.

    Parameters
    ----------
    ngrams : Ngrams
    """

    def __init__(self, ngrams: Ngrams) -> None:
        self._ngrams = ngrams

    @property
    def words(self) -> frozenset[str]:
        """Those that it knows."""
        return self._ngrams.words

    def begin(self) -> Any:
        """The context of the first word."""
        return self._ngrams.begin()

    def score(self, state: Any, word: str | None) -> float:
        """Log probability of a word, or of the end."""
        return self._ngrams.score(state, END if word is None else word)

    def advance(self, states: Sequence[Any], words: Sequence[str]) -> list[Any]:
        """The contexts after one word each."""
        return [self._ngrams.advance(state, word) for state, word in zip(states, words)]


class _Read:
    """A text as far as a model has read it: its state, and the log probabilities of what may follow."""

    def __init__(self, state: tuple[Tensor, ...], log_probs: Floats) -> None:
        self.state, self.log_probs = state, log_probs


class _Neural:
    """A language model that reads tokens of several texts at a time."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self._model, self.tokenizer = model.eval(), tokenizer

    @torch.no_grad()
    def begin(self) -> _Read:
        """A text of nothing."""
        _, state = self._model.begin(torch.zeros(0, 1, dtype=torch.int64, device=self._device))
        return self._read(state, [self.tokenizer.eos])[0]

    @torch.no_grad()
    def advance(self, texts: Sequence[_Read], tokens: Sequence[int]) -> list[_Read]:
        """The texts after one token each."""
        if not texts:
            return []
        state = tuple(torch.cat(rows) for rows in zip(*(text.state for text in texts)))
        return self._read(state, tokens)

    @property
    def _device(self) -> torch.device:
        return self._model.embedding.weight.device

    def _read(self, state: tuple[Tensor, ...], tokens: Sequence[int]) -> list[_Read]:
        ids = torch.tensor(tokens, device=self._device)
        log_probs, _, state = self._model.step(ids, (), state)
        rows = log_probs.double().cpu().numpy()
        return [
            _Read(tuple(tensor[place : place + 1] for tensor in state), row) for place, row in enumerate(rows)
        ]


class NeuralUnits:
    """A language model over the units.

    Parameters
    ----------
    model : LanguageModel
    tokenizer : Tokenizer
        Its own.
    ids : ndarray of shape (V,)
        Its token for each unit.
    units : Tokenizer
        Of the units.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, ids: NDArray[numpy.int64], units: Tokenizer
    ) -> None:
        self._model, self._ids, self._eos = _Neural(model, tokenizer), ids, tokenizer.eos
        self._never = units.eos

    def begin(self) -> _Read:
        """The state before the first unit."""
        return self._model.begin()

    def log_probs(self, state: _Read) -> Floats:
        """Log probability of each unit."""
        scores = state.log_probs[self._ids]
        scores[self._never] = -numpy.inf  # it ends a text, and is never written
        return scores

    def end(self, state: _Read) -> float:
        """Log probability of the end."""
        return float(state.log_probs[self._eos])

    def advance(self, states: Sequence[_Read], units: Sequence[int]) -> list[_Read]:
        """The states after one unit each."""
        return self._model.advance(states, [int(self._ids[unit]) for unit in units])


class NeuralWords:
    """A language model over words.

    Parameters
    ----------
    model : LanguageModel
    tokenizer : Words
    """

    def __init__(self, model: LanguageModel, tokenizer: Words) -> None:
        self._model, self._tokenizer = _Neural(model, tokenizer), tokenizer

    @property
    def words(self) -> frozenset[str]:
        """Those that it knows."""
        its = self._tokenizer
        types = set(range(its.size)) - {its.unk, its.eos, its.bos, its.pad}
        return frozenset(its.labels(sorted(types)))

    def begin(self) -> _Read:
        """The state before the first word."""
        return self._model.begin()

    def score(self, state: _Read, word: str | None) -> float:
        """Log probability of a word, or of the end."""
        return float(state.log_probs[self._tokenizer.eos if word is None else self._id(word)])

    def advance(self, states: Sequence[_Read], words: Sequence[str]) -> list[_Read]:
        """The states after one word each."""
        return self._model.advance(states, [self._id(word) for word in words])

    def _id(self, word: str) -> int:
        return (self._tokenizer.encode(word) or [self._tokenizer.unk])[0]
