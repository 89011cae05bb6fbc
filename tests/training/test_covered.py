"""What a run has once, its settings, tokenizers and metrics, is covered by its checkpoints."""

import json
import os
import re
import shutil

import pytest
from tiny_runs import LANGUAGE_MODEL, settings, write_texts

import seqsru
from seqsru import runs
from seqsru.errors import Refused
from seqsru.settings import SettingsError
from seqsru.training import CheckpointError, checkpoints


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    runs.train(settings(folder, LANGUAGE_MODEL, f"output={folder}/finished", "training.log_every=1"), silent)
    return folder


@pytest.fixture
def run(texts, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(texts / "finished", tmp_path / "run")


def silent(line):
    """Hear what a run says, and keep quiet about it."""


def go_on(texts, run, *overrides):
    runs.train(settings(texts, LANGUAGE_MODEL, f"output={run}", *overrides), silent)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new",
    [
        ("save_every: 0", "save_every: 4"),
        ("lr: 0.01", "lr: 0.03"),
        ("seed: 1", "seed: 3"),
        ("# Every", "# Evary"),
    ],
)
def test_a_changed_setting_is_refused(texts, run, old, new):
    told = (
        f"^expected {run}/config.yaml as the training wrote it, with sha256 [0-9a-f]{{64}}, found "
        "[0-9a-f]{64}; restore it from a copy; a setting is changed with `seqsru train RUN key=value`$"
    )
    edit(run / "config.yaml", old, new)
    if old.startswith("#"):  # nothing that it says is another
        with pytest.warns(RuntimeWarning, match="found other paths in it; they are used as they are$"):
            seqsru.load(run)
        return
    with pytest.raises(CheckpointError, match=told):
        seqsru.load(run)
    with pytest.raises(CheckpointError, match=told):
        go_on(texts, run, "training.epochs=3")


def test_a_tokenizer_of_another_content_is_refused(run):
    record = json.loads((run / "tokenizer.json").read_text())
    (run / "tokenizer.json").write_text(json.dumps(record))  # says the same: its own fingerprint is right
    with pytest.raises(
        CheckpointError, match=f"^expected {run}/tokenizer.json as the training wrote it, with"
    ):
        seqsru.load(run)


def test_a_run_that_goes_on_with_other_settings_is_accepted_whenever_it_is_killed(texts, run, monkeypatch):
    """Before the settings are written, between, and after: every checkpoint accepts them."""
    before = (run / "config.yaml").read_bytes()
    go_on(texts, run, "training.epochs=3", "training.keep=9")
    assert (run / "config.yaml").read_bytes() != before
    seqsru.load(run, checkpoint="last")
    (run / "config.yaml").write_bytes(before)
    steps = [int(path.name[5:]) for path in checkpoints.paths(run / "checkpoints")]
    seqsru.load(run, checkpoint=steps[0])  # written before the change: either will do
    with pytest.raises(CheckpointError):
        seqsru.load(run, checkpoint="last")


@pytest.mark.parametrize(
    "damage, told",
    [
        (
            lambda lines: [*lines[:2], lines[2][:9], *lines[3:]],
            r"\.jsonl:3: expected a line of metrics, found a damaged",
        ),
        (
            lambda lines: [b'{"kind": "other", "step": 1}', *lines[1:]],
            r"\.jsonl:1: .* found something else; it stays",
        ),
        (
            lambda lines: lines[:1],
            r"^expected \d+ lines in .*metrics.jsonl, found 1; what is missing is lost$",
        ),
    ],
)
def test_damaged_metrics_are_told(texts, run, damage, told):
    path = run / "metrics.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in damage(path.read_bytes().splitlines())))
    with pytest.warns(RuntimeWarning, match=told):
        go_on(texts, run, "training.epochs=3")
    assert re.search(told, (run / "log").read_text(), re.MULTILINE)


def test_a_counter_of_lines_beyond_any_file_ends_at_its_end(tmp_path):
    from seqsru.training.run_log import _Appended

    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "train", "step": 1}\n')
    file = _Appended(path)
    (told,) = file.keep(2**62)
    file.close()
    assert told == f"expected {2**62} lines in {path}, found 1; what is missing is lost"


def test_a_checkpoint_without_a_rank_is_named(run):
    older = checkpoints.paths(run / "checkpoints")[0]
    (older / "state.json").write_text('{"validation": {"metric": 1}}')
    told = (
        f"^expected what a training writes in {older}/state.json, found validation without higher_is_better"
    )
    with pytest.warns(RuntimeWarning, match=told + ".*; it has no rank$"):
        seqsru.load(run)


def test_an_unreadable_newest_checkpoint_is_named_and_the_next_is_used(run, monkeypatch):
    older, newest = checkpoints.paths(run / "checkpoints")[-2:]
    opened, listed = os.open, os.listdir

    def closed(call):
        def refuse(path, *arguments, **options):
            if str(path) == str(newest):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *arguments, **options)

        return refuse

    monkeypatch.setattr(os, "open", closed(opened))
    monkeypatch.setattr(os, "listdir", closed(listed))
    told = (
        f"^expected a checkpoint folder at {newest}, found one that cannot be read \\(Permission denied\\); "
        "change its permissions; using another checkpoint$"
    )
    with pytest.warns(RuntimeWarning, match=told):
        assert checkpoints.newest(run / "checkpoints").path == older


def test_a_checkpoint_that_is_open_outlives_its_name(run):
    found = checkpoints.select(run / "checkpoints", "last")
    names = found.model().keys()
    shutil.rmtree(found.path)
    assert found.model().keys() == names and found.training()
    found.release()
    with pytest.raises(CheckpointError, match="^expected tensors in .*, found something else"):
        found.model()


def test_a_checkpoint_between_two_names_is_read(run):
    newest = checkpoints.paths(run / "checkpoints")[-1]
    newest.rename(newest.with_name(f".replaced-{newest.name}"))  # where a killed process leaves it
    assert checkpoints.newest(run / "checkpoints").step == int(newest.name[5:])


@pytest.mark.parametrize("extra", ["# mine\n", "\n\n"])
def test_settings_that_somebody_added_to_are_not_overwritten(texts, tmp_path, extra):
    """A copy of a run's settings, with something of one's own, is a file of one's own."""
    text = (texts / "finished" / "config.yaml").read_text().replace(f"{texts}/finished", str(tmp_path))
    (tmp_path / "config.yaml").write_text(text + extra)
    with pytest.raises((SettingsError, Refused), match="found config.yaml in"):
        go_on(texts, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == text + extra
