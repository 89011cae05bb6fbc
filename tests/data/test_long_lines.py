"""Very long lines in a tokenizer's training, what is left out of it, Ctrl-C, and models of one's own."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sentencepiece
from tiny_runs import CLASSIFICATION, TRANSLATION, settings, write_texts

import seqsru
from seqsru import runs
from seqsru.data import LineReport, Pieces
from seqsru.settings import SettingsError

DRAW = random.Random(0)
BASE = [" ".join("".join(DRAW.choices("abcdefgh", k=4)) for _ in range(6)) for _ in range(200)]
SPM = {"vocab_size": 40, "hard_vocab_limit": False, "minloglevel": 2, "character_coverage": 1.0}


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_long_lines_are_cut_where_they_would_take_for_ever_and_told(algorithm):
    n = 300_000
    long = ["a" * n, "".join(DRAW.choices("abcdefgh", k=n)), "a b " * (n // 4), "▅ abc"]
    report, start = LineReport("text"), time.monotonic()
    pieces = Pieces.train([*BASE, *long], vocabulary_size=60, algorithm=algorithm, report=report)
    assert time.monotonic() - start < 60
    assert pieces.size == 60
    assert str(report) == (
        "text: 204 lines; 2 with more than 1,000 characters between two spaces, cut there (lines 201, 202); "
        "1 with U+2585, left out by sentencepiece (line 204)"
    )


def test_what_is_not_long_is_as_before():
    lines = [*BASE, "x" * 1000, " ".join(["abc"] * 900)]
    report = LineReport("text")
    pieces = Pieces.train(lines, vocabulary_size=60, report=report)
    assert not report and report.total == len(lines)
    assert Pieces.train(lines, vocabulary_size=60).fingerprint == pieces.fingerprint


@pytest.mark.slow
def test_ctrl_c_ends_the_training_of_a_tokenizer(tmp_path):
    write_texts(tmp_path)
    lines = ("".join(DRAW.choices("abcdefgh", k=900)) + "\n" for _ in range(3000))
    (tmp_path / "train.src").write_text("".join(lines))
    (tmp_path / "train.tgt").write_text("a b c\n" * 3000)
    (tmp_path / "run.yaml").write_text(
        TRANSLATION.format(folder=tmp_path).replace("name: words", "name: sentencepiece")
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "seqsru", "train", str(tmp_path / "run.yaml")],
        cwd=Path(seqsru.__file__).parent.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "valid.src" in process.stderr.readline()  # the texts are read, the tokenizer is next
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "seqsru: interrupted\n" and process.returncode == 130
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", "lock"]


def spm(path, **options):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(BASE), model_prefix=str(path.with_suffix("")), **{**SPM, **options}
    )
    return path


def own(*options):
    return ", ".join(["tokenizer={name: sentencepiece_model", *options]) + "}"


def test_a_model_of_ones_own_is_copied_into_the_run(tmp_path):
    write_texts(tmp_path)
    model = spm(tmp_path / "mine.model")
    size = Pieces.read(model).size
    steps = [f"output={tmp_path}/run", "training.epochs=0"]
    told = []
    chosen = settings(tmp_path, CLASSIFICATION, own(f"model: {model}"), *steps, "training.steps=1")
    runs.train(chosen, told.append)
    assert f"tokenizer: {size} pieces" in told
    assert (tmp_path / "run/tokenizer.model").read_bytes() == model.read_bytes()
    model.unlink()
    assert seqsru.load(tmp_path / "run").tokenizer.size == size
    more = settings(tmp_path, CLASSIFICATION, own(f"model: {model}"), *steps, "training.steps=2")
    assert runs.train(more, told.append).step == 2


def test_a_model_a_side(tmp_path):
    write_texts(tmp_path)
    first, second = spm(tmp_path / "a.model"), spm(tmp_path / "b.model", vocab_size=30, model_type="char")

    def train(*options):
        chosen = settings(tmp_path, TRANSLATION, own(*options), f"output={tmp_path}/run", "training.steps=1")
        runs.train(chosen, lambda line: None)

    joint = (
        r"^command line: tokenizer\.target_model: expected one model with joint true, found another, "
        r".*/b\.model; set joint to false, or leave it out$"
    )
    with pytest.raises(SettingsError, match=joint):
        train(f"model: {first}", f"target_model: {second}")
    train(f"model: {first}", f"target_model: {second}", "joint: false")
    for side, model in (("source", first), ("target", second)):
        assert (tmp_path / f"run/{side}.model").read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    "options, sentence",
    [
        (
            ["model: {0}/none"],
            "model: expected a sentencepiece model at .*/none, found no such file; check the",
        ),
        (
            ["model: {0}/text"],
            "model: expected a sentencepiece model in .*/text, found something else; name a ",
        ),
        (["model: {0}/empty"], "model: expected a sentencepiece model in .*/empty, found something else; "),
        (["model: {0}"], "model: expected a sentencepiece model at .*, found no such file; check the path"),
        (
            ["model: {0}/no-end.model"],
            "model: expected a sentencepiece model with an end of sentence, found eos_id = -1; train it",
        ),
        (
            ["model: {0}/good.model", "vocabulary_size: 7"],
            r"vocabulary_size: expected the \d+ pieces of .*good.model, found 7; change it to \d+, or leave",
        ),
        ([], "model: expected a path, found nothing; set it"),
    ],
)
def test_what_is_no_model_for_us(tmp_path, options, sentence):
    write_texts(tmp_path)
    (tmp_path / "text").write_text("no model, but words")
    (tmp_path / "empty").write_bytes(b"")
    spm(tmp_path / "good.model")
    spm(tmp_path / "no-end.model", eos_id=-1)
    with pytest.raises(SettingsError, match=f"^command line: tokenizer.{sentence}"):
        runs.rehearse(settings(tmp_path, CLASSIFICATION, own(*(text.format(tmp_path) for text in options))))
