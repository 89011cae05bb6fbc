"""tools/gpu_check.py on the CPU: its sections at tiny sizes, and that one survives another's failure."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import bench_layers
import fake_graphs
import gpu_check
import gpu_kernels
import gpu_measures
import gpu_models
import gpu_predictions as predictions
import gpu_sections
import pytest
import torch

from seqsru import runs
from seqsru import settings as strict

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ABOUT = {"device_name": "none", "python": "3", "versions": {"torch": "2"}, "cuda": None}


FIGURES = {"us", "predicted us", "ratio"}
COLUMNS = {
    "bandwidth": {"kernel", "T,B,D", "MB", "GB/s", "of copy", "eager us", *FIGURES},
    "layers": {"T,B,D", "pass", "by", "layer", "to SRU", "q1", "q3", "hoped", *FIGURES},
    "training": {"model", "by", "parameters", "tokens/s", "hoped us", "kernel", "calls", *FIGURES},
    "long": {"kernel", "T,B,D", "MB", "GB/s", "of copy", "eager us", *FIGURES},
    "cross entropy": {"by", "N,E,V", "launches", *FIGURES},
    "decoding": {"model", "rows", "eager P50 us", "eager P90 us", *FIGURES},
    "translation": {"rows", "beam", "tokens/s", *FIGURES},
    "padded": {"layer", "T,B,D", *FIGURES},
    "cells": {"cell", "pass", "us", "to SRU"},
    "compile": {"by", *FIGURES},
    "prefill": {"kernel", "T,D", *FIGURES},
    "sanitizer": {"tool", "outcome", "message"},
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.slow
def test_sections_on_the_cpu(name):
    section = gpu_sections.SECTIONS[name]
    rows = section.run(CPU, True, section.parts[-1])
    assert rows and set().union(*rows) == COLUMNS[name]
    assert json.loads(json.dumps(rows)) == rows
    assert all(row.get("outcome", "ok") == "ok" for row in rows), rows
    for row in rows:
        if row.get("predicted us") is not None:
            assert row["us"] > 0 and row["ratio"] == pytest.approx(row["us"] / row["predicted us"], rel=0.05)


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """A CPU that says that it is a GPU: what is for GPUs alone runs, graphs, turns of buffers, a profiler."""
    launched = []

    def captured(call, times=1):
        call()
        launched.append(times)
        return SimpleNamespace(replay=lambda: [call() for _ in range(times)])

    properties = SimpleNamespace(L2_cache_size=1 << 14)
    monkeypatch.setattr(bench_layers, "on_gpu", lambda device: True)
    monkeypatch.setattr(bench_layers, "captured", captured)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 40, 1 << 40))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    program = tmp_path / "compute-sanitizer"
    program.write_text('#!/bin/sh\necho "========= ERROR SUMMARY: 0 errors"\nshift 4\nexec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpu_measures.here.cache_clear()
    yield launched
    gpu_measures.here.cache_clear()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CUDA is not available, disabling CUDA profiling")
@pytest.mark.parametrize("name", COLUMNS)
def test_what_sections_do_on_a_gpu_alone(name, pretended, monkeypatch):
    played = fake_graphs.install(monkeypatch)
    section = gpu_sections.SECTIONS[name]
    rows = section.run(CPU, True, section.parts[0])
    assert COLUMNS[name] <= set().union(*rows) | {"kernel", "calls"}
    more = {
        "decoding": {"graph P50 us", "graph P90 us"},
        "training": {"log"},
        "layers": {"by"},
        "compile": {"by"},
    }.get(name, set())
    assert more <= set().union(*rows)
    if name == "training":
        said = {row["log"] for row in rows if row.get("by") == "graph"}
        assert said == {"batches whose shapes come again are played as CUDA graphs"}
        updates = [graph.replays for graph in played.graphs]
        assert updates == [6, 7]  # of 9: a language model's first one starts from no state
    if name in ("layers", "compile", "training"):
        assert {"graph", "python"} <= {row["by"] for row in rows}
    if name == "sanitizer":
        assert rows == [{"tool": "memcheck", "outcome": "ok", "message": "========= ERROR SUMMARY: 0 errors"}]
    if name in ("bandwidth", "long", "layers", "decoding", "compile", "prefill"):
        assert pretended  # graphs


def test_what_does_not_fit_or_is_not_there_is_said(pretended, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 1 << 40))
    assert gpu_kernels.long(CPU, True, "float32")[0]["note"] == "does not fit into memory"
    monkeypatch.setattr(gpu_kernels.shutil, "which", lambda name: None)
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    rows = gpu_kernels.sanitizer(CPU, True, "memcheck")
    assert rows == [
        {"tool": "memcheck", "outcome": "skipped", "message": "compute-sanitizer is not installed"}
    ]


def test_a_layer_that_cannot_be_captured_is_left_out(pretended, monkeypatch, capsys):
    def refuse(call, times=1):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(bench_layers, "captured", refuse)
    assert bench_layers.graphed(lambda: None) is None
    assert "not captured: operation not permitted" in capsys.readouterr().err


def test_every_section_is_tried_here():
    assert set(gpu_sections.SECTIONS) == {"tests", *COLUMNS}
    parts = {"float64", "float32", "tf32", "bfloat16", "float16", "others", "memcheck", "racecheck"}
    assert {part for section in gpu_sections.SECTIONS.values() for part in section.parts} == parts


def test_a_part_of_the_gpu_s_tests_is_found_by_its_element_type(monkeypatch):
    """Without a GPU they are skipped; here what matters is which are chosen, and that PYTHONPATH stays."""
    seen = []

    def run(command, **options):
        seen.append((command[command.index("-k") + 1], options["env"]["PYTHONPATH"]))
        report = next(part for part in command if part.startswith("--junitxml=")).partition("=")[2]
        Path(report).write_text('<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>')
        return SimpleNamespace(stdout="", stderr="")

    monkeypatch.setattr(gpu_sections.subprocess, "run", run)
    monkeypatch.setenv("PYTHONPATH", "/mine:/others")
    for part in gpu_sections.SECTIONS["tests"].parts:
        assert gpu_sections.gpu_tests(CPU, True, part)[0]["message"] == "1 passed, 0 failed, 0 skipped"
    assert [chosen for chosen, _ in seen] == [
        "float64",
        "float32",
        "bfloat16",
        "float16 and not bfloat16",
        "not float64 and not float32 and not bfloat16 and not float16",
    ]
    assert {path for _, path in seen} == {f"{ROOT}:/mine:/others"}


def test_bytes_of_the_kernels():
    """A float32 element moves 20 bytes forward, 24 with the state kept, and 40 back; a half one fewer."""
    T, B, D = 3, 2, 5
    for dtype, per_element in ((torch.float32, [20, 24, 40, 12, 20]), (torch.bfloat16, [10, 14, 22, 6, 12])):
        moved = [count for _, _, count in gpu_kernels.kernel_calls(CPU, dtype, T, B, D)]
        states = [2, 2, 7, 2, 3]  # (B, D) float32 tensors each kernel reads or writes once
        assert moved == [n * T * B * D + 4 * s * B * D for n, s in zip(per_element, states)]


def test_predictions_follow_from_bytes_operations_and_launches():
    h100 = predictions.machine("NVIDIA H100 80GB HBM3")
    assert h100.bandwidth == 0.9 * 3.35e12 and predictions.machine("NVIDIA H200").bandwidth == 0.9 * 4.8e12
    assert (
        predictions.machine("NVIDIA H100", 3e12).bandwidth == 3e12 and predictions.machine("GTX 970") is None
    )
    bytes_alone = predictions.seconds(
        predictions.Work(3e12, launches=0), h100._replace(bandwidth=3e12), "tf32", True
    )
    assert bytes_alone == 1
    many = predictions.Work(0, launches=1000)
    assert predictions.seconds(many, h100, "float32", True) == pytest.approx(1.5e-3)
    assert predictions.seconds(many, h100, "float32", False) == pytest.approx(6e-3)
    multiply = predictions.Work(0, 67e12, launches=0)
    slow, fast = (predictions.seconds(multiply, h100, name, True) for name in ("float32", "bfloat16"))
    assert slow == pytest.approx(1 / 0.7) and fast == pytest.approx(67 / 989 / 0.7)
    for size, precision in (
        ((32, 32, 256), "float32"),
        ((128, 32, 512), "tf32"),
        ((64, 64, 1024), "bfloat16"),
    ):
        own, other = (
            predictions.seconds(predictions.layer(name, *size, precision, True), h100, precision, True)
            for name in ("SRU", "LSTM")
        )
        assert other > 2 * own  # what waits for every step cannot be as fast
    assert predictions.layer("qrnn", 1, 1, 1, "float32", True) is None
    assert predictions.sru_scan(1, 4, True).bytes == 24 + 40 and predictions.sru_scan(1, 4, False).bytes == 20


def test_the_models_are_those_of_the_recipes():
    model, T, B = gpu_models.penn_treebank(False)
    assert sum(p.numel() for p in model.parameters()) == 24_026_720 and (T, B) == (35, 32)
    schema = runs.schema()
    values = strict.load(ROOT / "recipes" / "wmt14" / "sru.yaml", schema)
    with torch.device("meta"):
        model, T, B = gpu_models.translator(False)
        joint = SimpleNamespace(size=32_000, fingerprint="same")
        tokenizers = {"source tokenizer": joint, "target tokenizer": joint}
        theirs = runs.task_of(values).model(tokenizers)
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in theirs.named_parameters()
    }
    assert T * B == values["batches"]["tokens"]


def test_outcomes_of_the_tests_are_counted():
    rows = gpu_sections.test_rows("""<testsuites><testsuite>
        <testcase name="a"/><testcase name="b"><skipped message="no second GPU"/></testcase>
        <testcase name="c"><failure message="assert 1 == 2"/></testcase><testcase name="d"><error/></testcase>
        </testsuite></testsuites>""")
    assert rows == [
        {"test": "all", "outcome": "failed", "message": "1 passed, 2 failed, 1 skipped"},
        {"test": "b", "outcome": "skipped", "message": "no second GPU"},
        {"test": "c", "outcome": "failed", "message": "assert 1 == 2"},
        {"test": "d", "outcome": "failed", "message": ""},
    ]


@pytest.fixture
def apart(monkeypatch, tmp_path):
    """Replace the program that a section runs in: section name -> Python source, given the result's path."""

    def install(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        real = subprocess.Popen

        def popen(command, **options):
            result, name = command[2], command[command.index("--section") + 1]
            return real([sys.executable, str(tmp_path / f"{name}.py"), result], **options)

        monkeypatch.setattr(subprocess, "Popen", popen)

    return install


WRITES = 'import sys\nassert sys.stdin.readline() == "go\\n"\nopen(sys.argv[1], "w").write(ROWS)\n'
COPY = WRITES.replace("ROWS", repr('[{"kernel": "copy", "GB/s": 4.5}]'))


def jobs(**limits):
    return [gpu_check.Job(name, "float32", limit) for name, limit in limits.items()]


def test_a_section_survives_the_failure_of_another(apart, tmp_path, capfd):
    apart(
        crash="print('before')\nraise RuntimeError('illegal memory access')",
        hang="import time\ntime.sleep(60)",
        good=COPY,
        red=WRITES.replace("ROWS", repr('[{"outcome": "failed"}]')),
        silent="",
    )
    report = gpu_check.check(
        jobs(crash=20.0, hang=0.3, good=20.0, red=20.0, silent=20.0), [], tmp_path / "out", 60.0, ABOUT
    )
    sections = report["sections"]
    assert {name: section["status"] for name, section in sections.items()} == {
        "crash, float32": "failed",
        "hang, float32": "failed",
        "good, float32": "ok",
        "red, float32": "failed",
        "silent, float32": "failed",
    }
    assert "illegal memory access" in sections["crash, float32"]["error"]
    assert sections["hang, float32"]["error"] == "not done after 0 s"
    assert sections["good, float32"]["rows"] == [{"kernel": "copy", "GB/s": 4.5}]
    assert json.loads((tmp_path / "out" / "gpu_check.json").read_text()) == report
    assert "good, float32: ok" in (tmp_path / "out" / "gpu_check.txt").read_text()
    names = ["gpu_check.json", "gpu_check.txt", "table.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    log = capfd.readouterr().err  # what each printed, which the script writes to its log
    assert "---- crash, float32\nbefore\n" in log and "RuntimeError: illegal memory access" in log


def test_no_section_starts_beyond_the_budget(apart, tmp_path):
    apart(good=COPY)
    section = gpu_check.check(jobs(good=20.0), [], tmp_path, 0.0, ABOUT)["sections"]["good, float32"]
    assert section == {"status": "skipped", "error": "the budget of 0 s was spent; raise --budget"}


def test_a_section_that_waits_for_a_run_that_ended_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert gpu_check.run_section("bandwidth", "float32", "cpu", True, tmp_path / "rows.json") == 1
    assert not (tmp_path / "rows.json").exists()


def layer_row(layer, by, ratio, us, expected):
    row = {"T,B,D": "32,32,256", "pass": "training", "by": by, "layer": layer, "to SRU": ratio}
    return row | {"q1": ratio, "q3": ratio, "us": us, "predicted us": expected, "ratio": us / expected}


def test_what_is_slower_than_predicted_comes_first_and_the_readme_gets_its_table():
    rows = [layer_row("SRU", "python", 1.0, 40.0, 40.0), layer_row("LSTM", "python", 2.5, 100.0, 50.0)]
    more = [
        layer_row("SRU", "graph", 1.0, 30.0, 10.0),
        {**layer_row("SRU", "python", 1.0, 9.0, 1.0), "pass": "forward"},
    ]
    sections = {
        "layers, float32": {"status": "ok", "rows": rows},
        "layers, tf32": {"status": "ok", "rows": more},
        "cells, float32": {"status": "ok", "rows": [{"cell": "qrnn", "us": 3.0, "ratio": None}]},
    }
    report = {"environment": ABOUT, "sections": sections}
    assert [row["ratio"] for row in gpu_check.slower(report)] == [9.0, 3.0, 2.0]
    lines = gpu_check.render(report).splitlines()
    assert lines[2] == "3 figures above 1.5 times what is predicted, the worst first"
    assert lines[4].split() == "layers, tf32 32,32,256 forward python SRU 9.0 1.0 9.0".split()
    assert gpu_check.table(report).splitlines() == [
        "On one none, forward and backward, torch 2:",
        "",
        "| T, B, D | products | from | SRU | LSTM / SRU |",
        "|---|---|---|---|---|",
        "| 32, 32, 256 | float32 | python | 0.040 ms | 2.50 [2.50–2.50] |",
        "| 32, 32, 256 | tf32 | graph | 0.030 ms | – |",
    ]
    empty = {"environment": ABOUT, "sections": {}}
    assert "0 figures above 1.5 times what is predicted" in gpu_check.render(empty)


def test_the_table_is_aligned():
    rows = [{"kernel": "copy", "GB/s": 4300.0}, {"kernel": "sru backward", "GB/s": 12.5, "eager us": 40}]
    assert gpu_check.columns(rows) == [
        "kernel          GB/s  eager us",
        "copy          4300.0         -",
        "sru backward    12.5        40",
    ]
    assert gpu_check.columns([]) == []


def test_an_unknown_section_and_a_missing_device_are_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_check.main([str(tmp_path), "--only", "bandwith"])
    error = capsys.readouterr().err
    assert "expected sections among tests, bandwidth, layers, training, long, cross entropy, " in error
    assert "found 'bandwith'; use one of these" in error
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu_check.main([str(tmp_path)])
        assert "expected a CUDA device, found that torch sees none" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_from_another_folder(tmp_path):
    """One call of the shell script, on the CPU, with one section, and what it leaves in its folder."""
    out, toolkit = tmp_path / "out", tmp_path / "cuda" / "bin"
    toolkit.mkdir(parents=True)
    (toolkit / "nvcc").write_text("#!/bin/sh\n")
    (toolkit / "nvcc").chmod(0o755)
    script = str(ROOT / "tools" / "gpu_check.sh")
    command = ["bash", script, str(out), "--device", "cpu", "--tiny", "--only", "prefill"]
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_HOME"}
    environment |= {
        "PYTHON": sys.executable,
        "PATH": f"{toolkit}:{os.environ['PATH']}",
        "PYTHONPATH": "/theirs",
    }
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith(f"CUDA toolkit: {tmp_path / 'cuda'}\nseqsru ")  # and then what doctor says
    assert "backends\n" in run.stdout and (out / "log.txt").read_text() == run.stdout
    report = json.loads((out / "gpu_check.json").read_text())
    assert {name: found["status"] for name, found in report["sections"].items()} == {
        "prefill, float32": "ok",
        "prefill, bfloat16": "ok",
    }
    assert report["environment"]["versions"]["torch"] == torch.__version__
    assert run.stdout.endswith((out / "gpu_check.txt").read_text())


def test_nothing_beyond_torch_and_numba_is_needed():
    """The sections import with every other package of the project missing."""
    code = f"""if True:
        import sys
        for name in ("yaml", "tqdm", "sentencepiece", "sacrebleu", "safetensors", "hypothesis", "matplotlib"):
            sys.modules[name] = None
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tools")!r}, {str(ROOT / "tests" / "ops")!r}]
        import gpu_check, gpu_sections, gpu_kernels, gpu_models, bench_layers, cuda_cases, seqsru.cells
        gpu_check.describe("cpu")
        """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
