"""What float32 products are computed in, which torch says by switches of the whole process.

By its own choice torch computes a `linear` in IEEE float32 and cuDNN's recurrent layers in TF32, whose
products have 10 bits of mantissa. Here both follow one word. A switch holds for backward passes too, wherever
they run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from seqsru.errors import Refused

Products = Literal["ieee", "tf32"]

_lock = threading.Lock()
_wanted: list[Products] = []  # by those inside `float32_products` now; the last one holds
_before: list[str] = []  # what the switches were before the first of them


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse ``tf32`` on a CPU.

    torch has a switch for it there too, which most processors have no instructions for: the products would be
    those of float32, and the name a wrong one.
    """
    if precision == "tf32" and device.type != "cuda":
        raise Refused(
            f"float32 or bfloat16 on a {device.type.upper()}",
            "tf32",
            "take one of these, or device cuda: TF32 is a type of an NVIDIA GPU's products",
            "precision",
        )


@contextmanager
def float32_products(kind: Products) -> Iterator[None]:
    """Let products of float32 be IEEE float32 or TF32, on every device and in every layer.

    The switches are the process's: of several threads that ask for different ones, the last one holds.
    When the last of them has left, they are as they were. On a CPU they are IEEE float32 for either word.
    """
    with _lock:
        if not _wanted:
            _before[:] = [switch.fp32_precision for switch in _switches()]
        _wanted.append(kind)
        _set(kind)
    try:
        yield
    finally:
        with _lock:
            _wanted.reverse()
            _wanted.remove(kind)  # the last of its kind
            _wanted.reverse()
            if _wanted:
                _set(_wanted[-1])
            else:
                _restore(_before)


@contextmanager
def cudnn_as_products() -> Iterator[None]:
    """Let cuDNN compute float32 as torch's `linear` does, for a call that no backward pass follows."""
    rnn: Any = torch.backends.cudnn.rnn
    kind = products()
    if kind == ("tf32" if rnn.fp32_precision == "tf32" else "ieee"):
        yield
        return
    with float32_products(kind):
        yield


def products() -> Products:
    """Return what a GPU's products of float32 are computed in now."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def _switches() -> list[Any]:
    backends: Any = torch.backends  # torch has no types here
    mkldnn, cudnn = backends.mkldnn, backends.cudnn
    return [backends.cuda.matmul, cudnn.rnn, cudnn.conv, mkldnn.matmul, mkldnn.rnn, mkldnn.conv]


def _set(kind: Products) -> None:
    _restore([kind, kind, kind, "ieee", "ieee", "ieee"])


def _restore(values: list[str]) -> None:
    """Set the switches, and before them the older ones of the same meaning, which torch wants to agree."""
    backends: Any = torch.backends
    backends.cuda.matmul.allow_tf32 = values[0] == "tf32"
    backends.cudnn.allow_tf32 = values[1] == values[2] == "tf32"
    for switch, value in zip(_switches(), values):
        switch.fp32_precision = value
