"""A run that goes on: the same bytes wherever they lie, other bytes refused, and nothing touched."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, TRANSLATION, settings, write_texts

from seqsru import runs
from seqsru.commands.main import main
from seqsru.data.facts import Facts
from seqsru.settings import SettingsError
from seqsru.tasks.going_on import file_sums
from seqsru.training import checkpoints

FIXTURES = Path(__file__).parent.parent / "fixtures" / "run-0.1.0"
TEXTS = {"lm": LANGUAGE_MODEL, "mt": TRANSLATION, "cl": CLASSIFICATION}
# The settings of each task that name a file.
FILES = {
    "lm": {"data.train": "train.txt", "data.validation": "valid.txt", "data.test": "test.txt"},
    "mt": {
        "data.train.source": "train.src",
        "data.train.target": "train.tgt",
        "data.validation.source": "valid.src",
        "data.validation.target": "valid.tgt",
    },
    "cl": {
        "data.train": "train.labelled",
        "data.validation": "valid.labelled",
        "data.test": "test.labelled",
        "data.vectors": "vectors.txt",
    },
}
MORE = {"lm": [], "mt": ["training.steps=0", "training.validation_metric=perplexity"], "cl": []}


def silent(line):
    """Hear what a run says, and keep quiet about it."""


def chosen(folder, task, output, epochs, *overrides):
    """Settings of a run of some epochs on the texts in a folder."""
    more = [f"data.vectors={folder}/vectors.txt"] if task == "cl" else []
    given = [f"output={output}", f"training.epochs={epochs}", *MORE[task], *more]
    names = [override.partition("=")[0] for override in overrides]
    given = [one for one in given if one.partition("=")[0] not in names]
    return settings(folder, TEXTS[task], *given, *overrides)


def content(folder):
    """Every file of a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def weights(run):
    newest = checkpoints.paths(run / "checkpoints")[-1]
    return newest.name, (newest / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Texts, a run of one epoch of each task, and what two epochs give."""
    folder = tmp_path_factory.mktemp("begun")
    write_texts(folder)
    vectors = "".join(f"{word} {' '.join(['0.5'] * 8)}\n" for word in ("one", "two"))
    (folder / "vectors.txt").write_text(vectors)
    whole = {}
    for task in TEXTS:
        runs.train(chosen(folder, task, folder / f"{task}-one", 1), silent)
        runs.train(chosen(folder, task, folder / f"{task}-two", 2), silent)
        whole[task] = weights(folder / f"{task}-two")
    return folder, whole


@pytest.fixture
def place(begun, tmp_path):
    """A copy of all that, to be changed."""
    shutil.copytree(begun[0], tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("task", TEXTS)
def test_the_same_bytes_elsewhere_go_on_to_the_same_bits(begun, place, task):
    run = place / f"{task}-one"
    (place / "elsewhere").mkdir()
    moved = []
    for number, (setting, name) in enumerate(FILES[task].items()):
        (place / name).rename(place / "elsewhere" / f"{number}")
        moved.append(f"{setting}={place}/elsewhere/{number}")
    runs.train(chosen(place, task, run, 2, *moved), silent)
    assert weights(run) == begun[1][task]
    kept = json.loads((checkpoints.paths(run / "checkpoints")[-1] / "state.json").read_text())["files"]
    assert kept == file_sums(chosen(place, task, run, 2, *moved))
    assert kept.keys() == FILES[task].keys() - {"data.test"}


@pytest.mark.parametrize("task, setting", [(t, s) for t in FILES for s in FILES[t] if s != "data.test"])
@pytest.mark.parametrize("change", ["added", "removed", "replaced", "first line", "line ends"])
def test_other_bytes_under_the_same_path_are_refused(place, task, setting, change):
    run, path = place / f"{task}-one", place / FILES[task][setting]
    there, data = content(run), path.read_bytes()
    path.write_bytes(
        {
            "added": data + b"plain one two\n",
            "removed": data[: data.rstrip(b"\n").rindex(b"\n") + 1],
            "replaced": b"strange words\n" * data.count(b"\n"),
            "first line": b"lucky" + data[data.index(b"\n") :],
            "line ends": data.replace(b"\n", b"\r\n"),
        }[change]
    )
    now = chosen(place, task, run, 2)
    before = json.loads((checkpoints.paths(run / "checkpoints")[-1] / "state.json").read_text())["files"]
    with pytest.raises(SettingsError) as caught:
        runs.train(now, silent)
    assert len(caught.value.problems) == 1
    assert re.sub(r"^[^ ]+:\d+: |^command line: ", "", str(caught.value)) == (
        f"{setting}: expected the file that the run in {run} began with, whose sha256 begins "
        f"{before[setting][:12]}, found {file_sums(now)[setting][:12]} in {path}; restore it, or choose "
        "another output"
    )
    assert content(run) == there


def test_texts_in_another_order_are_other_texts(place):
    now = chosen(
        place,
        "lm",
        place / "lm-one",
        2,
        f"data.train={place}/valid.txt",
        f"data.validation={place}/train.txt",
    )
    with pytest.raises(SettingsError) as caught:
        runs.train(now, silent)
    assert [problem.refusal.setting for problem in caught.value.problems] == ["data.train", "data.validation"]


@pytest.mark.parametrize("task, setting", [(t, s) for t in FILES for s in FILES[t] if s != "data.test"])
def test_a_deleted_file_is_named(place, task, setting):
    run, path = place / f"{task}-one", place / FILES[task][setting]
    there = content(run)
    path.unlink()
    with pytest.raises(
        SettingsError, match=f"{setting}: expected a file at {path}, found none; check the path$"
    ):
        runs.train(chosen(place, task, run, 2), silent)
    assert content(run) == there


@pytest.mark.parametrize(
    "task, free",
    [
        ("lm", ["data.test=null"]),
        ("lm", ["data.test={folder}/valid.txt", "training.log_every=3", "training.save_every=2"]),
        ("lm", ["training.keep=9", "training.keep_best=4", "training.tensorboard=true", "device=cpu"]),
        ("mt", ["data.test={{source: {folder}/test.src, target: {folder}/test.tgt}}"]),
        ("cl", ["data.test=null"]),
        ("cl", ["data.test={folder}/valid.labelled", "training.threads=1"]),
    ],
)
def test_what_changes_nothing_may_change(begun, place, task, free):
    now = chosen(place, task, place / f"{task}-one", 2, *(one.format(folder=place) for one in free))
    runs.train(now, silent)
    assert weights(place / f"{task}-one") == begun[1][task]


@pytest.mark.parametrize(
    "task, other",
    [
        ("lm", "data.on_bad_line=skip"),
        ("lm", "training.validate_every=3"),
        ("cl", "data.lowercase=true"),
        ("cl", "data.vectors=null"),
        ("mt", "decoding.beam=1"),
    ],
)
def test_what_may_change_the_result_may_not_change(place, task, other):
    run = place / f"{task}-one"
    there = content(run)
    with pytest.raises(SettingsError, match="expected the settings that the run in"):
        runs.train(chosen(place, task, run, 2, other), silent)
    assert content(run) == there


def test_a_folder_that_moved_goes_on_from_any_working_folder(begun, place, monkeypatch, capsys):
    monkeypatch.chdir(place.parent)
    place.rename(place.parent / "moved")
    paths = [
        f"data.{split}=moved/{name}.txt" for split, name in (("train", "train"), ("validation", "valid"))
    ]
    assert main(["train", "moved/lm-one", "training.epochs=2", "data.test=null", *paths]) == 0
    assert weights(place.parent / "moved" / "lm-one") == begun[1]["lm"]
    assert capsys.readouterr().out.startswith("perplexity ")


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["training.epochs=1"], None),
        (
            ["training.epochs=0", "training.steps=1"],
            "training.steps: expected at least the \\d+ steps that the run",
        ),
        (["schedule=cosine"], "found schedule.name 'cosine' instead of 'constant'"),
        (["optimizer.lr=1"], "found optimizer.lr 1 instead of 0.01"),
    ],
)
def test_a_refusal_touches_nothing(place, capsys, overrides, sentence):
    run = place / "lm-one"
    there = content(run)
    assert main(["train", str(run), *overrides]) == (2 if sentence else 0)
    if sentence:
        assert re.search(sentence, capsys.readouterr().err)
        assert content(run) == there


def test_a_schedule_with_an_end_is_refused_with_its_line(place, capsys):
    run = place / "cosine"
    now = chosen(place, "lm", run, 1, "schedule=cosine")
    runs.train(now, silent)
    there = content(run)
    assert main(["train", str(run), "training.epochs=2"]) == 2
    assert re.fullmatch(
        r"command line: training.epochs: expected \d+ updates in all, which the schedule of the run in "
        rf"{run} began with, found \d+; put it back, or train another run with start_from.run={run}\n",
        capsys.readouterr().err.splitlines(keepends=True)[-1],
    )
    assert content(run) == there


def test_a_text_that_changed_before_training_began_gives_its_own_tokenizer(place):
    run = place / "late"
    (place / "train.txt").write_text("some other words\n" * 3)
    with pytest.raises(SettingsError):  # too short a text, found after the tokenizer was made
        runs.train(chosen(place, "lm", run, 1, "batches.batch_size=30"), silent)
    assert (run / "tokenizer.json").exists()
    (place / "train.txt").write_text("one two three\n" * 30)
    runs.train(chosen(place, "lm", run, 1, "batches.batch_size=30"), silent)
    assert json.loads((run / "tokenizer.json").read_text())["types"] == [
        "<unk>",
        "<eos>",
        "one",
        "three",
        "two",
    ]


# ---- runs of before --------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path):
    """A copy of an old run, with its texts, whose configuration names them where they are now."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "language_model" / "config.yaml"
    config.write_text(config.read_text().replace("/somewhere", str(tmp_path)))
    return config.parent


def test_an_old_run_is_judged_by_path_and_then_by_content(old, capsys):
    (old.parent / "other.txt").write_bytes((old.parent / "train.txt").read_bytes())
    assert main(["train", str(old), f"data.train={old.parent}/other.txt"]) == 2
    assert "data.train" in capsys.readouterr().err
    assert main(["train", str(old), "training.max_minutes=1e-9"]) == 0
    (old.parent / "train.txt").write_text("other text\n" * 20)
    assert main(["train", str(old)]) == 2  # the checkpoint that was written at the end has its sum
    assert "data.train: expected the file that the run in" in capsys.readouterr().err


def test_an_old_run_has_sums_from_then_on(old, capsys):
    assert main(["train", str(old), "training.save_every=1", "training.max_minutes=1e-3"]) == 0
    (old.parent / "train.txt").rename(old.parent / "other.txt")
    assert main(["train", str(old), f"data.train={old.parent}/other.txt", "training.max_minutes=0"]) == 0
    capsys.readouterr()
    (old.parent / "other.txt").write_text("other text\n" * 20)
    assert main(["train", str(old)]) == 2
    assert "data.train: expected the file that the run in" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["training.steps=40", "training.steps=19", "training.steps=5"])
def test_an_old_run_with_a_schedule_keeps_its_end(old, capsys, end):
    there = content(old)
    assert main(["train", str(old), end]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    what = "at least the 7 steps that" if end.endswith("=5") else "20 updates in all, which the schedule of"
    assert err.startswith(f"command line: training.steps: expected {what} the run in {old} ")
    assert {k: v for k, v in content(old).items() if k != "lock"} == {
        k: v for k, v in there.items() if k != "lock"
    }


def test_reading_the_texts_for_their_sums_takes_no_time(tmp_path, monkeypatch):
    read = []
    facts = Facts("0", 1, True)
    monkeypatch.setattr(
        "seqsru.tasks.going_on.facts_of", lambda path, kept: (read.append(path) or facts, True)
    )
    write_texts(tmp_path)
    now = settings(tmp_path, LANGUAGE_MODEL, f"output={tmp_path}/run", "training.epochs=1")
    runs.train(now, silent)
    assert sorted(map(os.path.basename, read)) == ["train.txt", "valid.txt"]
