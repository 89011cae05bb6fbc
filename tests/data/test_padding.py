"""Lists of ids side by side: where each ends, the mask, and the length they share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data import pad_sources
from seqsru.data.padding import Ragged, pad, padded_length


@pytest.mark.parametrize("length, multiple, padded", [(0, 8, 0), (1, 8, 8), (8, 8, 8), (9, 8, 16), (5, 1, 5)])
def test_padded_length(length, multiple, padded):
    assert padded_length(length, multiple) == padded


@given(
    st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=20), max_size=8), st.integers(1, 9), st.booleans()
)
def test_padded_lists_come_back(lists, multiple, end):
    ids, valid = pad(lists, 7, multiple=multiple, end=end)
    assert ids.dtype == torch.int64 and valid.dtype == torch.bool
    longest = max(map(len, lists), default=0) + end
    assert ids.shape == valid.shape == (padded_length(longest, multiple), len(lists))
    for column, one in enumerate(lists):
        assert ids[:, column][valid[:, column]].tolist() == one + [7] * end
        assert valid[: len(one) + end, column].all() and set(ids[len(one) :, column].tolist()) <= {7}


def test_lists_in_one_array():
    ragged = Ragged.from_sequences([[5, 6], [], [7]])
    assert list(ragged) == [[5, 6], [], [7]] and ragged.lengths.tolist() == [2, 0, 1]
    for index in (-1, 3):
        with pytest.raises(IndexError):
            ragged[index]


def test_padded_sources():
    source, valid = pad_sources([[5, 6], [], list(range(5, 13))], 1)
    assert source.shape == valid.shape == (16, 3)
    assert source[:, 0].tolist() == [5, 6] + [1] * 14
    assert valid.sum(0).tolist() == [3, 1, 9]
    assert pad_sources([[5] * 7], 1)[0].shape == (8, 1) and pad_sources([], 1)[0].shape == (8, 0)
    assert pad_sources([[5] * 3], 1, multiple=1)[0].shape == (4, 1)
