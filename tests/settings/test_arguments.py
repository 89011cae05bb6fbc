"""Arguments of the Python API are held to their annotations, as settings are."""

import re

import numpy
import pytest
import torch
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, QUESTIONS, TRANSLATION, settings, write_texts

import seqsru
from seqsru import runs
from seqsru.data import Characters, Pieces, TokenStream, Words
from seqsru.data.examples import Labels
from seqsru.data.lines import text_lines
from seqsru.decoding import Decoding
from seqsru.errors import Refused
from seqsru.training import TrainingOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four trained runs, one of each task, beside their texts."""
    folder = tmp_path_factory.mktemp("runs")
    write_texts(folder)
    for name, text in (
        ("lm", LANGUAGE_MODEL),
        ("mt", TRANSLATION),
        ("classifier", CLASSIFICATION),
        ("reader", QUESTIONS),
    ):
        steps = ["training.steps=2", "training.epochs=0", f"output={folder}/{name}"]
        runs.train(settings(folder, text, *steps), lambda line: None)
    return folder


def says(sentence, function, *arguments, **named):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        function(*arguments, **named)


CHANGE = "change it"
DEVICES = "write cuda for a GPU, cuda:1 for the second one"


def test_loading(folder, monkeypatch):
    def load(**given):
        return seqsru.load(folder / "lm", **given)

    for device in ("cpu", "cpu:0", torch.device("cpu"), "auto"):
        assert load(device=device).model.output.weight.device.type == "cpu"
    for device in ("gpu", "CPU", "cuda:", "cuda:-1", "cuda:01", "mps", "", "cuda 0"):
        says(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}; {DEVICES}", load, device=device)
    says(f"device: expected text or a device, found None; {CHANGE}", load, device=None)
    says(f"device: expected text or a device, found 0; {CHANGE}", load, device=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:0", torch.device("cuda", 1)):
        do = "set device to cpu, or see what `seqsru doctor` says"
        says(
            f"device: expected a CUDA GPU for device {device}, found none that torch can use; {do}",
            load,
            device=device,
        )
    for checkpoint in (2, "2", "last", "best", numpy.int64(2)):
        load(checkpoint=checkpoint)
    known = "best, last or a step number"
    for checkpoint in ("newest", "-1", "step-2", "2.0", ""):
        says(f"checkpoint: expected {known}, found {checkpoint!r}; choose one", load, checkpoint=checkpoint)
    kinds = "one of 'best', 'last' or a whole number or text"
    for checkpoint in (2.5, True, None, folder / "lm" / "checkpoints"):
        with pytest.raises(Refused, match=f"^checkpoint: expected {kinds}, found "):
            load(checkpoint=checkpoint)
    says(f"average: expected a whole number, found '2'; {CHANGE}", load, average="2")
    says("average: expected at least 1, found 0; raise it", load, average=0)
    do = "name what `seqsru train` wrote"
    says(f"run: expected a path, or a list of paths, found 5; {do}", seqsru.load, 5)
    do = "name one, or leave it out"
    says(f"kind: expected a class of seqsru.pipelines, found 'lm'; {do}", load, kind="lm")


def test_the_devices_that_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runs.choose_device("auto") == runs.choose_device("cuda") == torch.device("cuda")
    assert runs.choose_device("cuda:0") == torch.device("cuda:0")
    assert runs.choose_device(torch.device("cuda:1")) == torch.device("cuda:1")
    sentence = (
        "device: expected one of the 2 CUDA GPUs that torch can use, found 'cuda:2'; count from 0, and see "
        "what `seqsru doctor` says"
    )
    says(sentence, runs.choose_device, "cuda:2")


def line_takers(folder):
    """Everything that takes lines of text, with the name of the argument."""
    names = ("lm", "mt", "classifier", "reader")
    lm, mt, classifier, reader = (seqsru.load(folder / name) for name in names)
    return [
        ("lines", lm.score),
        ("lines", lm.perplexity),
        ("lines", mt.translate),
        ("sources", lambda lines: mt.score(lines, ["a"])),
        ("targets", lambda lines: mt.score(["a"], lines)),
        ("lines", classifier.classify),
        ("questions", lambda lines: reader.answer(lines, [["a"]])),
        ("lines", Words.train),
        ("lines", Characters.train),
        ("lines", Pieces.train),
        ("lines", lambda lines: TokenStream.from_lines(lines, lm.tokenizer)),
        ("lines", text_lines),
    ]


def test_a_text_is_no_list_of_lines_anywhere(folder):
    for name, take in line_takers(folder):
        refused = [
            ("a dog", "lines of text, found one text, 'a dog'; put it into a list"),
            (b"a dog", "lines of text, found one text, b'a dog'; put it into a list"),
            ({"a": 1}, "lines of text, found a dict; give a list of lines"),
            ({"a"}, "lines of text, found a set; give a list of lines"),
            (5, "lines of text, found a int; give a list of lines"),
            (None, "lines of text, found a NoneType; give a list of lines"),
            (["a", None], "text in line 2, found None; give text for each line"),
            (["a", 5], "text in line 2, found 5; give text for each line"),
            (["a", b"b"], "text in line 2, found b'b'; give text for each line"),
            (
                ["a\nb"],
                "one line in line 1, found a line end in 'a\\nb'; give each line by itself, without its end",
            ),
            (
                ["a", "\ud800"],
                "whole characters in line 2, found half a character, '\\ud800'; read the text as UTF-8",
            ),
        ]
        for lines, sentence in refused:
            says(f"{name}: expected {sentence}", take, lines)
    with pytest.raises(Refused, match="expected at least two labels, each once, found 'ab'; "):
        Labels("ab")
    with pytest.raises(Refused, match="^types: "):
        Words("<unk><eos>")


def test_whatever_gives_lines_in_order_will_do(folder):
    mt = seqsru.load(folder / "mt")
    lines = ["one two", "", "seven"]
    expected = [found.text for found in mt.translate(lines)]
    for same in (tuple(lines), iter(lines), (line for line in lines), numpy.array(lines)):
        assert [found.text for found in mt.translate(same)] == expected
    assert mt.translate([]) == [] and mt.score([], []) == []


def test_other_arguments_of_the_pipelines(folder):
    lm, mt = seqsru.load(folder / "lm"), seqsru.load(folder / "mt")
    assert lm.generate("one", count=2.0, temperature=1, seed=numpy.int64(3)) == lm.generate(
        "one", count=2, temperature=1.0, seed=3
    )
    for name, value, kind in (
        ("count", "2", "a whole number"),
        ("count", 1.5, "a whole number"),
        ("count", True, "a whole number"),
        ("temperature", None, "a number"),
        ("top_p", "0.5", "a number"),
        ("seed", [1], "a whole number"),
        ("prompt", None, "text"),
        ("prompt", ["one"], "text"),
    ):
        says(f"{name}: expected {kind}, found {value!r}; {CHANGE}", lm.generate, **{name: value})
    says("max_length: expected at least 1, found 0; raise it", lm.generate, max_length=0)
    says("max_length: expected at least 1, found -1; raise it", lm.search, max_length=-1)
    with pytest.raises(Refused, match="^prompt: expected one line in line 1, "):
        lm.generate("one\ntwo")
    says(f"carried: expected true or false, found 'no'; {CHANGE}", lm.perplexity, ["a"], carried="no")
    says(f"decoding: expected null or a Decoding, found 5; {CHANGE}", mt.translate, ["a"], 5)
    says(f"attention: expected true or false, found 1; {CHANGE}", mt.translate, ["a"], attention=1)
    for name, value, kind in (
        ("beam", "5", "a whole number"),
        ("beam", 2.5, "a whole number"),
        ("alpha", "1", "a number"),
        ("n_best", True, "a whole number"),
    ):
        sentence = f"{name}: expected {kind}, found {value!r}; {CHANGE}"
        says(sentence, Decoding, **{name: value})
        says(sentence, mt.translate, ["a"], **{name: value})
    assert Decoding(beam=2.0) == Decoding(beam=2) and isinstance(Decoding(beam=2.0).beam, int)
    says("beam: expected at most 100,000, found 1000000; lower it", Decoding, beam=10**6)
    says(f"epochs: expected a whole number, found '3'; {CHANGE}", TrainingOptions, epochs="3")
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        TrainingOptions(epoch=3)
