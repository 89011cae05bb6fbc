"""How the CUDA backend launches a kernel, seen without a GPU: what it hands over, where, and its errors."""

import contextlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from seqsru.errors import NotInstalled, Refused
from seqsru.ops import cuda
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
    LinearBackward,
    LinearForward,
    SruBackward,
    SruForward,
)
from seqsru.ops.cuda_build import Variant, source

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')

INSTALL = r'pip install "seqsru\[cuda\]"'


class FakeKernel:
    """Stands for a compiled kernel: remembers its launches."""

    def __init__(self):
        self.configured, self.launches = [], []

    def __getitem__(self, configuration):
        self.configured.append(configuration)
        return lambda *arguments: self.launches.append((configuration, arguments))


@pytest.fixture
def launches(monkeypatch):
    """Make CPU tensors pass for CUDA tensors; give the kernels, by (call, dtype, variant, index)."""
    kernels = {}
    current = []

    @contextlib.contextmanager
    def guard(index):
        current.append(index)
        yield
        current.pop()

    def compiled(call, dtype, variant, index):
        assert current == [0], "compiled outside the device's guard"
        return kernels.setdefault((call, dtype, variant, index), FakeKernel())

    monkeypatch.setattr(cuda, "CUDA", cuda.CPU)
    monkeypatch.setattr(cuda, "simulated", lambda: False)
    monkeypatch.setattr(cuda, "_compiled", compiled)
    monkeypatch.setattr(cuda, "_stream", lambda index, pointer: ("stream", index, pointer))
    monkeypatch.setattr(torch.cuda, "device", guard)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=77))
    cuda._configured.cache_clear()
    yield kernels
    cuda._configured.cache_clear()


def scan_inputs(T=5, B=3, D=50, k=3):
    u, x = torch.zeros(T, B, k, D), torch.zeros(T, B, 2 * D)[:, :, D:]
    return u, (x if k == 3 else None), torch.zeros(B, D), torch.zeros(2, D), torch.zeros(2, D)


def addresses(**tensors):
    """Address of each tensor by its name, 0 for one that is absent."""
    return {name: 0 if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()}


def launched(kernel, call, number=0):
    """Arguments of a launch by the names of the call's fields, and `span`."""
    _, arguments = kernel.launches[number]
    return dict(zip((*call._fields, "span"), arguments, strict=True))


def test_forward_hands_over_pointers_sizes_and_options(launches):
    u, x, c0, v, b = scan_inputs()
    mask, valid = torch.ones(3, 50), torch.ones(5, 3, dtype=torch.bool)
    h, c_last, c = cuda.sru_forward(u, x, c0, v, b, mask, valid, TANH, 1.5, True)
    (kernel,) = launches.values()
    options = VECTOR | MASK | VALID | HIGHWAY | KEEP
    assert list(launches) == [(SruForward, torch.float32, Variant(TANH, options, 1), 0)]
    assert kernel.launches[0][0] == ((3, 1), 64, ("stream", 0, 77))  # rows, chunks
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


def test_launches_of_one_size_are_configured_once(launches):
    u, x, c0, v, b = scan_inputs()
    for _ in range(3):
        cuda.sru_forward(u, x, c0, v, b, None, None, 0, 1.0, False)
    (kernel,) = launches.values()
    assert len(kernel.configured) == 1 and len(kernel.launches) == 3


def test_chunks_are_run_twice_with_a_scan_over_them_between(launches, monkeypatch):
    monkeypatch.setattr(cuda, "_span", lambda T, B, D, device: 2 if T == 5 else T)
    u, x, c0, _, b = scan_inputs()
    h, c_last, c = cuda.sru_forward(u, x, c0, None, b, None, None, 0, 1.0, True)
    cuda.sru_backward(h, c0, u, x, c0, None, b, None, None, c, 0, 1.0)
    found = [
        (call, variant.options, *kernel.launches[0][0][:1])
        for (call, _, variant, _), kernel in launches.items()
    ]
    assert found == [
        (SruForward, CARRY, (3, 3)),
        (LinearForward, 0, (3, 1)),
        (SruForward, HIGHWAY | KEEP, (3, 3)),
        (SruBackward, CARRY, (3, 3)),
        (SruBackward, HIGHWAY, (3, 3)),
    ]
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
    import numba.cuda

    def jit(*_):
        raise RuntimeError("libnvvm.so not found")

    monkeypatch.setattr(numba.cuda, "jit", jit)
    with pytest.raises(NotInstalled, match=rf"cannot compile \(libnvvm.so not found\); run: {INSTALL}"):
        cuda._compiled(SruForward, torch.float32, Variant(0, 0, 1), None)


def test_a_first_use_inside_a_captured_graph_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(Refused, match="run the same step once before the capture"):
        cuda._compiled(SruForward, torch.float32, Variant(0, 0, 1), 0)


def test_importing_the_backend_loads_no_compiler():
    code = "import sys, seqsru.ops.cuda; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
