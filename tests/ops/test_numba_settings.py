"""What the environment tells Numba and the cpu backend cannot work with ends in one sentence."""

import os
import subprocess
import sys

import pytest
import torch

from seqsru.errors import Refused
from seqsru.ops import backends

SCAN = """
import torch
from seqsru.ops import sru_scan
torch.set_num_threads(2)
u, c0, b = torch.ones(40, 20, 3, 60), torch.zeros(20, 60), torch.zeros(2, 60)
with torch.no_grad():
    print(sru_scan(u, None, c0, None, b)[1].sum().item())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, value, sentence",
    [
        (
            "NUMBA_DISABLE_JIT",
            "1",
            "expected Numba's compiler for backend 'cpu', found NUMBA_DISABLE_JIT=1; unset it, or pass "
            "backend='reference'",
        ),
        (
            "NUMBA_NUM_THREADS",
            "0",
            "expected settings of Numba that it can be imported with, found Number of threads specified must "
            "be > 0; check the environment variables whose names begin with NUMBA_",
        ),
        ("NUMBA_NUM_THREADS", "1000000000", "NUMBA_NUM_THREADS: expected from 1 to "),
        (
            "NUMBA_THREADING_LAYER",
            "foo",
            "expected a threading layer for the CPU kernels, found The threading layer requested 'foo' is "
            "unknown to Numba; check the environment variables whose names begin with NUMBA_THREADING_LAYER",
        ),
    ],
)
def test_settings_of_numba_that_cannot_be_used(name, value, sentence):
    done = subprocess.run(
        [sys.executable, "-c", SCAN], env={**os.environ, name: value}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        f"seqsru.errors.Refused: {sentence}"
    )


def test_no_compiler(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    monkeypatch.setattr(backends, "_loaded", {})
    with pytest.raises(Refused, match="found NUMBA_DISABLE_JIT=1; unset it, or pass backend='reference'"):
        backends.backend_module("cpu", torch.device("cpu"))
    assert backends.backend_status()["cpu"].startswith("no: expected Numba's compiler for backend 'cpu'")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", False)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 10**9)
    with pytest.raises(
        Refused, match=r"NUMBA_NUM_THREADS: expected from 1 to \d+ threads, found 1000000000; give"
    ):
        backends.backend_module("cpu", torch.device("cpu"))
