"""A run as one file: the commands take it in place of the run, without torch; a mistake is one sentence."""

import json
import os
import subprocess
import sys

import pytest

import seqsru
from seqsru import runs
from seqsru.engine.file import load
from seqsru.engine.shortlist import Shortlist


@pytest.fixture(scope="session")
def translation_file(translation_run, tmp_path_factory):
    """The translation run in float32, with every target piece allowed."""
    path = tmp_path_factory.mktemp("file") / "exact.seqsru"
    return runs.quantize(translation_run, path, precision="float32")


@pytest.fixture(scope="session")
def language_file(language_run, tmp_path_factory):
    """The language run in float32."""
    return runs.quantize(language_run, tmp_path_factory.mktemp("file") / "lm.seqsru", precision="float32")


def numbers(text):
    return [float(word) for word in text.split()]


def test_the_commands_take_a_file_in_place_of_the_run(run, texts, translation_run, translation_file):
    source, target = texts / "test.src", texts / "test.tgt"
    for arguments in (
        [],
        ["--beam", "1"],
        ["--beam", "4", "--n-best", "3", "--moses"],
        ["--max-source", "2"],
    ):
        expected = run("translate", translation_run, source, *arguments)
        found = run("translate", translation_file, source, *arguments)
        words = [line.split(" ||| ")[1:2] or line for line in expected[1].splitlines()]
        assert found[0] == expected[0] == 0 and found[2] == expected[2]
        assert [line.split(" ||| ")[1:2] or line for line in found[1].splitlines()] == words
    told = run("translate", translation_file, source, "--json", "--attention")[1].splitlines()
    for line, other in zip(
        told, run("translate", translation_run, source, "--json", "--attention")[1].splitlines()
    ):
        found, expected = json.loads(line), json.loads(other)
        assert found["source_labels"] == expected["source_labels"] and found["text"] == expected["text"]
        for ours, theirs in zip(found["attention"] or (), expected["attention"] or ()):
            assert ours == pytest.approx(theirs[: len(ours)], abs=1e-5)
    expected = numbers(run("score", translation_run, source, target)[1])
    assert numbers(run("score", translation_file, source, target)[1]) == pytest.approx(expected, abs=1e-4)
    plain, packed = (run("evaluate", one, source, target)[1] for one in (translation_run, translation_file))
    assert packed.splitlines()[:2] == plain.splitlines()[:2]
    assert "|engine:compiled|precision:float32|" in packed and "|engine:" not in plain


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_several_batches_at_once_give_the_same(run, texts, translation_run, translation_file, threads):
    source, target = texts / "test.src", texts / "test.tgt"
    for command, files in (("translate", [source]), ("score", [source, target])):
        for one in (translation_file, translation_run):
            given = [command, one, *files, *(["--engine", "compiled"] if one == translation_run else [])]
            assert run(*given, "--threads", "2") == run(*given, "--threads", "1")
    assert seqsru.load(translation_file, threads=3).engine.threads == 3
    with pytest.raises(ValueError, match="threads: expected at least 1, found 0; raise it"):
        seqsru.load(translation_file, threads=0)


def test_language_models_too(run, texts, language_run, language_file):
    text = texts / "test.txt"
    for state in ("carried", "separate"):
        plain, packed = (
            run("evaluate", one, text, "--state", state)[1].splitlines()
            for one in (language_run, language_file)
        )
        assert [line.split()[0] for line in packed[:4]] == [line.split()[0] for line in plain[:4]]
        for ours, theirs in zip(packed[:4], plain[:4]):
            assert float(ours.split()[1]) == pytest.approx(float(theirs.split()[1]), rel=1e-4)
    expected = numbers(run("score", language_run, text)[1])
    assert numbers(run("score", language_file, text)[1]) == pytest.approx(expected, abs=1e-4)
    for drawing in (
        ["--count", "5"],
        ["--top-k", "3", "--seed", "9"],
        ["--top-p", "0.6", "--temperature", "1.5"],
        ["--lines", "4", "--count", "2"],
    ):
        arguments = ["--prompt", "a", "--max-length", "9", *drawing]
        assert run("generate", language_file, *arguments) == run("generate", language_run, *arguments)


def test_a_run_may_be_decoded_by_the_engine(run, texts, translation_run):
    source = texts / "test.src"
    plain = run("translate", translation_run, source)
    assert run("translate", translation_run, source, "--engine", "torch") == plain
    assert run("translate", translation_run, source, "--engine", "compiled") == plain
    status, out, _ = run("translate", translation_run, source, "--engine", "compiled", "--precision", "int8")
    assert status == 0 and len(out.splitlines()) == len(plain[1].splitlines())


def test_quantize_tells_what_it_made(run, tmp_path, translation_run, language_run):
    path = tmp_path / "small.seqsru"
    status, out, err = run("quantize", translation_run, "--output", path, "--best", "2", "--frequent", "3")
    assert (status, out) == (0, f"{path}\n") and f"{path}: " in err and "int8, with a shortlist" in err
    package = load(path)
    assert package.record["shortlist"] == "2+3" and package.model.int8
    status, out, err = run("quantize", language_run, "--output", tmp_path / "lm.seqsru")
    assert status == 0 and "shortlist" not in err
    assert run("quantize", translation_run, "--output", path, "--shortlist", "none")[0] == 0
    assert load(path).record["shortlist"] is None


def test_what_cannot_be_quantised_or_asked_of_a_file(
    refused, tmp_path, classification_run, language_run, translation_file
):
    assert refused("quantize", classification_run, "--shortlist", "none").endswith(
        "expected a translation or language model for the compiled engine, found Classifier; "
        "use the run directory itself, which torch decodes from"
    )
    assert refused("quantize", language_run, "--best", "3").endswith(
        "expected a translation model with a shortlist, found a language model; leave it out: "
        "a language model has no source that could tell"
    )
    assert refused("quantize", tmp_path / "none").startswith(
        "seqsru: expected a run directory with a config.yaml at"
    )
    for flag, value, told in (
        ("--average", "3", "average: expected 1 for the file"),
        ("--checkpoint", "last", "checkpoint: expected best for the file"),
        ("--engine", "torch", "engine: expected auto for the file"),
        ("--precision", "int8", "precision: expected float32 for the file"),
        ("--device", "cuda", "device: expected cpu for the file"),
    ):
        assert told in refused("translate", translation_file, flag, value, stdin="one\n")
    told = refused(
        "translate", translation_file, "--beam", "100000", "--length-offset", "100000", stdin="one\n"
    )
    assert "expected a search that fits in memory, found 1 x 100000 outputs of" in told
    for own in (language_run / "config.yaml", language_run / "tokenizer.json"):
        before = own.read_bytes()
        told = refused("quantize", language_run, "--shortlist", "none", "--output", own)
        assert (
            told.startswith("seqsru: expected another file for --output, found ")
            and own.read_bytes() == before
        )
    damaged = tmp_path / "damaged.seqsru"
    damaged.write_bytes(translation_file.read_bytes()[:-7])
    assert str(damaged) in refused("translate", damaged, stdin="one\n")
    assert "precision" in refused("translate", language_run, "--precision", "int8", stdin="one\n")


def test_in_python(translation_run, translation_file, texts):
    lines = (texts / "test.src").read_text().splitlines()
    plain, packed = seqsru.load(translation_run), seqsru.load(translation_file)
    assert packed.model is None and packed.engine.model.precision == "float32"
    assert [one.text for one in packed.translate(lines)] == [one.text for one in plain.translate(lines)]
    small = runs.quantize(
        translation_run, translation_file.with_name("small.seqsru"), shortlist=Shortlist(best=2, frequent=3)
    )
    assert len(seqsru.load(small).translate(lines)) == len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["translate", "score", "evaluate", "latency", "generate"])
def test_a_file_needs_no_torch(command, texts, translation_file, language_file):
    source, target = str(texts / "test.src"), str(texts / "test.tgt")
    arguments = {
        "translate": [str(translation_file), source],
        "score": [str(translation_file), source, target],
        "evaluate": [str(translation_file), source, target],
        "latency": [str(translation_file), source, "--first", "2", "--repeats", "1", "--length", "3"],
        "generate": [str(language_file), "--prompt", "a"],
    }[command]
    program = (
        "import sys; sys.modules['torch'] = None\n"  # importing it fails
        "from seqsru.commands.main import main\n"
        f"sys.exit(main({[command, *arguments]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and done.stdout, done.stderr
