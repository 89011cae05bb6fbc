"""The loop, on a task to follow by hand: the loss of a batch is w times the sum of its numbers."""

import json
import logging
import sys
import threading
from dataclasses import fields
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch import nn

from seqsru.errors import Busy, Refused
from seqsru.training import (
    OPTIMIZERS,
    SCHEDULES,
    BatchLoss,
    Objective,
    RunDirectory,
    Trainer,
    TrainingDiverged,
    TrainingOptions,
)


class Sum(Objective):
    """Batches of numbers; validation gives a list of values one after the other."""

    metric = "value"
    fingerprints = {}

    def __init__(self, batches, values=(1.0,) * 100, higher_is_better=False, rows=1):
        self.numbers, self.values, self.rows = batches, list(values), rows
        self.higher_is_better = higher_is_better

    def epoch_length(self):
        return len(self.numbers)

    def batches(self, epoch, start):
        return iter(self.numbers[start:])

    def loss(self, model, batch, carried):
        loss = model.w * sum(batch)
        return BatchLoss(loss, loss.detach(), len(batch), self.rows, ())

    def validate(self, model):
        assert not model.training and not torch.is_grad_enabled()
        torch.rand(3)  # must not move the training's generator
        return {"value": self.values.pop(0), "other": float("inf")}


class Weight(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(10.0, dtype=torch.float64))


def make(folder, batches, schedule="constant", objective=None, **options):
    model = Weight()
    return Trainer(
        model,
        objective or Sum(batches),
        OPTIMIZERS["sgd"](model.parameters(), 1.0),
        SCHEDULES[schedule](1.0),
        RunDirectory(folder),
        TrainingOptions(**{"tensorboard": False, **options}),
    )


def trained(folder, batches, **options):
    trainer = make(folder, batches, **options)
    trainer.fit()
    return trainer.model.w.item()


def records(folder, kind):
    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in every if record["kind"] == kind]


def test_loss_is_a_mean_over_the_tokens_of_an_update(tmp_path):
    assert trained(tmp_path, [[1, 2], [6, 3, 3], [1]], epochs=1) == pytest.approx(10 - 1.5 - 4 - 1)


def test_accumulation_divides_once_and_ends_with_the_epoch(tmp_path):
    expected = 10 - 2 * ((3 + 12) / 5 + 1)
    assert trained(tmp_path, [[1, 2], [6, 3, 3], [1]], epochs=2, accumulate=2) == pytest.approx(expected)
    assert [r["epoch"] for r in records(tmp_path, "valid")] == [2, 3]


def test_loss_may_be_summed_over_time_and_averaged_over_rows(tmp_path):
    objective = Sum([[1, 2], [6, 3, 3]], rows=4)
    found = trained(tmp_path, None, objective=objective, epochs=1, normalize="batch")
    assert found == pytest.approx(10 - 3 / 4 - 12 / 4)


def test_clipping_limits_the_norm_after_the_division(tmp_path):
    found = trained(tmp_path, [[0.5, 0.5], [8, 8]], epochs=1, clip=2.0, log_every=1)
    assert found == pytest.approx(10 - 0.5 - 2)
    assert [r["gradient_norm"] for r in records(tmp_path, "train")] == [0.5, 8.0]


def test_steps_end_training_in_the_middle_of_an_epoch(tmp_path):
    trainer = make(tmp_path, [[1]] * 4, steps=6, validate_every=4)
    outcome = trainer.fit()
    assert (outcome.reason, outcome.step) == ("steps", 6)
    found = [(r["step"], r["value"], r["other"]) for r in records(tmp_path, "valid")]
    assert found == [(4, 1.0, None), (6, 1.0, None)]


def test_cosine_reaches_zero_at_the_last_update(tmp_path):
    make(tmp_path, [[1]] * 5, "cosine", epochs=2, accumulate=2, log_every=1).fit()
    rates = [r["lr"] for r in records(tmp_path, "train")]
    assert len(rates) == 6 and rates[2] == pytest.approx(0.5) and rates[-1] == pytest.approx(0.0, abs=1e-15)


@pytest.fixture
def slow(monkeypatch):
    """An objective whose updates of two tokens take a second each, and its validations a hundred."""
    clock = SimpleNamespace(now=0.0)
    timer = SimpleNamespace(monotonic=lambda: clock.now, process_time=lambda: 0.0)
    monkeypatch.setattr("seqsru.training.trainer.time", timer)

    class Slow(Sum):
        def loss(self, *given):
            clock.now += 1.0
            return super().loss(*given)

        def validate(self, model):
            clock.now += 100.0
            return super().validate(model)

    return lambda: Slow([[1, 2]] * 20)


def test_speed_leaves_out_validations_and_nothing_else(tmp_path, slow):
    options = {"steps": 12, "log_every": 4, "validate_every": 3}
    make(tmp_path, None, objective=slow(), **options).fit()
    assert [r["tokens_per_second"] for r in records(tmp_path, "train")] == [2.0, 2.0, 2.0]
    assert [r["seconds"] for r in records(tmp_path, "train")] == [104.0, 208.0, 312.0]


@pytest.mark.parametrize("stops", [[3], [4], [6], [5, 7], [2, 9]])
def test_speed_after_a_resume_is_that_of_the_updates_since(tmp_path, slow, stops):
    """The loss of that line is still over all of its updates."""
    for steps in (*stops, 12):
        make(tmp_path, None, objective=slow(), steps=steps, log_every=4).fit()
    lines = records(tmp_path, "train")
    assert [r["step"] for r in lines] == [4, 8, 12]
    assert [r["tokens_per_second"] for r in lines] == [2.0, 2.0, 2.0]
    assert [r["loss"] for r in lines] == [11.625, 2.625, -6.375]


@pytest.mark.parametrize("higher, values", [(False, [5, 4, 4.5, 4, 3]), (True, [1, 2, 1.5, 2, 3])])
def test_patience_ends_training_after_validations_without_a_new_best(tmp_path, higher, values):
    outcome = make(tmp_path, None, objective=Sum([[1]], values, higher), epochs=9, patience=2, keep=1).fit()
    assert (outcome.reason, outcome.step, outcome.best_step) == ("patience", 4, 2)
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000004"]  # the best and the newest
    assert make(tmp_path, None, objective=Sum([[1]], []), epochs=9, patience=2).fit().reason == "patience"


def test_time_limit_ends_with_a_validation_and_a_checkpoint(tmp_path):
    outcome = make(tmp_path, [[1]] * 10, epochs=1000, max_minutes=1e-9).fit()
    assert (outcome.reason, outcome.step, outcome.best) == ("time", 0, 1.0)
    assert outcome.checkpoint.name == "step-00000000"


def test_checkpoints_are_kept_as_asked(tmp_path):
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 6.0]
    objective = Sum([[1]] * 2, values)
    make(
        tmp_path, None, objective=objective, steps=12, validate_every=2, save_every=3, keep=3, keep_best=2
    ).fit()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000008",
        "step-00000009",
        "step-00000010",
        "step-00000012",
    ]


def test_a_gradient_that_is_not_finite_stops_training_before_the_weights_are_touched(tmp_path):
    trainer = make(tmp_path, [[1], [float("inf")], [1]], epochs=1, save_every=1)
    with pytest.raises(TrainingDiverged, match="finite gradient at step 2, found norm inf; lower"):
        trainer.fit()
    assert trainer.model.w.item() == 9.0
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_validation_that_is_not_finite_stops_training(tmp_path):
    trainer = make(tmp_path, None, objective=Sum([[1]], [float("nan")]), epochs=1)
    with pytest.raises(TrainingDiverged, match="finite value at step 1, found nan"):
        trainer.fit()


def test_validation_does_not_move_the_generator(tmp_path):
    states = []
    for every in (0, 1):
        torch.manual_seed(3)
        make(tmp_path / str(every), [[1]] * 4, epochs=1, validate_every=every).fit()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_run_in_a_directory_that_another_thread_holds_is_refused(tmp_path):
    refused = []

    def train():
        with pytest.raises(Busy, match=r"no other run in .*, found that process \d+ is training") as caught:
            make(tmp_path, [[1]], epochs=1).fit()
        refused.append(caught.value)

    with RunDirectory(tmp_path).exclusive():
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        assert len(refused) == 1
        assert make(tmp_path, [[1]], epochs=1).fit().finished


def test_it_trains_outside_the_main_thread(tmp_path):
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(make(tmp_path, [[1]], epochs=1).fit()))
    thread.start()
    thread.join()
    assert outcomes[0].finished


def test_threads_are_set(tmp_path):
    make(tmp_path, [[1]], epochs=1, threads=2).fit()
    assert torch.get_num_threads() == 2


def test_nothing_is_printed_where_stderr_is_no_terminal(tmp_path, capfd):
    make(tmp_path, [[1]], epochs=2).fit()
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "log").read_text().splitlines() == [
        "step 1: value 1.00, best 1.00 at step 1",
        "step 2: value 1.00, best 1.00 at step 1",
        "stopped at step 2: epochs",
    ]


def test_a_terminal_gets_a_bar_and_the_validations(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    make(tmp_path, [[1]] * 3, epochs=1, log_every=1).fit()
    shown = capsys.readouterr().err
    assert "3/3" in shown and "tokens/s" in shown and "step 3: value 1.00" in shown


def test_tensorboard_events_are_written(tmp_path):
    pytest.importorskip("tensorboard")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    make(tmp_path, [[1]] * 3, epochs=1, log_every=1, tensorboard=True).fit()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("valid/value")] == [1.0]
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    make(tmp_path, [[1]], epochs=1, tensorboard=True).fit()
    assert "pip install 'seqsru[plot]'" in (tmp_path / "log").read_text().splitlines()[0]
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "^epochs: expected either epochs or steps, found epochs 0 and steps 0; give one"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps, found epochs 1 and steps 1"),
        (
            {"epochs": 1, "precision": "float16"},
            "^precision: expected one of float32, tf32, bfloat16, found 'float16'",
        ),
        ({"epochs": 1, "normalize": "words"}, "^normalize: expected one of tokens, batch, found 'words'"),
        ({"epochs": 1, "accumulate": 0}, "^accumulate: expected at least 1, found 0"),
        ({"epochs": 1, "clip": -1.0}, r"^clip: expected at least 0, found -1\.0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(Refused, match=message):
        TrainingOptions(**options)


def test_what_may_change_when_a_run_goes_on_is_when_it_ends_what_it_keeps_and_what_helps_it_on():
    assert [field.name for field in fields(TrainingOptions) if field.metadata.get("may_change")] == [
        "epochs",
        "steps",
        "max_minutes",
        "max_processor_minutes",
        "on_nan",
        "cuda_graphs",
        "save_every",
        "patience",
        "keep",
        "keep_best",
        "log_every",
        "tensorboard",
        "threads",
    ]


def test_a_language_model_learns_a_rule(tmp_path):
    """After every letter the next one is certain, so the perplexity comes near 1."""
    trainer = tiny.make(tmp_path, lines=["a b c d e f g h"] * 40, epochs=12, lr=0.03)
    trainer.objective.validation = trainer.objective.validation.from_lines(["a b c d e f g h"] * 5, _words())
    trainer.objective.label_smoothing = 0.0
    outcome = trainer.fit()
    assert outcome.best < 1.3


def _words():
    from seqsru.data.vocabulary import Words

    return Words.train(tiny.LINES)
