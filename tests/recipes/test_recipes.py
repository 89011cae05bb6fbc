"""Every recipe: configs pass the strict checker, scripts parse, comparison with what is expected works."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqsru import runs
from seqsru import settings as strict
from seqsru.commands.main import main
from seqsru.data.corpora import fetch

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
FILES = sorted(RECIPES.glob("*/*.yaml"))
COMPARISONS = [path for path in FILES if "\nsystems:" in path.read_text(encoding="utf-8")]
CONFIGS = [path for path in FILES if path not in COMPARISONS]  # settings of a training
SCRIPTS = sorted([*RECIPES.glob("**/*.sh"), ROOT / "tests" / "run.sh", ROOT / ".ci" / "run"])


def name(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def schema():
    return runs.schema()


def test_there_are_recipes():
    assert {path.parent.name for path in CONFIGS} == {
        "quickstart",
        "ptb",
        "multi30k",
        "wmt14",
        "classification",
        "an4",
        "squad",
        "jaquad",
        "copying",
        "characters",
        "wikitext-2",
        "sentences",
    }
    speeds = {RECIPES / name for name in ("layers", "latency", "compare")}  # tables and their commands
    assert {path.parent for path in CONFIGS} | speeds == {path.parent for path in RECIPES.glob("*/README.md")}


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_passes_the_strict_checker(path, schema, monkeypatch):
    monkeypatch.chdir(ROOT)
    values = strict.load(path, schema)
    assert values["output"] == path.parent / "runs" / values["output"].name
    for split in ("train", "validation", "test"):
        files = runs.task_of(values).files(split)
        # A classifier may take its other splits from the training lines, a reader its validation.
        assert files or (values.chosen in ("classification", "question_answering") and split != "train")
        assert all(file.is_relative_to(path.parent / "data") for file in files)


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_comments_every_key_once(path):
    """A key that occurs again may stand alone; of the files of a pair the line above says what they are."""
    commented, bare = set(), set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r" *(\w+):( \S.*)?$", line):
            key, value = found[1], (found[2] or "").strip()
            if "#" in value:
                commented.add(key)
            elif value:
                bare.add(key)
    assert bare - commented <= {"source", "target"}


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_script_parses_and_stops_at_the_first_error(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8")
    if path.name != "install.sh":  # that one is sourced
        assert text.startswith("#!/usr/bin/env bash\n#")
        assert '\nset -euo pipefail\ncd "$(dirname "${BASH_SOURCE[0]}")/' in text


@pytest.mark.parametrize("recipe", sorted({path.parent for path in CONFIGS}), ids=name)
def test_expectations_are_of_the_recipe_s_runs(recipe, schema):
    expected = json.loads((recipe / "expected.json").read_text(encoding="utf-8"))
    names = {strict.load(path, schema)["output"].name for path in CONFIGS if path.parent == recipe}
    names |= {path.stem for path in COMPARISONS if path.parent == recipe}
    assert set(expected) == names
    for entry in (entry for entries in expected.values() for entry in entries):
        assert set(entry) == {"what", "file", "key", "expected", "tolerance", "better"}
        assert entry["better"] in ("higher", "lower") and entry["tolerance"] >= 0


def check(*arguments):
    command = [sys.executable, str(RECIPES / "check.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def expectations(tmp_path):
    entry = {
        "what": "BLEU",
        "file": "bleu.json",
        "key": "scores.bleu",
        "expected": 30.0,
        "tolerance": 1.0,
        "better": "higher",
    }
    lower = {**entry, "what": "perplexity", "key": "scores.perplexity", "better": "lower"}
    path = tmp_path / "expected.json"
    path.write_text(json.dumps({"sru": [entry, lower], "new": []}))
    (tmp_path / "sru").mkdir()
    return path


@pytest.mark.parametrize(
    "bleu, perplexity, passes",
    [
        (30.0, 30.0, True),
        (29.0, 31.0, True),
        (99.0, 1.0, True),
        (28.9, 30.0, False),
        (30.0, 31.1, False),
    ],
)
def test_check(expectations, bleu, perplexity, passes):
    run = expectations.parent / "sru"
    (run / "bleu.json").write_text(json.dumps({"scores": {"bleu": bleu, "perplexity": perplexity}}))
    result = check(expectations, run)
    assert result.returncode == (0 if passes else 1)
    assert len(result.stdout.splitlines()) == 2
    assert ("WORSE" in result.stdout) == (not passes)


def test_check_says_what_is_missing(expectations):
    folder = expectations.parent
    missing_file = check(expectations, folder / "sru")
    (folder / "sru" / "bleu.json").write_text('{"scores": {}}')
    missing_key, unknown = check(expectations, folder / "sru"), check(expectations, folder / "other")
    for result, message in (
        (missing_file, "expected BLEU in"),
        (missing_key, "expected scores.bleu in"),
        (unknown, "expected a run named sru or new, found other"),
        (check(), "RUN"),
    ):
        assert message in result.stderr
        assert result.returncode == 2
    unmeasured = check(expectations, folder / "new")
    assert "no number to compare with" in unmeasured.stdout
    assert unmeasured.returncode == 0


def test_check_of_a_comparison(expectations):
    folder = expectations.parent
    entry = {**json.loads(expectations.read_text())["sru"][0], "file": "table.json"}
    entries = [{**entry, "what": name, "key": f"systems.{name}.test.mean"} for name in ("LSTM", "SRU")]
    expectations.write_text(json.dumps({"sru": entries}))
    systems = [{"system": "SRU", "test": {"mean": 30.5}}, {"system": "LSTM", "test": {"mean": 28.0}}]
    (folder / "sru" / "table.json").write_text(json.dumps({"systems": systems}))
    result = check(expectations, folder / "sru")
    assert result.returncode == 1
    assert [line.split() for line in result.stdout.splitlines()] == [
        "WORSE LSTM: 28.00 (expected 30.00)".split(),
        "as expected SRU: 30.50 (expected 30.00)".split(),
    ]
    (folder / "sru" / "table.json").write_text(json.dumps({"systems": systems[:1]}))
    result = check(expectations, folder / "sru")
    assert (result.returncode, "found no LSTM; run the recipe again" in result.stderr) == (2, True)


# ---- Penn Treebank ---------------------------------------------------------------------------------


def ptb_model(file, schema, vocabulary=10_000):
    values = strict.load(RECIPES / "ptb" / file, schema)
    tokenizers = {"tokenizer": SimpleNamespace(size=vocabulary)}
    return values, sum(p.numel() for p in runs.task_of(values).model(tokenizers).parameters())


def test_the_twins_have_equal_parameters_and_differ_in_the_stack_and_the_epochs_alone(schema):
    (sru, sru_count), (lstm, lstm_count) = (ptb_model(file, schema) for file in ("sru.yaml", "lstm.yaml"))
    assert abs(lstm_count / sru_count - 1) < 0.005
    for section in ("seed", "data", "tokenizer", "batches", "optimizer", "schedule"):
        assert sru[section] == lstm[section], section
    same_time = {"epochs": 0}  # as many epochs as fit into it
    assert {**sru["training"], **same_time} == {**lstm["training"], **same_time}
    assert (sru["model"]["stack"]["cell"]["name"], lstm["model"]["stack"]["cell"]["name"]) == ("sru", "lstm")
    readme = (RECIPES / "ptb" / "README.md").read_text(encoding="utf-8")
    assert f"{sru_count:,}" in readme and f"{lstm_count:,}" in readme


def test_the_paper_s_configuration_has_the_paper_s_size(schema):
    values, count = ptb_model("paper-6x910.yaml", schema)
    assert count == 24_026_720
    assert f"{count:,}" in (RECIPES / "ptb" / "README.md").read_text(encoding="utf-8")
    assert values["training"]["normalize"] == "batch" and values["optimizer"]["shrink"] == 1e-5


# ---- quickstart ------------------------------------------------------------------------------------


def test_quickstart_s_splits_share_no_phrase(tmp_path, schema):
    folder = fetch("synthetic", tmp_path)
    values = strict.load(RECIPES / "quickstart" / "config.yaml", schema)
    seen = {}
    for side in ("source", "target"):
        splits = [
            (folder / values["data"][split][side].name).read_text(encoding="utf-8").splitlines()
            for split in ("train", "validation", "test")
        ]
        assert [len(split) for split in splits] == [20_000, 500, 1_000]
        seen[side] = [set(split) for split in splits]
        assert sum(map(len, seen[side])) == len(set().union(*seen[side])) == 21_500
    asked = (RECIPES / "quickstart" / "phrases.txt").read_text(encoding="utf-8").splitlines()
    words = {word for phrase in seen["source"][0] for word in phrase.split()}
    assert all(set(phrase.split()) <= words for phrase in asked)


def test_exact_match(tmp_path):
    (tmp_path / "source").write_text("one\ntwo\nthree\n")
    (tmp_path / "right").write_text("eins\nzwei\ndrei\n")
    (tmp_path / "made").write_text("eins\nzwo\ndrei\n")
    (tmp_path / "short").write_text("eins\n")
    script = RECIPES / "quickstart" / "exact_match.py"

    def run(made):
        return subprocess.run(
            [sys.executable, str(script), "source", "right", made, "result.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    shown = run("made").stdout
    assert "2 of 3 phrases never seen in training are exactly right: 66.67 %" in shown
    assert "wrong: two -> zwo (should be zwei)" in shown
    assert json.loads((tmp_path / "result.json").read_text()) == {"exact_match": 200 / 3, "lines": 3}
    result = run("short")
    assert result.returncode == 1
    assert "expected three files of as many lines, found 3, 3 and 1" in result.stderr


@pytest.mark.slow
def test_ptb_from_raw_data_to_the_number(mirror, tmp_path, monkeypatch, capsys):
    """The steps of recipes/ptb/run.sh with a model too small and a training too short to be any good."""
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "ptb", "recipes/ptb/data"]) == 0
    small = [
        "model.embedding_size=8",
        "model.stack.hidden_size=8",
        "model.stack.num_layers=1",
        "training.epochs=0",
        "training.steps=2",
        "training.tensorboard=false",
        "training.threads=2",
    ]
    assert main(["train", str(RECIPES / "ptb" / "sru.yaml"), *small]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                "evaluate",
                "recipes/ptb/runs/sru",
                "--split",
                "test",
                "--state",
                "carried",
                "--json",
                "recipes/ptb/runs/sru/test.json",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "|tokens:82430|" in shown and "|state:carried|" in shown
    found = json.loads((tmp_path / "recipes/ptb/runs/sru/test.json").read_text(encoding="utf-8"))
    assert 8_000 < found["perplexity"] < 12_000  # 10,000 types, and chance
    assert found["unknown"] > 0 and found["lines"] == 3761
