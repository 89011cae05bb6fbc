"""Which of the products' instructions this processor has; asked once."""

from __future__ import annotations

import os

import llvmlite.binding as llvm

# The features that each kind of dot product needs, best first; `products` has one of each name. AVX-VNNI's
# instruction is also in AVX512-VNNI's vectors of 256 bits.
NEEDS = {
    "avx512vnni": ("avx512vnni", "avx512vl", "avx512bw"),
    "avxvnni": ("avxvnni",),
    "avx2": ("avx2",),
    "dotprod": ("dotprod",),
    "portable": (),
}


def available() -> list[str]:
    """Return the kinds of dot product that this processor can run, best first."""
    features = llvm.get_host_cpu_features()
    return [name for name, needs in NEEDS.items() if all(features.get(need, False) for need in needs)]


def chosen() -> str:
    """Return the kind to use: the best there is, or what SEQSRU_DOT names, which is for tests."""
    wanted = os.environ.get("SEQSRU_DOT", "")
    return wanted if wanted in available() else available()[0]


DOT = chosen()
