"""tools/bench_host.py: every stage runs down to the driver, by the path of now and that of before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import recording_driver

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not recording_driver.AVAILABLE, reason="the recording driver is for Linux on x86-64")
def test_every_stage_is_measured_both_ways(tmp_path):
    out = tmp_path / "host.json"
    command = [sys.executable, str(ROOT / "tools" / "bench_host.py"), str(out), "--repeats", "20"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) == 10 and all(row["stage"] in run.stdout for row in rows)
    # Whatever the machine, a launch is a fraction of what numba's dispatcher took.
    assert 0 < rows[0]["now"] < rows[0]["before"] / 2
    assert all(row["now"] <= row["now, median"] for row in rows)
