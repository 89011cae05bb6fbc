"""The way in: help, mistakes, signals, encodings."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config

import seqsru
from seqsru.commands import COMMANDS
from seqsru.commands import main as command_line
from seqsru.commands.main import main

ROOT = Path(seqsru.__file__).parent.parent


def test_help_names_every_command(run):
    status, out, err = run("--help")
    assert status == 0 and err == ""
    for name in COMMANDS:
        assert re.search(rf"^    {name}\b", out, re.M), name
    assert run("--version") == (0, f"seqsru {seqsru.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_teaches(run, command):
    status, out, err = run(command, "--help")
    assert status == 0 and err == ""
    assert out.startswith(f"usage: seqsru {command} [-h]")
    if command != "doctor":
        assert f"\n  seqsru {command} " in out, "no example"
    assert max(map(len, out.splitlines())) <= 115


def test_help_loads_nothing_heavy():
    code = (
        "import sys, seqsru.commands.main\nassert seqsru.commands.main.main(['--help']) == 0\n"
        "assert not {'torch', 'numpy', 'numba', 'yaml', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_no_command_and_unknown_commands(run, refused):
    status, out, err = run()
    assert status == 2 and out == "" and "required: COMMAND" in err
    assert refused("trian") == (
        "seqsru: expected a command (train, evaluate, translate, distill, score, generate, classify, "
        "answer, transcribe, quantize, latency, compare, doctor, fetch), found 'trian'; did you mean 'train'?"
    )
    assert refused("xyzzy").endswith("found 'xyzzy'; see `seqsru --help`")


def test_mistakes_in_settings_are_told_one_a_line(texts, refused):
    path = write_config(texts, LANGUAGE_MODEL)
    assert refused("train", path, "model.stack.cell.hiden=5", "optimizer.lr=fast").splitlines() == [
        "command line: model.stack.cell.hiden is not a setting; there are version, highway, activation, "
        "highway_bias, rescale, input_dropout, layer_norm, projection_size, backend",
        "command line: optimizer.lr: expected a number, found 'fast'; change it",
    ]
    assert refused("train", path, "model.stack.hiden_size=5") == (
        "command line: model.stack.hiden_size is not a setting; did you mean 'hidden_size'?"
    )
    assert refused("train", texts / "none.yaml") == (
        f"seqsru: expected a YAML file or a run directory at {texts}/none.yaml, found none; check the path"
    )
    assert refused("train", texts).startswith(f"seqsru: expected a YAML file or a run directory at {texts}, ")


def test_an_error_of_the_system_is_a_sentence(texts, refused):
    path = write_config(texts, LANGUAGE_MODEL)
    assert re.fullmatch(
        r"seqsru: /dev/null/run: .*; check the path and the permissions",
        refused("train", path, "output=/dev/null/run"),
    )


def test_an_error_from_deep_inside_is_a_bug_and_shows_where(run, monkeypatch):
    def deep(arguments):
        raise json.JSONDecodeError("not ours", "", 0)

    monkeypatch.setattr(command_line, "_run", deep)
    with pytest.raises(ValueError, match="not ours"):
        run()
    monkeypatch.setattr(command_line, "_run", lambda arguments: {}["key"])
    with pytest.raises(KeyError):
        run()


def test_a_traceback_on_request(refused, run, monkeypatch):
    assert "expected a command" in refused("trian")
    monkeypatch.setenv("SEQSRU_TRACEBACK", "1")
    with pytest.raises(ValueError, match="expected a command"):
        run("trian")


def test_ctrl_c_outside_training(run, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_run", interrupted)
    assert run() == (130, "", "seqsru: interrupted\n")


def test_a_reader_that_went_away():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "seqsru", "--help"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_streams_that_are_closed(language_run):
    done = subprocess.run(
        f"{sys.executable} -m seqsru --version >&-", shell=True, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (
        2,
        "seqsru: expected standard output to write to, found that it is closed; send it to a file or to "
        "/dev/null\n",
    )
    for files in ([], ["-"]):
        done = subprocess.run(
            f"{sys.executable} -m seqsru score {language_run} {' '.join(files)} <&-",
            shell=True,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert (done.returncode, done.stderr) == (
            2,
            "seqsru: expected text on standard input, found that it is closed; give it a file, or "
            "/dev/null\n",
        )


def test_text_is_utf8_whatever_the_locale(texts, tmp_path, monkeypatch):
    folder = tmp_path / "für"
    folder.mkdir()
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii", newline="\r\n"))
    assert main(["train", "--check", str(write_config(texts, LANGUAGE_MODEL)), f"output={folder}"]) == 0
    assert f"output: {folder}\n".encode() in out.getvalue()
