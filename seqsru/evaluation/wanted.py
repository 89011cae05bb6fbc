"""What is asked of an `Adaptation`, and what of it is still to be chosen: nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqsru.errors import Refused, check_at_least, check_at_most, check_share
from seqsru.evaluation.adaptation import (
    CLIP,
    EPSILON,
    LONGEST,
    SEGMENT,
    Rule,
    check_inside,
    check_positive,
)
from seqsru.settings import checked_arguments

Tune = Literal["tune"]
STATISTICS, TUNED_ON = 50_000, 10_000  # tokens, where nothing else is asked for


@checked_arguments
@dataclass(frozen=True)
class Wanted:
    """What is asked of an `Adaptation`: values, and what is to be chosen on the validation text.

    Parameters
    ----------
    temperature : float or "tune"
        Divides the logits before the softmax; tune chooses it on the validation text of the run.
    cache : int or "tune" or None
        Take a continuous cache of so many positions (Grave et al. 2017); tune chooses the number too.
    cache_theta : float or None
        How much likeness counts in the cache; chosen on the validation text where not given.
    cache_share : float or None
        Share of the cache in the probability, the paper's lambda; chosen on the validation text where not
        given.
    dynamic : {"sgd", "rms"} or None
        Let the weights learn from the text that was scored (Krause et al. 2018), by plain gradients or by
        gradients over their root mean square in the training text.
    dynamic_rate : float or None
        Learning rate of it; chosen on the validation text where not given.
    dynamic_decay : float or None
        Share of the way back to the trained weights that each step takes; chosen on the validation text where
        not given.
    dynamic_segment : int or None
        Tokens that are scored before the weights learn from them; 40 where not given.
    dynamic_epsilon : float or None
        What rms adds to the root mean square; 0.001 where not given.
    dynamic_clip : float or None
        Largest norm of a gradient, as in training; 0 does not clip, 1 where not given.
    dynamic_statistics : int or None
        Tokens of the training text that rms takes the root mean square of gradients over; 50,000 where not
        given.
    tune_tokens : int or None
        Tokens at the beginning of the validation text that values are chosen on; 10,000 where not given.

    Raises
    ------
    Refused
        A value outside its range, or one that nothing else given makes use of.
    """

    temperature: float | Tune = 1.0
    cache: int | Tune | None = None
    cache_theta: float | None = None
    cache_share: float | None = None
    dynamic: Rule | None = None
    dynamic_rate: float | None = None
    dynamic_decay: float | None = None
    dynamic_segment: int | None = None
    dynamic_epsilon: float | None = None
    dynamic_clip: float | None = None
    dynamic_statistics: int | None = None
    tune_tokens: int | None = None

    def __post_init__(self) -> None:
        self._check_idle()
        positive = ("temperature", "cache_theta", "dynamic_rate", "dynamic_epsilon")
        check_positive(**{name: value for name, value in self._numbers() if name in positive})
        check_inside(**{name: value for name, value in self._numbers() if name == "cache_share"})
        check_share(**{name: value for name, value in self._numbers() if name == "dynamic_decay"})
        check_at_least(0, **{name: value for name, value in self._numbers() if name == "dynamic_clip"})
        counts = ("cache", "dynamic_segment", "dynamic_statistics", "tune_tokens")
        whole = {name: value for name, value in self._numbers() if name in counts}
        check_at_least(1, **whole)
        check_at_most(LONGEST, **whole)

    def _numbers(self) -> list[tuple[str, float]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, (int, float))]

    def _check_idle(self) -> None:
        """Refuse what nothing else makes use of."""
        for name, value in vars(self).items():
            of = name.partition("_")[0]
            if value is None or name == of:
                continue
            if name == "tune_tokens":
                if not self.chosen:
                    do = "leave one of the others to be chosen, or leave this out"
                    raise Refused("a value to choose on the validation text", "none", do, name)
            elif getattr(self, of) is None:
                raise Refused(f"{of} beside it", "none", f"give {of} too, or leave this out", name)
            elif name in ("dynamic_epsilon", "dynamic_statistics") and self.dynamic != "rms":
                raise Refused("dynamic rms beside it", str(self.dynamic), "take rms, or leave this out", name)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of what is to be chosen on the validation text."""
        names = ["temperature"] if self.temperature == "tune" else []
        if self.cache is not None:
            names += ["cache"] if self.cache == "tune" else []
            names += [name for name in ("cache_theta", "cache_share") if getattr(self, name) is None]
        if self.dynamic is not None:
            names += [name for name in ("dynamic_rate", "dynamic_decay") if getattr(self, name) is None]
        return tuple(names)

    @property
    def carries(self) -> bool:
        """Whether it needs one stream, whose state is carried from line to line."""
        return self.cache is not None or self.dynamic is not None

    @property
    def segment(self) -> int:
        """Tokens of a segment."""
        return SEGMENT if self.dynamic_segment is None else self.dynamic_segment

    @property
    def epsilon(self) -> float:
        """What is added to the root mean square."""
        return EPSILON if self.dynamic_epsilon is None else self.dynamic_epsilon

    @property
    def clip(self) -> float:
        """Largest norm of a gradient."""
        return CLIP if self.dynamic_clip is None else self.dynamic_clip

    @property
    def statistics(self) -> int:
        """Tokens of the training text whose gradients are looked at."""
        return STATISTICS if self.dynamic_statistics is None else self.dynamic_statistics

    @property
    def tuned_on(self) -> int:
        """Tokens of the validation text that values are chosen on."""
        return TUNED_ON if self.tune_tokens is None else self.tune_tokens
