"""A decoding step as a CUDA graph: recorded once for each shape, and played again with other numbers.

A step of a small model is dozens of kernels that a host starts one by one, and the GPU waits for the host. A
graph starts them all in one call. The rules, of which none is a setting:

* It is for a model on a GPU in evaluation mode, where no gradient is wanted, nobody watches and no other
  capture is under way. Elsewhere the model's own step is called.
* Shapes that come for the third time are captured; the first two calls are the warm-up that loads kernels.
* There are at most 64 graphs, and one gives way only when it has not been played for a thousand steps: where
  shapes are many, the rest are steps of the usual kind.
* A capture holds what Python saw: the places of the parameters and the numbers in the modules. A model in
  which these have changed forgets its graphs; one with hooks, which Python would have to call, has none.
* A step that cannot be captured is called as it is from then on, and a warning says so.
* Graphs belong to a thread: two may share a model.

The log probabilities and the state that a graph returns lie in its own memory and hold until it is played
again: a search reads the ones and gives the other to the next step, and is done with both.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqsru.errors import Refused
from seqsru.ops.watchers import watched

Tensors = tuple[Tensor, ...]
Stepped = tuple[Tensor, "Tensor | None", Tensors]  # log probabilities, attention, state
WARM_UP = 2  # calls of a shape before it is captured
MOST_GRAPHS = 64  # of a model and thread; each has its tensors, and all share a pool
IDLE = 1000  # steps: capturing takes as long as some tens of them
MOST_SHAPES = 10_000  # whose calls are counted


def stepper(model: nn.Module, with_attention: bool = False) -> Callable[[Tensor, Tensors, Tensors], Stepped]:
    """Return the step of a model, played as a CUDA graph where that is possible.

    Parameters
    ----------
    model : Module
        Has a ``step``; one that stands on the object itself, such as a clock's, is taken as it is.
    with_attention : bool
        What the step is called with, where True.

    Returns
    -------
    callable
        ``step(tokens, memory, state)``, for one search.
    """
    options = {"with_attention": True} if with_attention else {}
    step: Callable[..., Stepped] = model.step  # type: ignore[assignment]
    if "step" in vars(model):
        return lambda tokens, memory, state: step(tokens, memory, state, **options)
    graphs: _Graphs | None = None

    def call(tokens: Tensor, memory: Tensors, state: Tensors) -> Stepped:
        nonlocal graphs
        if not _may_replay(model, tokens, memory, state):
            return step(tokens, memory, state, **options)
        if graphs is None:
            graphs = _graphs(model)
        return graphs.call(lambda *given: step(*given, **options), with_attention, tokens, memory, state)

    return call


def _may_replay(model: nn.Module, tokens: Tensor, memory: Tensors, state: Tensors) -> bool:
    """Say whether the rules above allow a graph for this call."""
    return (
        _on_gpu(tokens)
        and not model.training
        and not torch.is_grad_enabled()
        and not watched(tokens, *memory, *state)
        and not torch.cuda.is_current_stream_capturing()
    )


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


class _Graphs:
    """The graphs of one model in one thread.

    Parameters
    ----------
    made_of : object
        What the model was when they were captured.
    hooked : bool
        Whether Python has to be called within a step.
    """

    def __init__(self, made_of: object, hooked: bool) -> None:
        self.made_of, self._possible = made_of, not hooked
        self._seen: dict[Hashable, int] = {}
        self._captured: OrderedDict[Hashable, _Graph] = OrderedDict()  # that not played for longest first
        self._calls = 0
        self._pool: Any = None

    def call(
        self, step: Callable[..., Stepped], kind: Hashable, tokens: Tensor, memory: Tensors, state: Tensors
    ) -> Stepped:
        """Call a step, or play the graph that it has become."""
        if not self._possible:
            return step(tokens, memory, state)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in (tokens, *memory, *state))
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = kind, tokens.device, autocast, shapes
        self._calls += 1
        graph = self._captured.get(key)
        if graph is None:
            if len(self._seen) >= MOST_SHAPES:
                self._seen.clear()
            seen = self._seen[key] = self._seen.get(key, 0) + 1
            if seen <= WARM_UP or not self._has_room():
                return step(tokens, memory, state)
            graph = self._capture(step, tokens, memory, state)
            if graph is None:
                return step(tokens, memory, state)
            self._captured[key] = graph
        graph.played = self._calls
        self._captured.move_to_end(key)
        return graph.play(tokens, memory, state)

    def _has_room(self) -> bool:
        """Say whether there is room for one more graph; one that nobody plays gives way."""
        if len(self._captured) < MOST_GRAPHS:
            return True
        key, oldest = next(iter(self._captured.items()))
        if self._calls - oldest.played < IDLE:
            return False
        del self._captured[key]
        return True

    def _capture(
        self, step: Callable[..., Stepped], tokens: Tensor, memory: Tensors, state: Tensors
    ) -> _Graph | None:
        """Capture a step; None, after a warning, where that fails."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            return _Graph(step, tokens, memory, state, self._pool)
        except RuntimeError as error:
            self._possible = False
            reason = str(error).strip().split("\n")[0].rstrip(".")
            refusal = Refused(
                "a decoding step that a CUDA graph can hold",
                f"one that it cannot ({reason})",
                "go on without, which is slower, or report it with the cell's name",
            )
            warnings.warn(str(refusal), UserWarning, stacklevel=2)
            return None


class _Graph:
    """One captured step: what it reads, and what it writes.

    Attributes
    ----------
    played : int
        Number of the step at which it was played last.
    """

    played = 0

    def __init__(
        self, step: Callable[..., Stepped], tokens: Tensor, memory: Tensors, state: Tensors, pool: Any
    ) -> None:
        self._tokens, self._given = tokens.clone(), memory
        self._memory = tuple(tensor.clone() for tensor in memory)
        self._state = tuple(tensor.clone() for tensor in state)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate and wait meanwhile: that is no business of this capture.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._results = step(self._tokens, self._memory, self._state)

    def play(self, tokens: Tensor, memory: Tensors, state: Tensors) -> Stepped:
        """Copy in what a step is called with, and play it."""
        self._tokens.copy_(tokens)
        if memory is not self._given:  # a sentence's stays the same from step to step
            for tensor, given in zip(self._memory, memory):
                tensor.copy_(given)
            self._given = memory
        torch._foreach_copy_(self._state, state)
        self._graph.replay()
        log_probs, attention, after = self._results
        return log_probs, None if attention is None else attention.clone(), after


class _Models(threading.local):
    """The graphs of each model that has any, thread by thread."""

    def __init__(self) -> None:
        self.graphs: WeakKeyDictionary[nn.Module, _Graphs] = WeakKeyDictionary()


_MODELS = _Models()


def _graphs(model: nn.Module) -> _Graphs:
    """Return a model's graphs in this thread; empty ones where the model is no longer what it was."""
    made_of, hooked = _made_of(model)
    graphs = _MODELS.graphs.get(model)
    if graphs is None or graphs.made_of != made_of:
        graphs = _MODELS.graphs[model] = _Graphs(made_of, hooked)
    return graphs


def _made_of(model: nn.Module) -> tuple[object, bool]:
    """Return what a capture would hold of a model, and whether any module has hooks."""
    places: list[object] = []
    torchs: Any = nn.modules.module  # it has no types here
    hooked = bool(torchs._has_any_global_hook())
    for module in model.modules():
        hooked = hooked or bool(module._forward_hooks or module._forward_pre_hooks)
        for value in vars(module).values():
            if isinstance(value, (int, float, str, tuple)):
                places.append(value)
        places += [tensor.data_ptr() for tensor in module._parameters.values() if tensor is not None]
        places += [tensor.data_ptr() for tensor in module._buffers.values() if tensor is not None]
    return (tuple(places), hooked), hooked
