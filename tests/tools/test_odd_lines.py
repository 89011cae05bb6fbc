"""The suite of odd lines, on a model that has learnt next to nothing: the guards hold all the same."""

import re

import odd_lines
import pytest
from tiny_runs import TRANSLATION, write_config, write_texts

from seqsru.commands.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    write_texts(folder)
    assert main(["train", str(write_config(folder, TRANSLATION)), f"output={folder / 'run'}"]) == 0
    return folder / "run"


def test_a_suite_is_the_same_every_time_and_of_its_kinds():
    lines = ["one two three four.", "five six seven."]
    suite = odd_lines.suite(lines, ["eins zwei"], 26)
    assert suite == odd_lines.suite(lines, ["eins zwei"], 26)
    assert list(suite) == [*odd_lines.KINDS, "another language"] and {
        len(pairs) for pairs in suite.values()
    } == {2}
    assert all(line == line.upper() != sentence for sentence, line in suite["capitals"])
    assert all(len(line) == 1000 for _, line in suite["1,000 characters"])
    assert all(odd_lines.numbers(line) for _, line in suite["numbers"])


@pytest.mark.slow
def test_the_table_of_rates(run, capsys):
    folder = run.parent
    given = [str(run), str(folder / "test.src"), "--other", str(folder / "test.tgt"), "--count", "13"]
    assert odd_lines.main([*given, "--beam", "2", "--reference", str(folder / "test.tgt")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("none: BLEU ") and out[1].startswith("numbers,repeats,tidy: BLEU ")
    assert [line[:18].strip() for line in out[3:]] == [*odd_lines.KINDS, "another language"]
    for line in out[3:]:  # too long, repeated words, repeated tokens: none with the guards
        assert re.findall(r"→ (\S+)", line)[:3] == ["0.00"] * 3, line
