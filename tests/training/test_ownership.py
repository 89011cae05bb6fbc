"""A run directory that holds something of somebody's: it is refused or left alone, never touched."""

import json
import os
import re
import shutil

import pytest
from tiny_runs import LANGUAGE_MODEL, settings, write_texts

from seqsru import runs
from seqsru.data.subwords import Pieces
from seqsru.errors import Refused
from seqsru.settings import SettingsError
from seqsru.training import RunDirectory

OURS = ("config.yaml", "lock", "log", "metrics.jsonl", "signature.txt", "tokenizer.json", "checkpoints")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with the texts."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    return folder


@pytest.fixture(scope="module")
def finished(texts):
    """A run that has ended."""
    runs.train(settings(texts, LANGUAGE_MODEL, f"output={texts}/finished"), silent)
    return texts / "finished"


@pytest.fixture
def train(texts, tmp_path):
    """Train into the folder of the test; the epochs are those of `finished`."""

    def call(*overrides):
        runs.train(settings(texts, LANGUAGE_MODEL, f"output={tmp_path}", *overrides), silent)

    return call


def silent(line):
    """Hear what a run says, and keep quiet about it."""


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def foreign(name, folder):
    """Something of a user's under a name."""
    path = folder / name
    if name in ("checkpoints", "tensorboard"):
        path.mkdir()
        (path / "epoch-1.pt").write_text("mine")
    else:
        path.write_text(
            {"config.yaml": "task: language_model\n", "metrics.jsonl": '{"loss": 1}\n'}.get(name, "mine\n")
        )


def refusal(folder, names):
    return re.escape(
        "command line: output: expected only a run's own files under the names that a run uses, found "
        f"{names} in {folder}, written by no run; move or rename that, or choose another output"
    )


@pytest.mark.parametrize("name", [*OURS, "tensorboard"])
def test_a_folder_with_foreign_content_under_a_runs_name_is_refused(train, tmp_path, name):
    foreign(name, tmp_path)
    (tmp_path / "results.json").write_text("{}")
    before = content(tmp_path)
    with pytest.raises(SettingsError, match=f"^{refusal(tmp_path, name)}$"):
        train()
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["config.yaml", "signature.txt", "metrics.jsonl", "tokenizer.json", "lock"])
def test_so_is_a_run_in_which_a_file_was_replaced(train, finished, tmp_path, name):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    foreign(name, tmp_path)
    before = content(tmp_path)
    with pytest.raises(SettingsError, match=f"^{refusal(tmp_path, name)}$"):
        train()
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", OURS)
def test_a_folder_under_the_name_of_a_file_is_foreign(train, tmp_path, name):
    path = tmp_path / name
    path.write_text("") if name == "checkpoints" else path.mkdir()
    with pytest.raises(SettingsError, match=refusal(tmp_path, name)):
        train()


def test_copies_of_a_runs_files_are_no_run(train, finished, tmp_path):
    for name in ("signature.txt", "metrics.jsonl", "log"):
        shutil.copy(finished / name, tmp_path)
    with pytest.raises(SettingsError, match=refusal(tmp_path, "signature.txt, metrics.jsonl, log")):
        train()


def test_the_config_of_the_training_itself(texts, tmp_path):
    text = LANGUAGE_MODEL.format(folder=texts).replace(f"{texts}/run", str(tmp_path))
    (tmp_path / "config.yaml").write_text(f"# mine\n{text}")
    from seqsru import settings as strict

    with pytest.raises(SettingsError, match=r"config.yaml:3: output: expected only a run's own files "):
        runs.train(strict.load(tmp_path / "config.yaml", runs.schema()), silent)
    assert content(tmp_path) == {"config.yaml": f"# mine\n{text}".encode()}


def test_what_has_other_names_is_left_alone(train, texts, tmp_path):
    mine = {
        "results.json": b"{}", "test.json": b"", "config.yaml.tmp": b"x", "signature.txt.tmp": b"y",
        "source.json": b"[]", "tokenizer.model": b"m", "notes": b"", "checkpoints/step-abc": b"z",
        "checkpoints/.hidden": b"h", "tensorboard.log": b"",
    }  # fmt: skip
    train("training.epochs=1")
    for name, data in mine.items():
        (tmp_path / name).write_bytes(data)
    train("training.epochs=2")
    after = content(tmp_path)
    assert {name: after[name] for name in mine} == mine


def test_settings_that_never_came_to_train_go_and_nothing_else(train, texts, tmp_path):
    bad = texts / "bad.txt"
    bad.write_bytes(b"\xff\n")
    with pytest.raises(Refused, match="UTF-8"):
        train(f"data.validation={bad}", "tokenizer=characters")
    (tmp_path / "tokenizer.model").write_bytes(b"mine")
    (tmp_path / "labels.json").write_text("{}")
    train("training.epochs=1")
    assert (tmp_path / "tokenizer.model").read_bytes() == b"mine"
    assert (tmp_path / "labels.json").read_text() == "{}"


def test_a_sentencepiece_model_of_ones_own_is_not_overwritten(tmp_path):
    lines = ["one two three four five six seven"] * 5
    pieces, other = (Pieces.train(lines, vocabulary_size=size) for size in (18, 20))
    pieces.save(tmp_path, "tokenizer")
    other.save(tmp_path, "tokenizer")  # what was saved before may be
    other.save(tmp_path, "tokenizer")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        Refused,
        match=f"^expected nothing else at {tmp_path}/tokenizer.model, found a file that no "
        f"tokenizer was saved with; "
        "move it elsewhere, or choose another folder$",
    ):
        pieces.save(tmp_path, "tokenizer")


@pytest.mark.parametrize("name", [*OURS, "tensorboard"])
def test_nothing_is_written_or_read_through_a_link(train, finished, tmp_path, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for there in ("nothing", "own"):  # a link that leads nowhere would make what it leads to
        (tmp_path / name).symlink_to(elsewhere / there)
        with pytest.raises(SettingsError, match=f"^{refusal(tmp_path, name)}$"):
            train()
        (tmp_path / name).unlink()
        source = finished / name
        if there == "nothing" and source.is_dir():
            shutil.copytree(source, elsewhere / "own")
        elif there == "nothing" and source.exists():
            shutil.copy(source, elsewhere / "own")
    assert not (elsewhere / "nothing").exists()


def test_the_files_of_a_run(finished):
    files = {str(path.relative_to(finished)) for path in RunDirectory(finished).files(["tokenizer"])}
    assert files - {"tokenizer.model"} >= set(content(finished))


def test_a_lock_that_is_none_is_refused_before_it_is_opened(tmp_path):
    (tmp_path / "lock").write_text("mine")
    with pytest.raises(Refused, match="^output: expected only a run's own files .*found lock in "):
        with RunDirectory(tmp_path).exclusive():
            pass
    assert (tmp_path / "lock").read_text() == "mine"


def test_metrics_are_told_by_their_first_line(tmp_path):
    run = RunDirectory(tmp_path)
    run.write(run.config, "# Every setting of this run, as seqsru 9 resolved them.\n")
    for text, own in (("", True), (json.dumps({"kind": "train", "step": 1, "x": 2}), True), ("[1]\n", False)):
        run.metrics.write_text(text)
        if own:
            run.check_own(["tokenizer"])
        else:
            with pytest.raises(Refused, match="found metrics.jsonl in"):
                run.check_own(["tokenizer"])
    run.metrics.unlink()
    os.mkfifo(run.metrics)
    with pytest.raises(Refused, match="found metrics.jsonl in"):
        run.check_own([])
