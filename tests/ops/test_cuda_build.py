"""Which kernel a call is for, its grid, and its code on disk: without a compiler."""

import pytest
import torch

from seqsru.ops import compiled
from seqsru.ops.calls import HIGHWAY, KEEP, LinearForward, SruForward, steps
from seqsru.ops.cuda_build import Variant, blocks, variant


def sru_call(dtype, D=6, x=None, first=0, u=None):
    def zeros(*shape, kind=torch.float32):
        size = torch.Size(shape).numel()
        return torch.zeros(first + size, dtype=kind)[first:].view(shape)

    u = zeros(3, 2, 3, D, kind=dtype) if u is None else u
    x = torch.zeros(3, 2, 2 * D, dtype=dtype)[:, :, D:] if x is None else x
    return SruForward(
        u, zeros(2, D), x, None, zeros(2, D), None, None, u, None, None, 3, 2, 3, D, *steps(x), 1, 1.0
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_two_features_a_thread_where_words_of_two_are_aligned(dtype):
    options = HIGHWAY | KEEP
    assert variant(sru_call(dtype), options) == Variant(1, options, 2)
    assert variant(sru_call(dtype, D=7), options).lanes == 1
    assert variant(sru_call(dtype, first=1), options).lanes == 1  # states on 4 bytes, not on 8
    apart = torch.zeros(3, 2, 13, dtype=dtype)[:, :, :6]  # rows of an odd length
    assert variant(sru_call(dtype, x=apart), options).lanes == 1
    beside = torch.zeros(3, 2, 14, dtype=dtype)[:, :, 1:7]  # begins between two words
    assert variant(sru_call(dtype, x=beside), options).lanes == 1
    odd = torch.zeros(1 + 3 * 2 * 3 * 6, dtype=dtype)[1:].view(3, 2, 3, 6)
    assert variant(sru_call(dtype, u=odd), options).lanes == 1


def test_other_types_and_the_linear_scan():
    assert variant(sru_call(torch.float32), 0) == Variant(1, 0, 1)
    a, c = torch.zeros(3, 2, 4, dtype=torch.bfloat16), torch.zeros(2, 4)
    call = LinearForward(a, c, a, torch.zeros(3, 2, dtype=torch.bool), a, c, None, 3, 2, 4)
    assert variant(call, KEEP) == Variant(0, KEEP, 2)


@pytest.mark.parametrize(
    "B, D, lanes, expected",
    [
        (32, 910, 1, 480),
        (32, 910, 2, 256),
        (5, 64, 1, 5),
        (5, 65, 1, 10),
        (7, 20, 1, 3),  # three rows of a block
        (7, 20, 2, 2),
        (65, 1, 1, 2),
    ],
)
def test_the_grid_covers_every_row(B, D, lanes, expected):
    assert blocks(B, D, 4, lanes) == (expected, 4)


@pytest.mark.parametrize("B, D", [(0, 4), (4, 0)])
def test_no_grid_for_nothing(B, D):
    assert blocks(B, D, 1, 1) == (0, 0)


def test_code_is_made_once_and_again_where_it_is_damaged(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
    made = []

    def make():
        made.append(1)
        return "name", bytes(range(256))

    for _ in range(2):
        assert compiled.kept("kernel", ("source",), make) == ("name", bytes(range(256)))
    assert len(made) == 1
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="is damaged; it is made anew"):
        assert compiled.kept("kernel", ("source",), make)[1] == bytes(range(256))
    assert len(made) == 2
    compiled.kept("kernel", ("another source",), make)
    assert len(made) == 3 and len(list(tmp_path.iterdir())) == 2
