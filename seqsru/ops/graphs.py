"""CUDA graphs of a call that is made again and again with other numbers: when there is one, and its capture.

A graph starts all kernels of a call at once, which a host would start one by one. What it reads and writes
are the places of the tensors that it was captured with, and what Python did then: so whoever plays one copies
its inputs there, and captures anew what Python would do otherwise (`made_of`).

The rules, of which none is a setting:

* Shapes that come for the third time are captured; the first two calls are the warm-up that loads kernels.
* There are so many graphs at most, and one gives way only when it has not been played for a thousand calls:
  where shapes are many, the rest are calls of the usual kind.
* All graphs of a call share a pool of memory: what one gives holds until another of them is played.

A draw of random numbers within a graph takes the seed and the place in the generator's stream of numbers at
each replay, and moves that place as the call itself would (torch's note *CUDA Graph-safe RNG states*): with
the generator in the same state, a graph gives the numbers that its call would give.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from seqsru.ops.watchers import hooked

T = TypeVar("T")
Graph = TypeVar("Graph")
WARM_UP = 2  # calls of a shape before it is captured
IDLE = 1000  # calls: capturing takes as long as some tens of them
MOST_SHAPES = 10_000  # whose calls are counted


class Pool(NamedTuple):
    """Where graphs of one call are captured.

    Attributes
    ----------
    device : torch.device
    memory : object
        Torch's handle of the memory that they share.
    stream : torch.cuda.Stream
        The same for all, so that they do share it.
    """

    device: torch.device
    memory: Any
    stream: Any


class Graphs(Generic[Graph]):
    """The graphs of one call in one thread, by what decides its program, such as shapes.

    Parameters
    ----------
    device : torch.device
    most : int
        How many there are at most.

    Attributes
    ----------
    full : bool
        Whether a shape was not captured because there were so many.
    """

    def __init__(self, device: torch.device, most: int) -> None:
        self._device, self._most = device, most
        self._seen: dict[Hashable, int] = {}
        self._captured: OrderedDict[Hashable, Graph] = OrderedDict()  # that not played for longest first
        self._played: dict[Hashable, int] = {}  # the number of the call that each was played for last
        self._calls = 0
        self._pool: Pool | None = None
        self.full = False

    def __len__(self) -> int:
        return len(self._captured)

    def get(self, key: Hashable, make: Callable[[Pool], Graph]) -> Graph | None:
        """Return the graph to play for a call of this key; None where the call is to be made itself.

        Parameters
        ----------
        key : hashable
        make : callable
            Captures one in a pool; what it raises is raised here.
        """
        self._calls += 1
        if key not in self._captured:
            if len(self._seen) >= MOST_SHAPES:
                self._seen.clear()
            seen = self._seen[key] = self._seen.get(key, 0) + 1
            if seen <= WARM_UP or not self._has_room():
                return None
            if self._pool is None:
                cuda: Any = torch.cuda  # whose types do not say all that it has
                self._pool = Pool(self._device, cuda.graph_pool_handle(), cuda.Stream(self._device))
            self._captured[key] = make(self._pool)
        self._played[key] = self._calls
        self._captured.move_to_end(key)
        return self._captured[key]

    def _has_room(self) -> bool:
        """Say whether there is room for one more graph; one that nobody plays gives way."""
        if len(self._captured) < self._most:
            return True
        oldest = next(iter(self._captured))
        if self._calls - self._played[oldest] < IDLE:
            self.full = True
            return False
        del self._captured[oldest], self._played[oldest]
        return True


def on_gpu(device: torch.device) -> bool:
    """Say whether a device captures graphs."""
    return device.type == "cuda"


def has_room(device: torch.device) -> bool:
    """Say whether a device could hold the most that torch has used at a time, once more."""
    total: int = torch.cuda.get_device_properties(device).total_memory
    return 2 * torch.cuda.max_memory_allocated(device) <= total


def captured(program: Callable[[], T], pool: Pool) -> tuple[torch.cuda.CUDAGraph, T]:
    """Capture what a program has a device do, which is not done before the graph is played.

    Parameters
    ----------
    program : callable
        Was run before, so that no kernel is loaded by it for the first time.
    pool : Pool

    Returns
    -------
    graph : torch.cuda.CUDAGraph
    results : object
        What the program returned: tensors that hold what the last replay gave.

    Raises
    ------
    RuntimeError
        No graph can hold it.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with _kept_in_place(pool.device):
            # Other threads may allocate and wait meanwhile: that is no business of this capture.
            with torch.cuda.graph(
                graph, pool=pool.memory, stream=pool.stream, capture_error_mode="thread_local"
            ):
                results = program()
    except RuntimeError:
        _new_generator(pool.device)
        raise
    return graph, results


@contextmanager
def _kept_in_place(device: torch.device) -> Iterator[None]:
    """Make a device the current one, and its stream that of before afterwards.

    After a capture that fails torch leaves its stream as the current one.
    """
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
        yield


def _new_generator(device: torch.device) -> None:
    """Draw on from the same place with a generator that does not hold that a capture is under way.

    Some versions of torch leave it so after a capture that fails. Graphs from before still have the old one:
    none of them is to be played any more.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    generator = torch.cuda.default_generators[index]
    generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def waits_refused() -> Iterator[None]:
    """Within it, what waits for a GPU raises a RuntimeError, as it would within a capture.

    A capture that has begun and fails spoils more than one that was never begun.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def reason(error: BaseException) -> str:
    """Return in one line what a capture failed of, which is what came first."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).strip().split("\n")[0].rstrip(".")


def made_of(model: nn.Module) -> tuple[object, bool]:
    """Return what a capture holds of a model, to be compared, and whether Python has to be called within.

    It holds the places of parameters and buffers, which of them want gradients, and the numbers in modules.
    Python is called by hooks of modules and of parameters.
    """
    places: list[object] = []
    called = False
    for module in model.modules():
        called = called or hooked(module)
        for value in vars(module).values():
            if isinstance(value, (int, float, str, tuple)):
                places.append(value)
        for parameter in module._parameters.values():
            if parameter is not None:
                places.append((parameter.data_ptr(), parameter.requires_grad))
                called = called or _hooked(parameter)
        places += [tensor.data_ptr() for tensor in module._buffers.values() if tensor is not None]
    return (tuple(places), called), called


def _hooked(tensor: Tensor) -> bool:
    """Say whether a leaf has hooks for its gradient."""
    leaf: Any = tensor  # torch has no types for them
    return bool(leaf._backward_hooks or leaf._post_accumulate_grad_hooks)
