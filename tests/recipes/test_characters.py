"""The texts that are read by characters: what is prepared of them."""

import importlib.util
import re
import sys
from pathlib import Path

from seqsru.data.tokenizers import TOKENIZERS
from seqsru.errors import Refused

RECIPE = Path(__file__).parents[2] / "recipes" / "characters"
spec = importlib.util.spec_from_file_location("prepare_characters", RECIPE / "prepare.py")
prepare = importlib.util.module_from_spec(spec)
sys.modules["prepare_characters"] = prepare
spec.loader.exec_module(prepare)


def test_lines_lose_the_spaces_at_their_ends_and_nothing_else(tmp_path, monkeypatch, capsys):
    def fetch(name, folder):
        there = folder / name
        there.mkdir(parents=True)
        if name == "ptb":
            for split in prepare.SPLITS:
                (there / f"ptb.{split}.txt").write_text(" a <unk> b \n c \n")
        else:
            (there / "input.txt").write_text("".join(f"{n}\n\n" for n in range(10)))
        return there

    monkeypatch.setattr(prepare, "fetch", fetch)
    assert prepare.main([str(tmp_path)]) == 0
    assert (tmp_path / "penn.test.txt").read_text() == "a <unk> b\nc\n"
    parts = [(tmp_path / f"shakespeare.{split}.txt").read_text() for split in prepare.SPLITS]
    assert "".join(parts) == (tmp_path / "tinyshakespeare" / "input.txt").read_text()
    assert parts[1:] == ["9\n", "\n"]
    assert f"{tmp_path}/penn.valid.txt: 12 characters, 2 lines" in capsys.readouterr().out


def test_what_cannot_be_fetched_is_told(tmp_path, monkeypatch, capsys):
    def fetch(name, folder):
        raise Refused("a text", "none", "look again")

    monkeypatch.setattr(prepare, "fetch", fetch)
    assert prepare.main([str(tmp_path)]) == 2 and "expected a text" in capsys.readouterr().err
    assert prepare.main([]) == 2 and "FOLDER" in capsys.readouterr().err


def test_the_texts_are_as_long_as_the_readme_says(mirror, tmp_path, capsys):
    """Penn Treebank has as many thousands of characters as Mikolov et al. 2012 count, and fifty types."""
    assert prepare.main([str(tmp_path)]) == 0
    counts = re.findall(r": ([\d,]+) characters", capsys.readouterr().out)
    readme = (RECIPE / "README.md").read_text(encoding="utf-8")
    assert counts[:3] == ["5,017,482", "393,042", "442,423"]
    assert all(f"| {', '.join(three)} |" in readme for three in (counts[:3], counts[3:]))
    for name, types in (("penn", 49), ("shakespeare", 64)):  # beside the line end
        lines = prepare.lines(tmp_path / f"{name}.train.txt")
        assert len(set("".join(lines))) == types
        assert TOKENIZERS["characters"].train(lines).size == types + 2  # and `<unk>`, `<eos>`
