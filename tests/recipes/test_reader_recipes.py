"""The recipes of readers: equal parameters, the data they prepare, and their comparison on a tiny set."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from tiny_runs import QUESTIONS, questions, write_config, write_texts

from seqsru import runs

RECIPES = Path(__file__).parents[2] / "recipes"


def load(name, path):
    """A recipe's program as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


compare = load("compare_readers", RECIPES / "squad" / "compare.py")
squad = load("prepare_squad", RECIPES / "squad" / "prepare.py")
jaquad = load("prepare_jaquad", RECIPES / "jaquad" / "prepare.py")


@pytest.mark.parametrize("recipe", ["squad", "jaquad"])
def test_systems_have_equal_parameters(recipe):
    settings = runs.load_settings(RECIPES / recipe / "sru.yaml")
    every = list(compare.systems(settings, compare.CELLS, (2, 6)))
    sizes = {system: compare.parameters(settings, system) for system in every}
    assert len(sizes) == 8 and len({system.name for system in every}) == 8
    for layers in (2, 6):
        of_depth = {system.cell: size for system, size in sizes.items() if system.layers == layers}
        assert all(abs(size / of_depth["sru"] - 1) < 0.01 for size in of_depth.values())
    assert {system.hidden for system in every if system.cell == "sru"} == {128}


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


@pytest.mark.slow
def test_two_readers_are_compared(tmp_path, monkeypatch, capsys):
    write_texts(tmp_path)
    config = write_config(tmp_path, QUESTIONS)
    config.write_text(config.read_text().replace("cell: {name: sru, backend: reference}", "cell: sru"))
    asked = [str(config), "--cells", "sru", "lstm", "--depths", "1", "--batches", "2"]
    for do in ("train", "train", "time", "table"):  # what is done is not done again
        monkeypatch.setattr(sys, "argv", ["compare.py", do, *asked])
        assert compare.main() == 0
    head, rule, *rows = capsys.readouterr().out.splitlines()[-4:]
    assert head.startswith("| system | hidden size | passes | exact match | F1 |") and rule.startswith(
        "| ---"
    )
    assert [row.split(" | ")[0] for row in rows] == ["| sru-1", "| lstm-1"] and "(p = " in rows[0]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["sru-1"]["epochs"] == 3 and summary["sru-1"]["to_lstm"]["f1"]["name"] == "f1"
    times = json.loads((tmp_path / "times.json").read_text())["systems"]
    assert times["lstm-1"]["ratio"] == 1.0 and times["sru-1"]["milliseconds"] > 0
