"""CUDA graphs without a GPU: a capture records the operators that torch runs, and a replay runs them again.

As on a GPU, what Python does within a capture happens once; operators read and write the tensors they did
then; and a step that waits for the device, by asking for a number, cannot be captured.
"""

import contextlib
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class FakeGraph:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self):
        self.recorded, self.replays = [], 0

    def replay(self):
        self.replays += 1
        for function, args, kwargs, before in self.recorded:
            results = tree_flatten(function(*args, **kwargs))[0]
            for old, new in zip(before, results, strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recorder(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in WAITS:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
        results = function(*args, **(kwargs or {}))
        self.graph.recorded.append((function, args, kwargs or {}, tree_flatten(results)[0]))
        return results


def install(monkeypatch, replay):
    """Take CPU tensors for a GPU's, and return what was captured: graphs, modes, whether one is under way."""
    seen = SimpleNamespace(graphs=[], modes=[], pools=set(), capturing=False)

    def make():
        seen.graphs.append(FakeGraph())
        return seen.graphs[-1]

    @contextlib.contextmanager
    def graph(one, pool=None, capture_error_mode="global"):
        seen.modes.append(capture_error_mode)
        seen.pools.add(id(pool))
        seen.capturing = True
        try:
            with Recorder(one):
                yield
        finally:
            seen.capturing = False

    monkeypatch.setattr(torch.cuda, "CUDAGraph", make)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: seen.capturing)
    monkeypatch.setattr(replay, "_on_gpu", lambda tensor: True)
    return seen
