"""Words and characters: ids, order, round trips and files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data.vocabulary import Characters, Words, split_words
from seqsru.errors import Refused

# What parts words, and what does not.
WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \t\r\v\f\n"), min_size=1)
WORDS = st.lists(WORD)
LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")))


def test_words_are_parted_by_ascii_white_space_alone():
    assert split_words(" a\t b \r\v\f c\u00a0d\u2028e\u0085f \n") == ["a", "b", "c\u00a0d\u2028e\u0085f"]


def test_words_by_count_then_code_point():
    words = Words.train(["b a c", "c b <unk>", "d"])
    assert words.labels(range(words.size)) == ["<unk>", "<eos>", "b", "c", "a", "d"]
    assert words.encode("a b  zebra <unk> <eos>") == [4, 2, 0, 0, 0]
    assert words.decode([4, 2, 0, 1]) == "a b <unk>"
    assert (words.unk, words.eos, words.bos, words.pad) == (0, 1, 1, 1)


def test_size_and_count_bound_the_vocabulary():
    lines = ["a a a b b c c d"]
    assert Words.train(lines, vocabulary_size=4).labels(range(4))[2:] == ["a", "b"]
    assert Words.train(lines, minimum_count=2).size == 5
    assert Characters.train(lines, vocabulary_size=3).labels([2]) == [" "]


@given(st.lists(WORDS, min_size=1))
def test_words_come_back(lines):
    texts = [" ".join(line) for line in lines]
    if not any(set(line) - {"<eos>", "<unk>"} for line in lines) or any("<eos>" in line for line in lines):
        return
    words = Words.train(texts)
    for text in texts:
        assert words.decode(words.encode(text) + [words.eos]) == text
        assert all(0 <= i < words.size and i != words.eos for i in words.encode(text))


@given(LINES)
def test_characters_come_back(lines):
    if not any(lines):
        return
    characters = Characters.train(lines)
    for line in lines:
        ids = characters.encode(line)
        assert len(ids) == len(line)
        assert characters.decode(ids + [characters.eos]) == line


def test_unknown_character():
    characters = Characters.train(["abc"])
    assert characters.decode(characters.encode("aéb")) == "a\N{REPLACEMENT CHARACTER}b"
    assert characters.size == 5


@pytest.mark.parametrize("kind", [Words, Characters])
def test_saved_and_loaded(tmp_path, kind):
    saved = kind.train(["ä b\u2028c \u00ad", "b"])
    saved.save(tmp_path, "source")
    loaded = kind.load(tmp_path, "source")
    assert loaded.fingerprint == saved.fingerprint and loaded.size == saved.size
    assert loaded.encode("b\u2028c ä") == saved.encode("b\u2028c ä")
    assert [path.name for path in tmp_path.iterdir()] == ["source.json"]


def test_fingerprint_tells_tokenizers_apart():
    prints = {
        Words.train(["a b"]).fingerprint,
        Words.train(["a c"]).fingerprint,
        Words.train(["a b b"]).fingerprint,
        Characters.train(["ab"]).fingerprint,
    }
    assert len(prints) == 4
    assert Words.train(["b a", "c"]).fingerprint == Words.train(["c", "a", "b"]).fingerprint


@pytest.mark.parametrize(
    "options, lines, message",
    [
        ({"vocabulary_size": 2}, ["a"], "vocabulary_size: expected at least 3, found 2"),
        ({"minimum_count": 0}, ["a"], "minimum_count: expected at least 1, found 0"),
        ({}, ["", "  "], "expected training text to collect words from, found none"),
        ({"minimum_count": 2}, ["a b"], "found none seen 2 times or more"),
        ({}, ["a <eos>", "<eos>"], "without the word <eos>, .* found it 2 times; remove it"),
    ],
)
def test_training_errors(options, lines, message):
    with pytest.raises(Refused, match=message):
        Words.train(lines, **options)


def test_no_characters():
    with pytest.raises(Refused, match="expected training text to collect characters from"):
        Characters.train([""])


@pytest.mark.parametrize("types", [[], ["a", "b"], ["<unk>", "<eos>", "a", "a"]])
def test_a_table_that_train_cannot_make(types):
    with pytest.raises(Refused, match="types: expected distinct types that begin with <unk> and <eos>"):
        Words(types)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["types"].append("more"),
        lambda record: record["types"].pop(),
        lambda record: record["types"].reverse(),
        lambda record: record.update(types=None),
        lambda record: record.update(types=["<unk>", "<eos>", 3]),
        lambda record: record.update(kind="characters"),
        lambda record: record.update(fingerprint="0" * 64),
    ],
)
def test_an_edited_file_is_named(tmp_path, change):
    Words.train(["a b"]).save(tmp_path, "source")
    path = tmp_path / "source.json"
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(
        Refused, match=r"a tokenizer with fingerprint .* in .*source\.json, found .*; .* damaged"
    ):
        Words.load(tmp_path, "source")


def test_penn_treebank_has_ten_thousand_types(mirror):
    lines = (mirror / "ptb" / "ptb.train.txt").read_text(encoding="utf-8").split("\n")[:-1]
    words = Words.train(lines)
    assert words.size == 10_000
    for split in ("valid", "test"):
        text = (mirror / "ptb" / f"ptb.{split}.txt").read_text(encoding="utf-8")
        assert set(text.split()) <= set(words.labels(range(words.size)))
