"""CUDA graphs without a GPU: a capture records the operators that torch runs, and a replay runs them again.

As on a GPU, what Python does within a capture happens once, and operators read and write the tensors that
they did then; a capture changes no number, nor where a generator stands; what it would give holds nothing
before the first replay, and nothing of an earlier replay of any graph is left when one begins (as their
memory is shared); and a call that waits for the device, by asking for a number, cannot be captured.
"""

import contextlib
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from seqsru.ops import graphs

WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class FakeGraph:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self, seen=None):
        self.recorded, self.replays = [], 0
        # Storages by their places: those of the capture, and those that it changed, with what they held.
        self.made, self.changed = {}, {}
        self.seen = SimpleNamespace(graphs=[self]) if seen is None else seen

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for graph in self.seen.graphs:
            graph.spoil()
        for function, args, kwargs, before in self.recorded:
            results = tree_flatten(function(*args, **kwargs))[0]
            for old, new in zip(before, results, strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def spoil(self):
        """Fill what lies in the graph's own memory with what is no number."""
        for storage in self.made.values():
            storage.fill_(255)

    def undo(self):
        """Put back what lay outside the graph's own memory before the capture."""
        for storage, kept in self.changed.values():
            storage.copy_(kept)


def written(function, args, kwargs):
    """The tensors among the arguments of an operator that it writes to."""
    for i, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            yield from (one for one in tree_flatten(given)[0] if isinstance(one, torch.Tensor))


class Recorder(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in WAITS:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
        made, changed = self.graph.made, self.graph.changed
        for tensor in written(function, args, kwargs):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in made and storage.data_ptr() not in changed:
                changed[storage.data_ptr()] = storage, storage.clone()
        given = {one.untyped_storage().data_ptr() for one in tensors(args, kwargs)}
        results = function(*args, **kwargs)
        for one in tensors(results):
            storage = one.untyped_storage()
            if storage.data_ptr() not in given:
                made[storage.data_ptr()] = storage
        self.graph.recorded.append((function, args, kwargs, tree_flatten(results)[0]))
        return results


def tensors(*things):
    return [one for one in tree_flatten(things)[0] if isinstance(one, torch.Tensor) and one.numel()]


class Watcher(TorchDispatchMode):
    """Whoever computes within it takes the way that can be recorded, whether or not it is captured.

    It is also what refuses to wait for the device where that is asked for.
    """

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if self.seen.mode == "error" and function in WAITS:
            raise RuntimeError("called a synchronizing CUDA operation")
        return function(*args, **(kwargs or {}))


def install(monkeypatch):
    """Take CPU tensors for a GPU's, and return what was captured: graphs, modes, whether one is under way."""
    seen = SimpleNamespace(graphs=[], modes=[], pools=set(), streams=set(), capturing=False, mode=0)

    def make():
        seen.graphs.append(FakeGraph(seen))
        return seen.graphs[-1]

    @contextlib.contextmanager
    def graph(one, pool=None, stream=None, capture_error_mode="global"):
        seen.modes.append(capture_error_mode)
        seen.pools.add(id(pool))
        seen.streams.add(id(stream))
        seen.capturing, generator = True, torch.get_rng_state()
        try:
            with Recorder(one):
                yield
        except BaseException:
            seen.graphs.remove(one)
            raise
        finally:
            seen.capturing = False
            torch.set_rng_state(generator)
            one.undo()
            one.spoil()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: seen.capturing)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: seen.mode)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: setattr(seen, "mode", mode))
    monkeypatch.setattr(graphs, "on_gpu", lambda device: True)
    monkeypatch.setattr(graphs, "has_room", lambda device: True)
    monkeypatch.setattr(graphs, "_kept_in_place", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(graphs, "_new_generator", lambda device: None)
    return seen
