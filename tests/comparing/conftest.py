"""Comparisons of tiny systems, whose commands run in this process: to start one takes long."""

import io
from contextlib import redirect_stderr, redirect_stdout
from threading import Lock

import pytest
from tiny_runs import write_texts

from seqsru.commands.main import main
from seqsru.comparing import steps
from seqsru.comparing.children import Ended
from seqsru.comparing.spec import read
from seqsru.comparing.work import Work


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with the texts."""
    folder = tmp_path_factory.mktemp("compared")
    write_texts(folder)
    return folder


@pytest.fixture
def calls(monkeypatch):
    """The commands that were called, in this process."""
    called, one = [], Lock()

    def call(arguments, log, at_work):
        given = [str(argument) for argument in arguments]
        with io.StringIO() as said, one:  # there is one standard output
            called.append(given)
            with redirect_stdout(said), redirect_stderr(said):
                status = main(given)
            log.write_text(said.getvalue())
            told = said.getvalue().strip().splitlines()
        return Ended(status, 0.0, told[-1] if status and told else "")

    monkeypatch.setattr(steps, "call", call)
    return called


@pytest.fixture
def compared(texts, tmp_path, calls):
    """Write a base and a comparison, and do it; gives its folder and what was told."""

    def work(base, spec, **options):
        (tmp_path / "base.yaml").write_text(base.format(folder=texts))
        path = tmp_path / "spec.yaml"
        path.write_text(f"output: {tmp_path}/out\nbase: {tmp_path}/base.yaml\n{spec}")
        told = []
        good = Work(read(path), told.append, **options).run()
        return tmp_path / "out", told, good

    return work
