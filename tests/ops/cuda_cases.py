"""Cases for the CUDA scans, and how far a backend is from the float64 reference on each.

Used by the simulator's process, by the small PTX machine, and by the tests that need a GPU.
"""

from __future__ import annotations

import itertools
import zlib
from typing import NamedTuple

import torch

from seqsru.ops import reference
from seqsru.ops.calls import ACTIVATIONS

# One rounding of a half type, and what the arithmetic before it may move.
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
FORWARD = {torch.float64: 1e-12, torch.float32: 2e-6}
BACKWARD = {torch.float64: 1e-12, torch.float32: 1e-5}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Case(NamedTuple):
    """Shape and variant of one scan; `highway` is identity, project, none, or linear for the other scan.

    With `both` the second half of the features goes back in time.
    """

    dtype: torch.dtype
    T: int
    B: int
    D: int
    highway: str
    activation: int = 0
    version: int = 2
    mask: bool = False
    valid: bool = False
    both: bool = False

    def __str__(self) -> str:
        parts = [
            str(self.dtype).removeprefix("torch."),
            f"{self.T}x{self.B}x{self.D}",
            self.highway,
            list(ACTIVATIONS)[self.activation],
            f"v{self.version}",
        ]
        return "-".join(parts + ["mask"] * self.mask + ["valid"] * self.valid + ["both"] * self.both)


def every_variant(dtype: torch.dtype) -> list[Case]:
    """All combinations of options, on shapes that take turns: T above and below the steps in flight, 1, 0."""
    shapes = itertools.cycle([(4, 2, 3), (1, 3, 5), (5, 1, 4), (3, 2, 1), (0, 2, 3), (9, 2, 2), (2, 3, 4)])
    highways, either = ("identity", "project", "none"), (False, True)
    options = itertools.product(highways, ACTIVATIONS.values(), (2, 1), either, either)
    cases = [Case(dtype, *next(shapes), *option) for option in options]
    return cases + [Case(dtype, *next(shapes), "linear", valid=valid) for valid in (False, True) * 7]


def some_variants(dtype: torch.dtype) -> list[Case]:
    """Every third of `every_variant`, which meets each option and each shape, and a grid of two blocks."""
    return every_variant(dtype)[::3] + [Case(dtype, 2, 3, 23, "project", 1, 2, True, True)]


def whole_groups(dtype: torch.dtype) -> list[Case]:
    """Scans of whole groups of steps: none, one, two and more of them, with a tail and without."""
    sru = [(8, 1, 3), (9, 2, 4), (16, 1, 2), (17, 1, 5), (3, 1, 66), (2, 33, 2), (13, 1, 1)]
    variants = [("identity", 0, 2, True, True), ("project", 1, 1, False, False), ("none", 2, 2, False, True)]
    linear = [(9, 1, 3), (16, 2, 2), (22, 1, 2), (33, 1, 4), (66, 1, 1)]
    return [Case(dtype, *shape, *variants[i % 3]) for i, shape in enumerate(sru)] + [
        Case(dtype, *shape, "linear", valid=bool(i % 2)) for i, shape in enumerate(linear)
    ]


def both_directions(dtype: torch.dtype) -> list[Case]:
    """Scans whose second half of the features goes back in time, with every option among them."""
    shapes = itertools.cycle([(4, 2, 4), (1, 3, 2), (5, 1, 6), (0, 2, 4), (9, 2, 8), (17, 1, 2), (2, 33, 2)])
    options = itertools.product(("identity", "project", "none"), (0, 1, 2), (2, 1), *((False, True),) * 2)
    cases = [Case(dtype, *next(shapes), *option, True) for option in options]
    wide = [(3, 1, 132, "project", 0, 2, True, True), (2, 1, 136, "identity", 1, 1, False, True)]
    # Steps that share no factor with the number of options: each value of each option is among them.
    return cases[:: 5 if dtype == torch.float32 else 11] + [Case(dtype, *case, True) for case in wide]


def time_parallel(dtype: torch.dtype) -> list[Case]:
    """Scans that can be cut in time, of more and of fewer steps than a chunk, of a multiple of it and not."""
    return [
        Case(dtype, T, 2, 3, "linear", valid=valid) for T in (1, 2, 5, 8, 11) for valid in (False, True)
    ] + [
        Case(dtype, 7, 2, 3, "identity", 0, 1, True, True),
        Case(dtype, 8, 1, 5, "project", 1, 1, False, True),
        Case(dtype, 9, 3, 2, "none", 2, 1, True, False),
        Case(dtype, 0, 2, 3, "identity", 0, 1),
        Case(dtype, 37, 1, 2, "project", 0, 1, False, True),
        Case(dtype, 37, 1, 2, "linear"),
        Case(dtype, 11, 2, 4, "identity", 0, 1, True, True, True),
        Case(dtype, 37, 1, 4, "project", 0, 1, False, False, True),
    ]


def distances(module, case: Case, device: str = "cpu") -> dict[str, float]:
    """Largest error of each output and gradient of `module` on a case, in units of what is allowed there.

    The inputs of invalid steps are NaN, and so is the gradient of their outputs; the first row is padding.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(str(case).encode()))
    T, B, D, dtype = case.T, case.B, case.D, case.dtype
    wide = reference.accumulation_dtype(dtype)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    valid = None
    if case.valid:
        valid = torch.rand(T, B, generator=generator) < 0.7
        valid[:, 0] = False

    def poisoned(tensor):
        """In the case's dtype, NaN at invalid steps."""
        if valid is not None:
            tensor[~valid] = float("nan")
        return tensor.to(dtype)

    c0, gc_last = normal(B, D).to(wide), normal(B, D).to(wide)
    gout = poisoned(normal(T, B, D))
    if case.highway == "linear":
        given = (poisoned(normal(T, B, D).sigmoid()), poisoned(normal(T, B, D)), c0, valid)
        forward, backward = "linear_forward", "linear_backward"
    else:
        # Over many steps large gates make the recurrence chaotic: two right answers drift apart.
        size, weight = (2, 0.5) if T < 10 else (1, 0.3)
        k = 4 if case.highway == "project" else 3
        u = poisoned(size * (normal(T, B, 2, k, D // 2) if case.both else normal(T, B, k, D)))
        x = poisoned(normal(T, B, 3 * D))[:, :, D : 2 * D] if case.highway == "identity" else None
        v = (weight * normal(2, D)).to(wide) if case.version == 2 else None
        mask = ((normal(B, D) > -1) * 1.25).to(dtype) if case.mask else None
        b, scale = normal(2, D).to(wide), 1.0 if x is None else 1.5
        given = (u, x, c0, v, b, mask, valid, case.activation, scale)
        forward, backward = "sru_forward", "sru_backward"

    def after(gout, gc_last, given, c):
        """Arguments of the backward function."""
        if case.highway == "linear":
            a, _, c0, valid = given
            return gout, gc_last, a, c0, c, valid
        return gout, gc_last, *given[:7], c, *given[7:]

    here = [place(value, device) for value in given]
    got = getattr(module, forward)(*here, True)
    unkept = getattr(module, forward)(*here, False)
    assert unkept[2] is None and all(torch.equal(a, b) for a, b in zip(got[:2], unkept[:2]))
    got += getattr(module, backward)(*after(gout.to(device), gc_last.to(device), here, got[2]))
    exact = [to_double(value) for value in given]
    want = getattr(reference, forward)(*exact, True)
    want += getattr(reference, backward)(*after(to_double(gout), to_double(gc_last), exact, want[2]))
    gradients = ["ga", "gb", "gc0"] if case.highway == "linear" else ["gu", "gx", "gc0", "gv", "gb"]
    result = {}
    for name, a, b in zip(["out", "c_last", "c", *gradients], got, want, strict=True):
        assert (a is None) == (b is None), name
        if a is not None and b.numel():
            assert a.shape == b.shape and a.dtype in (dtype, wide), name
            result[name] = distance(a.cpu(), b, (BACKWARD if name in gradients else FORWARD)[wide])
    return result


def distance(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> float:
    """max |a - b| over what is allowed: tolerance * max(1, max |b|), and one rounding for a half type."""
    allowed = tolerance * b.abs().max().clamp(min=1) + ROUNDING.get(a.dtype, 0.0) * b.abs()
    worst = ((a.double() - b).abs() / allowed).max().item()
    return worst if worst == worst else float("inf")


def place(value, device: str):
    """Copy a tensor to a device with its strides: x must stay a slice of a wider tensor."""
    if not isinstance(value, torch.Tensor) or value.is_contiguous() or device == "cpu":
        return value.to(device) if isinstance(value, torch.Tensor) else value
    width = value.stride(1)
    return value.as_strided((*value.shape[:-1], width), value.stride(), 0).to(device)[
        :, :, value.storage_offset() : value.storage_offset() + value.shape[2]
    ]


def to_double(value):
    """Widen a tensor of numbers, exactly."""
    return value.double() if isinstance(value, torch.Tensor) and value.dtype != torch.bool else value
