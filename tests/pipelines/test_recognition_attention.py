"""A recogniser's decoder with attention, alone and with CTC: equal to trying every text."""

import itertools
import math
import re

import numpy
import pytest
import torch
from fused_models import CHARACTERS, LINES, arpa, language, log_prob_of
from tiny_runs import spoken, write_frames

from seqsru.cells import CELLS, Stack
from seqsru.data import Characters
from seqsru.data.features import FeatureFiles
from seqsru.data.frontend import FeatureSpace, Frontend
from seqsru.data.vocabulary import EOS, UNK
from seqsru.decoding.fusion import CtcDecoding
from seqsru.errors import Refused
from seqsru.models.attention import ATTENTIONS
from seqsru.models.decoder import Decoder
from seqsru.models.recognizer import Recognizer
from seqsru.pipelines import RecognitionPipeline

ONE_WAY = {"bidirectional": False}
FEW = Characters([UNK, EOS, " ", "o"])
EVERY = 1000  # more than there are texts


def made(tokenizer=CHARACTERS, frontend=None, cell="gru", attention="dot", seed=4, stack=None):
    torch.manual_seed(seed)
    frontend = frontend or Frontend("training", deltas=1, stack=3, stride=2)
    size = frontend.input_size(6)
    options = {"options": {"backend": "reference"}} if cell == "sru" else {}
    encoder = Stack("gru", size, 8, 2, **(stack or {"bidirectional": True}))
    decoder = Decoder(cell, 12, encoder.output_size, 12, 2, attention=attention, **options)
    model = Recognizer(size, tokenizer.size, encoder, decoder)
    with torch.no_grad():
        model.output.weight *= 4  # so that each output prefers something
        model.embedding.weight *= 2
    space = FeatureSpace.train(spoken(line, 1) for line in LINES)
    return RecognitionPipeline(model, tokenizer, space, FeatureFiles(size=6), frontend)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.mfc" for number in range(len(LINES))]
    for number, (path, line) in enumerate(zip(paths, LINES)):
        write_frames(path, spoken(line, number))
    return paths


@pytest.fixture
def short(tmp_path):
    """A recording of five frames: three steps."""
    path = tmp_path / "short.mfc"
    write_frames(path, spoken("one two", 3)[:5])
    return path


def by_decoder(pipeline, path):
    """Log probability by the decoder of each text of at most as many units as there are steps, in float64."""
    model, tokenizer = pipeline.model, pipeline.tokenizer
    frames = pipeline.frontend.inputs(pipeline.read(path), pipeline.space.statistics)
    x = torch.from_numpy(frames).unsqueeze(1)  # (T, 1, I)
    texts = {}
    with torch.no_grad():
        encoded, _ = model.encoder(x)
        for length in range(len(x) + 1):
            for units in itertools.product(range(tokenizer.size), repeat=length):
                memory, state = model.decoder.begin(encoded)
                read = torch.tensor([[tokenizer.bos, *units]]).t()
                embedded = model.embedding.weight[read] * math.sqrt(12)
                y, _, _ = model.decoder(embedded, memory, state)
                scores = (y[:, 0] @ model.embedding.weight.t() + model.embedding_bias).double()
                log_probs = torch.log_softmax(scores, -1)
                texts[units] = sum(
                    float(log_probs[at, unit]) for at, unit in enumerate([*units, tokenizer.eos])
                )
        by_step = torch.log_softmax((encoded @ model.output.weight.t() + model.output.bias).double(), -1)
    return texts, by_step[:, 0].numpy()


def by_ctc(log_probs):
    """Log probability of each text by CTC: the sum over its paths."""
    steps, width = log_probs.shape
    texts = {}
    for path in itertools.product(range(width), repeat=steps):
        units = tuple(unit for unit, _ in itertools.groupby(path) if unit != width - 1)
        total = sum(log_probs[step, unit] for step, unit in enumerate(path))
        texts[units] = numpy.logaddexp(texts.get(units, -numpy.inf), total)
    return texts


def listed(pipeline, path, model=None, **options):
    decoding = CtcDecoding(beam=EVERY, n_best=EVERY, **options)
    fusion = pipeline.fusion(decoding, model)
    texts = []
    original = pipeline.transcript

    class Keeping(RecognitionPipeline):
        def transcript(self, hypotheses):
            texts.extend(hypotheses)
            return original(hypotheses)

    keeping = Keeping(pipeline.model, pipeline.tokenizer, pipeline.space, pipeline.source, pipeline.frontend)
    keeping.recognize(
        [pipeline.frontend.inputs(pipeline.read(path), pipeline.space.statistics)], decoding, fusion
    )
    return texts


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", ["sru", "lstm"])
def test_attention_gives_every_text_its_probability(short, cell, attention):
    pipeline = made(FEW, cell=cell, attention=attention)
    expected, _ = by_decoder(pipeline, short)
    expected = {units: value for units, value in expected.items() if FEW.eos not in units}
    found = listed(pipeline, short, decoder="attention")
    assert {tuple(one.tokens) for one in found} == set(expected) and len(found) == len(expected) == 40
    for one in found:
        assert one.score == one.log_prob == pytest.approx(expected[tuple(one.tokens)], abs=1e-4)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for beam in (20, 30):  # and ends once nothing can be better
        (best,) = pipeline.transcribe([short], decoding=CtcDecoding(beam=beam, decoder="attention"))
        assert best.score == pytest.approx(max(expected.values()), abs=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_joint_orders_every_text_by_both(short, weight):
    pipeline = made(FEW)
    decoder, log_probs = by_decoder(pipeline, short)
    ctc = by_ctc(log_probs)
    expected = {units: weight * ctc[units] + (1 - weight) * decoder[units] for units in ctc}
    found = listed(pipeline, short, decoder="joint", ctc_weight=weight)
    assert {tuple(one.tokens) for one in found} == set(expected)
    for one in found:
        assert one.score == one.log_prob == pytest.approx(expected[tuple(one.tokens)], abs=1e-4)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    plain = listed(pipeline, short)
    assert (weight == 1.0) == ([one.tokens for one in found] == [one.tokens for one in plain])


@pytest.mark.parametrize("name", ["units", "words"])
@pytest.mark.parametrize("decoder", ["attention", "joint"])
@pytest.mark.parametrize("bonus", [0.0, 1.5])
def test_a_language_model_is_added_to_every_text(short, tmp_path, name, decoder, bonus):
    pipeline = made(FEW)
    model = language(FEW) if name == "units" else arpa(tmp_path, ["o", "oo"])
    given, log_probs = by_decoder(pipeline, short)
    if decoder == "attention":
        given = {units: value for units, value in given.items() if FEW.eos not in units}
    else:
        ctc = by_ctc(log_probs)
        given = {units: 0.3 * ctc[units] + 0.7 * given[units] for units in ctc}
    found = listed(pipeline, short, model, decoder=decoder, lm_weight=0.4, lm_bonus=bonus, ctc_weight=0.3)
    # An end within a text has no probability by a model of units, nor by the decoder.
    never = [] if (name, decoder) == ("words", "joint") else [FEW.eos]
    assert {tuple(one.tokens) for one in found} == {units for units in given if not {*never} & {*units}}
    assert len({tuple(one.tokens) for one in found}) == len(found)
    known = [one for one in found if not {FEW.unk, FEW.eos} & {*one.tokens}]
    assert len(known) == {"attention": 15, "joint": 9}[decoder]
    for one in known:
        assert one.log_prob == pytest.approx(given[tuple(one.tokens)], abs=1e-4)
        text = FEW.decode(one.tokens)
        tokens = len(one.tokens) if name == "units" else len(text.split())
        added = 0.4 * log_prob_of(model, text) + bonus * tokens
        assert one.score == pytest.approx(one.log_prob + added, abs=1e-3)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    best = pipeline.transcribe(
        [short],
        decoding=CtcDecoding(beam=100, decoder=decoder, lm_weight=0.4, lm_bonus=bonus, ctc_weight=0.3),
        language_model=model,
    )
    assert best[0].score == pytest.approx(found[0].score, abs=1e-4)


@pytest.mark.parametrize(
    "decoding",
    [
        CtcDecoding(decoder="attention"),
        CtcDecoding(beam=4, n_best=3, decoder="attention"),
        CtcDecoding(beam=4, n_best=3, decoder="joint"),
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_a_recording_does_not_depend_on_the_others(files, decoding, fused):
    model = language(CHARACTERS) if fused and decoding.beam > 1 else None
    pipeline = made(frontend=Frontend("training", stack=2, stride=2), cell="lstm")
    together = pipeline.transcribe(files, decoding=decoding, language_model=model)
    alone = [pipeline.transcribe([file], decoding=decoding, language_model=model)[0] for file in files]
    assert together == alone
    back = pipeline.transcribe(files[::-1], decoding=decoding, language_model=model)
    assert together[::-1] == back
    assert len({one.score for one in together}) == len(files)
    assert len(together[0].alternatives) == decoding.n_best - 1


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_writes(files, cell):
    pipeline = made(cell=cell)
    for decoder in ("attention", "joint"):
        found = pipeline.transcribe(files, decoding=CtcDecoding(beam=3, decoder=decoder))
        assert all(math.isfinite(one.score) for one in found)


def test_what_no_path_can_write_stays_so(short):
    pipeline = made(FEW)
    with torch.no_grad():
        pipeline.model.output.bias.fill_(-math.inf)
        pipeline.model.output.bias[0] = 0.0  # the unknown unit at every step, and never the blank
    found = pipeline.transcribe([short], decoding=CtcDecoding(beam=2, decoder="joint"))[0]
    assert found.text == "\N{REPLACEMENT CHARACTER}" and math.isfinite(found.score)


def test_what_is_refused(files):
    plain = RecognitionPipeline(
        Recognizer(36, CHARACTERS.size, Stack("gru", 36, 8, **ONE_WAY)),
        CHARACTERS,
        FeatureSpace([0.0] * 6, [1.0] * 6),
        FeatureFiles(size=6),
        Frontend("training", deltas=1, stack=3, stride=2),
    )
    told = (
        "decoder: expected a recogniser with model.decoder, found one of CTC alone; train one with it, or "
        "search with the decoder ctc"
    )
    for decoding in (CtcDecoding(decoder="attention"), CtcDecoding(beam=2, decoder="joint")):
        with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
            plain.transcribe(files, decoding=decoding)
    one_way = made(stack=ONE_WAY)
    assert one_way.stream(decoding=CtcDecoding(beam=2)).finish().text == ""
    for decoding in (CtcDecoding(decoder="attention"), CtcDecoding(beam=2, decoder="joint")):
        told = (
            f"decoder: expected the decoder ctc for a stream, found {decoding.decoder}, which hears all "
            "first; leave it out, or give the recording whole"
        )
        with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
            one_way.stream(decoding=decoding)
    told = (
        "beam: expected a beam of at least 2 with a language model, found 1, which takes the likeliest path; "
        "raise it"
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        made().transcribe(
            files, decoding=CtcDecoding(decoder="attention"), language_model=language(CHARACTERS)
        )


@pytest.mark.parametrize(
    "options, sentence",
    [
        (
            {"decoder": "joint"},
            "beam: expected a beam of at least 2 with the decoder joint, found 1, which has one text to "
            "order; widen it",
        ),
        (
            {"decoder": "joint", "beam": 2, "ctc_weight": 1.5},
            "ctc_weight: expected a number from 0 to 1, found",
        ),
        (
            {"decoder": "joint", "beam": 2, "ctc_weight": math.nan},
            "ctc_weight: expected a number from 0 to 1",
        ),
        ({"decoder": "atention"}, "decoder: expected one of ctc, attention, joint, found 'atention'; did"),
    ],
)
def test_searches_that_cannot_be_meant(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}"):
        CtcDecoding(**options)


def test_a_decoder_of_other_sizes():
    encoder = Stack("gru", 4, 8)
    for decoder, told in (
        (Decoder("gru", 6, 8, 12), "decoder: expected input_size 12, found 6; the decoder reads its own "),
        (Decoder("gru", 12, 9, 12), "decoder: expected memory_size 8, found 9; the decoder reads its own "),
    ):
        with pytest.raises(Refused, match=f"^{told}embeddings and the encoder's output$"):
            Recognizer(4, 5, encoder, decoder)
