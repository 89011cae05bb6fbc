"""Runs whose weights are averaged: what is loaded, measured and started from; several processes too."""

import os
import re
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from test_processes import done, metrics, torchrun
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, settings, write_texts

import seqsru
from seqsru import runs
from seqsru import settings as strict
from seqsru.commands.main import main
from seqsru.settings import SettingsError
from seqsru.tasks.making import prepare
from seqsru.training import checkpoints
from seqsru.training.weights import average, model_tensors

AVERAGED = "averaging={name: exponential, decay: 0.9}"
RESTART = """\
task: language_model
output: {folder}/restarted
start_from: {{run: {folder}/run}}
data: {{train: {folder}/train.txt, validation: {folder}/valid.txt}}
batches: {{batch_size: 4, window: 16}}
optimizer: {{name: sgd, lr: 0}}
averaging: {{name: nt_asgd, checks: 0}}
training: {{steps: 3, validate_every: 1, tensorboard: false}}
"""


def silent(line):
    """Hear what a run says, and keep quiet about it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    write_texts(folder)
    runs.train(settings(folder, LANGUAGE_MODEL, AVERAGED), silent)
    return folder


def same(first, second):
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_everything_that_loads_a_run_has_the_average(place, capsys):
    best = checkpoints.select(place / "run" / "checkpoints", "best")
    raw = load_file(best.path / "training.safetensors")
    loaded = model_tensors(seqsru.load(place / "run").model)
    assert same(loaded, best.model())
    assert not any(
        loaded[name.removeprefix("weights.")].equal(t) for name, t in raw.items() if name[0] == "w"
    )
    two = model_tensors(seqsru.load(place / "run", average=2, checkpoint="last").model)
    assert same(
        two, average(checkpoints.verified(p) for p in checkpoints.paths(place / "run" / "checkpoints"))
    )
    assert main(["evaluate", str(place / "run"), "--split", "validation"]) == 0
    printed = capsys.readouterr().out
    (signature,) = re.findall("seqsru .*", (place / "run" / "signature.txt").read_text())
    assert (
        f"|weights:average-to-step-{best.step}|" in signature
        and f"|weights:average-to-step-{best.step}|" in printed
    )
    value = best.record["validation"]["value"]
    assert printed.startswith(f"perplexity {value:.4f}\n")
    pieces = str(place / "run.seqsru")
    assert main(["quantize", str(place / "run"), "--output", pieces, "--precision", "float32"]) == 0
    words = "one two three"
    capsys.readouterr()
    assert seqsru.load(pieces).score([words])[0] == pytest.approx(
        seqsru.load(place / "run").score([words])[0], rel=1e-4
    )


def test_a_restart_has_the_best_average_and_nothing_else_of_the_run(place, tmp_path):
    config = tmp_path / "restart.yaml"
    config.write_text(RESTART.format(folder=place))
    values = runs.load_settings(config)
    trainer = prepare(values, silent)
    best = checkpoints.select(place / "run" / "checkpoints", "best")
    assert same(model_tensors(trainer.model), best.model())
    assert not trainer.optimizer.state and not trainer.average.weights and trainer.standing.progress.step == 0
    assert type(trainer.optimizer).__name__ == "SGD" and not trainer.average.rule.begun
    runs.train(values, silent)  # with a rate of 0
    assert same(checkpoints.select(place / "restarted" / "checkpoints", "last").model(), best.model())
    signature = (place / "restarted" / "signature.txt").read_text()
    assert f"|start:run,average-to-step-{best.step}," in signature
    assert strict.load(place / "restarted" / "config.yaml", runs.schema())["averaging"]["checks"] == 0


def test_the_mean_begins_by_what_validation_finds_and_a_task_says_which_is_better(tmp_path):
    """Accuracy, of which more is better."""
    write_texts(tmp_path)
    rule = "averaging={name: nt_asgd, checks: 0}"
    given = ["training.epochs=0", "training.steps=30", "training.validate_every=1", "optimizer.lr=0.5"]
    runs.train(settings(tmp_path, CLASSIFICATION, rule, "training.keep=99", *given), silent)
    found = [checkpoints.verified(path) for path in checkpoints.paths(tmp_path / "run" / "checkpoints")]
    best, expected = 0.0, None
    for checkpoint in found:
        assert checkpoint.record["averaging"]["begun"] == (
            expected is not None or checkpoint.record["validation"]["value"] < best
        )
        if expected is None and checkpoint.record["validation"]["value"] < best:
            expected = checkpoint.step
        best = max(best, checkpoint.record["validation"]["value"])
    assert expected is not None
    assert [c.step for c in found if c.record["averaged"]] == list(range(expected + 1, 31))


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "averaging=exponental",
            "averaging.name: expected one of none, exponential, nt_asgd, found 'exponental'; "
            "did you mean 'exponential'?",
        ),
        (
            "averaging={name: exponential, decay: 1}",
            "averaging.decay: expected a probability from 0 to below 1, found 1.0; 0 switches it off",
        ),
        ("averaging={name: nt_asgd, chekcs: 1}", "averaging.chekcs is not a setting; did you mean 'checks'?"),
        ("averaging={name: none, every: 1}", "averaging.every is not a setting; there are none here"),
    ],
)
def test_what_cannot_be_set(place, override, message):
    with pytest.raises(SettingsError, match=f"^command line: {re.escape(message)}$"):
        runs.rehearse(settings(place, LANGUAGE_MODEL, override, f"output={place}/never"))


def test_a_run_goes_on_with_the_averaging_that_it_began_with(place):
    with pytest.raises(
        SettingsError, match=r"found averaging.decay 0\.99 instead of 0\.9; choose another output"
    ):
        runs.train(settings(place, LANGUAGE_MODEL, "averaging={name: exponential, decay: 0.99}"), silent)


@pytest.mark.slow
def test_several_processes_have_the_average_of_one(place, tmp_path):
    rule = "averaging: {{name: nt_asgd, checks: 0, every: 2}}\n"
    given = (
        "training: {{steps: 12, clip: 0.5, validate_every: 1, log_every: 1, keep: 1, tensorboard: false}}\n"
    )
    text = (
        LANGUAGE_MODEL[: LANGUAGE_MODEL.index("optimizer:")]
        + "optimizer: {{name: sgd, lr: 2}}\n"
        + rule
        + given
    )
    (tmp_path / "run.yaml").write_text(text.format(folder=place))
    program = os.path.join(os.path.dirname(__file__), "..", "training", "several.py")
    one, two = (f"run.yaml,output={tmp_path}/{name}" for name in ("one", "two"))
    first = torchrun(2, program, str(tmp_path), two)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, program, str(tmp_path), one], env=env, check=True)
    done(first)
    for a, b in zip(*(list(metrics(tmp_path / name)) for name in ("one", "two")), strict=True):
        assert a.pop("kind") == b.pop("kind")
        assert b == pytest.approx(a, rel=1e-5)
    last = [checkpoints.newest(tmp_path / name / "checkpoints") for name in ("one", "two")]
    assert all(found.record["averaged"] for found in last)
    assert last[0].training()["average.count"].equal(last[1].training()["average.count"])
    others = last[1].model()
    assert all(t.allclose(others[name], rtol=1e-4, atol=1e-5) for name, t in last[0].model().items())
