"""Which backend a name means, and how a machine that lacks one is told."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

from seqsru.errors import NotInstalled, Refused
from seqsru.ops import backend_status, backends, cpu, reference


def test_each_name_is_its_module():
    device = torch.device("cpu")
    assert backends.backend_module("auto", device) is backends.backend_module("cpu", device) is cpu
    assert backends.backend_module("reference", torch.device("meta")) is reference


def test_a_cuda_tensor_never_goes_elsewhere():
    module = backends.backend_module("auto", torch.device("cuda", 1))
    assert module.__name__ == "seqsru.ops.cuda"
    message = (
        "backend: expected cpu tensors for backend 'cpu', found tensors on 'cuda:1'; move them there, or"
    )
    with pytest.raises(Refused, match=message):
        backends.backend_module("cpu", torch.device("cuda", 1))


def test_a_cuda_tensor_without_numba_cuda_names_the_command(monkeypatch):
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("auto", "cuda"):
        message = r'the package numba-cuda for .*, found none installed; run: pip install "seqsru\[cuda\]"'
        with pytest.raises(NotInstalled, match=message):
            backends.backend_module(name, torch.device("cuda"))
    assert 'pip install "seqsru[cuda]"' in backend_status()["cuda"]


def test_other_devices_are_refused():
    with pytest.raises(
        Refused, match="expected tensors on a CPU or CUDA device, found 'mps'; move them to one"
    ):
        backends.backend_module("auto", torch.device("mps"))


def test_status_runs_each_backend():
    status = backend_status()
    assert list(status) == ["reference", "cpu", "cuda"] and status["reference"] == status["cpu"] == "ok"
    assert status["cuda"] == "ok" or status["cuda"].startswith("no: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_status_says_what_a_machine_without_gpu_lacks():
    assert "expected a CUDA build of torch and an NVIDIA GPU with its driver" in backend_status()["cuda"]


def test_status_reports_a_wrong_result_and_a_failure(monkeypatch):
    def wrong(*arguments):
        h, c_last, c = reference.sru_forward(*arguments)
        return h + 1, c_last, c

    def broken(*arguments):
        raise OSError("no threading layer")

    monkeypatch.setattr(cpu, "sru_forward", wrong)
    assert backend_status()["cpu"] == "no: a scan whose result is 0.25 gave 1.25; report this"
    monkeypatch.setattr(cpu, "sru_forward", broken)
    assert backend_status()["cpu"] == "no: no threading layer"


@pytest.mark.slow
def test_importing_loads_no_compiler():
    code = "import sys, seqsru.ops; sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
