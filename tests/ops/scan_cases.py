"""Generated arguments for the scans, and their results by the definition in float64."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqsru.ops import linear_scan, sru_scan
from seqsru.ops.calls import ACTIVATIONS
from seqsru.ops.reference import linear_loop, sru_loop

HIGHWAYS = ("identity", "project", "none")
VARIANTS = [
    (version, highway, activation, masked, padded)
    for version in (1, 2)
    for highway in HIGHWAYS
    for activation in ACTIVATIONS
    for masked in (False, True)
    for padded in (False, True)
]


@dataclass(frozen=True)
class Case:
    """Arguments of one scan by name, and the gradients that its two outputs receive."""

    tensors: dict[str, Tensor | None]
    options: dict[str, object]
    gh: Tensor
    gc_last: Tensor

    def to(self, dtype: torch.dtype) -> Case:
        """The same case in another dtype; states, v and b stay float32 beside a half one."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32

        def cast(name, tensor):
            if tensor is None or name == "valid":
                return tensor
            return tensor.to(wide if name in ("c0", "v") or (name == "b" and "u" in self.tensors) else dtype)

        return replace(
            self,
            tensors={name: cast(name, value) for name, value in self.tensors.items()},
            gh=self.gh.to(dtype),
            gc_last=self.gc_last.to(wide),
        )

    def differentiable(self) -> list[str]:
        """Names of the tensors that are given a gradient."""
        return [
            name
            for name, value in self.tensors.items()
            if value is not None and name not in ("mask", "valid")
        ]

    def run(self, scan, **more) -> dict[str, Tensor]:
        """Outputs, final state and every gradient of `scan` on this case, by name."""
        given = {name: None if value is None else value.detach() for name, value in self.tensors.items()}
        wanted = self.differentiable()
        for name in wanted:
            given[name].requires_grad_()
        h, c_last = scan(**given, **self.options, **more)
        gradients = torch.autograd.grad(
            [h, c_last], [given[name] for name in wanted], [self.gh, self.gc_last]
        )
        results = {"h": h.detach(), "c_last": c_last.detach()}
        return results | {f"g{name}": gradient for name, gradient in zip(wanted, gradients)}


def sru_case(
    seed: int,
    T: int,
    B: int,
    D: int,
    version: int = 2,
    highway: str = "identity",
    activation: str = "identity",
    masked: bool = False,
    padded: bool = False,
    poison: bool = True,
) -> Case:
    """Random arguments in float64. With `padded`, rows end early, one at 0, and hold NaN from there on.

    v is small enough that the recurrence forgets its rounding errors: with larger weights it is chaotic, and
    two exact float32 programs differ by ten times the tolerance after 60 steps.
    """
    make = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=make, dtype=torch.float64)

    u, gh = normal(T, B, 4 if highway == "project" else 3, D), normal(T, B, D)
    x = normal(T, B, 3 * D)[:, :, D : 2 * D] if highway == "identity" else None
    valid = _prefixes(T, B, make) if padded else None
    if valid is not None and poison:
        for tensor in (u, x, gh):
            if tensor is not None:
                tensor[~valid] = float("nan")
    mask = (torch.rand(B, D, generator=make) < 0.8).double() / 0.8 if masked else None
    v = 0.5 * normal(2, D) if version == 2 else None
    tensors = {"u": u, "x": x, "c0": normal(B, D), "v": v, "b": normal(2, D), "mask": mask, "valid": valid}
    options = {"activation": activation, "scale": 1.5 if highway == "identity" else 1.0}
    return Case(tensors, options, gh, normal(B, D))


def linear_case(seed: int, T: int, B: int, D: int, padded: bool = False, poison: bool = True) -> Case:
    """Random arguments in float64, padded as those of `sru_case`."""
    make = torch.Generator().manual_seed(seed)
    a = torch.rand(T, B, D, generator=make, dtype=torch.float64)
    b, gh = (torch.randn(T, B, D, generator=make, dtype=torch.float64) for _ in range(2))
    c0, gc_last = (torch.randn(B, D, generator=make, dtype=torch.float64) for _ in range(2))
    valid = _prefixes(T, B, make) if padded else None
    if valid is not None and poison:
        for tensor in (a, b, gh):
            tensor[~valid] = float("nan")
    return Case({"a": a, "b": b, "c0": c0, "valid": valid}, {}, gh, gc_last)


def _prefixes(T: int, B: int, make: torch.Generator) -> Tensor:
    lengths = torch.randint(0, T + 1, (B,), generator=make)
    lengths[0] = T * (B % 2)  # all of it, or an all-padding row
    return torch.arange(T)[:, None] < lengths


def random_shape(seed: int) -> tuple[int, int, int]:
    """T, B, D: among them 1, odd numbers, and D on both sides of a kernel's tile of 256."""
    pick = random.Random(seed)
    T, B = pick.choice((1, 1, 2, 3, 7, 20, 33)), pick.choice((1, 1, 2, 3, 5, 8))
    return T, B, pick.choice((1, 2, 3, 7, 8, 15, 33, 64, 100, 127, 255, 256, 257, 300, 513))


def sru_definition(u, x, c0, v, b, *, mask, valid, activation, scale):
    """`sru_scan` by the loop that defines it, differentiated by autograd."""
    h, c_last, _ = sru_loop(u, x, c0, v, b, mask, valid, ACTIVATIONS[activation], scale)
    return h, c_last


def linear_definition(a, b, c0, *, valid):
    """`linear_scan` by the loop that defines it, differentiated by autograd."""
    out, c_last, _ = linear_loop(a, b, c0, valid)
    return out, c_last


def scan_and_definition(case: Case):
    """The scan that a case is for, and the loop that defines it."""
    return (sru_scan, sru_definition) if "u" in case.tensors else (linear_scan, linear_definition)


ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # half the distance of neighbours


def assert_close(found: dict[str, Tensor], exact: dict[str, Tensor], forward: float, backward: float) -> None:
    """Each |a − b| is at most tolerance · max(1, max|b|), and one rounding more where a is half precision."""
    assert found.keys() == exact.keys()
    for name, b in exact.items():
        a = found[name]
        assert a.shape == b.shape, name
        if b.numel():
            allowed = (backward if name.startswith("g") else forward) * b.abs().max().clamp(min=1.0)
            allowed = allowed + ROUNDING.get(a.dtype, 0.0) * b.abs()
            excess = ((a.double() - b).abs() / allowed).max().item()
            assert excess <= 1.0, f"{name}: {excess:.3g} times the tolerance"
