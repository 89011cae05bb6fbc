"""A language model in the search for a text: over the units that are written, or over the words they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy
from numpy.typing import NDArray

from seqsru.errors import Refused, check_at_least, check_at_most, check_known, check_share

Floats = NDArray[numpy.float64]
Writer = Literal["ctc", "attention", "joint"]
END = None  # the word after the last one


@dataclass(frozen=True)
class CtcDecoding:
    """How the text of an utterance is searched.

    Parameters
    ----------
    beam : int
        Texts that are kept at each step; 1 takes the likeliest path and no language model.
    candidates : int
        Units that may follow at a step, the likeliest ones; 0 is all.
    n_best : int
        Texts an utterance, best first; at most `beam`.
    lm_weight : float
        What the log probability of the language model is multiplied with.
    lm_bonus : float
        What is added for each token of the language model that a text has, its end not counted.
    lm_unknown : float
        What is taken off for each word that a language model over words does not know, as soon as what is
        written of it begins none that it knows: the beam is for words of the vocabulary then.
    decoder : {"ctc", "attention", "joint"}
        What writes the text: the outputs of the steps (ctc), the decoder with attention, which needs a
        recogniser with model.decoder, or both: the texts of the beam of ctc, ordered by both.
    ctc_weight : float
        Share of ctc in the score of joint, the rest being the decoder's.

    Raises
    ------
    Refused
        A setting cannot be meant.
    """

    beam: int = 1
    candidates: int = 40
    n_best: int = 1
    lm_weight: float = 0.5
    lm_bonus: float = 0.0
    lm_unknown: float = 0.0
    decoder: Writer = "ctc"
    ctc_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a setting that cannot be meant."""
        check_at_least(1, beam=self.beam)
        check_at_most(100_000, beam=self.beam)
        check_at_least(0, candidates=self.candidates)
        if not 1 <= self.n_best <= self.beam:
            do = "widen the beam or ask for fewer"
            raise Refused(f"1 to the beam's {self.beam}", self.n_best, do, "n_best")
        check_at_least(0, lm_weight=self.lm_weight)
        check_at_most(1000, lm_weight=self.lm_weight)
        check_at_least(-1000, lm_bonus=self.lm_bonus)
        check_at_most(1000, lm_bonus=self.lm_bonus)
        check_at_least(0, lm_unknown=self.lm_unknown)
        check_at_most(1000, lm_unknown=self.lm_unknown)
        check_known(get_args(Writer), decoder=self.decoder)
        check_share(ctc_weight=self.ctc_weight)
        if self.decoder == "joint" and self.beam == 1:
            expected = "a beam of at least 2 with the decoder joint"
            raise Refused(expected, "1, which has one text to order", "widen it", "beam")

    def signature_fields(self, fused: bool) -> dict[str, object]:
        """What a signature says of a search: each setting that the best text depends on."""
        if self.beam == 1 and self.decoder == "ctc":
            return {"search": "best-path"}
        fields: dict[str, object] = {"beam": self.beam}
        if self.decoder != "attention":
            fields["candidates"] = self.candidates
        if self.decoder != "ctc":
            fields["decoder"] = self.decoder
        if self.decoder == "joint":
            fields["ctc-weight"] = self.ctc_weight
        if fused:
            fields |= {"lm-weight": self.lm_weight, "lm-bonus": self.lm_bonus}
            if self.lm_unknown:  # signatures from before there was one have none
                fields["lm-unknown"] = self.lm_unknown
        return fields


class TokenModel(Protocol):
    """A language model over the units that are written."""

    def begin(self) -> Any:
        """The state before the first unit."""
        ...

    def log_probs(self, state: Any) -> Floats:
        """Log probability of each unit, of shape (V,)."""
        ...

    def end(self, state: Any) -> float:
        """Log probability of the end."""
        ...

    def advance(self, states: Sequence[Any], units: Sequence[int]) -> list[Any]:
        """The states after one unit each."""
        ...


class WordModel(Protocol):
    """A language model over words."""

    @property
    def words(self) -> frozenset[str]:
        """Those that it knows."""
        ...

    def begin(self) -> Any:
        """The state before the first word."""
        ...

    def score(self, state: Any, word: str | None) -> float:
        """Log probability of a word; of the end for `END`."""
        ...

    def advance(self, states: Sequence[Any], words: Sequence[str]) -> list[Any]:
        """The states after one word each."""
        ...


class TokenFusion:
    """A language model over the units: each is scored when it is written.

    Parameters
    ----------
    model : TokenModel
    weight, bonus : float
        As `lm_weight` and `lm_bonus` of `CtcDecoding`.
    lost : ndarray of shape (V,), optional
        What each unit takes off.
    """

    def __init__(self, model: TokenModel, weight: float, bonus: float, lost: Floats | None = None) -> None:
        self._model, self._weight = model, weight
        self._added = bonus if lost is None else bonus - lost

    def begin(self) -> Any:
        """The state of the empty prefix."""
        return self._model.begin()

    def gains(self, states: Sequence[Any]) -> list[Floats]:
        """What each unit adds, (V,) for each state."""
        return [_weighed(self._weight, self._model.log_probs(state)) + self._added for state in states]

    def extend(self, states: Sequence[Any], units: Sequence[int]) -> list[Any]:
        """The states after one unit each."""
        return self._model.advance(states, units)

    def ends(self, states: Sequence[Any]) -> list[float]:
        """What the end of the text adds."""
        return [float(_weighed(self._weight, self._model.end(state))) for state in states]


class WordFusion:
    """A language model over words: each is scored when the unit after it is written, or the text ends.

    A state is that of the language model and the word that is being written.

    Parameters
    ----------
    model : WordModel
    units : sequence of (bool, str)
        Of each unit whether a new word begins with it, and what it adds to the word.
    weight, bonus, unknown : float
        As `lm_weight`, `lm_bonus` and `lm_unknown` of `CtcDecoding`.
    """

    def __init__(
        self,
        model: WordModel,
        units: Sequence[tuple[bool, str]],
        weight: float,
        bonus: float,
        unknown: float = 0.0,
    ) -> None:
        self._model, self._weight, self._bonus, self._unknown = model, weight, bonus, unknown
        self._units = units
        self._begins = numpy.array([begins for begins, _ in units])
        # Of words that are known; and what each unit takes off after one of them, once it was asked for.
        self._words = model.words if unknown else frozenset()
        self._beginnings = {word[:size] for word in self._words for size in range(len(word) + 1)}
        self._losses: dict[str | None, Floats] = {}

    def begin(self) -> tuple[Any, str]:
        """The state of the empty prefix."""
        return self._model.begin(), ""

    def gains(self, states: Sequence[tuple[Any, str]]) -> list[Floats]:
        """What each unit adds, (V,) for each state."""
        scores = [numpy.where(self._begins, self._scored(*state), 0.0) for state in states]
        if self._unknown:
            scores = [score - self._lost(word) for score, (_, word) in zip(scores, states)]
        return scores

    def extend(self, states: Sequence[tuple[Any, str]], units: Sequence[int]) -> list[tuple[Any, str]]:
        """The states after one unit each."""
        done = [place for place, unit in enumerate(units) if self._units[unit][0] and states[place][1]]
        models = [model for model, _ in states]
        after = self._model.advance([models[place] for place in done], [states[place][1] for place in done])
        for place, model in zip(done, after):
            models[place] = model
        return [
            (model, text if begins else word + text)
            for model, (_, word), (begins, text) in zip(models, states, (self._units[unit] for unit in units))
        ]

    def ends(self, states: Sequence[tuple[Any, str]]) -> list[float]:
        """What the end of the text adds: its last word, and the end."""
        written = [place for place, (_, word) in enumerate(states) if word]
        models = [model for model, _ in states]
        after = self._model.advance(
            [models[place] for place in written], [states[place][1] for place in written]
        )
        for place, model in zip(written, after):
            models[place] = model
        return [
            self._scored(*state)
            + float(_weighed(self._weight, self._model.score(model, END)))
            - (self._unknown if self._is_cut_short(state[1]) else 0.0)
            for state, model in zip(states, models)
        ]

    def _lost(self, word: str) -> Floats:
        """What each unit, after what is written of a word, takes off for words that are not known, (V,)."""
        written = word if word in self._beginnings else None  # it was lost before, and is lost once
        if written not in self._losses:
            lost = [
                (text not in self._beginnings) + self._is_cut_short(word)
                if begins
                else written is not None and word + text not in self._beginnings
                for begins, text in self._units
            ]
            self._losses[written] = self._unknown * numpy.array(lost, dtype=numpy.float64)
        return self._losses[written]

    def _is_cut_short(self, word: str) -> bool:
        """Whether a word, if it ends here, is the mere beginning of one that is known."""
        return word != "" and word in self._beginnings and word not in self._words

    def _scored(self, model: Any, word: str) -> float:
        """What a word that is whole adds."""
        if not word:
            return 0.0
        return float(_weighed(self._weight, self._model.score(model, word))) + self._bonus


def _weighed(weight: float, log_probs: Any) -> Any:
    """A share of log probabilities; a weight of 0 lets everything through."""
    return weight * log_probs if weight else numpy.zeros_like(log_probs)
