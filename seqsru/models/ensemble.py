"""Several translators that translate as one: the mean of their probabilities at each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from seqsru.cells import State
from seqsru.errors import Refused
from seqsru.models.decoder import Memory
from seqsru.models.translator import Translator

T = TypeVar("T")


class Ensemble(nn.Module):
    """Predict each token with the mean of what several translators predict; decoded as one of them is.

    1. ``log p(v) = max_m l_m + log(1/M Σ_m exp(l_m − max_m l_m))``   l_m the log probability by member m
    2. ``a = 1/M Σ_m a_m``                                            of the weights on the source

    In (1) no exponential overflows, and where all members say the same, such as one of them or the same one
    several times, each term is 1 and their value comes out to the bit. Every operation is one of elements in
    the order of the members, so that a row has the bits that it has alone.

    Memory and state are those of the members one after the other.

    Variables
    ---------
    ``members.{m}.*``.

    Parameters
    ----------
    members : sequence of Translator
        At least one, of any architecture, with the same vocabularies on both sides.

    Attributes
    ----------
    source_vocabulary, target_vocabulary : int

    Raises
    ------
    Refused
        No members, or vocabularies of other sizes.
    """

    def __init__(self, members: Sequence[Translator]) -> None:
        super().__init__()
        if not members:
            raise Refused("at least one translator", "none", "give one", "members")
        first, *others = members
        for name in ("source_vocabulary", "target_vocabulary"):
            for other in others:
                expected, found = getattr(first, name), getattr(other, name)
                if expected != found:
                    do = "average translators of the same tokenizers"
                    raise Refused(f"{name} {expected} of every member", found, do, "members")
        self.source_vocabulary, self.target_vocabulary = first.source_vocabulary, first.target_vocabulary
        self.members = nn.ModuleList(members)

    def forward(self, source: Tensor, source_valid: Tensor | None, target_in: Tensor) -> list[Tensor]:
        """Predict every token of known translations; see `Translator.forward`.

        Returns
        -------
        features : list of Tensor of shape (T, B, F)
            Of each member, for `cross_entropy`.
        """
        return [member(source, source_valid, target_in) for member in self._all()]

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def cross_entropy(
        self, features: Sequence[Tensor], targets: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed nll, and the nll of each target (T, B), 0 where it is not valid; by the mean probability."""
        parts = [member.cross_entropy(one, targets, valid)[1] for member, one in zip(self._all(), features)]
        nll = -mean_log_probs([-part for part in parts])
        return nll.sum(), nll

    def begin(self, source: Tensor, valid: Tensor | None = None) -> tuple[Memory, State]:
        """Read a source, once, with every member; see `Translator.begin`."""
        begun = [member.begin(source, valid) for member in self._all()]
        memory = tuple(tensor for one, _ in begun for tensor in one)
        return memory, tuple(tensor for _, one in begun for tensor in one)

    def step(
        self, tokens: Tensor, memory: Memory, state: State, with_attention: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        """Read one token a row and give the next one's log probabilities; see `Translator.step`."""
        members = list(self._all())
        memories = _parted(memory, [member.decoder.memory_tensors for member in members])
        states = _parted(state, [member.decoder.state_tensors for member in members])
        found = [
            member.step(tokens, of, before, with_attention)
            for member, of, before in zip(members, memories, states)
        ]
        weights = [attention for _, attention, _ in found if attention is not None]
        after = tuple(tensor for _, _, one in found for tensor in one)
        return mean_log_probs([one for one, _, _ in found]), _mean(weights) if weights else None, after

    def _all(self) -> Iterable[Translator]:
        """Give the members with their type."""
        return cast("Iterable[Translator]", self.members)


def mean_log_probs(parts: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of probabilities, from their logarithms, all of one shape.

    Parameters
    ----------
    parts : sequence of Tensor
        At least one. Where all are minus infinity the result is, and where one is NaN.
    """
    top = parts[0]
    for part in parts[1:]:
        top = torch.maximum(top, part)
    top = top.clamp(min=torch.finfo(top.dtype).min)  # of minus infinity from itself there is no difference
    return top + _mean([(part - top).exp() for part in parts]).log()


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean, member by member: of equal parts it is each of them to the bit, as no quotient is."""
    mean = parts[0]
    for count, part in enumerate(parts[1:], start=2):
        mean = mean + (part - mean) / count
    return mean


def _parted(tensors: Sequence[T], counts: Sequence[int]) -> list[tuple[T, ...]]:
    """Return so many of them for each member."""
    each = iter(tensors)
    return [tuple(next(each) for _ in range(count)) for count in counts]
