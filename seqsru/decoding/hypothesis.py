"""What a decoder returns for one candidate output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # torch takes a second to import, and not every decoder needs it
    from torch import Tensor

Memory: TypeAlias = "tuple[Tensor, ...]"
State: TypeAlias = "tuple[Tensor, ...]"
# (tokens (N,), Memory, State) -> log probabilities (N, V), attention (N, S) or None, State
Step: TypeAlias = "Callable[[Tensor, Any, Any], tuple[Tensor, Tensor | None, Any]]"


@dataclass(frozen=True)
class Hypothesis:
    """One output of a decoder.

    Attributes
    ----------
    tokens : list of int
        The generated tokens; the last one is ``</s>`` exactly when the hypothesis is finished.
    log_prob : float
        Sum of the tokens' log probabilities, ``</s>`` included, in nats.
    score : float
        What hypotheses are ordered by: `log_prob` over the length penalty, plus the coverage penalty.
    attention : Tensor of shape (len(tokens), S), float32 on the CPU, or None
        Weights on the source at each token; None where it was not asked for.
    """

    tokens: list[int]
    log_prob: float
    score: float
    attention: Tensor | None
