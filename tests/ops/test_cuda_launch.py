"""How the CUDA backend launches a kernel, seen without a GPU: what it hands over, where, and its errors."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqsru.errors import NotInstalled, Refused
from seqsru.ops import cuda, cuda_launch, dlpack
from seqsru.ops.calls import (
    CARRY,
    HIGHWAY,
    IDENTITY,
    KEEP,
    MASK,
    SCANS,
    TANH,
    VALID,
    VECTOR,
    ChunkStates,
    LinearBackward,
    LinearForward,
    SruBackward,
    SruForward,
)
from seqsru.ops.cuda_build import Variant, source

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')

INSTALL = r'pip install "seqsru\[cuda\]"'


class FakeKernel:
    """Stands for a loaded kernel: remembers its launches, ((blocks, threads), stream, arguments)."""

    def __init__(self):
        self.launches = []

    def start(self, stream, configuration, function, *arguments):
        assert function is self
        self.launches.append((configuration, stream, arguments))


@pytest.fixture
def launches(monkeypatch):
    """Make CPU tensors pass for CUDA tensors; give the kernels, by (call, dtype, variant, index)."""
    kernels = {}

    def kernel(call, variant, dtype, index):
        one = kernels.setdefault((call, dtype, variant, index), FakeKernel())
        return cuda_launch.Kernel(one.start, one, int, cuda_launch.typed_arguments(call, dtype))

    monkeypatch.setattr(cuda_launch, "CUDA", dlpack.CPU)
    monkeypatch.setattr(cuda_launch, "_kernel", kernel)
    monkeypatch.setattr(cuda_launch, "_stream", lambda index, pointer: ("stream", index, pointer))
    monkeypatch.setattr(cuda_launch, "_configuration", lambda blocks, threads: (blocks, threads))
    monkeypatch.setattr(cuda, "simulated", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda index: 77, raising=False)
    return kernels


WIDTHS = ("activation", "scale")


def scan_inputs(T=5, B=3, D=50, k=3):
    u, x = torch.zeros(T, B, k, D), torch.zeros(T, B, 2 * D)[:, :, D:]
    return u, (x if k == 3 else None), torch.zeros(B, D), torch.zeros(2, D), torch.zeros(2, D)


def addresses(**tensors):
    """Address of each tensor by its name, 0 for one that is absent."""
    return {name: 0 if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()}


def launched(kernel, call, number=0):
    """Arguments of a launch by the names of the call's fields, and `span`.

    What is not 64 bits wide is so by its type, which is all that cuda.core knows of it.
    """
    _, _, arguments = kernel.launches[number]
    named = dict(zip((*call._fields, "span"), arguments, strict=True))
    assert type(named.get("activation", np.int32(0))) is np.int32
    assert type(named.get("scale", np.float32(0))) is np.float32
    assert all(type(value) is int for name, value in named.items() if name not in WIDTHS)
    return named


def test_forward_hands_over_pointers_sizes_and_options(launches):
    u, x, c0, v, b = scan_inputs()
    mask, valid = torch.ones(3, 50), torch.ones(5, 3, dtype=torch.bool)
    h, c_last, c = cuda.sru_forward(u, x, c0, v, b, mask, valid, TANH, 1.5, True)
    (kernel,) = launches.values()
    options = VECTOR | MASK | VALID | HIGHWAY | KEEP
    assert list(launches) == [(SruForward, torch.float32, Variant(TANH, options, 1), 0)]
    assert kernel.launches[0][:2] == (((3, 1), 64), ("stream", 0, 77))  # rows, chunks
    expected = addresses(u=u, x=x, c0=c0, v=v, b=b, mask=mask, valid=valid, h=h, c_last=c_last, c=c)
    expected |= {"T": 5, "B": 3, "k": 3, "D": 50, "span": 5, "x_step": 300, "x_row": 100}
    expected |= {"activation": TANH, "scale": 1.5}
    assert launched(kernel, SruForward) == expected


def test_what_is_absent_is_a_null_pointer_and_a_clear_bit(launches):
    u, _, c0, _, b = scan_inputs()
    h, c_last, c = cuda.sru_forward(u, None, c0, None, b, None, None, IDENTITY, 1.0, False)
    expected = addresses(u=u, c0=c0, b=b, h=h, c_last=c_last)
    expected |= {"T": 5, "B": 3, "k": 3, "D": 50, "span": 5, "scale": 1.0}
    found = launched(next(iter(launches.values())), SruForward)
    assert found == dict.fromkeys(found, 0) | expected
    assert c is None


def test_a_projected_highway_is_a_view_of_u_and_its_gradient_of_gu(launches):
    u, _, c0, v, b = scan_inputs(k=4)
    c = gh = torch.zeros(5, 3, 50)
    gu, gx, gc0, gv, gb = cuda.sru_backward(gh, c0, u, None, c0, v, b, None, None, c, IDENTITY, 1.0)
    found = launched(next(iter(launches.values())), SruBackward)
    assert found["x"] == u.data_ptr() + 4 * 150 and found["gx"] == gu.data_ptr() + 4 * 150
    assert (found["k"], found["x_step"], found["x_row"]) == (4, 600, 200)
    assert [variant.options for _, _, variant, _ in launches] == [VECTOR | HIGHWAY]
    assert (found["gh"], found["gc_last"], found["c"]) == (gh.data_ptr(), c0.data_ptr(), c.data_ptr())
    assert gx is None and gv.shape == gb.shape == (2, 50) and gc0.shape == (3, 50)


def test_linear_scans_launch(launches):
    a, c0 = torch.zeros(5, 3, 50, dtype=torch.bfloat16), torch.zeros(3, 50)
    valid = torch.ones(5, 3, dtype=torch.bool)
    b, gout = torch.zeros_like(a), torch.zeros_like(a)
    gc_last = torch.zeros_like(c0)
    out, c_last, c = cuda.linear_forward(a, b, c0, valid, True)
    ga, gb, gc0 = cuda.linear_backward(gout, gc_last, a, c0, c, None)
    forward, backward = launches.values()
    sizes = {"T": 5, "B": 3, "D": 50, "span": 5}
    expected = addresses(a=a, b=b, c0=c0, valid=valid, out=out, c_last=c_last, c=c)
    assert launched(forward, LinearForward) == expected | sizes
    assert [variant for _, _, variant, _ in launches] == [Variant(0, VALID | KEEP, 2), Variant(0, 0, 2)]
    expected = addresses(gout=gout, gc_last=gc_last, a=a, c0=c0, c=c, ga=ga, gb=gb, gc0=gc0)
    absent = {"valid": 0, "factors": 0}
    assert launched(backward, LinearBackward) == expected | sizes | absent


def test_kernels_have_the_parameters_of_their_calls():
    for call in SCANS:
        function, signature = source(call, "float32", Variant(0, 0, 1))
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        assert [name.lstrip("_") for name in names] == [*call._fields, "span"]
        assert len(signature) == len(names)


def test_a_kernel_in_double_precision_is_given_doubles(launches):
    u, x, c0, v, b = (one.double() for one in scan_inputs())
    cuda.sru_forward(u, x, c0, v, b, None, None, IDENTITY, 1.5, False)
    _, _, arguments = next(iter(launches.values())).launches[0]
    assert type(arguments[SruForward._fields.index("scale")]) is np.float64


def test_tensors_of_two_devices_are_refused(launches, monkeypatch):
    u, x, c0, v, b = scan_inputs()
    elsewhere = SimpleNamespace(get_device=lambda: 1, numel=lambda: 1)
    monkeypatch.setattr(cuda_launch, "place", lambda tensor: (2, 1 if tensor is elsewhere else 0))
    message = (
        r"expected all tensors on one device of type 1 for the cuda backend, found \(type, index\) "
        r"\[\(2, 0\), \(2, 1\)\] in DLPack's numbers; move them to one GPU"
    )
    with pytest.raises(Refused, match=message):
        cuda.sru_forward(u, x, c0, v, elsewhere, None, None, 0, 1.0, False)


def test_chunks_are_run_twice_with_their_first_states_found_between(launches, monkeypatch):
    monkeypatch.setattr(cuda, "_span", lambda T, B, D, device: 2)
    u, x, c0, _, b = scan_inputs()
    h, c_last, c = cuda.sru_forward(u, x, c0, None, b, None, None, 0, 1.0, True)
    cuda.sru_backward(h, c0, u, x, c0, None, b, None, None, c, 0, 1.0)
    found = [
        (call, variant.options, *((grid, threads) for (grid, threads), _, _ in kernel.launches))
        for (call, _, variant, _), kernel in launches.items()
    ]
    assert found == [
        (SruForward, CARRY, ((3, 3), 64)),
        (ChunkStates, 0, (3, 64), (3, 64)),  # 150 threads
        (SruForward, HIGHWAY | KEEP, ((3, 3), 64)),
        (SruBackward, CARRY, ((3, 3), 64)),
        (SruBackward, HIGHWAY, ((3, 3), 64)),
    ]
    carried, between, forward, carried_back, backward = launches.values()
    for before, after, direction, known in (
        (carried, forward, 0, "c0"),
        (carried_back, backward, 1, "gc_last"),
    ):
        call = SruBackward if direction else SruForward
        first, second = launched(before, call), launched(after, call)
        assert (first["T"], first["span"]) == (second["T"], second["span"]) == (5, 2)
        joined = dict(zip(ChunkStates._fields, between.launches[direction][2], strict=True))
        assert (joined["C"], joined["plane"], joined["backward"]) == (3, 150, direction)
        assert joined["known"] == c0.data_ptr()
        assert first[known] == second[known] == joined["states"]  # from 0, then from what was found
    assert c_last.shape == (3, 50)


def test_the_gates_of_version_2_read_the_state_so_time_stays_whole(launches, monkeypatch):
    monkeypatch.setattr(cuda, "_span", lambda T, B, D, device: 2)
    u, x, c0, v, b = scan_inputs()
    _, _, c = cuda.sru_forward(u, x, c0, v, b, None, None, 0, 1.0, True)
    cuda.sru_backward(torch.zeros(5, 3, 50), c0, u, x, c0, v, b, None, None, c, 0, 1.0)
    assert [len(kernel.launches) for kernel in launches.values()] == [1, 1]


@pytest.mark.parametrize(
    "T, B, D, chunks",
    [
        (255, 1, 512, 1),  # short
        (1000, 32, 4096, 1),  # as wide as the device
        (1000, 1, 512, 44),  # the square root of 2 T
        (1000, 16, 512, 8),  # 67,584 threads fill 132 multiprocessors
        (4096, 0, 512, 1),
    ],
)
def test_chunks_fill_the_device_and_no_more(launches, monkeypatch, T, B, D, chunks):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=132)
    )
    span = cuda._span(T, B, D, torch.device("cuda"))
    assert abs(cuda._chunks(T, span) - chunks) <= 1 and (chunks > 1) == (span < T)


@pytest.mark.parametrize("B, D", [(0, 4), (3, 0)])
def test_nothing_is_launched_for_nothing(launches, B, D):
    u, x, c0, v, b = scan_inputs(B=B, D=D)
    h, c_last, _ = cuda.sru_forward(u, x, c0, v, b, None, None, 0, 1.0, False)
    assert h.shape == (5, B, D) and c_last.shape == (B, D) and not launches


def test_cpu_tensors_are_refused():
    u, x, c0, v, b = scan_inputs()
    with pytest.raises(
        Refused, match=r"all tensors on one device of type 2 .*, found .* \[\(1, 0\)\] .* one GPU"
    ):
        cuda.sru_forward(u, x, c0, v, b, None, None, 0, 1.0, False)


def test_the_deprecated_target_is_refused(monkeypatch):
    import numba.cuda

    monkeypatch.setattr(numba.cuda, "__file__", "/site/numba/cuda/__init__.py")
    cuda.simulated.cache_clear()
    with pytest.raises(
        NotInstalled, match=rf"found the deprecated one at /site/numba.*; run: {INSTALL}, into"
    ):
        cuda.simulated()
    monkeypatch.undo()
    assert cuda.simulated() is False


def test_no_cuda_target_at_all_is_reported(monkeypatch):
    cuda.simulated.cache_clear()
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    monkeypatch.delattr("numba.cuda", raising=False)
    with pytest.raises(NotInstalled, match=rf"cannot be imported \(.*\); run: {INSTALL}"):
        cuda.simulated()


def test_missing_compilers_are_reported(monkeypatch):
    def machine_code(*_):
        raise RuntimeError("libnvvm.so not found")

    monkeypatch.setattr(cuda_launch, "machine_code", machine_code)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    with pytest.raises(NotInstalled, match=rf"cannot compile \(libnvvm.so not found\); run: {INSTALL}"):
        cuda_launch._kernel(SruForward, Variant(0, 0, 1), torch.float32, 0)


def test_importing_the_backend_loads_no_compiler():
    code = "import sys, seqsru.ops.cuda; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
