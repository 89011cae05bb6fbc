"""A decoding step as a CUDA graph: recorded once for each shape, and played again with other numbers.

A step of a small model is dozens of kernels that a host starts one by one, and the GPU waits for the host. A
graph starts them all in one call. The rules, of which none is a setting, besides those of `ops.graphs`:

* It is for a model on a GPU in evaluation mode, where no gradient is wanted, nobody watches and no other
  capture is under way. Elsewhere the model's own step is called.
* A capture holds what Python saw. A model that is no longer what it was forgets its graphs; one with hooks,
  which Python would have to call, has none.
* A step that cannot be captured is called as it is from then on, and a warning says so.
* Graphs belong to a thread: two may share a model.

The log probabilities and the state that a graph returns lie in its own memory and hold until one is played
again: a search reads the ones and gives the other to the next step, and is done with both.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqsru.errors import Refused
from seqsru.ops import graphs as cuda_graphs
from seqsru.ops.graphs import Graphs, Pool, captured, made_of, reason
from seqsru.ops.watchers import watched

Tensors = tuple[Tensor, ...]
Stepped = tuple[Tensor, "Tensor | None", Tensors]  # log probabilities, attention, state
MOST_GRAPHS = 64  # of a model and thread; each has its tensors


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
    steps: _Steps | None = None

    def call(tokens: Tensor, memory: Tensors, state: Tensors) -> Stepped:
        nonlocal steps
        if not _may_replay(model, tokens, memory, state):
            return step(tokens, memory, state, **options)
        if steps is None:
            steps = _steps(model, tokens.device)
        return steps.call(lambda *given: step(*given, **options), with_attention, tokens, memory, state)

    return call


def _may_replay(model: nn.Module, tokens: Tensor, memory: Tensors, state: Tensors) -> bool:
    """Say whether the rules above allow a graph for this call."""
    return (
        cuda_graphs.on_gpu(tokens.device)
        and not model.training
        and not torch.is_grad_enabled()
        and not watched(tokens, *memory, *state)
        and not torch.cuda.is_current_stream_capturing()
    )


class _Steps:
    """The steps of one model in one thread.

    Parameters
    ----------
    made_of : object
        What the model was when they were captured.
    possible : bool
        Whether Python has nothing to be called for within a step.
    device : torch.device
    """

    def __init__(self, made_of: object, possible: bool, device: torch.device) -> None:
        self.made_of, self._possible = made_of, possible
        self.graphs: Graphs[_Graph] = Graphs(device, MOST_GRAPHS)

    def call(
        self, step: Callable[..., Stepped], kind: Hashable, tokens: Tensor, memory: Tensors, state: Tensors
    ) -> Stepped:
        """Call a step, or play the graph that it has become."""
        if not self._possible:
            return step(tokens, memory, state)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in (tokens, *memory, *state))
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = kind, tokens.device, autocast, shapes
        try:
            graph = self.graphs.get(key, lambda pool: _Graph(step, tokens, memory, state, pool))
        except RuntimeError as error:
            self._possible = False
            refusal = Refused(
                "a decoding step that a CUDA graph can hold",
                f"one that it cannot ({reason(error)})",
                "go on without, which is slower, or report it with the cell's name",
            )
            warnings.warn(str(refusal), UserWarning, stacklevel=2)
            graph = None
        return step(tokens, memory, state) if graph is None else graph.play(tokens, memory, state)


class _Graph:
    """One captured step: what it reads, and what it writes."""

    def __init__(
        self, step: Callable[..., Stepped], tokens: Tensor, memory: Tensors, state: Tensors, pool: Pool
    ) -> None:
        self._tokens, self._given = tokens.clone(), memory
        self._memory = tuple(tensor.clone() for tensor in memory)
        self._state = tuple(tensor.clone() for tensor in state)
        self._graph, self._results = captured(lambda: step(self._tokens, self._memory, self._state), pool)

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
    """The steps of each model that has any, thread by thread."""

    def __init__(self) -> None:
        self.steps: WeakKeyDictionary[nn.Module, _Steps] = WeakKeyDictionary()


_MODELS = _Models()


def _steps(model: nn.Module, device: torch.device) -> _Steps:
    """Return a model's steps in this thread; without graphs where the model is no longer what it was."""
    made, hooked = made_of(model)
    steps = _MODELS.steps.get(model)
    if steps is None or steps.made_of != made:
        steps = _MODELS.steps[model] = _Steps(made, not hooked, device)
    return steps
