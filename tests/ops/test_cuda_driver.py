"""What reaches the driver when a kernel is launched: its stream, its device, its arguments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import recording_driver
from recording_driver import LEGACY

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')
if not recording_driver.AVAILABLE:
    pytest.skip("the recording driver is written for Linux on x86-64", allow_module_level=True)

HERE = Path(__file__).parent
VARIABLE = "CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM"


@pytest.fixture(scope="module", params=["0", "1"], ids=["legacy", "per-thread"])
def report(request):
    """What cuda_record.py printed, where zero means the legacy stream and where the thread's own."""
    path = os.pathsep.join(map(str, (HERE.parents[1], HERE.parents[1] / "tools", HERE)))
    environment = {**os.environ, "PYTHONPATH": path, VARIABLE: request.param}
    command = [sys.executable, "-W", "error", str(HERE / "cuda_record.py")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_kernel_runs_on_the_stream_that_torch_uses(report):
    names = ("default stream", "another stream", "a third")
    assert [report[name]["stream"] for name in names] == [LEGACY, 0x2220, 0x3330]


def test_a_kernel_runs_where_its_tensors_lie_and_torch_stays_where_it_was(report):
    for name, device in (("a third", 0), ("another device", 1), ("back", 0)):
        found = report[name]
        assert (found["device"], found["loaded_in"], found["after"]) == (device, device, 0), name
    assert report["another device"]["stream"] == 0x1110


def test_a_thread_without_context_is_given_one(report):
    assert (report["no context"]["device"], report["no context"]["stream"]) == (0, 0x3330)


def test_nothing_is_loaded_inside_a_capture(report):
    """Not on the first device, and not on a second one for which the code is known already."""
    message = (
        "expected the kernel of LinearForward loaded on device {} before a CUDA graph is captured, "
        "found this its first use there; run the same step once before the capture"
    )
    assert report["first use in a capture"] == message.format(0)
    assert report["first use on another device in a capture"] == message.format(1)
    assert report["in a capture"]["device"] == 0 and report["another device in a capture"]["device"] == 1


def test_every_argument_arrives(report):
    assert all(found["right"] for found in report.values() if isinstance(found, dict))
    assert {found["name"] for found in report.values() if isinstance(found, dict)} == {"LinearForward"}
    assert (report["back"]["blocks"], report["back"]["threads"]) == (3, 64)
