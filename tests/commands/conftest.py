"""Runs that the commands are tried on, and a way to call a command."""

import io
import sys
from pathlib import Path

import pytest
from tiny_runs import (
    CLASSIFICATION,
    LANGUAGE_MODEL,
    QUESTIONS,
    RECOGNITION,
    TRANSLATION,
    write_config,
    write_texts,
)

import seqsru
from seqsru.commands.main import main
from seqsru.engine.inference import COMPILING

ROOT = Path(seqsru.__file__).parent.parent


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with the texts, and a file of lines that ends without a line end."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    lines = ["What follows one1?\tone1 two2, three3", "", "What follows?\tsix6\tfive5 four4.", "six?\tsix6"]
    (folder / "asked").write_text("".join(line + "\n" for line in lines))
    (folder / "lines").write_text("one two\n\nthree\n \nseven six")
    return folder


def trained(texts, text, name):
    path = write_config(texts, text)
    assert main(["train", str(path), f"output={texts / name}"]) == 0
    return texts / name


@pytest.fixture(scope="session")
def language_run(texts):
    """A trained language model."""
    return trained(texts, LANGUAGE_MODEL, "lm")


@pytest.fixture(scope="session")
def translation_run(texts):
    """A trained translation model."""
    return trained(texts, TRANSLATION, "mt")


@pytest.fixture(scope="session")
def classification_run(texts):
    """A trained classifier."""
    return trained(texts, CLASSIFICATION, "classifier")


@pytest.fixture(scope="session")
def question_run(texts):
    """A trained reader."""
    return trained(texts, QUESTIONS, "reader")


@pytest.fixture(scope="session")
def recognition_run(texts):
    """A trained recogniser."""
    return trained(texts, RECOGNITION, "recogniser")


@pytest.fixture
def run(capsys, monkeypatch):
    """Call a command with text on standard input; gives status, stdout and stderr.

    Whether the engine has been compiled on this machine before is left out of stderr.
    """

    def call(*arguments, stdin=""):
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err.replace(f"{COMPILING}\n", "")

    return call


@pytest.fixture
def refused(run):
    """Call a command that must refuse; gives what it says on stderr, and checks that it says nothing else."""

    def call(*arguments, stdin=""):
        status, out, err = run(*arguments, stdin=stdin)
        assert (status, out) == (2, "") and err.endswith("\n")
        return err[:-1]

    return call
