"""Pairs of sentences: copied from a mirror, or split so that no sentence of the test is learned from."""

import importlib.util
import sys
import time
import zipfile
from pathlib import Path

import pytest

from seqsru.errors import Refused

RECIPE = Path(__file__).parents[2] / "recipes" / "sentences"
spec = importlib.util.spec_from_file_location("prepare_sentences", RECIPE / "prepare.py")
prepare = importlib.util.module_from_spec(spec)
sys.modules["prepare_sentences"] = prepare
spec.loader.exec_module(prepare)


def archive(path):
    """Fifty pairs, ten of whose English sentences have two translations, and one that is there twice."""
    rows = [f"Go {n}.\tGeh {n}.\tby somebody" for n in range(40)]
    rows += [f"Go {n}.\tGehe {n}.\tby somebody" for n in range(10)] + rows[-1:]
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("_about.txt", "nothing")
        made.writestr("deu.txt", "\n".join(rows) + "\n")


def test_what_is_held_out_shares_no_sentence(tmp_path):
    archive(tmp_path / "a.zip")
    pairs = prepare.pairs_of(tmp_path / "a.zip")
    assert len(pairs) == len(set(pairs)) == 50
    parts = prepare.split(pairs, 12)
    assert [len(parts[name]) for name in ("train", "valid", "test")] == [26, 12, 12]
    assert sorted(sum(parts.values(), [])) == sorted(pairs)
    for side in (0, 1):
        sides = [{pair[side] for pair in part} for part in parts.values()]
        assert len(set.union(*sides)) == sum(map(len, sides))
    assert prepare.split(pairs, 12) == parts
    with pytest.raises(Refused, match="expected 32 pairs whose sentences are in no other, found 30"):
        prepare.split(pairs, 16)


def test_without_a_mirror_the_archive_is_split_and_files_that_are_there_are_kept(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("SEQSRU_MIRROR", raising=False)
    monkeypatch.setattr(prepare, "HELD_OUT", 3)
    (tmp_path / "tatoeba").mkdir()
    archive(tmp_path / "tatoeba" / "deu-eng.zip")
    assert prepare.main(["tatoeba", str(tmp_path)]) == 0
    assert f"{tmp_path}/tatoeba/test.de: 3 lines" in capsys.readouterr().out
    (tmp_path / "tatoeba" / "test.de").write_text("Eins.\nZwei.\n")
    assert prepare.main(["tatoeba", str(tmp_path)]) == 0
    assert f"{tmp_path}/tatoeba/test.de: 2 lines" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["cut", "changed", "another", "text"])
def test_a_damaged_archive_is_told_of_and_removed(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SEQSRU_MIRROR", raising=False)
    path = tmp_path / "tatoeba" / "deu-eng.zip"
    path.parent.mkdir()
    archive(path)
    whole = path.read_bytes()
    if kind == "another":
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("fra.txt", "nothing")
    else:
        at = whole.index(b"Go 7.")
        kinds = {"cut": whole[: at + 9], "changed": whole[:at] + b"No" + whole[at + 2 :], "text": b"<html>"}
        path.write_bytes(kinds[kind])
    assert prepare.main(["tatoeba", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"expected a whole archive with deu.txt at {path}, found")
    assert told.count("\n") == 1 and not path.exists()


def test_what_is_missing_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SEQSRU_MIRROR", raising=False)
    monkeypatch.setattr(prepare, "ADDRESS", "http://localhost:9/deu-eng.zip")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for name, message in (
        ("debian", "expected a text at"),
        ("tatoeba", f"or put the archive at {tmp_path}/tatoeba/deu-eng.zip"),
        ("tatoba", "did you mean"),
    ):
        assert prepare.main([name, str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setenv("SEQSRU_MIRROR", str(tmp_path / "mirror"))
    assert prepare.main(["tatoeba", str(tmp_path)]) == 2
    assert "mirror/tatoeba-deu-eng/train.en" in capsys.readouterr().err
    assert prepare.main([]) == 2 and "FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tatoeba", "debian"])
def test_the_mirror_s_texts_are_as_long_as_the_readme_says(mirror, name, tmp_path, capsys):
    assert prepare.main([name, str(tmp_path)]) == 0
    counts = [line.split(": ")[1].removesuffix(" lines") for line in capsys.readouterr().out.splitlines()]
    assert counts[::2] == counts[1::2]
    row = next(
        line for line in (RECIPE / "README.md").read_text().splitlines() if line.startswith(f"| `{name}.")
    )
    assert row.endswith(f"| {', '.join(counts[::2])} |")
