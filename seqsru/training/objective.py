"""What the training loop minimises and measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from seqsru.training.processes import ALONE, Processes

Carried = tuple[Tensor, ...]  # a model's recurrent state between two batches


class BatchLoss(NamedTuple):
    """Loss of one batch, as sums.

    Attributes
    ----------
    loss : Tensor of shape ()
        What is minimised, summed over tokens, differentiable.
    nll : Tensor of shape ()
        Negative log probability of the targets, summed, natural logarithm.
    tokens : int
        Targets counted.
    rows : int
        Rows of the batch.
    carried : tuple of Tensor
        What the next batch starts from; () where batches stand alone.
    """

    loss: Tensor
    nll: Tensor
    tokens: int
    rows: int
    carried: Carried


class Objective(ABC):
    """Batches, loss and validation of one kind of model.

    Attributes
    ----------
    metric : str
        The headline of ``validate``'s result.
    higher_is_better : bool
        Its direction.
    tie_breaker : str or None
        The measure of ``validate``'s result, the lower the better, that decides between equal values of
        `metric`; after it, and without one, the earlier validation counts as the better.
    notes : tuple of str
        What a person should know of the validation; told before training begins, and in its log.
    text : str or None
        Digest of the held-out texts, for a signature.
    fingerprints : mapping of str to str
        sha256 of the tokenizers, kept in every checkpoint.
    shared_rows : int
        Rows of every batch where each batch goes on from the one before, so that processes share the rows; 0
        where batches stand alone, so that each process takes whole ones.
    processes : Processes
        Those that share the validation.
    """

    metric: str
    higher_is_better: bool
    tie_breaker: str | None = None
    notes: tuple[str, ...] = ()
    text: str | None = None
    fingerprints: Mapping[str, str]
    shared_rows: int = 0
    processes: Processes = ALONE

    @abstractmethod
    def epoch_length(self) -> int:
        """Number of batches in an epoch: the same in every one."""

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """Batches of an epoch (counted from 1) from number ``start`` on; the same ones whenever asked for.

        Any epoch is made without those before.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, carried: Carried | None) -> BatchLoss:
        """Loss of a batch; ``carried`` is None at the start of an epoch."""

    def counts(self, batch: Any) -> tuple[int, int] | None:
        """Targets and rows of a batch of which `loss` is a fixed program, so that a GPU may play it again.

        That is: a batch is a tensor, or a dataclass; of it `loss` computes with nothing but tensors, each in
        full; shapes alone decide what is computed, and nothing on the host depends on what a tensor holds.
        None where that is not so, or not known.
        """
        return None

    def part(self, batch: Any, first: int, last: int) -> Any:
        """Some rows of a batch, for `loss`: from the first one to before the last one."""
        raise NotImplementedError("batches without rows are not shared by rows")

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        """The lines of a batch, from 1, by file: for who looks for a fault."""
        return {}

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure the model, which is in evaluation mode, on held-out data."""

    def carried_like(self, model: nn.Module) -> Carried:
        """What a batch may start from, in shape; () where batches stand alone."""
        return ()

    def signature_fields(self) -> dict[str, object]:
        """What a signature says of how `validate` measures and on how much: what the numbers depend on."""
        return {}
