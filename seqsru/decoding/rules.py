"""Rules that forbid tokens while decoding; a new one is a class here and a line in `RULES`."""

# Annotations are read at run time: the settings of a rule are its constructor's arguments.
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from seqsru.errors import Refused, check_at_least, check_at_most

if TYPE_CHECKING:  # torch takes a second to import, and not every decoder needs it
    from torch import Tensor


class Rule(ABC):
    """Changes log probabilities before the best are taken.

    A forbidden token gets minus infinity; the rest are not renormalised, so a score is still the model's own.
    Rules yield to ``max_length``: there ``</s>`` keeps the model's log probability, whatever a rule says.
    """

    @abstractmethod
    def __call__(self, log_probs: "Tensor", history: "Tensor", eos: int) -> "Tensor":
        """Return new log probabilities.

        Parameters
        ----------
        log_probs : Tensor of shape (N, V)
            Log probabilities of the next token; not to be written to.
        history : Tensor of shape (N, t), int64
            The tokens generated so far, without the start symbol.
        eos : int
            The token that ends a hypothesis.
        """

    def __str__(self) -> str:
        """Its name and settings as the flag ``--rule`` takes them: ``no_repeat_ngram.size=3``."""
        name = next((name for name, rule in RULES.items() if rule is type(self)), type(self).__name__)
        values = (f"{name}.{setting}={value}" for setting, value in vars(self).items())
        return ",".join(values).replace(" ", "") or name


class MinimumLength(Rule):
    """No end of sentence before `length` tokens, ``</s>`` included.

    Parameters
    ----------
    length : int
        Fewest tokens of an output, ``</s>`` included.
    """

    def __init__(self, length: int) -> None:
        if length < 1:
            raise Refused("at least 1", length, "leave the rule min_length out", "length")
        check_at_most(1_000_000, length=length)
        self.length = length

    def __call__(self, log_probs: "Tensor", history: "Tensor", eos: int) -> "Tensor":
        """Forbid ``</s>`` while the output would be too short."""
        if history.shape[1] + 1 >= self.length:
            return log_probs
        log_probs = log_probs.clone()
        log_probs[:, eos] = -math.inf
        return log_probs


class ForbiddenTokens(Rule):
    """Tokens that are never generated, such as ``<unk>``.

    Parameters
    ----------
    tokens : list of int
        The forbidden token numbers.
    """

    def __init__(self, tokens: list[int]) -> None:
        if not tokens:
            raise Refused("at least one token number", "none", "leave the rule forbid out", "tokens")
        for token in tokens:
            check_at_least(0, tokens=token)
        self.tokens = sorted(set(tokens))

    def __call__(self, log_probs: "Tensor", history: "Tensor", eos: int) -> "Tensor":
        """Forbid the tokens."""
        self.check(log_probs.shape[1])
        log_probs = log_probs.clone()
        log_probs[:, self.tokens] = -math.inf
        return log_probs

    def check(self, vocabulary: int) -> None:
        """Refuse token numbers that a vocabulary of so many types does not have."""
        if self.tokens[-1] >= vocabulary:
            raise Refused(
                f"token numbers from 0 to {vocabulary - 1}",
                self.tokens,
                "take them from the target tokenizer",
                "tokens",
            )


class NoRepeatedNgram(Rule):
    """No sequence of `size` tokens twice in one output; ``</s>`` is always allowed.

    Parameters
    ----------
    size : int
        Length of the sequences that may not repeat.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise Refused("at least 1", size, "leave the rule no_repeat_ngram out", "size")
        check_at_most(1_000_000, size=size)
        self.size = size

    def __call__(self, log_probs: "Tensor", history: "Tensor", eos: int) -> "Tensor":
        """Forbid each token that would end a sequence already generated."""
        length = history.shape[1]
        if length < self.size:
            return log_probs
        grams = history.unfold(1, self.size, 1)  # (N, length - size + 1, size)
        suffix = history[:, length - self.size + 1 :]  # (N, size - 1)
        repeated = (grams[:, :, :-1] == suffix.unsqueeze(1)).all(-1)  # (N, length - size + 1)
        hits = log_probs.new_zeros(log_probs.shape).scatter_add_(
            1, grams[:, :, -1], repeated.to(log_probs.dtype)
        )
        hits[:, eos] = 0
        return log_probs.masked_fill(hits > 0, -math.inf)


RULES: dict[str, Callable[..., Rule]] = {
    "min_length": MinimumLength,
    "forbid": ForbiddenTokens,
    "no_repeat_ngram": NoRepeatedNgram,
}
