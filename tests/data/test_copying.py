"""The copy task: its lines by hand, read back, and the same on every machine."""

import hashlib
from collections import Counter

import pytest

from seqsru.data import fetch
from seqsru.data.copying import ALPHABET, TESTED, generate, line, parts, write
from seqsru.errors import Refused


def test_a_line_by_hand():
    assert line("cah", 4) == "c a h . . . . ? c a h"
    assert line("b", 0) == "b ? b"
    assert parts("c a h . . . . ? c a h") == (4, 3) and parts("b ? b") == (0, 1)


@pytest.mark.parametrize("symbols, alphabet", [(1, 1), (3, 8), (12, 26)])
def test_lines_have_what_was_asked_for_and_are_read_back(symbols, alphabet):
    gaps = [0, 1, 5, 33] * 20
    lines = generate(gaps, seed=4, symbols=symbols, alphabet=alphabet)
    assert [parts(text) for text in lines] == [(gap, symbols) for gap in gaps]
    assert {sign for text in lines for sign in text} - set(" .?") == set(ALPHABET[:alphabet])
    assert lines == generate(gaps, seed=4, symbols=symbols, alphabet=alphabet)
    assert alphabet == 1 or lines != generate(gaps, seed=5, symbols=symbols, alphabet=alphabet)


def test_the_splits(tmp_path):
    folder = fetch("copying", tmp_path)
    texts = {
        split: (folder / f"{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")
    }
    assert {split: len(lines) for split, lines in texts.items()} == {
        "train": 20_000,
        "valid": 200,
        "test": 1200,
    }
    assert Counter(parts(text)[0] for text in texts["test"]) == dict.fromkeys(TESTED, 100)
    learned = Counter(parts(text)[0] for text in texts["train"])
    assert set(learned) == set(range(33)) and max(learned.values()) < 1.3 * min(learned.values())
    assert all(parts(text)[1] == 3 for lines in texts.values() for text in lines)
    digest = hashlib.sha256((folder / "train.txt").read_bytes()).hexdigest()
    write(tmp_path / "again")
    assert hashlib.sha256((tmp_path / "again" / "train.txt").read_bytes()).hexdigest() == digest
    assert digest.startswith("1b72479b5aac9907")  # on every machine


def test_refusals(tmp_path):
    for text in ("", "a", "a ? b", "a . ? a .", "a  ? a", ". ? .", "? ?", "a b ? b a", "a . b ? a b"):
        with pytest.raises(
            Refused, match=r"^expected a line of the copy task, such as 'b a \. \. \? b a', found "
        ):
            parts(text)
    with pytest.raises(Refused, match="^gaps: expected at least 0, found -1; raise it$"):
        generate([3, -1])
    with pytest.raises(Refused, match="^symbols: expected at least 1, found 0; raise it$"):
        generate([3], symbols=0)
    with pytest.raises(Refused, match="^alphabet: expected at most 26, found 27; lower it$"):
        generate([3], alphabet=27)
    with pytest.raises(Refused, match="^farthest: expected at least 0, found -1; raise it$"):
        write(tmp_path, farthest=-1)
