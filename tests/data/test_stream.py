"""Windows over a stream: every token a target once, after the token before it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data import Characters, StreamBatches, TokenStream, Words, read_lines
from seqsru.errors import Refused

EOS = 1


def rows_of(batches):
    """Targets and inputs of every row, its windows joined, without what is not valid."""
    rows = [([], []) for _ in range(batches.batch_size)]
    for window in batches:
        valid = torch.ones_like(window.targets, dtype=torch.bool) if window.valid is None else window.valid
        for b, (targets, inputs) in enumerate(rows):
            targets += window.targets[:, b][valid[:, b]].tolist()
            inputs += window.inputs[:, b][valid[:, b]].tolist()
    return rows


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 12))
def test_every_token_is_a_target_once(tokens, rows, window):
    if len(tokens) < rows:
        return
    batches = StreamBatches(torch.tensor(tokens, dtype=torch.int32), rows, window, EOS)
    joined = rows_of(batches)
    assert sum((targets for targets, _ in joined), []) == tokens
    assert sum((inputs for _, inputs in joined), []) == [EOS, *tokens[:-1]]
    lengths = [len(targets) for targets, _ in joined]
    assert max(lengths) - min(lengths) <= 1
    windows = list(batches)
    assert len(windows) == len(batches) and sum(w.count for w in windows) == len(tokens) == batches.targets
    assert all(w.valid is None and len(w.inputs) == window for w in windows[:-1])
    for w in windows:
        assert w.inputs.dtype == w.targets.dtype == torch.int64 and w.inputs.shape == w.targets.shape
        if w.valid is not None:
            assert w.count == int(w.valid.sum()) < w.valid.numel()
            assert torch.equal(w.valid, w.valid.cummin(0).values)  # a prefix of each row
            assert set(w.inputs[~w.valid].tolist()) | set(w.targets[~w.valid].tolist()) == {EOS}


def test_a_window_alone_is_that_of_the_pass():
    batches = StreamBatches(torch.arange(50), 4, 5, EOS)
    for index, window in reversed(list(enumerate(batches))):
        assert torch.equal(window.targets, batches[index].targets)
    for index in (-1, len(batches)):
        with pytest.raises(IndexError):
            batches[index]


@pytest.mark.parametrize(
    "tokens, rows, window, message",
    [
        (
            0,
            1,
            5,
            "batch_size: expected text of at least 1 tokens, one a row of the batch, found 0; check",
        ),
        (3, 4, 5, "text of at least 4 tokens, one a row of the batch, found 3"),
        (9, 0, 5, "batch_size: expected at least 1, found 0"),
        (9, 2, 0, "window: expected at least 1, found 0"),
    ],
)
def test_errors(tokens, rows, window, message):
    with pytest.raises(Refused, match=message):
        StreamBatches(torch.zeros(tokens, dtype=torch.int32), rows, window, EOS)


def test_stream_of_lines():
    lines = ["a b", "", "c\u2028 é"]
    words = Words.train(lines[:1])
    stream = TokenStream.from_lines(lines, words)
    assert stream.tokens.dtype == torch.int32
    assert stream.tokens.tolist() == [2, 3, 1, 1, 0, 0, 1]
    assert (stream.lines, stream.words, stream.unknown) == (3, 4, 2)
    assert stream.bytes == len("\n".join(lines).encode()) + 1
    empty = TokenStream.from_lines([], words)
    assert (len(empty.tokens), empty.lines, empty.bytes) == (0, 0, 0)


def test_penn_treebank_has_its_targets(mirror):
    files = {split: read_lines(mirror / "ptb" / f"ptb.{split}.txt") for split in ("train", "valid", "test")}
    words = Words.train(files["train"].lines)
    streams = {split: TokenStream.from_lines(file.lines, words) for split, file in files.items()}
    assert {split: len(stream.tokens) for split, stream in streams.items()} == {
        "train": 929_589,
        "valid": 73_760,
        "test": 82_430,
    }
    assert {split: (s.lines, s.words) for split, s in streams.items()} == {
        "train": (42_068, 887_521),
        "valid": (3_370, 70_390),
        "test": (3_761, 78_669),
    }
    # The text itself spells <unk>; no word outside the vocabulary is hidden behind it.
    assert streams["test"].unknown == sum(line.count("<unk>") for line in files["test"].lines)
    batches = StreamBatches(streams["test"].tokens, 20, 35, words.eos)
    assert sum(window.count for window in batches) == 82_430
    first_row = torch.cat([window.targets[:, 0] for window in batches])[:4121]
    assert torch.equal(first_row, streams["test"].tokens[:4121].long())


def test_wikitext_keeps_its_empty_lines(mirror):
    file = read_lines(mirror / "wikitext-2" / "valid.txt")
    stream = TokenStream.from_lines(file.lines, Words.train(file.lines))
    assert len(stream.tokens) == 217_646 and stream.lines == 3_760
    assert stream.bytes == (mirror / "wikitext-2" / "valid.txt").stat().st_size


def test_every_byte_of_shakespeare(mirror):
    file = read_lines(mirror / "tinyshakespeare" / "input.txt")
    characters = Characters.train(file.lines)
    stream = TokenStream.from_lines(file.lines, characters)
    assert characters.size == 66 and len(stream.tokens) == stream.bytes == 1_115_394 and stream.unknown == 0
