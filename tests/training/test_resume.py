"""A run that was stopped, killed or damaged, and gone on with, ends with the bits of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny

from seqsru.training import CheckpointError

RECIPES = {
    "adamw, cosine": {},
    "accumulation": {"accumulate": 3, "validate_every": 4},
    "momentum, plateau": {
        "optimizer": "sgd",
        "lr": 0.5,
        "optimizer_options": {"momentum": 0.9, "shrink": 1e-4},
        "schedule": "plateau",
        "validate_every": 5,
        "normalize": "batch",
    },
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What each recipe ends with when nothing happens."""
    results = {}
    for name, options in RECIPES.items():
        folder = tmp_path_factory.mktemp("whole")
        outcome = tiny.make(folder, **options).fit()
        assert outcome.reason == "epochs" and outcome.finished
        results[name] = tiny.files(folder)
    return results


def stop_after(trainer, batches):
    """Let the batch of this number, counted from 1, be interrupted by Ctrl-C."""
    loss, seen = trainer.objective.loss, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == batches:
            signal.raise_signal(signal.SIGINT)
        return loss(*arguments)

    trainer.objective.loss = interrupted
    return trainer


@pytest.mark.parametrize(
    "recipe, stops",
    [
        ("adamw, cosine", [1]),
        ("adamw, cosine", [5, 2, 9]),
        ("adamw, cosine", [16]),
        ("adamw, cosine", [17, 15]),
        ("accumulation", [1, 2, 13]),
        ("momentum, plateau", [7, 20]),
        ("bfloat16", [10]),
    ],
)
def test_interrupted_runs_end_with_the_same_bits(tmp_path, whole, recipe, stops, capfd):
    for batches in stops:
        outcome = stop_after(tiny.make(tmp_path, **RECIPES[recipe]), batches).fit()
        assert outcome.reason == "interrupted" and not outcome.finished
        assert outcome.checkpoint.name == f"step-{outcome.step:08d}"
    assert "once more to stop at once" in capfd.readouterr().err
    assert tiny.make(tmp_path, **RECIPES[recipe]).fit().reason == "epochs"
    assert tiny.files(tmp_path) == whole[recipe]


def test_metrics_of_an_interrupted_run_are_those_of_a_whole_one(tmp_path):
    tiny.make(tmp_path / "whole").fit()
    stop_after(tiny.make(tmp_path / "stopped"), 8).fit()
    with open(tmp_path / "stopped" / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 10, "lo')  # what a killed process leaves
    tiny.make(tmp_path / "stopped").fit()

    def lines(folder):
        timed = ("seconds", "processor_seconds", "tokens_per_second")
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in record.items() if k not in timed} for record in records]

    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    assert {record["kind"] for record in lines(tmp_path / "whole")} == {"train", "valid"}


def test_a_finished_run_is_left_as_it_is(tmp_path, whole):
    first = tiny.make(tmp_path).fit()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").rglob("*.safetensors")}
    again = tiny.make(tmp_path).fit()
    assert (again.reason, again.step, again.best) == (first.reason, first.step, first.best)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").rglob("*.safetensors")} == before


def test_more_epochs_go_on_from_the_end(tmp_path):
    constant = {"schedule": "constant"}
    tiny.make(tmp_path / "twice", epochs=1, **constant).fit()
    tiny.make(tmp_path / "twice", epochs=2, **constant).fit()
    tiny.make(tmp_path / "once", epochs=2, **constant).fit()
    assert tiny.files(tmp_path / "twice") == tiny.files(tmp_path / "once")


@pytest.mark.slow
def test_a_killed_process_loses_only_what_was_not_saved(tmp_path, whole):
    process = subprocess.Popen(
        [sys.executable, tiny.__file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if len(list((tmp_path / "checkpoints").glob("step-*"))) >= 7:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    assert process.wait(60) == -signal.SIGKILL
    assert tiny.make(tmp_path).fit().reason == "epochs"
    assert tiny.files(tmp_path) == whole["adamw, cosine"]


def damage_byte(path):
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)


def cut(path):
    content = (path / "training.safetensors").read_bytes()
    (path / "training.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            damage_byte,
            r"expected .*step-00000020/model\.safetensors with sha256 \w+, found \w+; the .* is damaged",
        ),
        (cut, r"expected .*step-00000020/training\.safetensors with sha256"),
        (
            lambda path: (path / "state.json").unlink(),
            r"expected the file at .*step-00000020/state\.json, found none",
        ),
        (
            lambda path: (path / "manifest.json").write_text("{"),
            r"expected JSON in .*00020/manifest\.json, found Expecting",
        ),
        (lambda path: (path / "manifest.json").write_text("[]"), r"a JSON object in .*json, found list"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:.*; it has no rank:RuntimeWarning"
)  # told besides, whatever is saved next
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, whole, damage, message):
    stop_after(tiny.make(tmp_path, save_every=5, keep=3), 20).fit()
    damage(tmp_path / "checkpoints" / "step-00000020")
    with pytest.warns(RuntimeWarning, match=message):
        tiny.make(tmp_path, keep=3).fit()
    assert tiny.files(tmp_path) == whole["adamw, cosine"]


def test_with_only_damaged_checkpoints_nothing_begins_anew_by_itself(tmp_path):
    stop_after(tiny.make(tmp_path), 3).fit()
    damage_byte(tmp_path / "checkpoints" / "step-00000003")
    with pytest.warns(RuntimeWarning, match="is damaged"):
        with pytest.raises(
            CheckpointError, match="to go on from in .*, found only damaged ones; restore one from a copy"
        ):
            tiny.make(tmp_path).fit()


def test_another_tokenizer_is_refused(tmp_path):
    stop_after(tiny.make(tmp_path), 3).fit()
    trainer = tiny.make(tmp_path)
    trainer.objective.fingerprints = {"tokenizer": "0" * 64}
    with pytest.raises(
        CheckpointError, match="expected the tokenizer with sha256 .* was trained with, found 0+; put"
    ):
        trainer.fit()


def test_a_second_signal_acts_as_it_did_before(tmp_path):
    trainer = stop_after(stop_after(tiny.make(tmp_path), 3), 3)
    # A shell starts its background jobs with SIGINT ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
    finally:
        signal.signal(signal.SIGINT, before)
