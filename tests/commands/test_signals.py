"""SIGTERM and Ctrl-C at any moment of a command: the status, the words, and never a traceback."""

import importlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config, write_texts

from seqsru.commands import main as commands
from seqsru.commands.signals import Stop, Terminated

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


def start(*arguments, code=None):
    command = [sys.executable, "-m", "seqsru", *arguments] if code is None else [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def config(tmp_path):
    write_texts(tmp_path)
    return write_config(tmp_path, LANGUAGE_MODEL.replace("epochs: 2", "epochs: 100000, save_every: 1"))


@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS)
def test_a_training_ends_with_the_status_of_the_signal_whenever_it_comes(tmp_path, config, number):
    draw = random.Random(int(number))
    for _ in range(3):
        process = start("train", str(config))
        # Python itself must have started: until then the system ends it, which a shell shows as the same.
        time.sleep(draw.uniform(0.5, 6.0))
        process.send_signal(number)
        again = draw.random() < 0.5
        if again:
            time.sleep(draw.uniform(0.0, 0.2))
            process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == STATUS[number], errors
        assert "Traceback" not in errors and "Exception ignored" not in errors, errors


def run_main(monkeypatch, work):
    """What a command answers whose work is a function."""
    monkeypatch.setattr(commands, "_run", lambda arguments: work())
    return commands.main(["train"])


MODULE = """
import ctypes, os, signal, time
signal.raise_signal({number})
for _ in range(100):
    time.sleep(0.001)  # an exception here would go through the C that calls it
done = True
"""


@pytest.mark.parametrize("number", STATUS)
def test_an_import_is_waited_for(monkeypatch, tmp_path, capsys, number):
    (tmp_path / f"stopped_{int(number)}.py").write_text(MODULE.format(number=int(number)))
    monkeypatch.syspath_prepend(tmp_path)
    seen = []

    def work():
        seen.append(importlib.import_module(f"stopped_{int(number)}").done)
        time.sleep(1)

    assert run_main(monkeypatch, work) == STATUS[number] and seen == [True]


@pytest.mark.parametrize("number", STATUS)
def test_a_stop_that_became_another_error_is_a_stop(monkeypatch, capsys, number):
    def work():
        try:
            signal.raise_signal(number)
        except BaseException:
            raise ImportError("numpy.core.multiarray failed to import") from None

    assert run_main(monkeypatch, work) == STATUS[number]
    assert (
        capsys.readouterr().err == {143: "seqsru: terminated\n", 130: "seqsru: interrupted\n"}[STATUS[number]]
    )


@pytest.mark.parametrize("number", STATUS)
def test_a_stop_that_nobody_saw_is_one_at_the_end(monkeypatch, number):
    def work():
        try:
            signal.raise_signal(number)
        except BaseException:
            return 0

    assert run_main(monkeypatch, work) == STATUS[number]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_stop_that_got_lost_comes_again(monkeypatch, capsys):
    monkeypatch.setattr("seqsru.commands.signals.AGAIN", 0.05)

    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            pass
        time.sleep(30)
        return 0

    began = time.monotonic()
    assert run_main(monkeypatch, work) == 143 and time.monotonic() - began < 20
    assert capsys.readouterr().err == "seqsru: terminated\n"


def test_what_python_cannot_raise_is_not_shown_if_it_is_the_stop(monkeypatch, capsys):
    monkeypatch.setattr("seqsru.commands.signals.AGAIN", 0.05)

    class Ends:
        def __init__(self, error):
            self.error = error

        def __del__(self):
            self.error()

    def work():
        Ends(lambda: signal.raise_signal(signal.SIGTERM))
        time.sleep(30)
        return 0

    assert run_main(monkeypatch, work) == 143
    assert capsys.readouterr().err == "seqsru: terminated\n"
    stop = Stop()
    lost = type("Lost", (), {"exc_type": ValueError})
    seen = []
    monkeypatch.setattr(sys, "__unraisablehook__", seen.append)
    stop.number = 15
    stop.hide(lost)
    assert seen == [lost]


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("first", [0, 1])
def test_the_second_one_and_one_while_leaving_end_the_process_at_once(number, first):
    code = (
        "import os, signal, sys, time\n"
        "from seqsru.commands import main, signals\n"
        "def work():\n"
        "    try:\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaning', flush=True)\n"
        "        time.sleep(60)\n"
        "main._run = lambda arguments: work()\n"
        "signals.before_the_start()\n"
        "print('ready', flush=True)\n"
        "if sys.argv[1:] == [] and not FIRST: time.sleep(60)\n"
        "sys.exit(main.main(['train']))\n"
    ).replace("FIRST", str(first))
    process = start(code=code)
    assert process.stdout.readline() == "ready\n"
    if first:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stdout.readline() == "cleaning\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == STATUS[number]
    assert errors == {143: "seqsru: terminated\n", 130: "seqsru: interrupted\n"}[STATUS[number]]


def test_terminated_is_an_interrupt():
    assert issubclass(Terminated, KeyboardInterrupt)


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("moment", ["update", "saving", "last"])
def test_a_training_saves_first_and_ends_with_the_status(tmp_path, monkeypatch, capsys, number, moment):
    from seqsru.training import resume, trainer

    write_texts(tmp_path)
    config = write_config(tmp_path, LANGUAGE_MODEL)
    save, calls = resume.save, []

    def signalled(*arguments, **options):
        calls.append(1)
        if len(calls) == (1 if moment == "saving" else 2) and moment != "update":
            signal.raise_signal(number)
        return save(*arguments, **options)

    monkeypatch.setattr(trainer, "save", signalled)
    if moment == "update":
        make, made = trainer.Updates.make, []

        def interrupted(self, *arguments):
            made.append(1)
            if len(made) == 3:
                signal.raise_signal(number)
            return make(self, *arguments)

        monkeypatch.setattr(trainer.Updates, "make", interrupted)
    assert commands.main(["train", str(config)]) == STATUS[number]
    told = capsys.readouterr()
    assert "Traceback" not in told.err and "once more to stop at once" not in told.out
    assert ("perplexity" in told.out) == (moment == "last")  # it had ended: the result is there too
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) >= 1
