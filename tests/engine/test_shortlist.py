"""Shortlists: what is chosen, what a sentence may use, and what is refused of a file."""

import subprocess
import sys
import time
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from safetensors.numpy import load, save

from seqsru.data.subwords import Pieces
from seqsru.engine.alignment import Alignment
from seqsru.engine.shortlist import NAMES, Lexicon, Shortlist, train
from seqsru.errors import Refused

# Source 2, 3, 4 are target 5, 6, 7; target 8 ends every sentence, 9 every second, 0 and 1 are special.
PAIRS = [([2, 3], [5, 6, 8]), ([3, 4], [7, 6, 8, 9]), ([4, 2], [7, 5, 8]), ([2], [5, 8, 9])] * 3
SIZES = 6, 12


def made(best=1, frequent=1, **options):
    return train(PAIRS, *SIZES, Shortlist(best, frequent), **{"always": (0, 1), **options})


def test_a_sentence_may_use_the_best_of_its_tokens_the_frequent_and_the_given():
    lexicon = made()
    assert lexicon.columns([2]).tolist() == [0, 1, 5, 8]
    assert lexicon.columns([4, 3, 4]).tolist() == [0, 1, 6, 7, 8]
    assert lexicon.columns([]).tolist() == lexicon.columns([0, 5]).tolist() == [0, 1, 8]
    assert lexicon.columns([3], also=[11, 6]).tolist() == [0, 1, 6, 8, 11]
    assert lexicon.columns([3]).dtype == np.int64


def test_frequent_tokens_take_no_place_among_the_best():
    # 8 goes with everything: with no frequent tokens it is a candidate as any other.
    assert 8 in made(best=3, frequent=0).columns([2])
    assert len(made(best=2, frequent=1).columns([2])) == 5
    assert made(best=12, frequent=12).columns([]).tolist() == [0, 1, 5, 6, 7, 8, 9]  # 10 and 11 never occur


def test_copies_are_allowed_where_there_are_any():
    copies = np.array([-1, -1, 10, 5, 8, 11])
    lexicon = made(copies=copies)
    assert lexicon.columns([2]).tolist() == [0, 1, 5, 8, 10]
    assert lexicon.columns([4]).tolist() == [0, 1, 7, 8]
    assert lexicon.columns([5]).tolist() == [0, 1, 8, 11]  # never seen in training


def test_of_equal_targets_the_lower_ids_are_chosen():
    lexicon = train([([1], [4, 3, 5, 2])], 2, 6, Shortlist(2, 0, 3), always=())
    assert lexicon.columns([1]).tolist() == [2, 3]


def test_a_rare_word_beats_one_that_goes_with_everything():
    # After 1 come 3 and 4 alike; but 4 comes after anything.
    pairs = [([1], [3, 4])] * 2 + [([2], [4])] * 9
    assert train(pairs, 3, 5, Shortlist(1, 0), always=()).columns([1]).tolist() == [3]


def test_the_same_text_gives_the_same_bits():
    first, second = made().tensors(), made().tensors()
    assert all(first[name].tobytes() == second[name].tobytes() for name in NAMES)


def test_a_text_that_begins_again_is_read_once_an_iteration():
    class Text:
        read = 0

        def __iter__(self):
            self.read += 1
            return iter(PAIRS)

    text = Text()
    lexicon = train(text, *SIZES, Shortlist(1, 1, 4), always=(0, 1))
    assert text.read == 4
    assert lexicon.columns([2]).tolist() == made().columns([2]).tolist()


def test_a_file_gives_the_same_columns():
    lexicon = made(best=2, copies=np.array([-1, -1, 10, 5, 8, 11]))
    tensors = load(save({"weights": np.zeros(3, np.float32), **lexicon.tensors()}))
    again = Lexicon.from_tensors(tensors, source_size=SIZES[0], target_size=SIZES[1])
    assert [tensors[name].dtype for name in NAMES] == [np.int64, np.int32, np.int32]
    for source in ([], [0], [2], [5, 3], [4, 4, 2, 1]):
        assert again.columns(source).tolist() == lexicon.columns(source).tolist()
        assert again.columns(source).dtype == np.int64


AGAIN = "make the file again with `seqsru quantize`"
OFFSETS, TARGETS, COMMON = NAMES


@pytest.mark.parametrize(
    "name, change, sentence",
    [
        (OFFSETS, None, f"expected a tensor shortlist.offsets, found none; {AGAIN}"),
        (COMMON, None, f"expected a tensor shortlist.common, found none; {AGAIN}"),
        (
            TARGETS,
            lambda t: t.astype(np.int64),
            f"expected one dimension of int32 in shortlist.targets, found 1 of int64; {AGAIN}",
        ),
        (
            COMMON,
            lambda t: t[None],
            f"expected one dimension of int32 in shortlist.common, found 2 of int32; {AGAIN}",
        ),
        (
            OFFSETS,
            lambda t: t.astype(np.float64),
            f"expected one dimension of int64 in shortlist.offsets, found 1 of float64; {AGAIN}",
        ),
        (
            OFFSETS,
            lambda t: t[:-1],
            "expected 7 numbers in shortlist.offsets, one more than the source tokenizer has tokens, "
            f"found 6; {AGAIN}",
        ),
        *[
            (
                OFFSETS,
                change,
                "expected shortlist.offsets that rise from 0 to the 6 numbers of shortlist.targets, "
                f"found others; {AGAIN}",
            )
            for change in (
                lambda t: t + 1,
                lambda t: np.minimum(t, 5),
                lambda t: np.array([0, 0, 0, 4, 2, 6, 6]),
                lambda t: np.array([0, 0, 0, -2, 4, 6, 6]),
                lambda t: np.array([0, 0, 2**63 - 1, -(2**63), 4, 6, 6]),
            )
        ],
        (
            TARGETS,
            lambda t: np.minimum(t + 9, 12),
            f"expected target ids from 0 to 11 in shortlist.targets, found 12; {AGAIN}",
        ),
        (COMMON, lambda t: t - 1, f"expected target ids from 0 to 11 in shortlist.common, found -1; {AGAIN}"),
        *[
            (
                name,
                change,
                "expected ids that rise in each row of shortlist.targets and in shortlist.common, "
                f"found others; {AGAIN}",
            )
            for name, change in (
                (TARGETS, lambda t: t[::-1].copy()),
                (TARGETS, lambda t: np.full_like(t, 4)),
                (COMMON, lambda t: t[::-1].copy()),
                (COMMON, lambda t: np.full_like(t, 4)),
            )
        ],
    ],
)
def test_a_changed_file_is_refused(name, change, sentence):
    tensors = made(best=2).tensors()
    assert len(tensors[TARGETS]) == 6
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    with pytest.raises(Refused) as refused:
        Lexicon.from_tensors(tensors, source_size=SIZES[0], target_size=SIZES[1])
    assert str(refused.value) == sentence


def test_a_lexicon_of_nothing_but_common_tokens_is_read():
    lexicon = Lexicon(np.zeros(4, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), 5)
    again = Lexicon.from_tensors(lexicon.tensors(), source_size=3, target_size=5)
    assert again.columns([0, 2]).tolist() == []


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"always": [0, 12]}, "always: expected target ids from 0 to 11, found 12; correct it"),
        ({"always": [-1]}, "always: expected target ids from 0 to 11, found -1; correct it"),
        ({"copies": np.arange(5)}, "copies: expected 6 ids, found 5; give one a source id"),
        (
            {"copies": np.array([0, 1, 2, 3, 4, 12])},
            "copies: expected target ids from -1 to 11, found 12; correct it",
        ),
        (
            {"copies": np.array([0, 1, 2, 3, 4, -2])},
            "copies: expected target ids from -1 to 11, found -2; correct it",
        ),
    ],
)
def test_refused_arguments(arguments, sentence):
    with pytest.raises(Refused) as refused:
        made(**arguments)
    assert str(refused.value) == sentence


def test_pairs_that_can_be_read_but_once_are_refused():
    with pytest.raises(Refused) as refused:
        train(iter(PAIRS), *SIZES, Shortlist(), always=())
    assert (
        str(refused.value) == "pairs: expected pairs that can be read again, found list_iterator; give a list"
    )


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("best", 0, "best: expected at least 1, found 0; raise it"),
        ("frequent", -1, "frequent: expected at least 0, found -1; raise it"),
        ("iterations", 0, "iterations: expected at least 1, found 0; raise it"),
    ],
)
def test_options_are_checked_and_never_change(name, value, sentence):
    with pytest.raises(Refused) as refused:
        Shortlist(**{name: value})
    assert str(refused.value) == sentence
    with pytest.raises(FrozenInstanceError):
        setattr(Shortlist(), name, 7)


def test_importing_loads_no_torch():
    code = "import sys, seqsru.engine.shortlist; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_multi30k_is_covered_by_a_third(mirror):
    folder = mirror / "multi30k"
    read = lambda name: (folder / name).read_text().splitlines()
    pieces = Pieces.train(read("train.en") + read("train.de"), vocabulary_size=6000, algorithm="bpe")
    pairs = [(pieces.encode(s), pieces.encode(t)) for s, t in zip(read("train.en"), read("train.de"))]
    alignment = Alignment(pieces.size, pieces.size, most_pairs=10_000_000)
    alignment.iterate(pairs)
    started = time.process_time()
    for _ in range(4):
        alignment.iterate(pairs)
    assert time.process_time() - started < 30
    lexicon = Lexicon.choose(
        alignment, Shortlist(), always=(pieces.unk, pieces.eos), copies=np.arange(pieces.size)
    )
    inside = tokens = width = 0
    tests = list(zip(read("test_2016_flickr.en"), read("test_2016_flickr.de")))
    for source, target in tests:
        columns, reference = lexicon.columns(pieces.encode(source)), pieces.encode(target)
        inside += np.isin(reference, columns).sum()
        tokens += len(reference)
        width += len(columns)
    assert width / len(tests) < pieces.size / 3
    assert inside / tokens > 0.985
