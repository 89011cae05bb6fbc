"""A budget of the processors' time: it ends a training, and goes on where that stopped."""

import time

import pytest
import tiny

from seqsru.errors import Refused
from seqsru.ops import compiled
from seqsru.training import RunDirectory, TrainingOptions
from seqsru.training.resume import newest


def progress(folder):
    return newest(RunDirectory(folder)).record["progress"]


def test_it_ends_a_training_and_is_counted_over_all_of_its_processes(tmp_path):
    options = {"schedule": "constant", "epochs": 10**6}
    outcome = tiny.make(tmp_path, max_processor_minutes=0.2 / 60, **options).fit()
    first = progress(tmp_path)
    # What is kept is the state of the last epoch's end, where time was over right after it.
    assert outcome.reason == "time" and first["processor_seconds"] >= 0.18
    assert first["peak_bytes"] > 10_000_000
    time.sleep(0.3)  # neither that nor the time between two processes counts
    began = time.process_time()
    outcome = tiny.make(tmp_path, max_processor_minutes=0.4 / 60, **options).fit()
    spent = time.process_time() - began
    second = progress(tmp_path)
    assert outcome.reason == "time" and second["step"] > first["step"]
    assert 0.36 <= second["processor_seconds"] <= first["processor_seconds"] + spent
    assert tiny.make(tmp_path, max_processor_minutes=0.1 / 60, **options).fit().step == second["step"]


def test_sleeping_uses_up_the_clock_and_no_processor(tmp_path, monkeypatch):
    trainer = tiny.make(tmp_path, schedule="constant", epochs=1, max_processor_minutes=5)
    loss = trainer.objective.loss
    monkeypatch.setattr(trainer.objective, "loss", lambda *given: time.sleep(0.05) or loss(*given))
    trainer.fit()
    found = progress(tmp_path)
    assert found["seconds"] - found["processor_seconds"] > 0.3


def test_it_is_a_number_that_can_be_meant():
    with pytest.raises(Refused, match=r"^max_processor_minutes: expected at least 0, found -1\.0; raise it$"):
        TrainingOptions(epochs=1, max_processor_minutes=-1)
    with pytest.raises(
        Refused,
        match=r"^max_processor_minutes: expected at most 1,000,000,000, found 2000000000\.0; lower it",
    ):
        TrainingOptions(epochs=1, max_processor_minutes=2e9)


def test_what_is_compiled_while_it_trains_uses_up_neither_time(tmp_path, monkeypatch):
    trainer = tiny.make(tmp_path, schedule="constant", epochs=1)
    loss = trainer.objective.loss

    def compiling(*given):
        compiled.spent.seconds += 100.0
        compiled.spent.processor_seconds += 200.0
        return loss(*given)

    monkeypatch.setattr(trainer.objective, "loss", compiling)
    trainer.fit()
    found = progress(tmp_path)
    assert -100.0 < found["seconds"] + 100.0 * found["step"] < 50.0
    assert -200.0 < found["processor_seconds"] + 200.0 * found["step"] < 100.0


def test_compiling_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is kept there, however often the tests ran
    before = compiled.Spent(compiled.spent.seconds, compiled.spent.processor_seconds)
    source = "def kernel(n):\n    pass\n"
    namespace = {}
    exec(source, namespace)
    compiled.address(lambda: namespace["kernel"], ["int64"], name="nothing", sources=[], fastmath=[])
    assert compiled.spent.seconds > before.seconds
