"""Batches of sentences that are padded alike."""

import pytest

from seqsru.pipelines.batches import alike, padded


@pytest.mark.parametrize("by, size", [("sentences", 1), ("sentences", 3), ("tokens", 20), ("tokens", 64)])
def test_every_sentence_once_and_only_with_its_like(by, size):
    sequences = [[0] * (n * 7 % 27) for n in range(40)]
    batches = list(alike(sequences, size, by))
    assert sorted(sum(batches, [])) == [n for n, sequence in enumerate(sequences) if sequence]
    lengths = [{padded(sequences[n]) for n in batch} for batch in batches]
    assert all(len(found) == 1 for found in lengths)
    assert [max(found) for found in lengths] == sorted((max(found) for found in lengths), reverse=True)
    for batch in batches:
        cost = len(batch) if by == "sentences" else sum(padded(sequences[n]) for n in batch)
        assert cost <= size or len(batch) == 1
    assert list(alike([], size, by)) == list(alike([[]], size, by)) == []
