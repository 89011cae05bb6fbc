"""The numbers of the READMEs are those of the results files, each with its command and signature."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from seqsru import runs
from seqsru import settings as strict
from seqsru.commands import COMMANDS

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("recipes_results", ROOT / "recipes" / "results.py")
results = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = results  # where dataclasses look
SPEC.loader.exec_module(results)
FILES = sorted(ROOT.glob("recipes/*/results.json"))
over_files = pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)


def test_the_readmes_say_what_the_results_files_do(capsys):
    assert results.main(["--check"]) == 0, capsys.readouterr().out


def test_every_results_file_has_its_place():
    assert {file.parent.name for file in FILES} <= set(results.RECIPES)
    assert {name for name in results.RECIPES if (ROOT / "recipes" / name).is_dir()} == set(results.RECIPES)


def test_the_section_of_results_has_a_number_from_nowhere_else():
    """All of the README's section is rendered, and what is rendered has its numbers from the files."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Results so far\n")[1].split("\n## ")[0]
    outside = results.BLOCK.sub("", section)
    assert "|" not in re.sub(r"`[^`]*`", "", outside)
    assert not re.search(r"\d+[.,]\d|\d %", outside)


@over_files
def test_every_number_is_in_its_recipe_s_readme(file):
    text = (file.parent / "README.md").read_text(encoding="utf-8")
    for name, entry in results.load(file)["numbers"].items():
        shown = f"{entry['value']:,.{entry['digits']}f}"
        assert re.search(rf"(?<![\d.,]){re.escape(shown)}(?!\d)", text), name
        assert round(entry["value"], entry["digits"]) == pytest.approx(entry["value"]), name


@over_files
def test_every_number_has_a_command_that_is_one_and_a_signature(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    numbers = results.load(file)["numbers"].values()
    schema = runs.schema()
    for command in {command for entry in numbers for command in entry["command"].split(" && ")}:
        program, first, *rest = shlex.split(command)
        if program == "seqsru":
            assert first in COMMANDS
            if first == "train":
                strict.load(Path(rest[0]), schema, rest[1:])
        else:
            assert program in ("bash", "python") and Path(first).is_file(), command
    for signature in {entry["signature"] for entry in numbers} - {None}:
        assert re.fullmatch(r"seqsru \d+\.\d+\.\d+(\|[a-z_0-9-]+:[^|]+)+", signature)
        assert "|torch:" in signature or "|engine:" in signature


@over_files
def test_what_a_run_is_held_against_are_these_numbers(file):
    numbers = [entry for entry in results.load(file)["numbers"].values() if "file" in entry]
    path = file.parent / "expected.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {(*entry["file"].split("/", 1), entry["key"]): entry["value"] for entry in numbers}
    for run, entries in held.items():
        for entry in entries:
            value = found.get((run, entry["file"], entry["key"]))
            assert value is None or abs(entry["expected"] - value) <= entry["tolerance"], entry["what"]


# ---- the program -----------------------------------------------------------------------------------

SIGNED = "seqsru 0.1.0|cell:sru|layers:3+3|params:3.7M|lines:1000|torch:2.13.0"


@pytest.fixture
def tree(tmp_path):
    """A copy of what the program reads and writes, of one recipe."""
    entry = {
        "what": "BLEU",
        "value": 36.654,
        "digits": 2,
        "spread": 0.5,
        "command": "bash run.sh",
        "signature": SIGNED,
        "file": "sru/test.json",
        "key": "scores.bleu",
    }
    minutes = {**entry, "value": 48, "digits": 0, "spread": [40, 50]}
    del minutes["file"], minutes["key"]
    content = {
        "numbers": {"bleu": entry, "minutes": minutes},
        "readme": [
            {
                "what": "`multi30k`, {bleu:@layers} layers, {bleu:@params}",
                "result": "{bleu} in {minutes:spread} of {bleu:@lines}",
            }
        ],
        "tables": {"one": ["| a | {bleu:spread} |", "| b | {bleu:1} |"]},
    }
    recipe = tmp_path / "recipes" / "multi30k"
    (recipe / "runs" / "sru").mkdir(parents=True)
    (recipe / "results.json").write_text(json.dumps(content))
    (recipe / "README.md").write_text("A\n<!-- results one -->\nold\n<!-- end -->\nB\n")
    (tmp_path / "README.md").write_text("C\n<!-- results all -->\n<!-- end -->\nD\n")
    return tmp_path


def change(tree, **given):
    path = tree / "recipes" / "multi30k" / "results.json"
    content = json.loads(path.read_text())
    content["numbers"]["bleu"] |= given
    path.write_text(json.dumps(content))


def test_blocks_are_written_and_nothing_else(tree):
    assert results.main([], tree) == 0
    row = "| `multi30k`, 3 + 3 layers, 3.7 M | 36.65 in 48 (40 to 50) of 1,000 |\n"
    assert (
        tree / "README.md"
    ).read_text() == f"C\n<!-- results all -->\n{results.HEAD}{row}<!-- end -->\nD\n"
    table = (tree / "recipes" / "multi30k" / "README.md").read_text()
    assert table == "A\n<!-- results one -->\n| a | 36.65 ± 0.50 |\n| b | 36.7 |\n<!-- end -->\nB\n"
    assert results.main(["--check"], tree) == 0


@pytest.mark.parametrize("file", ["README.md", "recipes/multi30k/README.md"])
def test_a_changed_digit_is_found(tree, file, capsys):
    results.main([], tree)
    text = (tree / file).read_text()
    (tree / file).write_text(text.replace("36.", "37."))
    capsys.readouterr()
    assert results.main(["--check"], tree) == 1
    found = capsys.readouterr().out
    assert re.search(
        r"README.md:\d+: expected '\| .*36\..*', found '\| .*37\..*'; run: python recipes/results", found
    )
    assert len(found.splitlines()) == 1 and (tree / file).read_text() != text


@pytest.mark.parametrize("row", ["", "| new | 1 |\n"])
def test_a_row_that_is_missing_or_too_many_is_found(tree, row, capsys):
    results.main([], tree)
    text = (tree / "README.md").read_text()
    (tree / "README.md").write_text(
        re.sub(r"\| `multi.*\n", lambda found: found[0] + row if row else "", text)
    )
    assert results.main(["--check"], tree) == 1
    assert "README.md:" in capsys.readouterr().out


def test_a_changed_value_is_found(tree):
    results.main([], tree)
    change(tree, value=40.0)
    assert results.main(["--check"], tree) == 1


def test_numbers_are_taken_from_the_runs(tree, capsys):
    file = tree / "recipes" / "multi30k" / "runs" / "sru" / "test.json"
    results.main([], tree)
    assert results.main(["--check", "--take", "multi30k"], tree) == 0  # there is no such run
    file.write_text(json.dumps({"scores": {"bleu": 41.5}, "signature": SIGNED + "|threads:2"}))
    capsys.readouterr()
    assert results.main(["--take", "multi30k"], tree) == 0
    told = capsys.readouterr().out
    assert told.startswith("bleu: 36.654 becomes 41.5\nto be seen to by hand: commands, and a spread ")
    assert "\nfrom no file: minutes\n" in told
    assert "41.50 in 48" in (tree / "README.md").read_text()
    found = json.loads((tree / "recipes" / "multi30k" / "results.json").read_text())["numbers"]["bleu"]
    assert found["signature"] == SIGNED + "|threads:2"
    file.write_text(json.dumps({"scores": {"bleu": 42}}))
    results.take(file.parents[2])
    found = results.load(file.parents[2] / "results.json")["numbers"]["bleu"]
    assert (found["value"], found["signature"]) == (42, None)
    assert found["unsigned"] == "runs/sru/test.json has none"
    file.write_text("{}")
    assert results.main(["--take", "multi30k"], tree) == 2
    assert "expected scores.bleu in" in capsys.readouterr().err


def compared_run(system, seeds, to_baseline):
    """A row of table.json as `seqsru compare` writes it, as far as it is read here."""

    def spread(mean):
        return {"mean": mean, "deviation": 0.25 if seeds > 1 else 0.0, "n": seeds}

    return {
        "system": system,
        "test": spread(42.284),
        "interval": [42.3, 0.817] if seeds == 1 else None,
        "to_baseline": to_baseline,
        "further": {"exact_match": {"test": spread(29.0), "interval": None, "to_baseline": None}},
        "parameters": 1234567,
        "passes": spread(2.75),
        "goal_seconds": spread(90.0) if to_baseline else None,
        "processor_seconds": spread(1500.0),
        "steps": spread(5000.0),
        "latency": {"unit": "token", "later_tokens": {"p50": 0.0123}} if to_baseline else None,
        "runs": [{"signature": SIGNED}] * seeds,
    }


def comparison(*rows):
    table = {
        "split": "test",
        "measure": "f1",
        "further": ["f1", "exact_match"],
        "baseline": "LSTM",
        "goal": 40,
    }
    return {**table, "systems": [*rows, {"system": "GRU", "test": None}]}


def test_a_comparison_gives_its_numbers_and_its_table(tree, capsys):
    recipe = tree / "recipes" / "multi30k"
    better = {"difference": 3.037, "p_value": 0.001}
    (recipe / "runs" / "deep").mkdir()
    file = recipe / "runs" / "deep" / "table.json"
    content = json.loads((recipe / "results.json").read_text())
    content["comparisons"] = {"deep": "seqsru compare deep.yaml"}
    content["numbers"]["deep_of-before"] = content["numbers"]["minutes"]
    (recipe / "results.json").write_text(json.dumps(content))
    (recipe / "README.md").write_text(
        (recipe / "README.md").read_text() + "<!-- results deep -->\n<!-- end -->\n"
    )
    file.write_text(json.dumps(comparison(compared_run("SRU", 1, better), compared_run("LSTM", 2, None))))
    assert results.main(["--take", "multi30k"], tree) == 0
    assert "deep: 14 numbers, of what runs/deep/table.json has\n" in capsys.readouterr().out
    table = (recipe / "README.md").read_text().split("<!-- results deep -->\n")[1]
    assert table == (
        "|  | test f1 | to LSTM | test exact match | to LSTM | parameters | passes "
        "| processor ms an update, all in all | minutes to `40` | ms a token, `P50` |\n"
        f"|{' --- |' * 10}\n"
        "| SRU | 42.28 ± 0.82 | +3.04 (p = 0.001) | 29.00 |  | 1,234,567 | 2.8 | 300 | 1.5 | 0.012 |\n"
        "| LSTM | 42.28 ± 0.25 |  | 29.00 ± 0.25 |  | 1,234,567 | 2.8 | 300 |  |  |\n"
        "<!-- end -->\n"
    )
    found = results.load(recipe / "results.json")["numbers"]
    assert "deep_of-before" not in found and {"bleu", "minutes"} <= set(found)
    assert found["deep_SRU_f1"] == {
        "what": "f1 of SRU, deep",
        "value": 42.28,
        "digits": 2,
        "spread": 0.82,
        "command": "seqsru compare deep.yaml",
        "signature": SIGNED,
    }
    bits = comparison({**compared_run("SRU", 1, better), "interval": [1.5, 0.0049]})
    made = results.Compared("deep", "-", {**bits, "measure": "bits_per_token", "further": []})
    assert "42.284 ± 0.005 | +3.037 (p = 0.001)" in results.written(made.lines()[2], made.numbers)
    assert found["deep_LSTM_f1"]["unsigned"] == "of 2 trainings, whose signatures the table has"
    assert results.main(["--check", "--take", "multi30k"], tree) == 0  # nothing is new
    file.write_text(json.dumps(comparison(compared_run("SRU.", 1, None), compared_run("SRU-", 1, None))))
    assert results.main(["--take", "multi30k"], tree) == 2
    assert "found deep_SRU-_f1 twice" in capsys.readouterr().err


def test_numbers_are_taken_from_lists_with_their_ends_and_the_nearest_signature(tree):
    change(tree, key="rows.1.a.b", ends=["rows.1.low", "rows.1.high"])
    file = tree / "recipes" / "multi30k" / "runs" / "sru" / "test.json"
    rows = [{}, {"signature": SIGNED + "|seed:2", "a": {"b": 1.239}, "low": 1.1, "high": 1.357}]
    file.write_text(json.dumps({"signature": SIGNED, "rows": rows}))
    results.take(file.parents[2])
    found = results.load(file.parents[2] / "results.json")["numbers"]["bleu"]
    assert (found["value"], found["spread"]) == (1.24, [1.1, 1.36])
    assert found["signature"] == SIGNED + "|seed:2"
    assert results.take(file.parents[2]) == []  # nothing is another now
    change(tree, key="rows.2.a")
    with pytest.raises(
        results.Disagreement, match="^expected rows.2.a in .*, found no 2; run the recipe again$"
    ):
        results.take(file.parents[2])


@pytest.mark.parametrize(
    "given, message",
    [
        ({"signature": None}, "expected a signature of bleu in .*, or unsigned: why it has none"),
        ({"unsigned": "no"}, "expected a signature of bleu in .*, or unsigned: why it has none"),
        ({"more": 1}, "expected command, digits, signature, spread, value, what of bleu in .*, found what, "),
        ({"spread": None}, "expected digits, a spread that is there or @field, found 'spread' of bleu"),
        ({"signature": "seqsru 0.1.0|a:b"}, "expected a field layers in the signature of bleu, found none"),
    ],
)
def test_a_results_file_of_another_form_is_refused(tree, given, message, capsys):
    change(tree, **given)
    assert results.main([], tree) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "template", ["BLEU 36.65", "{bleu} after 48 minutes", "0.3", "{other}", "{bleu:x}", "{"]
)
def test_a_row_with_a_number_of_its_own_or_an_unknown_one_is_refused(template):
    numbers = {"bleu": {"value": 1.0, "digits": 2, "spread": None, "signature": None}}
    with pytest.raises(results.Disagreement, match="^expected "):
        results.written(template, numbers)


def test_names_with_digits_are_no_numbers():
    assert results.written("test_2016_flickr, SST-1, `wmt14 --sample 3`, [x](a/1.png)", {}).startswith(
        "test_"
    )


def test_a_block_that_is_missing_or_unknown_is_refused(tree, capsys):
    (tree / "README.md").write_text("C\n")
    assert results.main([], tree) == 2
    assert "expected the blocks ['all'] in" in capsys.readouterr().err
    shutil.rmtree(tree / "recipes" / "multi30k")
    (tree / "README.md").write_text("<!-- results all -->\n<!-- end -->\n<!-- results x -->\n<!-- end -->\n")
    assert results.main([], tree) == 2
    assert "found ['all', 'x']" in capsys.readouterr().err
