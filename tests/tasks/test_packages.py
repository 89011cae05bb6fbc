"""Learning a shortlist reads the training text once."""

import errno
import io
import random
import sys

import pytest
from tiny_runs import TRANSLATION, write_config, write_texts

from seqsru import runs
from seqsru.commands.main import main
from seqsru.data import Words
from seqsru.engine.file import load
from seqsru.engine.shortlist import Shortlist
from seqsru.tasks import packages
from seqsru.tasks.packages import _Encoded


def encoded(line):
    return [ord(letter) for letter in line]


def test_pairs_are_the_same_each_time_and_encoded_once():
    draw = random.Random(0)
    lines = [("x" * draw.randint(0, 40), "ü\U0010ffff" * draw.randint(0, 9)) for _ in range(3000)]
    calls, steps = [], []

    def read(line):
        calls.append(line)
        return encoded(line)

    pairs = _Encoded(iter(lines), read, encoded, io.BytesIO(), lambda: steps.append(1))
    for _ in range(3):
        assert [tuple(map(list, pair)) for pair in pairs] == [(encoded(a), encoded(b)) for a, b in lines]
    assert len(calls) == len(lines) and len(steps) == 3 * len(lines)


def test_a_pass_that_was_broken_off_is_no_harm():
    lines = [("a", "bc"), ("de", ""), ("", "f"), ("g", "h")]
    pairs = _Encoded(iter(lines), encoded, encoded, io.BytesIO(), lambda: None)
    assert [list(first) for first, _ in zip((source for source, _ in pairs), range(2))] == [[97], [100, 101]]
    for _ in range(2):
        assert [tuple(map(list, pair)) for pair in pairs] == [(encoded(a), encoded(b)) for a, b in lines]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained translation model."""
    folder = tmp_path_factory.mktemp("run")
    write_texts(folder)
    assert main(["train", str(write_config(folder, TRANSLATION)), f"output={folder / 'mt'}"]) == 0
    return folder / "mt"


def test_the_training_text_is_encoded_once_and_progress_is_shown(run, tmp_path, monkeypatch, capsys):
    counts, encode = {}, Words.encode

    def count(self, line):
        counts[line] = counts.get(line, 0) + 1
        return encode(self, line)

    text = (run.parent / "train.src").read_text().splitlines()
    expected = {line: text.count(line) for line in text}
    one, five = (
        runs.quantize(run, tmp_path / str(passes), shortlist=Shortlist(best=3, frequent=2, iterations=passes))
        for passes in (1, 5)
    )
    assert load(one).tensors.keys() == load(five).tensors.keys()
    monkeypatch.setattr(Words, "encode", count)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    capsys.readouterr()
    again = runs.quantize(run, tmp_path / "again", shortlist=Shortlist(best=3, frequent=2, iterations=5))
    assert again.read_bytes() == five.read_bytes()
    assert {line: counts[line] for line in expected} == expected
    shown = capsys.readouterr().err
    assert "shortlist: 100%" in shown and "300/300" in shown


def test_no_room_for_the_encoded_text(run, tmp_path, monkeypatch, capsys):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packages, "TemporaryFile", Full)
    monkeypatch.setattr(packages, "gettempdir", lambda: "/full")
    capsys.readouterr()
    assert main(["quantize", str(run), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "seqsru: expected room for the encoded text in /full, found No space left on device; free some, or "
        "have TMPDIR name another folder"
    )
    assert not list(tmp_path.iterdir())
