"""One update: the gradient of its batches, summed over all processes, divided once, clipped, and taken."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from seqsru.ops import embedding
from seqsru.training.averaging import Average
from seqsru.training.objective import BatchLoss, Carried, Objective
from seqsru.training.optimizers import step
from seqsru.training.pending import Made, Pending
from seqsru.training.processes import Processes, shared_gradients
from seqsru.training.replay import Replay
from seqsru.training.training_options import TrainingOptions

SURE = 3  # updates after which all that is compiled at first use is, and processes come at once


class Updates:
    """What makes updates, without once waiting for the device; `pending` is looked at by who must know.

    An update whose gradient or nll is not finite is none: neither weights nor optimizer change, nor, where
    training goes on, the carried state.

    Parameters
    ----------
    model, objective, optimizer, options, processes, average
        As the trainer has them.

    Attributes
    ----------
    pending : Pending
    seed : int or None
        What the masks of a batch are drawn from, with the numbers of its epoch and of its own: so they are
        the same whoever computes it. None draws on from the last one, as runs of older versions do.
    flags : (bool, bool)
        Which of the flags of the last update any process gave; one alone asks itself.
    replay : Replay
        What computes a batch where one process trains alone.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        options: TrainingOptions,
        processes: Processes,
        average: Average,
    ) -> None:
        self._model, self._objective, self._optimizer = model, objective, optimizer
        self._options, self._processes, self._average = options, processes, average
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._shared: nn.parallel.DistributedDataParallel | None = None  # once there is a batch
        self._made = 0
        self._ever = torch.zeros((), dtype=torch.bool, device=self._device)  # whether one was none
        self.pending = Pending()
        self.seed: int | None = None
        self.flags = False, False
        wanted = options.cuda_graphs == "auto"
        self.replay = Replay(model, objective, self._parameters, self._add_gradient, wanted)
        if processes.several:
            self.replay.end("several processes share every update")

    def make(
        self,
        group: Sequence[Any],
        place: tuple[int, int, int],
        carried: Carried | None,
        rate: float,
        flags: tuple[bool, bool] = (False, False),
    ) -> Carried | None:
        """Make an update.

        Parameters
        ----------
        group : sequence
            Its batches, all of them in every process.
        place : (int, int, int)
            Its number, from 1, its epoch, and the number there of its first batch.
        carried : tuple of Tensor or None
            What its first batch starts from: this process's rows, where they are shared.
        rate : float
            The learning rate.
        flags : (bool, bool)
            What this process tells the others with it.

        Returns
        -------
        tuple of Tensor or None
            What the next one starts from.
        """
        number, epoch, first = place
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate
        shares = list(enumerate(group, first))
        if not self._objective.shared_rows:
            shares = list(self._processes.mine(shares))
        if self._processes.several and self._shared is None:
            self._shared = shared_gradients(
                self._model, self._loss, self._processes, (group[0], carried, 1.0)
            )
        before, tokens, rows, nlls = carried, 0, 0, []
        # One that has no batch of an update takes part with nothing.
        for index, (at, batch) in enumerate(shares or [(first, group[0])]):
            result = self._backward(
                epoch, at, batch, carried, 1.0 if shares else 0.0, index + 1 >= len(shares)
            )
            carried = result.carried
            if shares:
                nlls.append(result.nll)
                tokens, rows = tokens + result.tokens, rows + result.rows
        whole = torch.zeros((), dtype=torch.float64, device=self._device)
        for nll in nlls:
            whole = whole + nll
        if self._processes.several:
            tokens, rows, whole = self._together(tokens, rows, whole, flags)
        norm, bad = self._scale(tokens if self._options.normalize == "tokens" else rows, whole)
        if self._options.on_nan == "stop":  # nor is any after it, until somebody looks
            self._ever = bad = bad | self._ever
        step(self._optimizer, bad)
        self._optimizer.zero_grad()
        self._average.update(number, bad)
        self._made += 1
        kept = tuple(at for at, _ in shares)
        shared = whole if self._processes.several else None
        self.pending.add(Made(number, epoch, kept, tokens, tuple(nlls), shared, norm))
        if self._options.on_nan == "skip":
            carried = _unless(bad, carried, before)
        return carried

    def _backward(
        self, epoch: int, number: int, batch: Any, carried: Carried | None, weight: float, last: bool
    ) -> BatchLoss:
        """Add the gradient of a batch; with that of the update's last one, those of all processes."""
        if self.seed is not None:
            _seed((self.seed, epoch, number), self._device)
        processes, shared = self._processes, self._shared
        if shared is None:
            return self.replay.add_gradient(batch, carried)
        alone = nullcontext() if last else shared.no_sync()
        meeting = processes.watched(at_once=self._made >= SURE) if last else nullcontext()
        with processes.guarded(), alone:
            with self.autocast():
                result: BatchLoss = shared(batch, carried, weight)
            with meeting:
                result.loss.backward()  # type: ignore[no-untyped-call]
        return result

    def _add_gradient(self, batch: Any, carried: Carried | None) -> BatchLoss:
        """Add the gradient of a batch where one process trains alone.

        What is returned has no history: while that is there, the next backward pass goes on with its nodes,
        and with the stream of the GPU that they were made on, which a capture is not to leave.
        """
        with self.autocast(), embedding.kept() as rows:
            result = self._loss(self._model, batch, carried, 1.0)
        rows.backward(result.loss)
        return result._replace(loss=result.loss.detach())

    def _loss(self, model: nn.Module, batch: Any, carried: Carried | None, weight: float) -> BatchLoss:
        if self._objective.shared_rows and self._processes.several:
            batch = self._objective.part(batch, *self._processes.part(self._objective.shared_rows))
        result = self._objective.loss(model, batch, carried)
        loss = result.loss if weight == 1.0 else result.loss * weight
        # All else without its history, in which nobody is to look for gradients.
        carried = tuple(t.detach() for t in result.carried)
        return result._replace(loss=loss, nll=result.nll.detach(), carried=carried)

    def _together(
        self, tokens: int, rows: int, nll: Tensor, flags: tuple[bool, bool]
    ) -> tuple[int, int, Tensor]:
        """Sums over all processes, in one meeting; what lies on a GPU is added up there."""
        at_once, here = self._made >= SURE, self._device.type == "cpu"
        numbers = [tokens, rows, *flags, nll.item() if here else 0.0]
        sums = self._processes.sums(*numbers, at_once=at_once)
        self.flags = bool(sums[2]), bool(sums[3])
        nll = torch.full_like(nll, sums[4]) if here else self._processes.sum_tensor(nll)
        return int(sums[0]), int(sums[1]), nll

    def _scale(self, divisor: int, nll: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the gradient of a sum into that of a mean and clip it.

        Returns
        -------
        norm : Tensor of shape (), float64
            Before clipping.
        bad : Tensor of shape (), bool
            Whether it, or the nll, is not finite.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).double() / divisor
        bad = ~(norm.isfinite() & nll.isfinite())
        if self._options.clip:
            factor = (self._options.clip / (norm + 1e-6)).clamp(max=1.0) / divisor
        else:
            factor = torch.full_like(norm, 1.0 / divisor)
        for dtype in {gradient.dtype for gradient in gradients}:
            of_type = [gradient for gradient in gradients if gradient.dtype == dtype]
            torch._foreach_mul_(of_type, factor.to(dtype))
        return norm, bad

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the loss is computed, for the precision of the options."""
        if self._options.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


def _seed(numbers: tuple[int, int, int], device: torch.device) -> None:
    """Seed the generators that masks are drawn from."""
    seed = int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0])
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


def _unless(bad: Tensor, carried: Carried | None, before: Carried | None) -> Carried | None:
    """What to start from after an update: what it gave, or what it started from, where it was none.

    Before the first one of an epoch every state is 0.
    """
    if carried is None:
        return None
    earlier = [torch.zeros_like(t) for t in carried] if before is None else before
    return tuple(torch.where(bad, old, new) for old, new in zip(earlier, carried))
