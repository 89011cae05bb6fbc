"""Another end than the one that a run had: gone on to exactly, or refused; and ends that are far away."""

import json
import shutil
import time

import pytest
import tiny

from seqsru.errors import Refused
from seqsru.training import SCHEDULES, RunDirectory, checkpoints
from seqsru.training.processes import Processes
from seqsru.training.resume import newest
from seqsru.training.schedules import Position

ENDLESS = [name for name in SCHEDULES if not SCHEDULES[name].needs_total]
OPTIONS = {
    "inverse_sqrt": {"warmup": 4},
    "noam": {"warmup": 10, "width": 16},
    "plateau": {"factor": 0.5, "patience": 0},
    "exponential": {"decay": 0.5},
}
FAR = 10**18


def make(folder, schedule="constant", **options):
    """A trainer whose length is given, by default in steps."""
    if "steps" in options:
        options = {"epochs": 0, **options}
    return tiny.make(folder, schedule=schedule, schedule_options=OPTIONS.get(schedule), **options)


def content(folder):
    """Every file of a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def metrics(folder):
    """Lines of metrics, but for what a clock says."""
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        yield {
            name: record[name]
            for name in record
            if name not in ("seconds", "processor_seconds", "tokens_per_second")
        }


def state(folder):
    """Everything that the newest checkpoint says of where the run is."""
    found = newest(RunDirectory(folder))
    measured = ("seconds", "processor_seconds", "peak_bytes")  # of the machine, not of the training
    progress = {name: value for name, value in found.record["progress"].items() if name not in measured}
    return found.step, progress, found.record["schedule"], found.record["validation"]


@pytest.mark.parametrize("validate_every", [0, 7])
@pytest.mark.parametrize("schedule", ENDLESS)
def test_a_longer_run_is_the_one_that_never_stopped(tmp_path, schedule, validate_every):
    # An epoch has 15 updates: 15 ends with one, 20 in the middle of one, 21 with a validation of its own.
    options = {"validate_every": validate_every, "lr": 0.05, "keep_best": 3}
    for steps in (15, 20, 21, 33):
        make(tmp_path / "grown", schedule, steps=steps, **options).fit()
    once = make(tmp_path / "once", schedule, steps=33, **options).fit()
    again = make(tmp_path / "grown", schedule, steps=33, **options).fit()
    assert (again.reason, again.best, again.best_step) == (once.reason, once.best, once.best_step)
    assert tiny.files(tmp_path / "grown") == tiny.files(tmp_path / "once")
    assert state(tmp_path / "grown") == state(tmp_path / "once")
    assert list(metrics(tmp_path / "grown")) == list(metrics(tmp_path / "once"))
    names = [
        [path.name for path in checkpoints.ranking(tmp_path / run / "checkpoints")]
        for run in ("grown", "once")
    ]
    assert names[0] == names[1]


def test_more_patience_goes_on_as_if_there_had_been_more_before(tmp_path):
    options = {"steps": 40, "validate_every": 1, "lr": 0.05}
    stopped = make(tmp_path / "grown", patience=1, **options).fit()
    assert stopped.reason == "patience" and stopped.step < 40
    for run in ("grown", "once"):
        make(tmp_path / run, patience=0, **options).fit()
    assert tiny.files(tmp_path / "grown") == tiny.files(tmp_path / "once")
    assert state(tmp_path / "grown") == state(tmp_path / "once")


def test_more_time_goes_on_as_if_there_had_been_more_before(tmp_path):
    options = {"steps": 20, "save_every": 5}
    assert make(tmp_path / "grown", "plateau", max_minutes=1e-9, **options).fit().reason == "time"
    for run in ("grown", "once"):
        make(tmp_path / run, "plateau", **options).fit()
    assert tiny.files(tmp_path / "grown") == tiny.files(tmp_path / "once")
    assert state(tmp_path / "grown") == state(tmp_path / "once")


def test_what_the_end_alone_validated_counts_until_something_follows(tmp_path):
    first = make(tmp_path, steps=17).fit()
    folder = tmp_path / "checkpoints"
    assert (first.best_step, first.checkpoint.name) == (17, "step-00000017")
    assert [path.name for path in checkpoints.ranking(folder)] == ["step-00000017", "step-00000015"]
    assert [record["step"] for record in metrics(tmp_path) if record["kind"] == "valid"] == [15, 17]
    before = list(metrics(tmp_path))
    same = make(tmp_path, steps=17).fit()
    assert (same.best, same.best_step) == (first.best, 17) and list(metrics(tmp_path)) == before
    make(tmp_path, steps=31, keep=9).fit()
    assert [path.name for path in checkpoints.paths(folder)][-3:] == [
        "step-00000017",
        "step-00000030",
        "step-00000031",
    ]
    assert [path.name for path in checkpoints.ranking(folder)] == [
        "step-00000031",
        "step-00000030",
        "step-00000015",
    ]


@pytest.mark.parametrize(
    "before, after, setting, total",
    [
        ({"steps": 20}, {"steps": 40}, "steps", 40),
        ({"steps": 20}, {"steps": 21}, "steps", 21),
        ({"steps": 20, "max_minutes": 1e-9}, {"steps": 15}, "steps", 15),
        ({"steps": 20}, {"epochs": 2}, "epochs", 30),
        ({"epochs": 1}, {"epochs": 2}, "epochs", 30),
        ({"epochs": 2, "max_minutes": 1e-9}, {"epochs": 1}, "epochs", 15),
        ({"epochs": 2, "max_minutes": 1e-9}, {"steps": 31}, "steps", 31),
        ({"epochs": 1}, {"epochs": FAR}, "epochs", 15 * FAR),
    ],
)
def test_a_schedule_that_needs_its_end_keeps_it(tmp_path, before, after, setting, total):
    make(tmp_path, "cosine", **before).fit()
    there, began = content(tmp_path), 20 if "steps" in before else 15 * before["epochs"]
    with pytest.raises(Refused) as caught:
        make(tmp_path, "cosine", **after).resume(newest(RunDirectory(tmp_path)))
    assert str(caught.value) == (
        f"{setting}: expected {began} updates in all, which the schedule of the run in {tmp_path} began "
        f"with, found {total}; put it back, or train another run with start_from.run={tmp_path}"
    )
    with pytest.raises(Refused):
        make(tmp_path, "cosine", **after).fit()
    assert content(tmp_path) == there


def test_the_same_end_in_other_words_is_the_same_end(tmp_path):
    for run, options in (
        ("two", [{"epochs": 2, "max_minutes": 1e-9}, {"steps": 30}]),
        ("one", [{"epochs": 2}]),
    ):
        for each in options:
            make(tmp_path / run, "cosine", **each).fit()
    two, one = (tiny.files(tmp_path / run)[1]["model.safetensors"] for run in ("two", "one"))
    assert two == one


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "before, after, sentence",
    [
        ({"steps": 20}, {"steps": 19}, "steps: expected at least the 20 steps"),
        ({"epochs": 2}, {"steps": 1}, "steps: expected at least the 30 steps"),
        ({"epochs": 2}, {"epochs": 1}, "epochs: expected at least the 2 epochs"),
        ({"steps": 20}, {"epochs": 1}, "epochs: expected at least the 2 epochs"),
    ],
)
def test_an_end_before_what_was_made_is_refused(tmp_path, schedule, before, after, sentence):
    make(tmp_path, schedule, **before).fit()
    there = content(tmp_path)
    found = next(iter(after.values()))
    with pytest.raises(Refused) as caught:
        make(tmp_path, schedule, **after).fit()
    assert str(caught.value) == (
        f"{sentence} that the run in {tmp_path} has made, found {found}; raise it, or choose another output"
    )
    assert content(tmp_path) == there


def test_every_schedule_says_whether_it_needs_the_end():
    for name, schedule in SCHEDULES.items():
        made = schedule(1.0, **OPTIONS.get(name, {}))
        rates = {made.rate(Position(7, 2, total)) for total in (0, 8, 40)}
        assert (len(rates) > 1) == made.needs_total, name
        rates = {made.rate(Position(7, 2, 0, share)) for share in (0.0, 0.3, 1.0)}
        assert (len(rates) > 1) == made.needs_time, name


# ---- a schedule over the time ----------------------------------------------------------------------


class Clock:
    """A clock of the process that moves by a second a look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def over_time(folder, **options):
    options = {"epochs": FAR, "log_every": 1, "save_every": 1, "keep": 10**6, "lr": 0.05, **options}
    return tiny.make(folder, schedule="cosine", schedule_options={"over": "time"}, **options)


@pytest.mark.parametrize(
    "clock, limit", [("process_time", "max_processor_minutes"), ("monotonic", "max_minutes")]
)
def test_the_rate_falls_to_the_end_of_the_time(tmp_path, monkeypatch, clock, limit):
    monkeypatch.setattr(f"seqsru.training.trainer.time.{clock}", Clock())
    outcome = over_time(tmp_path, **{limit: 2.0}).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    assert outcome.reason == "time" and len(rates) == outcome.step > 10
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == len(rates)
    assert rates[0] > 0.0495 and rates[-1] < 0.001


def test_a_run_over_time_goes_on_where_its_time_stood(tmp_path, monkeypatch):
    monkeypatch.setattr("seqsru.training.trainer.time.process_time", Clock())
    over_time(tmp_path, max_processor_minutes=2.0).fit()
    folder, lines = tmp_path / "checkpoints", (tmp_path / "metrics.jsonl").read_text().splitlines()
    rates = {one["step"]: one["lr"] for one in map(json.loads, lines) if one["kind"] == "train"}
    paths = checkpoints.paths(folder)
    for path in paths[len(paths) // 2 :]:
        shutil.rmtree(path)
    step = int(checkpoints.paths(folder)[-1].name[5:])
    over_time(tmp_path, max_processor_minutes=2.0).fit()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    again = {one["step"]: one["lr"] for one in map(json.loads, lines) if one["kind"] == "train"}
    assert again[step + 1] == pytest.approx(rates[step + 1], rel=0.1)
    assert again[max(again)] < 0.001


@pytest.mark.parametrize(
    "name, before, now", [("max_minutes", "1e-09", 3.0), ("max_processor_minutes", "0", 1.0)]
)
def test_another_time_than_the_schedule_goes_over_is_refused(tmp_path, name, before, now):
    over_time(tmp_path, max_minutes=1e-9).fit()
    there = content(tmp_path)
    with pytest.raises(Refused) as caught:
        over_time(tmp_path, **{"max_minutes": 1e-9, name: now}).fit()
    assert str(caught.value) == (
        f"{name}: expected {before}, which the schedule of the run in {tmp_path} goes over, found {now:g}; "
        f"put it back, or train another run with start_from.run={tmp_path}"
    )
    assert content(tmp_path) == there


def test_a_schedule_over_no_time_is_refused(tmp_path):
    told = (
        "max_minutes: expected max_minutes or max_processor_minutes, which the schedule goes over, found "
        "neither; give one of them"
    )
    with pytest.raises(Refused, match=f"^{told}$"):
        over_time(tmp_path).fit()


def test_several_processes_have_no_schedule_over_time(tmp_path):
    trainer = over_time(tmp_path, max_minutes=1.0)
    trainer.processes = Processes(0, 2)
    told = (
        "processes: expected one process with a schedule over time, found 2; train with one, or with a "
        "schedule over updates"
    )
    with pytest.raises(Refused, match=f"^{told}$"):
        trainer._check_time()


# ---- far away --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("end", ["epochs", "steps"])
def test_an_end_far_away_costs_nothing(tmp_path, schedule, end):
    many = ("patience", "log_every", "validate_every", "save_every", "keep", "keep_best")
    began = time.monotonic()
    trainer = tiny.make(
        tmp_path,
        schedule=schedule,
        schedule_options={"start": FAR} if schedule == "exponential" else {"warmup": 10**12},
        **{"epochs": 0, end: FAR, "max_minutes": 1e-9},
        **dict.fromkeys(many, FAR),
    )
    assert trainer.fit().reason == "time"
    assert time.monotonic() - began < 5


def test_an_epoch_far_away_is_gone_on_with_at_once(tmp_path):
    trainer = tiny.make(tmp_path, schedule="constant", epochs=FAR, max_minutes=1e-9)
    trainer.fit()
    record = newest(RunDirectory(tmp_path)).record
    at = {"progress": {**record["progress"], "epoch": 10**17, "batch": 3, "step": 10**12}}
    path = tmp_path / "checkpoints" / "step-00000000"
    checkpoints.save(
        tmp_path / "checkpoints",
        10**12,
        *(checkpoints.verified(path).model(), checkpoints.verified(path).training()),
        {**record, **at, "validation": None},
    )
    outcome = tiny.make(tmp_path, schedule="constant", steps=10**12 + 20, epochs=0).fit()
    assert (outcome.reason, outcome.step) == ("steps", 10**12 + 20)


def test_all_batches_of_an_epoch_may_be_one_update(tmp_path):
    outcome = tiny.make(tmp_path, epochs=2, accumulate=10**9).fit()
    assert (outcome.reason, outcome.step) == ("epochs", 2)


# ---- the machine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1], indirect=True)
def test_the_log_says_where_last_bits_may_differ(tmp_path, threads):
    make(tmp_path, steps=3).fit()
    make(tmp_path, steps=5).fit()
    assert "goes on" not in (tmp_path / "log").read_text()
    make(tmp_path, steps=6, threads=2).fit()
    assert (
        "\ngoes on after step 5 with threads 2 instead of 1: from here on it may differ in its last bits "
        "from a run that was not stopped\n"
    ) in (tmp_path / "log").read_text()
