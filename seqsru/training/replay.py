"""Forward and backward passes of batches as CUDA graphs, where shapes repeat.

An update of a small model is hundreds of kernels that a host starts one by one, and the GPU waits for the
host. The rules, of which only the first is a setting, besides those of `ops.graphs`:

* ``cuda_graphs: auto``, a GPU, and one process: where several sum gradients, batches are computed as they
  come.
* The objective says that its loss is a fixed program of a batch's tensors (`Objective.counts`).
* What decides the program is the key of a graph: shapes and types of the batch, which of its tensors are
  there, whether it starts from a carried state, and whether it is the first of its update. A model that is no
  longer what it was (its places in memory, the numbers in its modules, what is trained) forgets its graphs;
  one with hooks, which Python would have to call, has none.
* Before a capture there is a rehearsal with its tensors, in which nothing may wait for the device. A batch
  that does, such as rows that cuDNN packs, is no graph, nor is any that has the same tensors. A capture that
  fails all the same ends the graphs of this training.
* Graphs need memory beside that of batches that are computed as they come, as much again: none is captured
  where torch has used more than half of the device.

**The bits are those of the batch computed as it comes.** So it does not matter which batches are played: how
many of a shape this process has seen, and with it where a run was stopped and gone on with, leaves no trace.
That rests on three things. A graph starts the same kernels with the same numbers. Masks: within a graph torch
reads seed and place of the device's generator when the graph is played, and they are set for every batch
before (`updates._seed`); a generator that rehearsal and capture have moved is put back. Gradients: a graph
copies those of an update's first batch into buffers that stay, and adds those of later ones as autograd does;
-0 stands there for a gradient that no earlier batch gave, since that alone changes no number, not even a
zero's sign. What an update does with the sum (norm, clipping, optimizer) is not captured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.ops import graphs
from seqsru.ops.graphs import Graphs, Pool, captured, made_of, reason, waits_refused
from seqsru.training.gradients import Gradients
from seqsru.training.objective import BatchLoss, Carried, Objective

MOST_GRAPHS = 32  # each keeps its inputs, and the driver its kernels; the rest of their memory they share
Program = Callable[[Any, "Carried | None"], BatchLoss]


class Replay:
    """What computes the gradient of a batch, as a CUDA graph where that is possible.

    Parameters
    ----------
    model, objective
        As the trainer has them.
    parameters : list of Parameter
        What is trained.
    program : callable
        Of a batch and what it starts from: adds the gradient of its loss, and gives the loss without history.
    wanted : bool
        Whether there may be graphs.

    Attributes
    ----------
    notes : list of str
        What the log is to say, and has not said.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        parameters: list[nn.Parameter],
        program: Program,
        wanted: bool,
    ) -> None:
        self._model, self._objective, self._program = model, objective, program
        self._device = parameters[0].device
        self._gradients = Gradients(parameters)
        self._possible = wanted and graphs.on_gpu(self._device)
        self._graphs: Graphs[_Graph] = Graphs(self._device, MOST_GRAPHS)
        self._made_of: object = None  # what the model was when they were captured
        self._eager: set[tuple[bool, ...]] = set()  # which tensors those have that wait
        self._said: set[str] = set()
        self.notes: list[str] = []

    def add_gradient(self, batch: Any, carried: Carried | None) -> BatchLoss:
        """Add the gradient of a batch's loss to those of the parameters.

        Parameters
        ----------
        batch : object
            One of the objective's.
        carried : tuple of Tensor or None
            What it starts from.

        Returns
        -------
        BatchLoss
            Without history, in memory that nothing else writes to.
        """
        if not self._possible:
            return self._program(batch, carried)
        counts = self._objective.counts(batch)
        if counts is None:
            self.end("the loss of this task is no fixed program of a batch's tensors")
            return self._program(batch, carried)
        carried = carried or None  # where batches stand alone, the first of an epoch is as the others
        graph = self._graph(batch, carried)
        if graph is None:
            return self._program(on_device(batch, self._device), carried)
        loss, nll, *after = graph.play(batch, carried)
        return BatchLoss(loss, nll, *counts, tuple(after))

    def end(self, why: str) -> None:
        """Compute every further batch as it comes, and have the log say why."""
        if self._possible:
            self._possible, self._graphs = False, Graphs(self._device, MOST_GRAPHS)
            self._note(f"no CUDA graphs: {why}")

    def _graph(self, batch: Any, carried: Carried | None) -> _Graph | None:
        """Return the graph to play for a batch, if there is one."""
        made, hooked = made_of(self._model)
        if hooked:
            self.end("hooks of the model, which Python has to call")
            return None
        if made != self._made_of:
            self._made_of, self._graphs = made, Graphs(self._device, MOST_GRAPHS)
        inputs = _tensors(batch)
        kind = *(tensor is not None for tensor in inputs), carried is not None
        if kind in self._eager:
            return None
        first = self._gradients.none
        shapes = [None if t is None else (t.shape, t.dtype) for t in (*inputs, *(carried or ()))]
        try:
            found = self._graphs.get(
                (kind, first, tuple(shapes)), lambda pool: self._capture(batch, carried, first, pool)
            )
        except _NoRoomThere:
            self._note("the device has no room for further CUDA graphs")
            return None
        except _Waits as waits:
            self._eager.add(kind)
            self._note(f"some batches are no CUDA graphs: {waits}")
            return None
        except RuntimeError as error:
            self.end(f"a capture failed ({reason(error)})")
            return None
        if self._graphs.full:
            self._note(f"there are {MOST_GRAPHS} CUDA graphs, and no more for further shapes")
        return found

    def _capture(self, batch: Any, carried: Carried | None, first: bool, pool: Pool) -> _Graph:
        """Rehearse and capture a batch, without a trace in gradients and generators."""
        if not graphs.has_room(self._device):
            raise _NoRoomThere
        graph = _Graph(self._program, on_device(batch, self._device), carried, self._gradients, first)
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            try:
                with waits_refused(), self._gradients.apart():
                    graph.rehearse()
            except RuntimeError as error:
                raise _Waits(reason(error)) from error
            with self._gradients.apart():
                graph.capture(pool)
        self._note("batches whose shapes come again are played as CUDA graphs")
        return graph

    def _note(self, line: str) -> None:
        """Have the log say something, once."""
        if line not in self._said:
            self._said.add(line)
            self.notes.append(line)


class _Waits(Exception):
    """A rehearsal that a capture could not follow, and why."""


class _NoRoomThere(Exception):
    """No memory for a graph."""


class _Graph:
    """One captured batch: what it reads, and what it writes.

    Parameters
    ----------
    program : callable
    batch, carried
        On the device; what the program reads are copies of their tensors.
    gradients : Gradients
    first : bool
        Whether the batch is the first of its update.
    """

    def __init__(
        self, program: Program, batch: Any, carried: Carried | None, gradients: Gradients, first: bool
    ) -> None:
        self._program, self._gradients, self._first = program, gradients, first
        self._batch = _with(batch, [None if t is None else t.clone() for t in _tensors(batch)])
        self._carried = None if carried is None else tuple(tensor.clone() for tensor in carried)
        self._reached: list[nn.Parameter] = []

    def rehearse(self) -> None:
        """Compute the batch once, where there are no gradients, and see which parameters get any."""
        self._program(self._batch, self._carried)
        self._reached = self._gradients.reached()

    def capture(self, pool: Pool) -> None:
        """Capture the batch, where there are no gradients."""

        def run() -> list[Tensor]:
            result = self._program(self._batch, self._carried)
            self._gradients.collect(self._reached, self._first)
            return [result.loss, result.nll, *result.carried]

        self._graph, self._results = captured(run, pool)

    def play(self, batch: Any, carried: Carried | None) -> list[Tensor]:
        """Add the gradient of a batch, and return its loss, its nll and the state after it."""
        for own, given in zip(_tensors(self._batch), _tensors(batch)):
            if own is not None and given is not None:
                own.copy_(given, non_blocking=True)
        if self._carried and carried:
            torch._foreach_copy_(self._carried, carried)
        self._gradients.take(self._reached, self._first)
        self._graph.replay()
        results = [torch.empty_like(tensor) for tensor in self._results]
        torch._foreach_copy_(results, self._results)
        return results


def on_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device, without waiting for it.

    What lies in ordinary memory is copied from there before this returns; the rest is done by the device.
    """
    tensors = _tensors(batch)
    return _with(batch, [None if t is None else t.to(device, non_blocking=True) for t in tensors])


def _tensors(batch: Any) -> list[Tensor | None]:
    """The tensors of a batch, in order; None where one is left out."""
    if isinstance(batch, Tensor):
        return [batch]
    values = [getattr(batch, field.name) for field in fields(batch)]
    return [value for value in values if value is None or isinstance(value, Tensor)]


def _with(batch: Any, tensors: list[Tensor | None]) -> Any:
    """A batch with other tensors in place of its own."""
    if isinstance(batch, Tensor):
        return tensors[0]
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    names = [name for name, value in given.items() if value is None or isinstance(value, Tensor)]
    return replace(batch, **dict(zip(names, tensors)))
