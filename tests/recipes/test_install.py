"""What a recipe installs, and that a device which cannot train is refused before any data is touched."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"


def load(path):
    """Run a file as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_here", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


backend = load(RECIPES / "backend.py")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A recipe's config from the repository's root, as the scripts name it."""
    monkeypatch.chdir(ROOT)
    return "recipes/ptb/paper-6x910.yaml"


def gpu(monkeypatch, status):
    """Let torch find a GPU on which the backend says `status`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(backend, "backend_status", lambda: {"cuda": status})


def test_a_missing_gpu_is_one_sentence(config, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backend.main([config]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == (
        "device: expected a CUDA GPU for device cuda, found none that torch can use; set device to cpu, "
        "or see what `seqsru doctor` says\n"
    )
    assert backend.main([config, "device=cpu"]) == backend.main([config, "device=auto"]) == 0
    assert backend.main([config, "device=cuda:0"]) == 2


@pytest.mark.parametrize("device", [[], ["device=auto"], ["device=cuda:0"]])
def test_a_gpu_whose_backend_does_not_work_names_the_extra(config, monkeypatch, capsys, device):
    gpu(monkeypatch, "no: expected the package numba-cuda")
    assert backend.main([config, *device]) == 3
    captured = capsys.readouterr()
    assert captured.out == "cuda\n" and "expected the package numba-cuda\n" in captured.err
    assert backend.main([config, "device=cpu"]) == 0
    gpu(monkeypatch, "ok")
    assert backend.main([config, *device]) == 0


def test_a_mistake_in_a_setting_is_found_as_early(config, capsys):
    assert backend.main([config, "trainin.steps=3"]) == 2
    assert "trainin is not a setting; did you mean 'training'?" in capsys.readouterr().err
    assert backend.main([]) == 2


@pytest.mark.parametrize("cuda, extra", [("12.8", "cu12"), ("13.0", "cuda"), (None, "cuda")])
def test_the_extra_follows_the_cuda_of_torch(cuda, extra, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    again = load(ROOT / "seqsru" / "ops" / "backends.py")
    assert (again.EXTRA, again.INSTALL) == (extra, f'run: pip install "seqsru[{extra}]"')


STUB = """#!/usr/bin/env bash
echo "$@" >> "$LOG"
case "$*" in
    *backend.py*)
        code=$(head -n 1 "$ANSWERS")
        sed -i 1d "$ANSWERS"
        [ "$code" = 3 ] && echo "$EXTRA"
        exit "$code"
        ;;
esac
"""


def install(tmp_path, *arguments, answers=(), extra="cuda"):
    """Source install.sh with an environment that only records: exit status, and what python was given."""
    bin_folder = tmp_path / "venv" / "bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    for name in ("pip", "python"):
        (bin_folder / name).write_text(STUB)
        (bin_folder / name).chmod(0o755)
    log, queue = tmp_path / "log", tmp_path / "answers"
    log.write_text("")
    queue.write_text("".join(f"{answer}\n" for answer in answers))
    environment = {**os.environ, "VENV": str(bin_folder.parent), "LOG": str(log), "ANSWERS": str(queue)}
    script = 'set -euo pipefail; . recipes/install.sh "$@"; echo "== data"'
    run = subprocess.run(
        ["bash", "-c", script, "bash", *arguments],
        cwd=ROOT,
        env={**environment, "EXTRA": extra},
        capture_output=True,
        text=True,
    )
    lines = log.read_text().splitlines()
    return run, [line.split(" -e ")[1] if " -e " in line else line for line in lines]


def test_a_working_device_installs_nothing_more(tmp_path):
    run, calls = install(tmp_path, "plot", "a.yaml", "device=cpu", answers=[0])
    assert run.returncode == 0 and run.stdout.endswith("== data\n")
    assert calls == [".[plot]", "recipes/backend.py a.yaml device=cpu"]
    run, calls = install(tmp_path, "plot", "a.yaml", answers=[0])  # again: the stamp counts
    assert run.returncode == 0 and calls == ["recipes/backend.py a.yaml"]
    run, calls = install(tmp_path, "plot")
    assert run.returncode == 0 and calls == []


def test_a_gpu_brings_its_extra_before_the_data(tmp_path):
    run, calls = install(tmp_path, "plot", "a.yaml", answers=[3, 0])
    assert run.returncode == 0 and run.stdout.endswith("== data\n")
    assert calls == [".[plot]", "recipes/backend.py a.yaml", ".[plot,cuda]", "recipes/backend.py a.yaml"]


def test_cuda_12_is_installed_without_the_pins_of_cuda_13(tmp_path):
    run, calls = install(tmp_path, "plot", "a.yaml", answers=[3, 0], extra="cu12")
    assert run.returncode == 0 and calls[2] == ".[plot,cu12]"
    kept = (tmp_path / "venv" / "constraints-cu12.txt").read_text()
    assert "torch==2.13.0\n" in kept and "numba-cuda==" in kept
    assert "nvidia-" not in kept and "\ncuda-" not in kept
    log = (tmp_path / "log").read_text().splitlines()
    assert f"-c {tmp_path}/venv/constraints-cu12.txt " in log[2] and "-c constraints.txt " in log[0]


@pytest.mark.parametrize("answers, calls_made", [([2], 2), ([3, 3], 4), ([3, 2], 4)])
def test_a_device_that_cannot_work_ends_before_the_data(tmp_path, answers, calls_made):
    run, calls = install(tmp_path, "plot", "a.yaml", answers=answers)
    assert run.returncode == 2 and "== data" not in run.stdout and len(calls) == calls_made


@pytest.mark.parametrize("script", sorted(RECIPES.glob("*/run.sh")), ids=lambda path: path.parent.name)
def test_every_recipe_that_trains_checks_its_device_first(script):
    text = script.read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith(". recipes/install.sh "))
    configs = [
        one for one in script.parent.glob("*.yaml") if "\nsystems:" not in one.read_text(encoding="utf-8")
    ]
    if configs:  # those of a comparison name a config of another recipe
        assert '"$config"' in line or ".yaml" in line or "/$config" in line
        # Arguments that are settings may name another device.
        trains = [one for one in text.splitlines() if one.startswith("seqsru train ")]
        assert ("$@" in line or "@:2" in line) == any("$@" in one or "@:2" in one for one in trains)
        before = text[: text.index(line)]
        assert "seqsru fetch" not in before and "\ntest_set " not in before
