"""How the CUDA backend launches a kernel, seen without a GPU: what it hands over, where, and its errors."""

import contextlib
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from seqsru.errors import NotInstalled, Refused
from seqsru.ops import cuda

pytest.importorskip("numba_cuda", reason='numba-cuda is not installed: pip install "seqsru[dev]"')

BACKWARD = "gh gc_last u x c0 v b mask valid c gu gx gc0 gv gb".split()
INSTALL = r'pip install "seqsru\[cuda\]"'


class FakeKernel:
    """Stands for a compiled kernel: remembers its launches."""

    def __init__(self):
        self.configured, self.launches = [], []

    def __getitem__(self, configuration):
        warnings.warn(
            "Grid size 1 will likely result in GPU under-utilization due to low occupancy.", stacklevel=2
        )
        self.configured.append(configuration)
        return lambda *arguments: self.launches.append((configuration, arguments))


@pytest.fixture
def launches(monkeypatch):
    """Make CPU tensors pass for CUDA tensors; give the kernels asked for, by (name, dtype, capability)."""
    kernels = {}
    current = []

    @contextlib.contextmanager
    def guard(index):
        current.append(index)
        yield
        current.pop()

    def compiled(name, dtype, capability):
        assert current == [0], "compiled outside the device's guard"
        return kernels.setdefault((name, dtype, capability), FakeKernel())

    monkeypatch.setattr(cuda, "CUDA", cuda.CPU)
    monkeypatch.setattr(cuda, "simulated", lambda: False)
    monkeypatch.setattr(cuda, "_compiled", compiled)
    monkeypatch.setattr(cuda, "_stream", lambda index, pointer: ("stream", index, pointer))
    monkeypatch.setattr(torch.cuda, "device", guard)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=77))
    for cached in (cuda._configured, cuda._capability):
        cached.cache_clear()
    yield kernels
    for cached in (cuda._configured, cuda._capability):
        cached.cache_clear()


def scan_inputs(T=5, B=3, D=50, k=3):
    u, x = torch.zeros(T, B, k, D), torch.zeros(T, B, 2 * D)[:, :, D:]
    return u, (x if k == 3 else None), torch.zeros(B, D), torch.zeros(2, D), torch.zeros(2, D)


def pointers(*tensors):
    """Address of each tensor, 0 for one that is absent."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def test_forward_hands_over_pointers_sizes_and_options(launches):
    u, x, c0, v, b = scan_inputs()
    mask, valid = torch.ones(3, 50), torch.ones(5, 3, dtype=torch.bool)
    h, c_last, c = cuda.sru_forward(u, x, c0, v, b, mask, valid, 1, 1.5, True)
    (kernel,) = launches.values()
    assert list(launches) == [("sru_forward", torch.float32, (9, 0))]
    configuration, arguments = kernel.launches[0]
    assert configuration == (3, 64, ("stream", 0, 77))  # 150 recurrences in blocks of 64
    expected = pointers(u, x, c0, v, b, mask, valid, h, c_last, c)
    assert arguments == (*expected, 5, 3, 50, 5, 31, 3, 300, 100, 1, 1.5)


def test_what_is_absent_is_a_null_pointer_and_a_clear_bit(launches):
    u, _, c0, _, b = scan_inputs()
    h, c_last, c = cuda.sru_forward(u, None, c0, None, b, None, None, 0, 1.0, False)
    _, arguments = next(iter(launches.values())).launches[0]
    expected = pointers(u, None, c0, None, b, None, None, h, c_last, None)
    assert arguments == (*expected, 5, 3, 50, 5, 0, 3, 0, 0, 0, 1.0)
    assert c.shape == (0,)


def test_a_projected_highway_is_a_view_of_u_and_its_gradient_of_gu(launches):
    u, _, c0, v, b = scan_inputs(k=4)
    c = gh = torch.zeros(5, 3, 50)
    gu, gx, gc0, gv, gb = cuda.sru_backward(gh, c0, u, None, c0, v, b, None, None, c, 0, 1.0)
    _, arguments = next(iter(launches.values())).launches[0]
    found = dict(zip(BACKWARD, arguments))
    assert found["x"] == u.data_ptr() + 4 * 150 and found["gx"] == gu.data_ptr() + 4 * 150
    assert arguments[len(BACKWARD) :] == (5, 3, 50, 5, 25, 4, 600, 200, 0, 1.0)
    assert gx is None and gv.shape == gb.shape == (2, 50) and gc0.shape == (3, 50)


def test_linear_scans_launch(launches):
    a, c0 = torch.zeros(5, 3, 50, dtype=torch.bfloat16), torch.zeros(3, 50)
    valid = torch.ones(5, 3, dtype=torch.bool)
    out, c_last, c = cuda.linear_forward(a, a, c0, valid, True)
    ga, gb, gc0 = cuda.linear_backward(a, c0, a, c0, c, None)
    forward, backward = launches.values()
    assert forward.launches[0][1] == (*pointers(a, a, c0, valid, out, c_last, c), 5, 3, 50, 5, 20)
    assert backward.launches[0][1] == (*pointers(a, c0, a, c0, None, c, ga, gb, gc0, None), 5, 3, 50, 5, 0)


def test_argument_counts_match_the_signatures(launches):
    from seqsru.ops.cuda_kernels import build, signatures

    u, x, c0, v, b = scan_inputs()
    h, _, c = cuda.sru_forward(u, x, c0, v, b, None, None, 0, 1.0, True)
    cuda.sru_backward(h, c0, u, x, c0, v, b, None, None, c, 0, 1.0)
    cuda.linear_forward(h, h, c0, None, False)
    cuda.linear_backward(h, c0, h, c0, c, None)
    for (name, dtype, _), kernel in launches.items():
        count = len(kernel.launches[0][1])
        kind = str(dtype).removeprefix("torch.")
        function = getattr(build(kind), name)
        assert count == len(getattr(signatures(kind), name)) == function.__code__.co_argcount


def test_launches_of_one_size_are_configured_once_and_do_not_warn(launches):
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
    forward, over, backward = launches.values()
    assert [name for name, *_ in launches] == ["sru_forward", "linear_forward", "sru_backward"]
    assert [arguments[10:15] for _, arguments in forward.launches] == [(5, 3, 50, 2, 32), (5, 3, 50, 2, 24)]
    assert [arguments[15:20] for _, arguments in backward.launches] == [(5, 3, 50, 2, 32), (5, 3, 50, 2, 24)]
    assert [arguments[7:] for _, arguments in over.launches] == [(3, 3, 50, 3, 0)] * 2
    blocks = {configuration[0] for configuration, _ in forward.launches + backward.launches}
    assert blocks == {8}  # 450 threads
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
        cuda._compiled("sru_forward", torch.float32, None)


def test_a_first_use_inside_a_captured_graph_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(Refused, match="run the same step once before the capture"):
        cuda._compiled("sru_forward", torch.float32, (9, 0))


def test_importing_the_backend_loads_no_compiler():
    code = "import sys, seqsru.ops.cuda; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
