"""The CUDA backend on a real GPU: parity with the reference, streams, devices, threads, graphs, sizes."""

import threading

import pytest
import torch
from cuda_cases import DTYPES, Case, both_directions, distances, some_variants
from torch.nn import functional

from seqsru.cells import Stack
from seqsru.errors import Refused
from seqsru.ops import backend_status, cuda, cuda_launch, linear_scan, reference, sru_scan

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def leaves(T=6, B=5, D=70, device="cuda", dtype=torch.float32):
    """Inputs u, x, c0, v, b of a scan, all wanting gradients."""
    torch.manual_seed(3)
    shapes = ((T, B, 3, D), (T, B, D), (B, D), (2, D), (2, D))
    wide = reference.accumulation_dtype(dtype)
    tensors = [torch.randn(shape, dtype=dtype if i < 2 else wide) for i, shape in enumerate(shapes)]
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def results(inputs, backend="auto"):
    """Output, state and every gradient of one scan."""
    h, c_last = sru_scan(*inputs, activation="tanh", scale=1.5, backend=backend)
    grads = torch.autograd.grad(h.square().sum() + c_last.sum(), inputs)
    return [tensor.detach().cpu() for tensor in (h, c_last, *grads)]


def assert_same(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1)


def test_the_backend_works_here():
    assert backend_status()["cuda"] == "ok"


@dtypes
def test_every_variant_equals_the_reference(dtype):
    """Outputs are filled with NaN before they are written: tests/conftest.py asks torch for that."""
    assert torch.empty(1, device="cuda").isnan().all()
    wrong = {}
    for case in some_variants(dtype) + both_directions(dtype):
        found = distances(cuda, case, "cuda")
        if max(found.values(), default=0) > 1:
            wrong[str(case)] = found
    assert wrong == {}


@dtypes
@pytest.mark.parametrize("T, B, D", [(63, 3, 500), (35, 32, 910), (1, 160, 512), (257, 2, 31)])
def test_odd_and_usual_sizes(dtype, T, B, D):
    for case in (
        Case(dtype, T, B, D, "identity", 0, 2, True, True),
        Case(dtype, T, B, D, "project", 1, 1),
        Case(dtype, T, B, D, "linear", valid=True),
    ):
        found = distances(cuda, case, "cuda")
        assert max(found.values()) <= 1, (str(case), found)


@dtypes
def test_time_in_chunks_equals_the_reference(dtype, monkeypatch):
    """One row and many steps, as in the prefill of a decoder; chunks of the chosen size, and of 64."""
    cases = [
        Case(dtype, 1000, 1, 70, "linear", valid=True),
        Case(dtype, 1024, 1, 33, "linear"),
        Case(dtype, 777, 1, 70, "identity", 1, 1, True, True),
        Case(dtype, 1000, 2, 31, "project", 0, 1),
    ]
    assert cuda._span(1000, 1, 70, torch.device("cuda")) < 1000
    for _ in range(2):
        for case in cases:
            found = distances(cuda, case, "cuda")
            assert max(found.values()) <= 1, (str(case), found)
        monkeypatch.setattr(cuda, "_span", lambda T, B, D, device: min(T, 64))


def test_default_stream():
    """The scan waits for what was queued before it, and what follows waits for the scan."""
    expected = results(leaves(device="cpu"))
    inputs = leaves()
    late = inputs[0].detach().clone()
    with torch.no_grad():
        inputs[0].zero_()
        torch.cuda._sleep(100_000_000)
        inputs[0].copy_(late)
    assert_same(results(inputs), expected)


def test_side_stream():
    """A kernel on any other stream would read the zeros that the sleeping stream has yet to overwrite."""
    expected = results(leaves(device="cpu"))
    inputs = leaves()
    late = inputs[0].detach().clone()
    results(inputs)  # compiled
    with torch.no_grad():
        inputs[0].zero_()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        with torch.no_grad():
            torch.cuda._sleep(100_000_000)
            inputs[0].copy_(late)
        found = results(inputs)
    assert_same(found, expected)


def test_second_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device: this test needs a second")
    assert torch.cuda.current_device() == 0
    assert_same(results(leaves(device="cuda:1")), results(leaves(device="cpu")))
    assert torch.cuda.current_device() == 0


def test_backward_in_the_thread_of_autograd():
    inputs, threads = leaves(), []
    inputs[0].register_hook(lambda grad: threads.append(threading.get_ident()))
    h, c_last = sru_scan(*inputs)
    (h.sum() + c_last.sum()).backward()
    assert threads and threads[0] != threading.get_ident()
    on_cpu = leaves(device="cpu")
    h, c_last = sru_scan(*on_cpu, backend="reference")
    (h.sum() + c_last.sum()).backward()
    assert_same([leaf.grad.cpu() for leaf in inputs], [leaf.grad for leaf in on_cpu])


def test_a_thread_of_its_own():
    """A new thread has no current CUDA context."""
    inputs, found = leaves(), []
    thread = threading.Thread(target=lambda: found.append(results(inputs)))
    thread.start()
    thread.join()
    assert_same(found[0], results(leaves(device="cpu")))


def test_the_same_bits_every_time():
    inputs = leaves(T=40, B=33, D=129)
    first = results(inputs)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(results(inputs), first))


def capture(function):
    """Run a function three times, then capture it: (graph, what it returned inside)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = function()
    return graph, captured


@torch.no_grad()
def test_a_captured_decoding_step():
    """Replaying one step, its state fed back inside the graph, equals running all steps at once."""
    stack = Stack("sru", 64, 64, 3).cuda().eval()
    xs = torch.randn(5, 4, 64, device="cuda")
    x, state = torch.zeros(1, 4, 64, device="cuda"), stack.initial_state(4)

    def step():
        y, after = stack(x, state)
        for old, new in zip(state, after):
            old.copy_(new)
        return y

    graph, y = capture(step)
    for tensor in state:
        tensor.zero_()
    found = []
    for t in range(5):
        x.copy_(xs[t : t + 1])
        graph.replay()
        found.append(y.clone())
    expected, last = stack(xs, stack.initial_state(4))
    assert_same([torch.cat(found), *state], [expected, *last])


def test_a_captured_training_step():
    """Forward and backward inside one graph: gradients of new data after the data is overwritten."""
    inputs = leaves()
    graph, captured = capture(lambda: torch.autograd.grad(sru_scan(*inputs)[0].square().sum(), inputs))
    with torch.no_grad():
        inputs[0].mul_(-0.5)
    graph.replay()
    h, _ = sru_scan(*inputs, backend="reference")
    expected = torch.autograd.grad(h.square().sum(), inputs)
    assert_same([grad.cpu() for grad in captured], [grad.cpu() for grad in expected])


@pytest.mark.slow
def test_more_than_2_to_the_31_elements():
    """Last rows and features of a scan whose u has over 2 ** 31 elements, against the scan of those alone."""
    T, B, D = 4, 4096, 43_700
    if torch.cuda.mem_get_info()[0] < 30 * 2**30:
        pytest.skip("less than 30 GiB free: this test needs a larger GPU")
    assert T * B * D * 3 > 2**31
    torch.manual_seed(0)
    u = torch.empty(T, B, 3, D, dtype=torch.float16, device="cuda").normal_()
    c0, b = torch.zeros(B, D, device="cuda"), torch.zeros(2, D, device="cuda")
    h, c_last = sru_scan(u, None, c0, None, b)
    part = u[:, -3:, :, -100:].contiguous()
    h_part, c_part = sru_scan(part, None, c0[-3:, -100:].contiguous(), None, b[:, -100:].contiguous())
    assert torch.equal(h[:, -3:, -100:], h_part) and torch.equal(c_last[-3:, -100:], c_part)
    assert h[0].isfinite().all() and h[-1].isfinite().all()


def test_mixed_devices_are_refused():
    u, x, c0, v, b = leaves()
    with pytest.raises(Refused, match="b: expected device 'cuda:0' as u is on, found 'cpu'; move it there"):
        sru_scan(u, x, c0, v, b.cpu())


def test_a_layer_on_the_gpu_equals_the_layer_on_the_cpu():
    torch.manual_seed(0)
    stack = Stack("sru", 24, 16, 2, bidirectional=True)
    x, valid = torch.randn(7, 3, 24), torch.arange(7)[:, None] < torch.tensor([7, 4, 0])
    y, _ = stack(x, valid=valid)
    grads = torch.autograd.grad(y.square().sum(), list(stack.parameters()))
    on_gpu = stack.cuda()
    z, _ = on_gpu(x.cuda(), valid=valid.cuda())
    more = torch.autograd.grad(z.square().sum(), list(on_gpu.parameters()))
    assert_same([z.detach().cpu(), *(grad.cpu() for grad in more)], [y.detach(), *grads], 1e-4)


def test_half_precision_under_autocast():
    torch.manual_seed(0)
    stack = Stack("sru", 32, 32, 2).cuda()
    x = torch.randn(9, 4, 32, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        y, state = stack(x)
    functional.mse_loss(y.float(), x.detach()).backward()
    assert x.grad.isfinite().all() and all(tensor.dtype == torch.float32 for tensor in state)


def test_linear_scan_gradients():
    torch.manual_seed(0)
    a, b, c0 = torch.rand(6, 5, 70), torch.randn(6, 5, 70), torch.randn(5, 70)

    def run(device):
        inputs = [tensor.to(device, copy=True).requires_grad_() for tensor in (a, b, c0)]
        c, c_last = linear_scan(*inputs)
        grads = torch.autograd.grad(c.square().sum() + c_last.sum(), inputs)
        return [tensor.detach().cpu() for tensor in (c, c_last, *grads)]

    assert_same(run("cuda"), run("cpu"))


def test_a_first_use_inside_a_graph_is_refused():
    """Compiling and loading a kernel cannot be captured; the message says what to do."""
    u = torch.zeros(1, 1, 3, 4, dtype=torch.float64, device="cuda")
    c0, b = u[:, 0, 0], u[0, 0, :2]
    cuda_launch._kernel.cache_clear()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(Refused, match="run the same step once before the capture"):
        with torch.cuda.graph(graph):
            u.add_(1)
            sru_scan(u, None, c0, None, b)
