"""Run directories that an older version wrote: they load as they did, and go on to the same weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import seqsru

FIXTURES = Path(__file__).parent.parent / "fixtures" / "run-0.1.0"
TASKS = ["language_model", "translation"]


@pytest.fixture
def run(request, tmp_path):
    """A copy of an old run, with its texts, whose configuration names them where they are now."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    config = tmp_path / request.param / "config.yaml"
    config.write_text(config.read_text().replace("/somewhere", str(tmp_path)))
    return config.parent


def expected(name, file):
    return FIXTURES / "expected" / name / file


def metrics(path):
    """Lines of metrics, but for what a clock says."""
    for line in path.read_text().splitlines():
        record = json.loads(line)
        yield {
            name: record[name]
            for name in record
            if name not in ("seconds", "processor_seconds", "tokens_per_second")
        }


@pytest.mark.parametrize("run", TASKS, indirect=True)
def test_an_old_run_loads(run):
    pipeline = seqsru.load(run, checkpoint="last")
    then = json.loads(expected(run.name, "outcome.json").read_text())["last_checkpoint_when_stopped"]
    if run.name == "translation":
        translations = [translation.text for translation in pipeline.translate(["one two three", "seven"])]
        assert translations == then["translate"]
        scores = pipeline.score(["one two", "seven"], ["TWO ONE", "SEVEN"])
    else:
        scores = pipeline.score(["one two three", "seven"])
    assert list(scores) == pytest.approx(then["score"], rel=1e-5)


@pytest.mark.parametrize("run", TASKS, indirect=True)
def test_an_old_run_goes_on_to_the_weights_that_it_would_have_had(run):
    whole = json.loads(expected(run.name, "outcome.json").read_text())
    trained = subprocess.run(
        [sys.executable, "-m", "seqsru", "train", str(run / "config.yaml")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert trained.returncode == 0, trained.stderr
    found = load_file(run / "checkpoints" / f"step-{whole['step']:08d}" / "model.safetensors")
    weights = load_file(expected(run.name, "model.safetensors"))
    assert found.keys() == weights.keys()
    for name, weight in weights.items():  # the same bits where the CPU is the same
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)
    for now, then in zip(
        metrics(run / "metrics.jsonl"), metrics(expected(run.name, "metrics.jsonl")), strict=True
    ):
        assert now.pop("kind") == then.pop("kind")
        assert now == pytest.approx(then, rel=1e-5)
