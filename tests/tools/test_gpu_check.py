"""tools/gpu_check.py on the CPU: its sections at tiny sizes, and that one survives another's failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_check
import gpu_sections
import pytest
import torch

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ABOUT = {"device_name": "none", "python": "3", "versions": {"torch": "2"}, "cuda": None}


@pytest.mark.parametrize(
    "name, columns",
    [
        ("bandwidth", {"kernel", "dtype", "T,B,D", "MB", "us", "GB/s", "of copy", "eager us"}),
        ("prefill", {"kernel", "T,D", "chunks", "whole us", "chunked us", "whole / chunked"}),
        ("layers", {"precision", "T,B,D", "pass", "layer", "ms", "ms q1", "ms q3", "to SRU", "q1", "q3"}),
        ("training", {"model", "parameters", "precision", "ms a step", "tokens/s", "first step s"}),
        ("decoding", {"model", "rows", "eager P50 us", "eager P90 us"}),
    ],
)
@pytest.mark.slow
def test_sections_on_the_cpu(name, columns):
    rows = gpu_sections.SECTIONS[name][0](CPU, True)
    assert rows and all(set(row) == columns for row in rows)
    assert json.loads(json.dumps(rows)) == rows


def test_bytes_of_the_kernels():
    """A float32 element moves 20 bytes forward, 24 with the state kept, and 40 back; a half one fewer."""
    T, B, D = 3, 2, 5
    for dtype, per_element in ((torch.float32, [20, 24, 40, 12, 20]), (torch.bfloat16, [10, 14, 22, 6, 12])):
        moved = [count for _, _, count in gpu_sections.kernel_calls(CPU, dtype, T, B, D)]
        states = [2, 2, 7, 2, 3]  # (B, D) float32 tensors each kernel reads or writes once
        assert moved == [n * T * B * D + 4 * s * B * D for n, s in zip(per_element, states)]


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


WRITES = 'import sys\nopen(sys.argv[1], \'w\').write(\'[{"kernel": "copy", "GB/s": 4.5}]\')\n'


def test_a_section_survives_the_failure_of_another(apart, tmp_path):
    apart(
        crash="raise RuntimeError('illegal memory access')",
        hang="import time\ntime.sleep(60)",
        good=WRITES,
        red=WRITES.replace('"kernel": "copy"', '"outcome": "failed"'),
    )
    limits = {"crash": 20.0, "hang": 0.3, "good": 20.0, "red": 20.0}
    report = gpu_check.check(limits, [], tmp_path / "out", 60.0, ABOUT)
    sections = report["sections"]
    assert {name: section["status"] for name, section in sections.items()} == {
        "crash": "failed",
        "hang": "failed",
        "good": "ok",
        "red": "failed",
    }
    assert "illegal memory access" in sections["crash"]["error"]
    assert sections["hang"]["error"] == "not done after 0 s"
    assert sections["good"]["rows"] == [{"kernel": "copy", "GB/s": 4.5}]
    assert json.loads((tmp_path / "out" / "gpu_check.json").read_text()) == report
    assert "good: ok" in (tmp_path / "out" / "gpu_check.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gpu_check.json", "gpu_check.txt"]


def test_no_section_starts_beyond_the_budget(apart, tmp_path):
    apart(good=WRITES)
    section = gpu_check.check({"good": 20.0}, [], tmp_path, 0.0, ABOUT)["sections"]["good"]
    assert section == {"status": "skipped", "error": "the budget of 0 s was spent; raise --budget"}


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
    assert (
        "expected sections among tests, bandwidth, prefill, layers, training, decoding, found 'bandwith'"
        in error
    )
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu_check.main([str(tmp_path)])
        assert "expected a CUDA device, found that torch sees none" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_from_another_folder(tmp_path):
    """One call of the shell script, on the CPU, with one section, and what it leaves in its folder."""
    command = [
        "bash",
        str(ROOT / "tools" / "gpu_check.sh"),
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--tiny",
        "--only",
        "bandwidth",
    ]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHON": sys.executable}
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert report["sections"]["bandwidth"]["status"] == "ok"
    assert report["environment"]["versions"]["torch"] == torch.__version__
    assert (tmp_path / "out" / "gpu_check.txt").read_text() == run.stdout


def test_nothing_beyond_torch_and_numba_is_needed():
    """The sections import with every other package of the project missing."""
    code = f"""if True:
        import sys
        for name in ("yaml", "tqdm", "sentencepiece", "sacrebleu", "safetensors", "hypothesis", "matplotlib"):
            sys.modules[name] = None
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tools")!r}, {str(ROOT / "tests" / "ops")!r}]
        import gpu_check, gpu_sections, bench_layers, cuda_cases, seqsru.cells
        gpu_check.describe("cpu")
        """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
