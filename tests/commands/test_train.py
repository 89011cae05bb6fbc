"""``seqsru train``."""

import os
import re
import signal
from pathlib import Path

from tiny_runs import LANGUAGE_MODEL, write_config

import seqsru
from seqsru.training import Trainer, checkpoints

ROOT = Path(seqsru.__file__).parent.parent


def test_train_help_shows_every_setting(run):
    out = run("train", "--help")[1]
    for text in (
        "task: translation",
        "  name: sru",
        "highway_bias: 0.0",
        "name: noam",
        "label_smoothing: 0",
        "embedding_size:",
        "(required)",
    ):
        assert text in out or text.replace("0.0", "0") in out, text


def test_train_tells_the_result_and_its_signature(texts, run, tmp_path):
    path = write_config(texts, LANGUAGE_MODEL)
    status, out, err = run("train", path, f"output={tmp_path}/run")
    assert status == 0
    assert re.fullmatch(r"perplexity \d+\.\d\d\nseqsru \S+\|cell:sru-v2\|layers:2\|[^\n]*\n", out)
    assert "train.txt: 60 lines\n" in err and "\r" not in err
    again = run("train", tmp_path / "run")
    assert again[:2] == (status, out)


def test_check_shows_every_setting_and_trains_nothing(texts, run, refused, tmp_path):
    path = write_config(texts, LANGUAGE_MODEL)
    status, out, err = run("train", "--check", path, f"output={tmp_path}/run", "schedule=cosine")
    assert status == 0 and err == "" and not (tmp_path / "run").exists()
    (tmp_path / "resolved.yaml").write_text(out)
    assert run("train", "--check", tmp_path / "resolved.yaml")[1] == out
    assert "found 2" in refused("train", "--check", path, "model.stack.dropout=2")


def test_ctrl_c_saves_and_says_how_to_go_on(texts, run, language_run, tmp_path, monkeypatch):
    update = Trainer._update

    def interrupt(self, *arguments):
        update(self, *arguments)
        if self.standing.progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_update", interrupt)
    folder = tmp_path / "a run"
    status, out, err = run("train", write_config(texts, LANGUAGE_MODEL), f"output={folder}")
    assert (status, out) == (130, "")
    assert err.endswith(f"seqsru: stopped after step 3 and saved; go on with: seqsru train '{folder}'\n")
    monkeypatch.undo()
    assert run("train", folder)[0] == 0
    ours, theirs = (
        checkpoints.select(path / "checkpoints", "last").model() for path in (folder, language_run)
    )
    assert all(ours[name].equal(tensor) for name, tensor in theirs.items())


def test_a_moved_run_goes_on_where_it_is(texts, run, tmp_path):
    assert (
        run("train", write_config(texts, LANGUAGE_MODEL), f"output={tmp_path}/run", "training.epochs=1")[0]
        == 0
    )
    (tmp_path / "run").rename(tmp_path / "moved")
    assert run("train", tmp_path / "moved", "training.epochs=2")[0] == 0
    assert not (tmp_path / "run").exists()
