"""How a text is scored beyond the weights as they were trained: nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from seqsru.errors import Refused, check_at_least, check_at_most, check_share
from seqsru.settings import checked_arguments

Rule = Literal["sgd", "rms"]
SEGMENT, EPSILON, CLIP = 40, 1e-3, 1.0  # where nothing else is asked for
LONGEST = 1_000_000_000  # steps or positions: more than any text here has


@checked_arguments
@dataclass(frozen=True)
class Cache:
    """A continuous cache: words are likelier where the model was in a state like the present one before.

    With f_t the features after token t (the output product's input) and w_t the tokens, the pairs
    (f_i, w_{i+1}) of the last n positions before t are remembered, and (Grave et al. 2017, equations 1 and 2)

    1. ``q(w) ∝ Σ_i [w_{i+1} = w] · exp(θ f_t · f_i)``      i from t − n to t − 1
    2. ``p(w_{t+1}) = (1 − λ) · p_model + λ · q``           p_model alone while nothing is remembered

    Parameters
    ----------
    size : int
        n, the positions that are remembered.
    theta : float
        θ, how much likeness counts: above 0.
    share : float
        λ, above 0 and below 1.

    Raises
    ------
    Refused
        A value outside its range.
    """

    size: int
    theta: float
    share: float

    def __post_init__(self) -> None:
        check_at_least(1, size=self.size)
        check_at_most(LONGEST, size=self.size)
        check_positive(theta=self.theta)
        check_inside(share=self.share)


@checked_arguments
@dataclass(frozen=True)
class Dynamic:
    """Dynamic evaluation: the weights go on learning from the text, each segment after it was scored.

    With θ_g the weights as trained, L_s the mean loss of the tokens of segment s, scored with the weights
    that the segments before it left, and m the mean of squared gradients of the training text, each of the
    mean loss of a window of 10 rows of a segment's length (Krause et al. 2018),

    1. ``r = √m``                                                              as trained, once
    2. ``n = r / mean(r)``                                                     mean over all parameters
    3. ``g = ∇L_s · min(1, C / ‖∇L_s‖)``                                       norm over all parameters
    4. ``θ ← θ + min(λ n, 1) (θ_g − θ) − η g / (r + ε)``                       rms
    5. ``θ ← θ + λ (θ_g − θ) − η g``                                           sgd

    Gradients go back to the beginning of their segment, and no dropout is drawn. Equation 3 is training's and
    none of the paper's: at the rate that is best for some thousand tokens, weights that went astray once may
    give ever larger gradients later in a text.

    Parameters
    ----------
    rule : {"sgd", "rms"}
        Equation 5, or 4.
    rate : float
        η, above 0.
    decay : float
        λ, from 0 to 1; 0 does not return to the weights as trained.
    segment : int
        Tokens that are scored before the weights learn from them.
    epsilon : float
        ε of equation 4, above 0; no part of sgd.
    clip : float
        C, the largest norm of a gradient; 0 leaves gradients as they are.

    Raises
    ------
    Refused
        A value outside its range.
    """

    rule: Rule
    rate: float
    decay: float
    segment: int = SEGMENT
    epsilon: float = EPSILON
    clip: float = CLIP

    def __post_init__(self) -> None:
        check_positive(rate=self.rate, epsilon=self.epsilon)
        check_share(decay=self.decay)
        check_at_least(0, clip=self.clip)
        check_at_least(1, segment=self.segment)
        check_at_most(LONGEST, segment=self.segment)


@checked_arguments
@dataclass(frozen=True)
class Adaptation:
    """All of it together: what each is computed from follows the order of the equations.

    1. The weights that score segment s are those of `Dynamic`, which learns from p(w) at temperature 1 alone.
    2. ``p_model = softmax(z / τ)``     z the logits of these weights, τ the temperature (Guo et al. 2017)
    3. The `Cache` is mixed into p_model; it remembers features as they were when they were computed.

    Parameters
    ----------
    temperature : float
        τ, above 0; 1 leaves the model as it is.
    cache : Cache, optional
    dynamic : Dynamic, optional

    Raises
    ------
    Refused
        A temperature that is not above 0.
    """

    temperature: float = 1.0
    cache: Cache | None = None
    dynamic: Dynamic | None = None

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)

    @property
    def carries(self) -> bool:
        """Whether it needs one stream, whose state is carried from line to line."""
        return self.cache is not None or self.dynamic is not None

    def fields(self) -> dict[str, object]:
        """What a signature says of it."""
        fields: dict[str, object] = {"temperature": self.temperature}
        if self.cache is not None:
            size, theta, share = self.cache.size, self.cache.theta, self.cache.share
            fields |= {"cache": size, "cache_theta": theta, "cache_share": share}
        if self.dynamic is not None:
            one = self.dynamic
            fields |= {"dynamic": one.rule, "dynamic_rate": one.rate, "dynamic_decay": one.decay}
            fields["dynamic_segment"] = one.segment
            fields["dynamic_clip"] = one.clip
            if one.rule == "rms":
                fields["dynamic_epsilon"] = one.epsilon
        return fields


def check_carried(carries: bool, carried: bool) -> None:
    """Refuse a cache and dynamic evaluation of lines apart, which leave nothing to each other."""
    if carries and not carried:
        do = "take state carried"
        raise Refused("one stream for a cache or dynamic evaluation", "lines apart", do, "state")


def no_adaptation() -> Refused:
    """The refusal of an engine that has no logits to divide, no features to remember and no gradients."""
    do = "take engine torch with the run directory"
    return Refused(
        "torch for a temperature, a cache or dynamic evaluation", "the compiled engine", do, "engine"
    )


def check_positive(**given: float) -> None:
    """Refuse a number that is not above 0 and finite, named by its keyword."""
    for setting, value in given.items():
        if not (math.isfinite(value) and value > 0.0):
            raise Refused("a finite number above 0", str(value), "raise it", setting)


def check_inside(**given: float) -> None:
    """Refuse a number that is not between 0 and 1, neither included, named by its keyword."""
    for setting, value in given.items():
        if not 0.0 < value < 1.0:
            raise Refused("a number above 0 and below 1", str(value), "give such a share", setting)
