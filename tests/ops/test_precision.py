"""One word says what float32 products are, and after it torch's switches say what they said before."""

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from seqsru.cells import torch_rnn
from seqsru.errors import Refused
from seqsru.ops import precision
from seqsru.ops.precision import check_precision, cudnn_as_products, float32_products, products

BACKENDS = torch.backends


def switches():
    """The newer switches, and the older ones, which torch refuses to read where the two do not agree."""
    older = (BACKENDS.cuda.matmul.allow_tf32, BACKENDS.cudnn.allow_tf32)
    return [switch.fp32_precision for switch in precision._switches()], older


IEEE = ["ieee"] * 6, (False, False)
TF32 = ["tf32"] * 3 + ["ieee"] * 3, (True, True)


@pytest.fixture(autouse=True)
def restored():
    before = [switch.fp32_precision for switch in precision._switches()]
    yield
    precision._restore(before)


def untouched():
    pass


def legacy():
    BACKENDS.cuda.matmul.allow_tf32 = True


def high():
    torch.set_float32_matmul_precision("high")


def no_cudnn():
    BACKENDS.cudnn.allow_tf32 = False


def in_bfloat16():
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"


def newer():
    BACKENDS.cuda.matmul.fp32_precision = "ieee"
    BACKENDS.cudnn.rnn.fp32_precision = BACKENDS.cudnn.conv.fp32_precision = "ieee"


@pytest.mark.parametrize("earlier", [untouched, legacy, high, no_cudnn, in_bfloat16, newer])
def test_whatever_was_set_holds_again_after(earlier):
    earlier()
    before = [switch.fp32_precision for switch in precision._switches()]
    with float32_products("ieee"):
        assert switches() == IEEE and products() == "ieee"
        with float32_products("tf32"):
            assert switches() == TF32 and products() == "tf32"
        assert switches() == IEEE
    assert switches()[0] == before
    with pytest.raises(KeyError), float32_products("tf32"):
        raise KeyError
    assert switches()[0] == before


def test_threads_that_overlap_leave_the_switches_as_they_were():
    before = switches()
    inside, leave = threading.Event(), threading.Event()

    def first():
        with float32_products("tf32"):
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(20)
    with float32_products("ieee"):
        assert switches() == IEEE
        leave.set()
        thread.join()  # who came first leaves first
        assert switches() == IEEE
    assert switches() == before


@pytest.mark.parametrize(
    "matmul, rnn", [("ieee", "tf32"), ("none", "tf32"), ("tf32", "ieee"), ("tf32", "tf32")]
)
def test_cudnn_follows_the_products(matmul, rnn):
    BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.rnn.fp32_precision = matmul, rnn
    with cudnn_as_products():
        assert (BACKENDS.cudnn.rnn.fp32_precision == "tf32") == (matmul == "tf32") == (products() == "tf32")
    assert BACKENDS.cudnn.rnn.fp32_precision == rnn and BACKENDS.cuda.matmul.fp32_precision == matmul


def test_a_layer_of_cudnn_follows_them_without_gradients_alone(monkeypatch):
    """In training both passes must agree, so there the switches are set around them."""
    seen = []

    class Layer(nn.GRU):
        def forward(self, *given):
            seen.append(BACKENDS.cudnn.rnn.fp32_precision)
            return super().forward(*given)

    gru, x, state = Layer(2, 3), torch.zeros(4, 1, 2), (torch.zeros(1, 3),)
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    assert torch_rnn._follows_products(on_gpu) is False and not torch_rnn._follows_products(state[0])
    with torch.no_grad():
        assert torch_rnn._follows_products(on_gpu) and not torch_rnn._follows_products(state[0])
        torch_rnn.run(gru, x, state, None)
        monkeypatch.setattr(torch_rnn, "_follows_products", lambda tensor: True)
        torch_rnn.run(gru, x, state, None)
        with float32_products("tf32"):
            torch_rnn.run(gru, x, state, None)
    assert seen == [
        "tf32",
        "ieee",
        "tf32",
    ]  # torch's own choice, that of its products, and the one that was set


def test_tf32_is_refused_on_a_cpu():
    for name in ("float32", "bfloat16"):
        check_precision(name, torch.device("cpu"))
        check_precision(name, torch.device("cuda"))
    check_precision("tf32", torch.device("cuda:1"))
    with pytest.raises(Refused) as caught:
        check_precision("tf32", torch.device("cpu"))
    assert str(caught.value) == (
        "precision: expected float32 or bfloat16 on a CPU, found tf32; take one of these, or device cuda: "
        "TF32 is a type of an NVIDIA GPU's products"
    )


def test_products_of_a_cpu_are_float32_in_either():
    x, weight = torch.randn(70, 65), torch.randn(99, 65)
    expected = nn.functional.linear(x, weight)
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"
    for kind in ("ieee", "tf32"):
        with float32_products(kind):
            assert torch.equal(nn.functional.linear(x, weight), expected)
