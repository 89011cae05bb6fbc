"""The CUDA kernels' own source, run by numba's simulator on CPU tensors, against the float64 reference."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')


@pytest.fixture(scope="module")
def report():
    """What one run of the simulator printed: case -> tensor -> error in units of what is allowed."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    run = subprocess.run(
        [sys.executable, str(here / "cuda_simulate.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
def test_every_variant_equals_the_reference(report):
    assert len(report["cases"]) > 200 and sum("both" in case for case in report["cases"]) > 40
    wrong = {case: found for case, found in report["cases"].items() if max(found.values(), default=0) > 1}
    assert wrong == {}


@pytest.mark.slow
def test_time_in_chunks_equals_the_reference(report):
    assert len(report["chunks"]) == 3 * 4 * 18
    wrong = {case: found for case, found in report["chunks"].items() if max(found.values(), default=0) > 1}
    assert wrong == {}


def test_every_output_was_compared(report):
    compared = {name for found in report["cases"].values() for name in found}
    assert compared == {"out", "c_last", "c", "gu", "gx", "gc0", "gv", "gb", "ga"}


def test_gradients_through_the_operators(report):
    assert report["operators"] < 5e-6
