"""Batches as CUDA graphs in training: the bits of batches computed as they come, and where there are none."""

import math
import random
from functools import partial
from pathlib import Path

import fake_graphs
import pytest
import tiny
import tiny_tasks
import torch
from test_trainer import make as make_sum
from torch import nn

from seqsru.errors import Refused
from seqsru.ops import graphs as cuda_graphs
from seqsru.training import (
    OPTIMIZERS,
    SCHEDULES,
    BatchLoss,
    Objective,
    RunDirectory,
    Trainer,
    TrainingDiverged,
    TrainingOptions,
    replay,
)
from seqsru.training.processes import Processes
from seqsru.training.updates import Updates

STARTED = "batches whose shapes come again are played as CUDA graphs"


def language(folder, **options):
    return tiny.make(folder, **{"schedule": "constant", "epochs": 0, **options})


TASKS = {
    "language": language,
    "translation": tiny_tasks.translation,
    "classification": tiny_tasks.classification,
}


@pytest.fixture
def graphs(monkeypatch):
    return fake_graphs.install(monkeypatch)


def train(make, folder, seen, off=False, **options):
    """Train, and return the trainer; batches are spoilt as soon as their update is made."""
    chosen = {"cuda_graphs": "off"} if off else {}
    trainer = make(folder, validate_every=1000, **options, **chosen)
    batches = trainer.objective.batches

    def spoilt(epoch, start):
        given = []
        for batch in batches(epoch, start):
            given.append(clone(batch))
            yield given[-1]
            if len(given) > 4:
                [t.fill_(1) for t in replay._tensors(given.pop(0)) if t is not None]

    trainer.objective.batches = spoilt
    with fake_graphs.Watcher(seen):
        trainer.fit()
    return trainer


def clone(batch):
    return replay._with(batch, [None if t is None else t.clone() for t in replay._tensors(batch)])


def log(folder):
    return (Path(folder) / "log").read_text().splitlines()


@pytest.mark.parametrize(
    "task, accumulate",
    [
        ("language", 1),
        ("language", 2),
        pytest.param("translation", 2, marks=pytest.mark.slow),
        ("classification", 1),
    ],
)
def test_the_bits_are_those_of_batches_computed_as_they_come(task, accumulate, graphs, tmp_path):
    options = {"steps": 36 // accumulate, "accumulate": accumulate}
    train(TASKS[task], tmp_path / "eager", graphs, off=True, **options)
    assert not graphs.graphs and STARTED not in log(tmp_path / "eager")
    train(TASKS[task], tmp_path / "graphs", graphs, **options)
    assert tiny.files(tmp_path / "graphs") == tiny.files(tmp_path / "eager")
    assert len(graphs.graphs) > 1 and sum(graph.replays for graph in graphs.graphs) > 10
    assert log(tmp_path / "graphs").count(STARTED) == 1


class Pieces(Objective):
    """Batches (n,) of numbers whose loss has dropout and goes on from a state; some numbers are told."""

    metric, higher_is_better, fingerprints = "value", False, {}

    def __init__(self, batches, program=None):
        self.given, self.program = batches, program

    def epoch_length(self):
        return len(self.given)

    def batches(self, epoch, start):
        return (batch.clone() for batch in self.given[start:])

    def counts(self, batch):
        return len(batch), 1

    def loss(self, model, batch, carried):
        (before,) = (torch.zeros(3),) if carried is None else carried
        if self.program is not None:
            self.program(model, batch)
        x = model(batch, before)
        return BatchLoss(x.sum(), x.detach().sum(), *self.counts(batch), (before * 0.5 + x[:3],))

    def carried_like(self, model):
        return (torch.zeros(3),)

    def validate(self, model):
        return {"value": 1.0}


class Model(nn.Module):
    """Of four numbers or more a weight is trained that others know nothing of."""

    def __init__(self):
        super().__init__()
        self.drop, self.scale = nn.Dropout(0.3), 1.0
        self.always, self.seldom = (nn.Parameter(torch.linspace(-1, 1, 3)) for _ in range(2))

    def forward(self, batch, before):
        x = torch.tanh(self.drop(batch[:3]) * self.always * self.scale + before * self.always.square())
        # Behind relu a gradient is often a zero, and here a negative one.
        return x + torch.relu(-batch[3] * self.seldom) if len(batch) > 3 else x


def pieces(folder, numbers, program=None, **options):
    torch.manual_seed(5)
    model = Model()
    batches = [torch.linspace(-1, 1, n) + i / 10 for i, n in enumerate(numbers)]
    return Trainer(
        model,
        Pieces(batches, program),
        OPTIMIZERS["adamw"](model.parameters(), 0.1),
        SCHEDULES["constant"](0.1),
        RunDirectory(folder),
        TrainingOptions(**{"clip": 1.0, "tensorboard": False, "epochs": 1, **options}),
    )


def compared(make, folder, seen, **options):
    """Train with and without graphs, and return the trainer with, after both gave the same."""
    train(make, folder / "eager", seen, off=True, **options)
    assert not seen.graphs
    trainer = train(make, folder / "graphs", seen, **options)
    assert tiny.files(folder / "graphs") == tiny.files(folder / "eager")
    return trainer


def of(numbers, program=None):
    return partial(pieces, numbers=numbers, program=program)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_batches_computed_either_way_add_up_within_an_update(accumulate, seed, graphs, tmp_path):
    """With weights that only some batches reach: the others neither move them nor their momentum."""
    draw = random.Random(seed)
    numbers = draw.choices([3, 4, 5, 6, 7], [4, 4, 2, 1, 1], k=60)
    trainer = compared(of(numbers), tmp_path, graphs, accumulate=accumulate, epochs=2)
    played = sum(graph.replays for graph in graphs.graphs)
    assert 10 < played < 120 and not trainer.updates.replay.notes


@pytest.mark.parametrize("first", [4, 7])
def test_a_weight_that_the_first_batch_does_not_reach_keeps_the_sign_of_a_zero(first, graphs, tmp_path):
    """A batch of 3 numbers first, and then one that alone reaches the other weight."""
    trainer = pieces(tmp_path, [3, first] * 6, accumulate=2)
    seen = []
    scale = trainer.updates._scale

    def looked(*given):
        seen.append(trainer.model.seldom.grad.clone())
        return scale(*given)

    trainer.updates._scale = looked
    with fake_graphs.Watcher(graphs):
        trainer.fit()
    assert sorted(graph.replays for graph in graphs.graphs) == [3, 4]
    # The first was computed as it came.
    assert all((torch.signbit(one) & one.eq(0)).tolist() == [False, True, True] for one in seen)


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_an_update_that_is_none_is_left_out_or_stops_as_before(on_nan, graphs, tmp_path):
    numbers = [4] * 12

    def make(folder, **options):
        trainer = pieces(folder, numbers, on_nan=on_nan, log_every=1, **options)
        trainer.objective.given[7][1] = math.nan
        return trainer

    if on_nan == "skip":
        compared(make, tmp_path, graphs, epochs=2)
    else:
        for folder, off in (("eager", True), ("graphs", False)):
            with pytest.raises(TrainingDiverged, match="^expected a finite .* at step 8, found"):
                train(make, tmp_path / folder, graphs, off=off, save_every=7)
        assert tiny.files(tmp_path / "graphs") == tiny.files(tmp_path / "eager")
    wanted = [line for line in log(tmp_path / "eager") if "nan" in line]
    assert wanted and [line for line in log(tmp_path / "graphs") if "nan" in line] == wanted
    assert graphs.graphs


@pytest.mark.parametrize("task", ["language", pytest.param("translation", marks=pytest.mark.slow)])
def test_where_a_run_was_stopped_leaves_no_trace(task, graphs, tmp_path):
    """Its batches are played from the third of a shape on, and those of the run that goes on once more."""
    make, options = TASKS[task], {"accumulate": 2}
    train(make, tmp_path / "whole", graphs, steps=20, **options)
    before = len(graphs.graphs)
    for steps in (7, 20):
        train(make, tmp_path / "stopped", graphs, steps=steps, **options)
    assert len(graphs.graphs) > before > 0
    train(make, tmp_path / "off", graphs, steps=13, **options)
    train(make, tmp_path / "off", graphs, steps=20, off=True, **options)
    expected = tiny.files(tmp_path / "whole")
    assert tiny.files(tmp_path / "stopped") == expected == tiny.files(tmp_path / "off")


def test_runs_of_older_versions_draw_on_from_the_last_mask(graphs, tmp_path):
    def make(folder, **options):
        trainer = pieces(folder, [4] * 20, **options)
        resume = trainer.resume

        def older(*given):
            resume(*given)
            trainer.updates.seed = None

        trainer.resume = older
        return trainer

    compared(make, tmp_path, graphs)
    assert graphs.graphs[0].replays == 17  # the first batch goes on from nothing


def test_a_model_that_is_no_longer_what_it_was_is_captured_anew(graphs, tmp_path):
    def make(folder, **options):
        trainer, made = pieces(folder, [4] * 30, **options), []
        update = trainer.updates.make

        def changed(*given):
            made.append(1)
            if len(made) == 8:
                trainer.model.drop.p = 0.6
            if len(made) == 14:
                trainer.model.scale = 1.5
            if len(made) == 20:
                trainer.model.seldom.requires_grad_(False)
            if len(made) == 26:
                trainer.model.always.data = trainer.model.always.data.clone()
            return update(*given)

        trainer.updates.make = changed
        return trainer

    compared(make, tmp_path, graphs)
    assert len(graphs.graphs) == 5


def hooked(model, how):
    if how == "forward":
        model.drop.register_forward_hook(lambda *given: None)
    if how == "backward":
        model.register_full_backward_pre_hook(lambda *given: None)
    if how == "gradient":
        model.always.register_hook(lambda grad: grad * 2)
    if how == "accumulated":
        model.seldom.register_post_accumulate_grad_hook(lambda parameter: None)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("how", ["forward", "backward", "gradient", "accumulated"])
def test_hooks_are_called_for_every_batch(how, graphs, tmp_path):
    def make(folder, **options):
        trainer = pieces(folder, [4] * 6, **options)
        hooked(trainer.model, how)
        return trainer

    compared(make, tmp_path, graphs)
    line = "no CUDA graphs: hooks of the model, which Python has to call"
    assert not graphs.graphs and log(tmp_path / "graphs").count(line) == 1


def test_batches_that_wait_for_the_device_are_no_graphs_and_others_are(graphs, tmp_path):
    """Those of a language model's last window alone have a mask."""

    def make(folder, **options):
        trainer = tiny.make(folder, schedule="constant", **options)
        loss = trainer.objective.loss

        def waits(model, batch, carried):
            if batch.valid is not None:
                assert int(batch.valid.sum()) == batch.valid.sum().item()
            return loss(model, batch, carried)

        trainer.objective.loss = waits
        return trainer

    compared(make, tmp_path, graphs, epochs=4)
    line = "some batches are no CUDA graphs: called a synchronizing CUDA operation"
    assert log(tmp_path / "graphs").count(line) == 1 and STARTED in log(tmp_path / "graphs")
    assert len(graphs.graphs) == 2 and graphs.mode == 0


def test_a_capture_that_fails_ends_the_graphs(graphs, tmp_path):
    def program(model, batch):
        if len(batch) > 3 and torch.cuda.is_current_stream_capturing():
            batch.sum().item()

    compared(of([3] * 6 + [4] * 6 + [3] * 3, program), tmp_path, graphs)
    line = "no CUDA graphs: a capture failed (CUDA error: operation not permitted when stream is capturing)"
    assert log(tmp_path / "graphs").count(line) == 1
    assert [graph.replays for graph in graphs.graphs] == [3]


def test_an_objective_that_says_nothing_has_no_graphs(graphs, tmp_path):
    with fake_graphs.Watcher(graphs):
        make_sum(tmp_path, [[1.0]] * 6, epochs=1).fit()
    line = "no CUDA graphs: the loss of this task is no fixed program of a batch's tensors"
    assert log(tmp_path)[0] == line and log(tmp_path).count(line) == 1


def test_several_processes_have_no_graphs(graphs, tmp_path):
    trainer = pieces(tmp_path, [3], accumulate=2)
    given = trainer.model, trainer.objective, trainer.optimizer, trainer.options
    average = trainer.average
    assert Updates(*given, Processes(0, 2), average).replay.notes == [
        "no CUDA graphs: several processes share every update"
    ]
    assert Updates(*given, Processes(), average).replay.notes == []


def test_without_room_there_are_no_more_graphs(graphs, monkeypatch, tmp_path):
    room = iter([True])
    monkeypatch.setattr(cuda_graphs, "has_room", lambda device: next(room, False))
    compared(of([3, 4] * 10), tmp_path, graphs)
    assert len(graphs.graphs) == 1
    assert log(tmp_path / "graphs").count("the device has no room for further CUDA graphs") == 1


def test_there_are_so_many_graphs_and_no_more(graphs, monkeypatch, tmp_path):
    monkeypatch.setattr(replay, "MOST_GRAPHS", 1)
    compared(of([3, 4] * 10), tmp_path, graphs)
    line = "there are 1 CUDA graphs, and no more for further shapes"
    assert len(graphs.graphs) == 1 and log(tmp_path / "graphs").count(line) == 1
    monkeypatch.setattr(cuda_graphs, "IDLE", 5)  # one that nobody plays gives way
    train(of([3] * 6 + [4] * 12), tmp_path / "idle", graphs)
    assert len(graphs.graphs) == 3


def test_nothing_is_captured_or_said_on_a_cpu(tmp_path):
    trainer = pieces(tmp_path, [3] * 6)
    trainer.fit()
    assert not [line for line in log(tmp_path) if "CUDA" in line]


def test_what_is_given_stays_and_what_is_returned_has_no_history(graphs, tmp_path):
    """A graph that goes on with nodes of an earlier batch would go on with their stream."""
    trainer = pieces(tmp_path, [3])
    given = [(torch.full((3,), float(i)), (torch.full((3,), i / 10),)) for i in range(6)]
    for batch, state in given:
        result = trainer.updates.replay.add_gradient(batch, state)
        assert result.loss.grad_fn is None and not any(t.requires_grad for t in result.carried)
    assert [graph.replays for graph in graphs.graphs] == [3]
    for i, (batch, (state,)) in enumerate(given):
        assert batch.tolist() == [i] * 3 and torch.equal(state, torch.full((3,), i / 10))


def test_a_wrong_word_is_refused():
    message = "^cuda_graphs: expected one of auto, off, found 'on'; choose one of these$"
    with pytest.raises(Refused, match=message):
        TrainingOptions(epochs=1, cuda_graphs="on")
