"""A translation is one line whatever its pieces say, with torch and in the engine, n-best and as JSON."""

from dataclasses import replace

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data import Pieces, Words
from seqsru.data.lines import unbroken
from seqsru.decoding import Decoding
from seqsru.models import Decoder, Translator
from seqsru.pipelines.compiled import CompiledModel
from seqsru.pipelines.lowering import lowered
from seqsru.pipelines.translation import TranslationPipeline

ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0"]
LINES = ["one two", "", "three"]


def pieces():
    """A tokenizer with a piece for each byte."""
    lines = ["one two three four five six seven eight"] * 9
    return Pieces.train(lines, vocabulary_size=275, byte_fallback=True, normalization="identity")


def words():
    """A tokenizer with a type for each end of a line."""
    return Words(["<unk>", "<eos>", *(f"a{end}b" for end in ENDS), "one", "two", "three"])


@pytest.mark.parametrize("made", [pieces, words])
@pytest.mark.parametrize("engine", [False, True])
def test_a_translation_is_one_line(made, engine):
    torch.manual_seed(0)
    tokenizer = made()
    encoder = Stack("sru", 8, 8, 1, bidirectional=True, options={"backend": "reference"})
    decoder = Decoder("sru", 8, 16, 8, 1, attention="dot", options={"backend": "reference"})
    model = Translator(tokenizer.size, tokenizer.size, encoder, decoder, 8)
    breaking = [i for i, text in enumerate(map(tokenizer.decode, ([i] for i in range(tokenizer.size))))
                if len((text + "x").splitlines()) > 1]  # fmt: skip
    assert len(breaking) >= 5
    with torch.no_grad():
        model.output_bias[breaking] = 9.0
    decoding = Decoding(beam=4, n_best=3, length_factor=0.0, length_offset=6)
    pipeline = TranslationPipeline(model, tokenizer, tokenizer, decoding=decoding)
    if engine:
        pipeline = replace(pipeline, engine=CompiledModel(lowered(model.eval(), int8=False)))
    broken = 0
    for translation in pipeline.translate(LINES):
        for one in (translation, *translation.alternatives):
            broken += any(token in breaking for token in one.tokens)
            assert len((one.text + "x").splitlines()) == 1 and "\0" not in one.text
        assert translation.as_dict()["text"] == translation.text
    assert broken > 2  # the pieces were there


@pytest.mark.parametrize("end", ENDS)
def test_a_space_stands_for_each_end_of_a_line(end):
    assert unbroken(f"a{end}b{end}") == "a b "


def test_everything_else_stays():
    text = "".join(chr(code) for code in range(0x20, 0x3000) if chr(code) not in "\x85\u2028\u2029")
    assert unbroken(text) == text and unbroken("\t") == "\t"
