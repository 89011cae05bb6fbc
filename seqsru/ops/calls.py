"""What each kernel is given: its arguments in their order, and the codes and bits among them.

The order is that of the fields and is written nowhere else. A backend fills in a call; a CPU kernel finds its
arguments by `places`, a CUDA kernel has parameters of these names, and its signature follows from what the
fields are said to hold. Tensors come first, and of these the two that every kernel needs: one in the dtype of
the input, one in that of the arithmetic. From them a CPU kernel learns the two types.

Shapes are those of the backend contract in `reference`, but for what `cuda_kernels` says of time in chunks.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

from torch import Tensor

Activation = Literal["identity", "tanh", "relu"]
# Values of the argument `activation`.
ACTIVATIONS: dict[str, int] = {name: code for code, name in enumerate(get_args(Activation))}
IDENTITY, TANH, RELU = ACTIVATIONS.values()

# Bits of the argument `options` of the CUDA kernels: what is given, and in CARRY and BOTH what is to be done.
VECTOR, MASK, VALID, HIGHWAY, KEEP, CARRY, BOTH = 1, 2, 4, 8, 16, 32, 64
GIVEN = {"v": VECTOR, "mask": MASK, "valid": VALID, "x": HIGHWAY, "c": KEEP}

# A target of the output layer that leaves its row out: no index of a vocabulary, and no other program's mark.
LEFT_OUT = -(1 << 63)

# What a field holds. A tensor that is absent is None, and 0 as an address.
Elements = Annotated[Tensor | None, "elements"]  # in the dtype of the input
Reals = Annotated[Tensor | None, "reals"]  # in that of the arithmetic
Bytes = Annotated[Tensor | None, "bytes"]  # bool
Indices = Annotated[Tensor | None, "indices"]  # int64
Size = Annotated[int, "size"]
Code = Annotated[int, "code"]
Real = Annotated[float, "real"]
NUMBERS = ("size", "code", "real")


class SruForward(NamedTuple):
    """Equations (1) to (4) of `reference`."""

    u: Elements
    c0: Reals
    x: Elements
    v: Reals
    b: Reals
    mask: Elements
    valid: Bytes
    h: Elements
    c_last: Reals
    c: Reals  # absent where the states are not kept
    T: Size
    B: Size
    k: Size
    D: Size
    x_step: Size
    x_row: Size
    activation: Code
    scale: Real


class SruBackward(NamedTuple):
    """Equations (5) to (11); gv and gb, (2, B, D), are not yet summed over rows."""

    u: Elements
    c0: Reals
    x: Elements
    v: Reals
    b: Reals
    mask: Elements
    valid: Bytes
    c: Reals
    gh: Elements
    gc_last: Reals
    gu: Elements
    gx: Elements
    gc0: Reals
    gv: Reals
    gb: Reals
    T: Size
    B: Size
    k: Size
    D: Size
    x_step: Size
    x_row: Size
    activation: Code
    scale: Real


class LinearForward(NamedTuple):
    """``c = a * c + b``."""

    a: Elements
    c0: Reals
    b: Elements
    valid: Bytes
    out: Elements
    c_last: Reals
    c: Reals  # absent where the states are not kept
    T: Size
    B: Size
    D: Size


class LinearBackward(NamedTuple):
    """The gradients of a, b and c0; `factors` is for time in chunks."""

    a: Elements
    c0: Reals
    valid: Bytes
    c: Reals
    gout: Elements
    gc_last: Reals
    ga: Elements
    gb: Elements
    gc0: Reals
    factors: Reals
    T: Size
    B: Size
    D: Size


class ChunkStates(NamedTuple):
    """The state before each of C chunks of a scan, from that at one end of time; see `cuda_chunks`."""

    factors: Reals
    found: Reals
    known: Reals
    states: Reals
    C: Size
    plane: Size
    backward: Code


class SoftmaxCrossEntropy(NamedTuple):
    """Equations 1 to 4 of `linear_cross_entropy`, in place of the logits where `gradient` is not 0."""

    logits: Elements
    nll: Reals
    bias: Reals
    targets: Indices
    spread: Reals
    V: Size
    gradient: Code
    smoothing: Real


class ColumnSums(NamedTuple):
    """The sum of each column of a table of N rows of V."""

    rows: Elements
    sums: Reals
    N: Size
    V: Size


Scan = SruForward | SruBackward | LinearForward | LinearBackward
SCANS: tuple[type[Scan], ...] = get_args(Scan)
Call = Scan | ChunkStates | SoftmaxCrossEntropy | ColumnSums


def steps(x: Tensor | None) -> tuple[int, int]:
    """Return x_step and x_row: elements from one time step, and from one row, to the next."""
    return (0, 0) if x is None else (x.stride(0), x.stride(1))


def given(**tensors: Tensor | None) -> int:
    """Return the bits of `options` for tensors by the names of their fields: of those that are not empty."""
    options = 0
    for name, tensor in tensors.items():
        if tensor is not None and tensor.numel():
            options |= GIVEN[name]
    return options


class Layout(NamedTuple):
    """How the fields of a call lie side by side."""

    kinds: tuple[str, ...]  # what each holds: elements, reals, bytes, indices, size, code or real
    tensors: int  # how many, the first, are tensors
    packing: struct.Struct


def _layout(call: type[Call]) -> Layout:
    hints = get_type_hints(call, include_extras=True)
    kinds = tuple(hints[name].__metadata__[0] for name in call._fields)
    packing = struct.Struct("".join("d" if kind == "real" else "q" for kind in kinds))
    return Layout(kinds, sum(kind not in NUMBERS for kind in kinds), packing)


LAYOUTS: dict[type[Call], Layout] = {call: _layout(call) for call in get_args(Call)}


def parts(call: Call) -> tuple[tuple[Tensor | None, ...], tuple[float, ...]]:
    """Return the tensors and the numbers of a call."""
    count = LAYOUTS[type(call)].tensors
    fields: tuple[Any, ...] = call
    return fields[:count], fields[count:]


def places(call: type[Call]) -> Any:
    """Return a call whose fields hold their own places in the order."""
    fields: tuple[Any, ...] = tuple(range(len(call._fields)))
    return call._make(fields)


def packed(call: type[Call], addresses: Sequence[int], numbers: Sequence[float]) -> array[int]:
    """Return a call as the 64-bit integers that a CPU kernel reads, floating-point numbers by their bits."""
    return array("q", LAYOUTS[call].packing.pack(*addresses, *numbers))
