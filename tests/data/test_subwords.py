"""sentencepiece behind the tokenizer contract."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data.subwords import Pieces
from seqsru.errors import NotFound, NotInstalled, Refused

TEXT = [
    f"{a} {b} {c}"
    for a in ("ein", "zwei", "drei")
    for b in ("große", "kleine", "schöne")
    for c in ("Häuser", "Hunde", "Bäume")
]


@pytest.fixture(scope="module")
def exact():
    return Pieces.train(
        TEXT, vocabulary_size=320, normalization="identity", byte_fallback=True, algorithm="bpe"
    )


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\u2581\0")))
def test_identity_with_bytes_gives_any_text_back(exact, text):
    assert exact.decode(exact.encode(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces  ",
        "\ttab\t",
        "a\u00a0b",
        "a\u202fb\u2028c\u0085d\u00ade\u200bf",
        "…ﬁ½",
        "</s> <unk> <eos>",
    ],
)
def test_identity_keeps_odd_white_space(exact, text):
    assert exact.decode(exact.encode(text)) == text


def test_the_one_character_that_does_not_come_back(exact):
    assert exact.decode(exact.encode("a\u2581b")) == "a b"


def test_normalization_folds_spaces_and_compatibility_characters():
    pieces = Pieces.train(TEXT, vocabulary_size=28)
    assert pieces.decode(pieces.encode("  ein\u00a0 große  ")) == "ein große"
    assert pieces.decode(pieces.encode("ein ☃")) == "ein  ⁇ "


def test_same_lines_same_bytes():
    first = Pieces.train(TEXT, vocabulary_size=28)
    assert first.model == Pieces.train(iter(TEXT), vocabulary_size=28).model
    assert first.fingerprint == Pieces(first.model).fingerprint
    assert first.fingerprint != Pieces.train(TEXT, vocabulary_size=27).fingerprint


def test_ids():
    pieces = Pieces.train(TEXT, vocabulary_size=28)
    assert (pieces.size, pieces.unk, pieces.eos, pieces.bos, pieces.pad) == (28, 0, 1, 1, 1)
    assert pieces.labels([0, 1]) == ["<unk>", "</s>"]
    assert "".join(pieces.labels(pieces.encode("ein Hunde"))) == "▁ein▁Hunde"


def test_training_is_quiet(capfd):
    Pieces.train(TEXT, vocabulary_size=28)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_long_lines_are_part_of_the_training():
    pieces = Pieces.train(["ab " * 4000, "c"], vocabulary_size=7)
    assert pieces.unk not in pieces.encode("ab")


def test_sample_is_spread_over_the_text():
    lines = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    pieces = Pieces.train(lines, vocabulary_size=6, sample=9)
    assert pieces.unk not in pieces.encode("abc")
    with pytest.raises(Refused, match="cannot"):
        Pieces.train(lines, vocabulary_size=6, sample=1)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"vocabulary_size": 8000},
            r"vocabulary_size: .* train 8000 pieces, found that it cannot \(Vocabulary size too high "
            r"\(8000\)\. Please set it to a value <= \d+\.\); change their number",
        ),
        (
            {"vocabulary_size": 10},
            "vocabulary_size: .* train 10 pieces, found that it cannot .*; change their number",
        ),
        ({"vocabulary_size": 2}, "vocabulary_size: expected at least 3, found 2"),
        ({"sample": 0}, "sample: expected at least 1, found 0"),
        ({"algorithm": "wordpiece"}, "algorithm: expected one of unigram, bpe, found 'wordpiece'"),
        ({"normalization": "none"}, "normalization: expected one of nmt_nfkc, nfkc, identity, found 'none'"),
        ({"character_coverage": 0.5}, "character_coverage: expected from 0.98 to 1, found 0.5"),
    ],
)
def test_training_errors(options, message):
    with pytest.raises(Refused, match=message) as caught:
        Pieces.train(TEXT, **options)
    assert [caught.value.setting] == list(options)


def test_no_text():
    with pytest.raises(Refused, match="expected training text for sentencepiece, found none"):
        Pieces.train(["", " \t"])


def test_a_model_of_sentencepiece_itself(tmp_path):
    import sentencepiece

    options = {"sentence_iterator": iter(TEXT), "minloglevel": 2, "vocab_size": 28}
    sentencepiece.SentencePieceTrainer.train(model_prefix=str(tmp_path / "own"), **options)
    pieces = Pieces.read(tmp_path / "own.model")
    assert (pieces.unk, pieces.eos, pieces.bos) == (0, 2, 2)
    assert pieces.decode(pieces.encode(TEXT[0])) == TEXT[0]
    options["sentence_iterator"] = iter(TEXT)
    sentencepiece.SentencePieceTrainer.train(model_prefix=str(tmp_path / "endless"), eos_id=-1, **options)
    with pytest.raises(Refused, match="with an end of sentence, found eos_id = -1"):
        Pieces.read(tmp_path / "endless.model")
    (tmp_path / "text.model").write_text("no model")
    with pytest.raises(Refused, match=r"a sentencepiece model in .*text\.model, found something else"):
        Pieces.read(tmp_path / "text.model")
    with pytest.raises(NotFound, match="expected a sentencepiece model at .*absent"):
        Pieces.read(tmp_path / "absent")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(NotInstalled, match="the package sentencepiece, found that it is not installed; run"):
        Pieces.train(TEXT, vocabulary_size=28)
