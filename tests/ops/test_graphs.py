"""What CUDA graphs of any call rest on: room, streams, generators, and what a capture holds of a model."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from seqsru.ops.graphs import Graphs, Pool, captured, has_room, made_of, on_gpu, reason, waits_refused

GPU = torch.device("cuda:1")


class Generator:
    """Of a GPU: it may believe that a capture is under way, which a new one of the same state does not."""

    def __init__(self, capturing=True):
        self.capturing, self.state = capturing, "seed and place"

    def clone_state(self):
        return Generator(capturing=False)

    def graphsafe_set_state(self, other):
        self.capturing, self.state = other.capturing, other.state


@pytest.fixture
def gpu(monkeypatch):
    """torch.cuda, as far as a capture asks it: one that fails leaves its stream, as torch's does."""
    seen = SimpleNamespace(device=0, streams={0: "default", 1: "default"}, generators=[None, Generator()])

    @contextmanager
    def device(one):
        before, seen.device = seen.device, seen.device if one.index is None else one.index
        yield
        seen.device = before

    @contextmanager
    def stream(one):
        before = seen.streams[seen.device]
        seen.streams[seen.device] = one
        try:
            yield
        finally:
            seen.streams[seen.device] = before

    @contextmanager
    def graph(one, pool, stream, capture_error_mode):
        seen.captured = seen.device, pool, capture_error_mode
        seen.streams[seen.device] = stream
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error during capture\nmore") from error
        seen.streams[seen.device] = "default"

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: seen.streams[seen.device])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: seen.device)
    monkeypatch.setattr(torch.cuda, "default_generators", seen.generators)
    return seen


def test_a_capture_is_made_on_its_device_and_its_stream(gpu):
    pool = Pool(GPU, "memory", "side")
    assert captured(lambda: (gpu.device, gpu.streams[1]), pool) == ("graph", (1, "side"))
    assert gpu.captured == (1, "memory", "thread_local")
    assert gpu.device == 0 and gpu.streams == {0: "default", 1: "default"}
    assert gpu.generators[1].capturing  # nothing to mend


@pytest.mark.parametrize("device, index", [(GPU, 1), (torch.device("cuda"), 0)])
def test_a_capture_that_fails_leaves_stream_and_generator_as_they_were(gpu, device, index):
    def waits():
        raise RuntimeError("operation not permitted when stream is capturing")

    gpu.generators[:] = [Generator(), Generator()]
    with pytest.raises(RuntimeError) as error:
        captured(waits, Pool(device, "memory", "side"))
    assert reason(error.value) == "operation not permitted when stream is capturing"  # what came first
    assert gpu.streams == {0: "default", 1: "default"}
    assert [one.capturing for one in gpu.generators] == [index != 0, index != 1]
    assert gpu.generators[index].state == "seed and place"


@pytest.mark.parametrize("used, room", [(0, True), (50, True), (51, False), (100, False)])
def test_there_is_room_for_as_much_as_was_used(monkeypatch, used, room):
    properties = SimpleNamespace(total_memory=100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: used)
    assert has_room(GPU) is room and on_gpu(GPU) and not on_gpu(torch.device("cpu"))


def test_waiting_is_refused_and_then_as_before(monkeypatch):
    modes = [1]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with pytest.raises(RuntimeError, match="called"), waits_refused():
        raise RuntimeError("called a synchronizing CUDA operation")
    assert modes == [1, "error", 1]


def test_one_that_raises_is_not_kept_and_is_tried_again(monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: device)
    made: Graphs[str] = Graphs(GPU, 2)
    pools = []

    def make(pool):
        pools.append(pool)
        if len(pools) == 1:
            raise KeyError("no")
        return "graph"

    assert made.get("key", make) is None and made.get("key", make) is None
    with pytest.raises(KeyError):
        made.get("key", make)
    assert not len(made)
    assert made.get("key", make) == made.get("key", make) == "graph" and len(made) == 1
    assert len(pools) == 2 and pools[0] is pools[1] and pools[0].stream == GPU


def test_what_a_capture_holds_of_a_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    seen = [made_of(model)]
    changes = (
        lambda: setattr(model[2], "p", 0.4),
        lambda: model.eval(),
        lambda: setattr(model[0].weight, "data", model[0].weight.data.clone()),
        lambda: setattr(model[1], "running_mean", torch.zeros(2)),
        lambda: model[0].bias.requires_grad_(False),
    )
    for change in changes:
        assert made_of(model) == seen[-1]
        change()
        seen.append(made_of(model))
    assert len({repr(one) for one in seen}) == 1 + len(changes) and not any(hooked for _, hooked in seen)
