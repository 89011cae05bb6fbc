"""Which of the products' instructions this processor has; asked once."""

from __future__ import annotations

import os

import llvmlite.binding as llvm

from seqsru.engine.products import DOTS

# The feature that each needs, best first.
NEEDS = {"avx512vnni": ("avx512vnni", "avx512vl"), "avxvnni": ("avxvnni",), "avx2": ("avx2",), "dotprod": ("dotprod",)}


def available() -> list[str]:
    """Return the names in `DOTS` of what this processor can run, best first."""
    features = llvm.get_host_cpu_features()
    found = [name for name, needs in NEEDS.items() if all(features.get(need, False) for need in needs)]
    return [*found, "portable"]


def chosen() -> str:
    """Return the instructions to use: the best, or what SEQSRU_DOT names, for tests."""
    wanted = os.environ.get("SEQSRU_DOT", "")
    return wanted if wanted in DOTS else available()[0]


DOT = chosen()
TOGETHER = DOTS[DOT][4]
