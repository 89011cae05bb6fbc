"""The output softmax on a GPU, seen without one: in the simulator, as machine code, by its launches."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seqsru.ops import cross_entropy, cuda
from seqsru.ops.calls import LAYOUTS, LEFT_OUT, SoftmaxCrossEntropy

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')
pathfinder = pytest.importorskip("cuda.pathfinder", reason="cuda-pathfinder is not installed")

from seqsru.ops import cuda_loss, cuda_softmax  # noqa: E402
from seqsru.ops.cuda_build import ALONE, assembly  # noqa: E402

KINDS = ["float64", "float32", "bfloat16", "float16"]


@pytest.fixture(scope="module")
def report():
    """What one run of the simulator printed."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    command = [sys.executable, "-W", "ignore", str(here / "softmax_simulate.py")]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
def test_the_kernel_equals_torch_in_float64(report):
    assert len(report["cases"]) == 12
    assert {name for found in report["cases"].values() for name in found} == {"nll", "spread", "gradient"}
    wrong = {case: found for case, found in report["cases"].items() if max(found.values()) > 1}
    assert wrong == {}


@pytest.mark.slow
def test_loss_and_gradients_of_rows_left_out_equal_the_cpu_s(report):
    assert max(report["whole"]) < 5e-6


@pytest.mark.slow
def test_what_is_no_number_ends_in_none(report):
    """−∞ is a type of probability 0; a target outside the vocabulary, which a CPU refuses, has no number."""
    nll, *gradient = report["special"]["banned"]
    assert float(nll) == pytest.approx(0.6931472) and gradient == ["0.0"] * 9 + ["0.5", "-0.5"]
    assert report["special"]["large"] == ["0.0"] * 4
    assert report["special"]["no rows"] == "tensor([])"
    for case in ("all banned", "nan", "inf", "outside", "below", "ignored elsewhere"):
        assert set(report["special"][case]) == {"nan"}, case


# ---- machine code ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_compiles_to_machine_code_without_a_driver(kind, record_property):
    for name in ("nvvm", "nvrtc", "nvJitLink"):
        try:
            pathfinder.load_nvidia_dynamic_lib(name)
        except pathfinder.DynamicLibNotFoundError:
            pytest.skip(f'the CUDA library {name} is not installed: pip install "seqsru[dev]"')
    from cuda.core import Linker, LinkerOptions, ObjectCode

    for capability in ((7, 5), (9, 0), (12, 0)):
        ptx = assembly(SoftmaxCrossEntropy, kind, ALONE, capability)
        assert ptx.count(".entry") == 1 and not re.search(r"\batom\b|\bred\b|\.local|\bcall\b", ptx)
        assert kind == "float64" or ".f64" not in ptx
        target = f"sm_{capability[0]}{capability[1]}"
        options = LinkerOptions(arch=target, verbose=True, ptxas_options=["-v"])
        linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
        assert linker.link("cubin").code
        log = linker.get_info_log()
        assert re.search(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", log), log
        registers, shared = (
            int(re.search(r"Used (\d+) registers", log)[1]),
            int(re.search(r"(\d+) bytes smem", log)[1]),
        )
        record_property(f"registers {target}", registers)
        blocks = 2 if kind == "float64" else 4  # of a multiprocessor's registers, at the least
        assert registers * cuda_softmax.BLOCK * blocks <= 65536
        # From compute capability 8.0 on every block pays 1 KiB to the system.
        assert shared - 3 * cuda_softmax.BLOCK * (8 if kind == "float64" else 4) in (0, 1024)


def test_the_kernel_has_the_parameters_of_its_call():
    function = cuda_softmax.build("float32")
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    assert names == (*SoftmaxCrossEntropy._fields, "biased")
    assert len(cuda_softmax.signature("float32")) == len(names) == len(LAYOUTS[SoftmaxCrossEntropy].kinds) + 1


# ---- launches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("biased", [True, False])
def test_one_launch_hands_over_pointers_and_numbers(biased, monkeypatch):
    launches = []
    monkeypatch.setattr(cuda, "simulated", lambda: False)
    monkeypatch.setattr(cuda, "launch", lambda *arguments: launches.append(arguments))
    logits, targets = torch.zeros(3, 10, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.int64)
    bias = torch.zeros(10) if biased else None
    nll, spread = cuda_loss.softmax_cross_entropy(logits, bias, targets, 0.1, True)
    assert nll.dtype == spread.dtype == torch.float32 and nll.shape == spread.shape == (3,)
    ((call, variant, grid, threads, flag),) = launches
    assert (variant, grid, threads) == (ALONE, 3, cuda_softmax.BLOCK)
    assert call._replace(logits=0, nll=0, bias=0, targets=0, spread=0)[5:] == (10, 1, 0.1)
    assert call.logits is logits and call.nll is nll and call.bias is bias
    assert call.targets is targets and call.spread is spread
    assert flag == int(biased) and type(flag) is np.int32  # cuda.core takes an int for 64 bits
    cuda_loss.softmax_cross_entropy(logits[:0], bias, targets[:0], 0.1, True)
    assert len(launches) == 1  # nothing is launched for nothing


class Launches(TorchDispatchMode):
    """The operators that start a kernel on a device; views and allocations start none."""

    NONE = re.compile(
        r"aten\.(view|_unsafe_view|t|transpose|slice|select|detach|alias|expand|unsqueeze|squeeze|as_strided|"
        r"_reshape_alias|empty|new_empty|empty_like|empty_strided|new_empty_strided|lift_fresh)\."
    )

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not self.NONE.match(str(function)):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


BATCHES = [
    (1120, 910, 10_000),
    (4096, 512, 32_000),
    (7, 8, 9),
    (16_384, 1024, 50_000),
    (65_537, 64, 256_000),
    (1, 8, 1 << 28),
    (3, 8, 1 << 28),
    (0, 8, 9),
]


@pytest.mark.parametrize("smoothing, padded", [(0.0, False), (0.1, True)])
@pytest.mark.parametrize(
    "dtype, own", [(torch.float32,) * 2, (torch.bfloat16, torch.float32), (torch.bfloat16,) * 2]
)
@pytest.mark.parametrize("rows, width, vocabulary", BATCHES)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_batch_takes_at_most_thirty_launches_and_waits_for_none(
    rows, width, vocabulary, dtype, own, smoothing, padded, transposed, monkeypatch
):
    """On torch's device without memory, which is treated as a GPU is; the kernel is one launch."""

    def softmax(logits, bias, targets, smoothing, gradient):
        launches.names.append("softmax")
        return logits.new_empty(len(logits), dtype=torch.float32), logits.new_empty(
            len(logits), dtype=torch.float32
        )

    monkeypatch.setattr(cross_entropy, "recorded", lambda: False)
    monkeypatch.setattr(cross_entropy, "_softmax_for", lambda x: (softmax, cross_entropy._column_sums))
    shapes = ((rows, 1, width), (vocabulary, width), (vocabulary,))
    x, weight, bias = (torch.empty(shape, dtype=own, device="meta", requires_grad=True) for shape in shapes)
    targets = torch.empty(rows, 1, dtype=torch.int64, device="meta")
    valid = torch.empty(rows, 1, dtype=torch.bool, device="meta") if padded else None
    if transposed:  # two sentences, with the batch first
        double = torch.empty(rows, 2, width, dtype=own, device="meta", requires_grad=True)
        x = double.transpose(0, 1)[:, : rows // 2]
        targets = torch.empty(rows, 2, dtype=torch.int64, device="meta").t()[:, : rows // 2]
        valid = torch.empty(rows, 2, dtype=torch.bool, device="meta").t()[:, : rows // 2] if padded else None
    monkeypatch.setattr(cross_entropy, "_product_dtype", lambda x: dtype)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # the device has none
    with Launches() as launches:
        loss, nll = cross_entropy.linear_cross_entropy(
            x, weight, bias, targets, valid=valid, smoothing=smoothing
        )
        torch.autograd.grad(loss, (x, weight, bias))
    blocks = launches.names.count("softmax")
    count = rows // 2 * 2 if transposed else rows
    assert blocks == max(1, min(2, count, -(-count * vocabulary * dtype.itemsize // (1 << 28))))
    assert len(launches.names) <= 30, launches.names
    assert not [name for name in launches.names if re.search("nonzero|_local_scalar|item|equal", name)]


def test_a_gpu_takes_the_kernel_and_torch_s_operators_without_numba(monkeypatch):
    x = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    monkeypatch.setattr(cross_entropy, "watched", lambda *tensors: False)
    assert cross_entropy._softmax_for(x)[0] is cuda_loss.softmax_cross_entropy
    monkeypatch.setattr(cross_entropy.importlib.util, "find_spec", lambda name: None)
    assert cross_entropy._softmax_for(x)[0] is cross_entropy._softmax_in_place


def test_a_block_is_half_of_the_rows_but_a_share_of_the_memory(monkeypatch):
    memory = {"total_memory": 80 << 30}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(**memory))
    monkeypatch.setattr(cross_entropy, "recorded", lambda: False)

    def rows(count, vocabulary, dtype=torch.float32):
        x = SimpleNamespace(
            device=torch.device("cuda"), element_size=lambda: dtype.itemsize, shape=(count, 8)
        )
        return cross_entropy._rows_at_once(x, vocabulary)

    assert rows(16_384, 50_000) == 8192  # 3 GiB of logits
    assert rows(1 << 20, 1 << 14) == 5 << 14 and rows(1 << 20, 1 << 14, torch.bfloat16) == 10 << 14
    memory["total_memory"] = 8 << 30
    assert rows(16_384, 50_000) == (1 << 29) // 200_000
    memory["total_memory"] = 2 << 30  # the least there is
    assert rows(16_384, 50_000) == (1 << 28) // 200_000 and rows(9, 1 << 30) == 1
    monkeypatch.setattr(cross_entropy, "recorded", lambda: True)
    assert rows(16_384, 50_000) == (1 << 28) // 200_000


@pytest.mark.parametrize("block", [2, 6])
def test_rows_left_out_by_mark_equal_rows_left_out_by_counting(block, monkeypatch):
    """What every device but the CPU does, by torch's operators, gradients of gradients included."""
    torch.manual_seed(0)
    leaves = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in ((6, 3), (5, 3), (5,))]
    targets, valid = torch.tensor([4, 99, 0, -1, 2, 3]), torch.tensor([True, False, True, False, True, True])

    def run():
        loss, nll = cross_entropy.linear_cross_entropy(*leaves, targets, valid=valid, smoothing=0.1)
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        loss, _ = cross_entropy.linear_cross_entropy(*leaves, targets, valid=valid, smoothing=0.1)
        return [loss.detach(), nll, *torch.autograd.grad(loss, leaves), *second]

    expected = run()
    monkeypatch.setattr(
        cross_entropy, "_softmax_for", lambda x: (cross_entropy._softmax_in_place, cross_entropy._column_sums)
    )
    monkeypatch.setattr(cross_entropy, "_waits", lambda device: True)
    monkeypatch.setattr(cross_entropy, "_rows_at_once", lambda x, vocabulary: block)
    for one, other in zip(run(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    logits = torch.randn(2, 4, dtype=torch.float64)
    nll, spread = cross_entropy._softmax_in_place(logits, None, torch.tensor([LEFT_OUT, 1]), 0.1, True)
    assert nll[0] == spread[0] == 0 and not logits[0].any() and logits[1].any()
