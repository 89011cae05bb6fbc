"""A recogniser from files to text: alone or beside others, whole or in pieces, with every language model."""

import re
from pathlib import Path

import numpy
import pytest
import torch
from fused_models import CHARACTERS, LINES, arpa, language, log_prob_of
from tiny_runs import WORDS, spoken, write_frames

from seqsru.cells import CELLS, Stack
from seqsru.data import Characters, Pieces, Words
from seqsru.data.features import FeatureFiles, Filterbank
from seqsru.data.frontend import FeatureSpace, Frontend
from seqsru.data.vocabulary import EOS, UNK
from seqsru.decoding.fusion import CtcDecoding
from seqsru.errors import Refused
from seqsru.evaluation.perplexity import sentence_nlls
from seqsru.models.recognizer import Recognizer
from seqsru.pipelines import RecognitionPipeline
from seqsru.pipelines.fusion import fused

AN4 = Path(__file__).parents[1] / "fixtures" / "an4" / "an251-fash-b.flac"
ONE_WAY = {"bidirectional": False}


def made(cell="sru", tokenizer=CHARACTERS, frontend=None, seed=4, **stack):
    torch.manual_seed(seed)
    frontend = frontend or Frontend("training", deltas=1, stack=3, stride=2)
    space = FeatureSpace.train(spoken(line, 1) for line in LINES)
    size = frontend.input_size(6)
    options = {"options": {"backend": "reference"}} if cell == "sru" else {}
    encoder = Stack(cell, size, 8, 2, **{"bidirectional": True, **stack, **options})
    model = Recognizer(size, tokenizer.size, encoder)
    with torch.no_grad():
        model.output.weight *= 4  # so that it writes something
    return RecognitionPipeline(model, tokenizer, space, FeatureFiles(size=6), frontend)


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, line in enumerate(LINES):
        paths.append(tmp_path / f"{number}.mfc")
        write_frames(paths[-1], spoken(line, number))
    return paths


@pytest.mark.parametrize("decoding", [CtcDecoding(), CtcDecoding(beam=4, n_best=3)])
@pytest.mark.parametrize("normalize", ["training", "utterance", "speaker"])
def test_a_recording_does_not_depend_on_the_others(files, decoding, normalize):
    pipeline = made(frontend=Frontend(normalize, stack=2, stride=2))
    together = pipeline.transcribe(files, decoding=decoding)
    assert together == [pipeline.transcribe([file], decoding=decoding)[0] for file in files]
    assert together[::-1] == pipeline.transcribe(files[::-1], decoding=decoding)
    assert len({one.text for one in together}) > 2 and len(together[0].alternatives) == decoding.n_best - 1
    scores = [one.score for one in (together[0], *together[0].alternatives)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("piece", [0.01, 0.05, 0.17, 9.0])
def test_pieces_give_the_text_of_the_whole(files, cell, piece):
    pipeline = made(cell, **ONE_WAY)
    if not pipeline.model.streams:
        pytest.skip("it sees later steps")
    for decoding in (CtcDecoding(), CtcDecoding(beam=5, n_best=2)):
        whole = pipeline.transcribe(files, decoding=decoding)
        for file, expected in zip(files, whole):
            stream, told = pipeline.stream(decoding=decoding), []
            told = [stream.feed(part) for part in pipeline.pieces(file, piece)]
            found = stream.finish()
            assert found.text == expected.text and found.score == pytest.approx(expected.score, abs=1e-4)
            assert [one.text for one in found.alternatives] == [one.text for one in expected.alternatives]
            assert decoding.beam > 1 or all(expected.text.startswith(text) for text in told)


def test_a_stream_of_nothing_and_what_it_refuses(files):
    pipeline = made(**ONE_WAY)
    assert pipeline.stream().finish().text == ""
    stream = pipeline.stream()
    stream.feed(spoken("one", 1)[:0])
    with pytest.raises(
        Refused, match=r"^piece: expected float32 frames of shape \(T, 6\), found \(3, 5\) of fl"
    ):
        stream.feed(numpy.zeros((3, 5), dtype="f"))
    with pytest.raises(
        Refused, match=r"^piece: expected float32 frames .*, found .* of float64; convert it$"
    ):
        stream.feed(numpy.zeros((3, 6)))
    with pytest.raises(Refused, match="^piece: expected float32 frames .*, found a list; convert it$"):
        stream.feed([1.0])
    stream.finish()
    for again in (stream.finish, lambda: stream.feed(spoken("one", 1))):
        with pytest.raises(
            Refused, match="^expected a recording that goes on, found one that is finished; begin"
        ):
            again()


@pytest.mark.parametrize(
    "options, sentence",
    [
        (
            {},
            "expected a recogniser that streams, found one that reads from the end too; train one with "
            "model.encoder.bidirectional false",
        ),
        (
            {**ONE_WAY, "frontend": Frontend("utterance")},
            "expected features that stream, found frontend.normalize utterance; train with normalize "
            "training or none",
        ),
    ],
)
def test_what_cannot_stream(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        made(**options).stream()


def test_mistakes(files, tmp_path):
    pipeline = made()
    told = f"expected a file at {tmp_path}/no, found No such file or directory; correct its name"
    with pytest.raises(Refused, match=f"^{re.escape(told)}"):
        pipeline.transcribe([tmp_path / "no"])
    with pytest.raises(
        Refused, match="^files: expected a list of files, found one, 'a'; put it into a list$"
    ):
        pipeline.transcribe("a")
    for setting, other in (
        ("tokenizer", Words([UNK, EOS, "a"])),
        ("space", FeatureSpace([0.0] * 5, [1.0] * 5)),
        ("source", FeatureFiles(size=5)),
    ):
        given = {
            name: getattr(pipeline, name) for name in ("model", "tokenizer", "space", "source", "frontend")
        }
        with pytest.raises(Refused, match=f"^{setting}: expected .*; use what the model was trained with$"):
            RecognitionPipeline(**{**given, setting: other})


# ---- language models -------------------------------------------------------------------------------


PIECES = Pieces.train(LINES * 20, vocabulary_size=24, algorithm="bpe")
WORD_UNITS = Words.train(LINES)
MODELS = {
    "the same characters": (CHARACTERS, lambda folder: language(CHARACTERS)),
    "other characters": (CHARACTERS, lambda folder: language(Characters.train(LINES))),
    "words over characters": (CHARACTERS, lambda folder: language(WORD_UNITS)),
    "n-grams over characters": (CHARACTERS, lambda folder: arpa(folder, WORDS)),
    "words over words": (WORD_UNITS, lambda folder: language(Words.train(LINES[1:]))),
    "n-grams over words": (WORD_UNITS, lambda folder: arpa(folder, WORDS[:5])),
    "words over pieces": (PIECES, lambda folder: language(WORD_UNITS)),
    "n-grams over pieces": (PIECES, lambda folder: arpa(folder, WORDS)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_added_is_what_the_language_model_says_of_the_text(name, files, tmp_path):
    tokenizer, make = MODELS[name]
    model, decoding = make(tmp_path), CtcDecoding(beam=6, n_best=6, candidates=0, lm_weight=0.3)
    pipeline = made(tokenizer=tokenizer)
    found = pipeline.transcribe(files, decoding=decoding, language_model=model)
    texts = 0
    for one in (text for best in found for text in (best, *best.alternatives)):
        if "\N{REPLACEMENT CHARACTER}" in one.text or "<unk>" in one.text or "\u2047" in one.text:
            continue
        added = 0.3 * log_prob_of(model, one.text)
        assert one.score == pytest.approx(one.log_prob + added, abs=1e-3), one.text
        texts += 1
    assert texts > 5
    plain = pipeline.transcribe(files, decoding=CtcDecoding(beam=6))
    assert [one.text for one in plain] != [one.text for one in found]


def test_the_same_pieces_are_scored_as_they_are_written():
    """Not as the tokenizer would cut the text that they make."""
    model, ids = language(PIECES), [5, 9, 9, 3, 14]
    fusion = fused(model, PIECES, CtcDecoding(beam=2, lm_weight=0.3, lm_bonus=0.5))
    state, total = fusion.begin(), 0.0
    for unit in ids:
        total += fusion.gains([state])[0][unit]
        (state,) = fusion.extend([state], [unit])
    (nll,) = sentence_nlls(model.model, [[*ids, PIECES.eos]], PIECES.eos)
    assert total + fusion.ends([state])[0] == pytest.approx(-0.3 * nll + 0.5 * len(ids), abs=1e-4)
    assert fusion.gains([state])[0][PIECES.eos] == -numpy.inf  # it ends a text, and is never written


def test_a_bonus_is_for_each_token_of_the_language_model(files, tmp_path):
    model = arpa(tmp_path, WORDS)
    for weight in (0.0, 0.5):
        decoding = CtcDecoding(beam=6, n_best=6, lm_weight=weight, lm_bonus=0.7)
        for best in made().transcribe(files[:2], decoding=decoding, language_model=model):
            words = len(best.text.split())
            added = weight * log_prob_of(model, best.text) if weight else 0.0
            assert best.score == pytest.approx(best.log_prob + added + 0.7 * words, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith(("words", "n-grams"))])
def test_an_unknown_word_costs_what_was_asked(name, files, tmp_path):
    tokenizer, make = MODELS[name]
    model, pipeline = make(tmp_path), made(tokenizer=tokenizer)
    known = model.words if hasattr(model, "words") else model.tokenizer.labels(range(model.tokenizer.size))
    decoding = CtcDecoding(beam=6, n_best=6, candidates=0, lm_weight=0.3, lm_unknown=0.4)
    texts = strange = 0
    for best in pipeline.transcribe(files, decoding=decoding, language_model=model):
        for one in (best, *best.alternatives):
            if "\N{REPLACEMENT CHARACTER}" in one.text or "<unk>" in one.text or "\u2047" in one.text:
                continue
            lost = sum(word not in known for word in one.text.split())
            added = 0.3 * log_prob_of(model, one.text) - 0.4 * lost
            assert one.score == pytest.approx(one.log_prob + added, abs=1e-3), one.text
            texts, strange = texts + 1, strange + lost
    assert texts > 5 and (strange > 0 or name.endswith("over words"))


def test_units_that_are_words_lose_where_they_are_strange(tmp_path):
    known = {"one", "two"}
    for model in (language(Words([UNK, EOS, *sorted(known)])), arpa(tmp_path, sorted(known))):
        plain, dear = (
            fused(model, WORD_UNITS, CtcDecoding(beam=2, lm_weight=0.3, lm_unknown=lost))
            for lost in (0.0, 2.5)
        )
        labels = WORD_UNITS.labels(range(WORD_UNITS.size))
        before, after = (fusion.gains([fusion.begin()])[0] for fusion in (plain, dear))
        written = [unit for unit in range(WORD_UNITS.size) if unit not in (WORD_UNITS.eos, WORD_UNITS.unk)]
        assert [before[unit] - after[unit] for unit in written] == pytest.approx(
            [0.0 if labels[unit] in known else 2.5 for unit in written]
        )
        assert {labels[unit] in known for unit in written} == {True, False}


def test_language_models_that_cannot_be_used(files):
    told = (
        "beam: expected a beam of at least 2 with a language model, found 1, which takes the likeliest path; "
        "raise it"
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        made().transcribe(files, language_model=language(CHARACTERS))
    told = (
        "language_model: expected a language model over words, or over the recogniser's characters, found "
        "one over sentencepiece of its own; train it with tokenizer: {name: saved, run: …}, the run "
        "being the "
        "recogniser's"
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        fused(language(PIECES), CHARACTERS, CtcDecoding(beam=2))
    told = (
        "lm_unknown: expected a language model over words with lm_unknown, found one over characters; leave "
        "it out"
    )
    for units in (CHARACTERS, WORD_UNITS):
        with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
            fused(language(CHARACTERS), units, CtcDecoding(beam=2, lm_unknown=1.0))


# ---- audio -----------------------------------------------------------------------------------------


def test_audio_in_pieces_gives_the_text_of_the_whole():
    pytest.importorskip("soundfile")
    pytest.importorskip("kaldi_native_fbank")

    source, frontend = Filterbank(bins=8), Frontend("training", deltas=2, stack=3, stride=3)
    frames = source.read(AN4)
    size = frontend.input_size(8)
    model = Recognizer(size, CHARACTERS.size, Stack("gru", size, 8))
    pipeline = RecognitionPipeline(model, CHARACTERS, FeatureSpace.train([frames]), source, frontend)
    (whole,) = pipeline.transcribe([AN4])
    stream = pipeline.stream()
    for part in pipeline.pieces(AN4, 0.1):
        assert len(part) == 1600
        stream.feed(part)
    assert stream.finish().text == whole.text
    with pytest.raises(
        Refused, match=r"^piece: expected float32 samples of shape \(n,\), found \(2, 2\) of "
    ):
        pipeline.stream().feed(numpy.zeros((2, 2), dtype="f"))
