"""``seqsru train``."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config

import seqsru
from seqsru.commands import train
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


HUGE = "THP_MEM_ALLOC_ENABLE"


@pytest.mark.parametrize(
    "given, set_before, expected",
    [
        ("always [madvise] never\n", None, "1"),
        ("[always] madvise never\n", None, "1"),
        ("always madvise [never]\n", None, None),
        ("always [madvise] never\n", "0", "0"),
        (None, None, None),
        ("\xff", None, None),
    ],
)
def test_huge_pages_are_asked_for_where_there_are_any(given, set_before, expected, monkeypatch, tmp_path):
    if given is not None:
        (tmp_path / "enabled").write_text(given, encoding="latin-1")
    monkeypatch.setattr(train, "HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setenv(HUGE, "of before")  # which comes back at the end
    monkeypatch.delenv(HUGE)
    if set_before is not None:
        monkeypatch.setenv(HUGE, set_before)
    train.ask_for_huge_pages()
    assert os.environ.get(HUGE) == set_before  # too late: torch is there
    monkeypatch.delitem(sys.modules, "torch")
    train.ask_for_huge_pages()
    assert os.environ.get(HUGE) == expected


def test_a_training_asks_for_them_before_torch_comes(tmp_path):
    (tmp_path / "enabled").write_text("[madvise]")
    program = (
        "import os, pathlib, sys\n"
        "from seqsru.commands import train\n"
        "from seqsru.commands.main import main\n"
        "train.HUGE_PAGES = pathlib.Path(sys.argv[1])\n"
        "main(['train', '--check', sys.argv[2]])\n"
        "print(os.environ.get('THP_MEM_ALLOC_ENABLE'))\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "enabled", ROOT / "recipes/ptb/sru.yaml"]
    environment = {name: value for name, value in os.environ.items() if name != HUGE}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1"
