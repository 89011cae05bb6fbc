"""Tensors in, tensors out: the scans, their backends, matrix products. Importing this imports no numba."""
from seqsru.ops.backends import backend_status
from seqsru.ops.products import linear
from seqsru.ops.scan import linear_scan, sru_scan

__all__ = ["backend_status", "linear", "linear_scan", "sru_scan"]
