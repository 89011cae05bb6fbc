"""Tensors in, tensors out: the scans, their backends, matrix products. Importing this imports no numba."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.ops.backends import Backend as Backend
    from seqsru.ops.backends import backend_status as backend_status
    from seqsru.ops.calls import Activation as Activation
    from seqsru.ops.elementwise import pointwise as pointwise
    from seqsru.ops.loops import mgu_loop as mgu_loop
    from seqsru.ops.loops import pru_loop as pru_loop
    from seqsru.ops.products import apply_linear as apply_linear
    from seqsru.ops.products import linear as linear
    from seqsru.ops.products import product_dtype as product_dtype
    from seqsru.ops.products import product_weight as product_weight
    from seqsru.ops.scan import linear_scan as linear_scan
    from seqsru.ops.scan import product_scan as product_scan
    from seqsru.ops.scan import scans_both as scans_both
    from seqsru.ops.scan import sru_scan as sru_scan
    from seqsru.ops.watchers import recorded as recorded
    from seqsru.ops.watchers import transformed as transformed

# Where what needs torch is: importing it takes a second.
_PLACES = {
    "Activation": "calls",
    "Backend": "backends",
    "apply_linear": "products",
    "backend_status": "backends",
    "linear": "products",
    "linear_scan": "scan",
    "mgu_loop": "loops",
    "pointwise": "elementwise",
    "product_dtype": "products",
    "product_scan": "scan",
    "product_weight": "products",
    "pru_loop": "loops",
    "recorded": "watchers",
    "scans_both": "scan",
    "sru_scan": "scan",
    "transformed": "watchers",
}

__all__ = [
    "Activation",
    "Backend",
    "apply_linear",
    "backend_status",
    "linear",
    "linear_scan",
    "mgu_loop",
    "pointwise",
    "product_dtype",
    "product_scan",
    "product_weight",
    "pru_loop",
    "recorded",
    "scans_both",
    "sru_scan",
    "transformed",
]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.ops.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.ops' has no attribute {name!r}")
