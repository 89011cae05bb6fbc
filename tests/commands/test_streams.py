"""Standard streams that are closed, full, or that nobody reads any more."""

import io
import os
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config

import seqsru
from seqsru.commands.main import main
from seqsru.training import Trainer
from seqsru.training.interrupt import Interrupt

ROOT = Path(seqsru.__file__).parent.parent
CLOSED = (
    "seqsru: expected standard output to write to, found that it is closed; send it to a file or to "
    "/dev/null\n"
)


def shell(*arguments, streams=""):
    """Call a command with its standard streams set by the shell; gives status, stdout and stderr."""
    words = " ".join(shlex.quote(str(argument)) for argument in arguments)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shlex.quote(sys.executable)} -m seqsru {words} {streams}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "streams, status, told",
    [
        (">&-", 2, CLOSED),
        ("<&- >&- 2>&-", 2, ""),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("| true", 141, ""),
        (
            ">/dev/full",
            2,
            "seqsru: expected room for more at standard output, found a device that takes no more; "
            "free some, then go on\n",
        ),
        (">/dev/full 2>/dev/full", 2, ""),
    ],
)
def test_help(streams, status, told):
    found = shell("--help", streams=streams)
    assert (found[0], found[2]) == (status, told)


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_a_mistake_that_nobody_hears_of(streams):
    assert shell("trian", streams=streams) == (2, "", "")


@pytest.fixture
def streams(monkeypatch):
    """Set the standard streams of this process, as a program without a console has them: None."""

    def put(stdin=None, stdout=None, stderr=None):
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            monkeypatch.setattr(sys, name, stream)

    return put


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("kind", ["none", "closed", "broken"])
def test_training_does_not_mind(texts, streams, tmp_path, kind):
    config = write_config(texts, LANGUAGE_MODEL)
    closed = io.StringIO()
    closed.close()
    stream = {"none": None, "closed": closed, "broken": Broken()}[kind]
    streams(stream, stream, stream)
    status = main(["train", str(config), f"output={tmp_path}/run", "training.epochs=1"])
    assert status == (141 if kind == "broken" else 0)  # the end of the result found no reader
    assert (tmp_path / "run" / "signature.txt").read_text().startswith("perplexity ")
    assert (sys.stdin, sys.stdout, sys.stderr) == (stream, stream, stream)


def test_without_a_console_results_may_go_to_a_file(texts, streams, translation_run, tmp_path):
    streams()
    assert (
        main(["translate", str(translation_run), str(texts / "lines"), "--output", str(tmp_path / "out")])
        == 0
    )
    assert len((tmp_path / "out").read_text().splitlines()) == 5
    assert main(["translate", str(translation_run), str(texts / "lines")]) == 2
    assert main(["evaluate", str(translation_run), "--json", str(tmp_path / "json")]) == 2
    assert main(["translate", str(translation_run), "--output", str(tmp_path / "none")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_file_takes_the_number_of_a_closed_stream(texts, tmp_path):
    config = write_config(texts, LANGUAGE_MODEL)
    found = shell("train", config, f"output={tmp_path}/run", "training.epochs=1", streams="<&- >&- 2>&-")
    assert found == (0, "", "")
    log = (tmp_path / "run" / "log").read_text()
    assert log.startswith("step ") and log.endswith(": epochs\n")


def test_a_request_to_stop_that_nobody_hears_of(texts, run, tmp_path, monkeypatch):
    def broken(*arguments):
        raise BrokenPipeError

    update = Trainer._update

    def interrupt(self, *arguments):
        update(self, *arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_update", interrupt)
    monkeypatch.setattr(os, "write", broken)
    config = write_config(texts, LANGUAGE_MODEL)
    assert run("train", config, f"output={tmp_path}/run")[0] == 130
    assert (tmp_path / "run" / "checkpoints" / "step-00000001").is_dir()
    with Interrupt() as interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted.requested


def test_a_warning_that_nobody_hears_of(streams, monkeypatch):
    def warned(arguments):
        warnings.warn("careful", stacklevel=2)
        return 0

    monkeypatch.setattr("seqsru.commands.main._run", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        streams(stdout=io.StringIO(), stderr=Broken())
        assert main([]) == 0
