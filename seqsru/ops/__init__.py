"""Tensors in, tensors out: the scans, their backends, matrix products. Importing this imports no numba."""

from seqsru.ops.backends import Backend, backend_status
from seqsru.ops.calls import Activation
from seqsru.ops.loops import mgu_loop, pru_loop
from seqsru.ops.products import apply_linear, linear
from seqsru.ops.scan import linear_scan, sru_scan
from seqsru.ops.watchers import recorded, transformed

__all__ = [
    "Activation",
    "Backend",
    "apply_linear",
    "backend_status",
    "linear",
    "linear_scan",
    "mgu_loop",
    "pru_loop",
    "recorded",
    "sru_scan",
    "transformed",
]
