"""The recipes of readers: the data they prepare, and what their scripts compare."""

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import questions

RECIPES = Path(__file__).parents[2] / "recipes"


def load(name, path):
    """A recipe's program as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


squad = load("prepare_squad", RECIPES / "squad" / "prepare.py")
jaquad = load("prepare_jaquad", RECIPES / "jaquad" / "prepare.py")


def test_the_parts_that_a_mirror_has_are_joined(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mirror" / "squad-v1.1"
    folder.mkdir(parents=True)
    for name, seed in (("train-part.a", 1), ("train-part.b", 2), ("dev-v1.1.rebuilt", 3)):
        (folder / f"{name}.json").write_text(json.dumps(questions(4, seed)))
    monkeypatch.setenv("SEQSRU_MIRROR", str(tmp_path / "mirror"))
    out = tmp_path / "data"
    assert squad.main([str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/train.json: 16 questions from train-part.a.json, train-part.b.json",
        f"{out}/test.json: 8 questions from dev-v1.1.rebuilt.json",
    ]
    for path in folder.glob("train-part*"):
        path.unlink()
    assert squad.main([str(out)]) == 2 and "in the folder SEQSRU_MIRROR names" in capsys.readouterr().err
    assert squad.main([]) == 2 and "FOLDER" in capsys.readouterr().err


def test_the_whole_set_is_fetched(tmp_path, monkeypatch, capsys):
    def fetch(name, folder):
        there = Path(folder) / name
        there.mkdir()
        for file, seed in (("train-v1.1.json", 1), ("dev-v1.1.json", 2)):
            (there / file).write_text(json.dumps(questions(3, seed)))
        return there

    monkeypatch.delenv("SEQSRU_MIRROR", raising=False)
    monkeypatch.setattr(squad, "fetch", fetch)
    assert squad.main([str(tmp_path)]) == 0
    assert "train.json: 6 questions from train-v1.1.json" in capsys.readouterr().out


def test_japanese_from_a_mirror_or_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jaquad, "QUESTIONS", {"train": 8, "dev": 6})
    (tmp_path / "mirror" / "jaquad").mkdir(parents=True)
    for split, count, seed in (("train", 4, 1), ("dev", 3, 2)):
        content = questions(count, seed)
        packed = tmp_path / "mirror" / "jaquad" / f"{split}.json.gz"
        packed.write_bytes(gzip.compress(json.dumps(content).encode()))
        (tmp_path / "source" / "data" / split).mkdir(parents=True)
        for number, paragraph in enumerate(content["data"][0]["paragraphs"]):
            path = tmp_path / "source" / "data" / split / f"{number}.json"
            path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]}))
    monkeypatch.setenv("SEQSRU_MIRROR", str(tmp_path / "mirror"))
    out = tmp_path / "data"
    for source in ([], [str(tmp_path / "source")]):
        assert jaquad.main([str(out), *source]) == 0
        assert capsys.readouterr().out == f"{out}/train.json: 8 questions\n{out}/test.json: 6 questions\n"
    monkeypatch.setattr(jaquad, "QUESTIONS", {"train": 9, "dev": 6})
    assert jaquad.main([str(out)]) == 2 and "expected 9 questions for" in capsys.readouterr().err
    monkeypatch.delenv("SEQSRU_MIRROR")
    assert jaquad.main([str(out)]) == 2 and "name a checkout of JaQuAD" in capsys.readouterr().err


@pytest.mark.parametrize(
    "recipe, arguments, message",
    [
        (
            "squad",
            ["--cells", "sru"],
            "expected --depths 2 4 6, or some of these, found '--cells sru'; other ",
        ),
        (
            "squad",
            ["4"],
            "expected --depths 2 4 6, or some of these, found '4'; other cells and settings go ",
        ),
        ("squad", ["--depths"], "expected --depths 2 4 6, or some of these, found '--depths'; other cells "),
        ("squad", ["--depths", "2", "3"], "expected the depths 2, 4 or 6, found '3'; name one of these, or "),
        (
            "jaquad",
            ["--depths", "2"],
            "expected no arguments, found '--depths 2'; cells, depths and settings ",
        ),
    ],
)
def test_other_arguments_are_refused_before_anything_is_installed(recipe, arguments, message):
    command = ["bash", str(RECIPES / recipe / "run.sh"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(message) and len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "recipe, arguments, compared",
    [
        ("squad", [], ["depth-2", "depth-4", "depth-6"]),
        ("squad", ["--depths", "6", "2"], ["depth-6", "depth-2"]),
        ("jaquad", [], ["compare"]),
    ],
)
def test_the_scripts_compare_what_is_asked_for(recipe, arguments, compared, tmp_path):
    """With programs in the place of python and seqsru that say how they were called."""
    root, here = tmp_path / "root", tmp_path / "root" / "recipes"
    (tmp_path / "mirror").mkdir()
    shutil.copytree(RECIPES / recipe, here / recipe, ignore=shutil.ignore_patterns("data", "runs"))
    folder = root / "bin"
    folder.mkdir()
    (here / "install.sh").write_text(f'PATH={folder}:$PATH; echo "install $*" >> {tmp_path}/calls\n')
    for name in ("python", "seqsru"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n')
        (folder / name).chmod(0o755)
    command = ["bash", str(here / recipe / "run.sh"), *arguments]
    environment = {**os.environ, "SEQSRU_MIRROR": str(tmp_path / "mirror")}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
    calls = (tmp_path / "calls").read_text().splitlines()
    place = f"recipes/{recipe}"
    assert calls[:2] == [
        f"install plot {place}/sru.yaml",
        f"python {place}/prepare.py {place}/data",
    ]
    done = [call for call in calls if call.startswith("seqsru ")]
    assert done == [f"seqsru compare {place}/{name}.yaml" for name in compared]
    wanted = [f"python recipes/check.py {place}/expected.json {place}/runs/{name}" for name in compared]
    assert [call for call in calls if "check.py" in call] == wanted
