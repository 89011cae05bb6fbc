"""A line in, a line out: what has arrived is answered at once, and what arrives fast in full batches."""

import io
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_runs import sentences

import seqsru
from seqsru import runs
from seqsru.commands import flags, translate
from seqsru.commands.main import main
from seqsru.data import inputs

ROOT = Path(seqsru.__file__).parent.parent
PATIENCE = 60  # seconds, on a busy machine; an answer that is kept waiting comes never


@pytest.fixture(scope="module")
def files(translation_run, language_run, tmp_path_factory):
    """A file of each run that the engine decodes from."""
    folder = tmp_path_factory.mktemp("files")
    return {
        run.name: runs.quantize(run, folder / f"{run.name}.seqsru", precision="float32")
        for run in (translation_run, language_run)
    }


@pytest.fixture
def trained(request, files, translation_run, language_run, classification_run, question_run):
    """Give a run or a file by its name."""
    named = {run.name: run for run in (translation_run, language_run, classification_run, question_run)}
    return lambda name: files[name[:-5]] if name.endswith(" file") else named[name]


@pytest.fixture
def conversation(monkeypatch):
    """Start a command in a thread, whose standard streams are pipes; gives functions to start and to ask."""
    (their_input, our_output), (our_input, their_output) = os.pipe(), os.pipe()
    streams = io.TextIOWrapper(open(their_input, "rb")), io.TextIOWrapper(open(their_output, "wb"))
    threads = []

    def start(*arguments):
        for name, stream in zip(("stdin", "stdout"), streams):
            monkeypatch.setattr(sys, name, stream)
        threads.append(threading.Thread(target=main, args=([str(one) for one in arguments],)))
        threads[0].start()

    def ask(content, lines=1, to=our_output):
        os.write(to, content)
        return b"".join(received(our_input, lines)).decode()

    yield start, ask
    os.close(our_output)
    threads[0].join(PATIENCE)
    for stream in streams:
        stream.close()
    assert os.read(our_input, 1) == b""
    os.close(our_input)


def received(descriptor, lines):
    """Read so many lines, byte by byte: no more is taken than was asked for."""
    while lines:
        assert select.select([descriptor], [], [], PATIENCE)[0], "no answer"
        byte = os.read(descriptor, 1)
        assert byte, "the end instead of an answer"
        lines -= byte == b"\n"
        yield byte


COMMANDS = [
    ("translate", "mt", []),
    ("translate", "mt", ["--engine", "compiled"]),
    ("translate", "mt file", []),
    ("translate", "mt file", ["--json"]),
    ("score", "lm", []),
    ("score", "lm file", []),
    ("generate", "lm", ["--top-k", "1"]),
    ("generate", "lm file", ["--top-k", "1"]),
    ("classify", "classifier", []),
    ("answer", "reader", []),
    ("answer", "reader", ["--json"]),
]


@pytest.mark.parametrize("command, name, options", COMMANDS)
def test_a_line_in_a_line_out(command, name, options, trained, run, conversation):
    given = [command, trained(name), *options, "--on-bad-line", "skip"]
    lines, last = [b"one two\n", b"\n", b"three four five\n"], b"seven\n"
    if command == "answer":
        lines, last = [b"one?\tone1 two2\n", b"\n", b"who\tthree3\tfour4\n"], b"six\tseven\n"
    if command != "generate":  # which says nothing of a line that is left out
        lines.append(b"\xff\n")
    expected = run(*given, stdin=b"".join([*lines, last * 3]))[1]
    start, ask = conversation
    start(*given)
    found = [ask(line) for line in lines]
    found.append(ask(last * 2 + last[:3], 2))  # of a line that has only begun nothing is said
    found.append(ask(last[3:]))
    assert "".join(found) == expected


def test_a_pipe_with_a_name_is_a_stream_too(files, run, conversation, tmp_path):
    expected = run("translate", files["mt"], stdin="one two\nthree\n")[1]
    os.mkfifo(tmp_path / "pipe")
    start, ask = conversation
    start("translate", files["mt"], tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_WRONLY)
    found = ask(b"one two\n", to=pipe) + ask(b"three\n", to=pipe)
    os.close(pipe)
    assert found == expected


@pytest.mark.parametrize("end", ["", "\n"], ids=["no line end", "line end"])
@pytest.mark.parametrize("name", ["mt file", pytest.param("mt", marks=pytest.mark.slow)])
def test_a_process_answers_at_once(name, end, trained, translation_run):
    """Three lines one after the other, each written once the one before is answered."""
    command = [sys.executable, "-m", "seqsru", "translate", str(trained(name))]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # as a user's: what is not flushed waits
    lines = ["one two", "", "seven"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        found = []
        for line in lines:
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            found.append(b"".join(received(process.stdout.fileno(), 1)).decode()[:-1])
        rest, _ = process.communicate(f"two three{end}".encode())
        found += rest.decode().splitlines()
    assert process.returncode == 0
    pipeline = seqsru.load(translation_run)
    assert found == [one.text for one in pipeline.translate([*lines, "two three"])]


def test_what_arrives_fast_is_worked_on_together(files, tmp_path, monkeypatch):
    """A file that another process writes into a pipe is decoded in full batches."""
    text = tmp_path / "text"
    text.write_text("".join(f"{line}\n" for line in sentences(7000, 0)))
    sizes = []

    def count(path, arguments, report):
        for lines in chunks(path, arguments, report):
            sizes.append(len(lines))
            yield [""] * len(lines)  # decoding has tests of its own

    chunks = translate.chunks
    monkeypatch.setattr(translate, "chunks", count)
    monkeypatch.setattr(inputs, "SOON", 10.0)  # what else this machine does is no matter
    with subprocess.Popen(["cat", str(text)], stdout=subprocess.PIPE) as process:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(process.stdout))
        assert main(["translate", str(files["mt"]), "--output", str(tmp_path / "out")]) == 0
    assert sum(sizes) == 7000 and sizes.count(flags.CHUNK) >= 5


@pytest.mark.parametrize("command, name", [("translate", "mt file"), ("score", "lm file")])
def test_what_came_before_a_bad_line_is_answered(command, name, trained, run):
    """The same lines, whether they came one by one or together."""
    whole = run(command, trained(name), stdin="one\ntwo\n")
    status, out, err = run(command, trained(name), stdin=b"one\ntwo\n\xff\nthree\n")
    assert (status, out) == (2, whole[1])
    assert err == (
        "seqsru: expected UTF-8 text in <stdin>:3, found byte 0xFF at byte offset 0 of the line (8 of the "
        "file); convert the file to UTF-8, or set on_bad_line to skip or replace\n"
    )
