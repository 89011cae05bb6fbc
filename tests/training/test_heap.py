"""Freed memory stays with the process: the pages that a large block touches anew, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from seqsru.training import heap
kept = heap.keep_freed() if sys.argv[1] == "kept" else None
def faults():
    for _ in range(3):
        torch.ones(16 << 20)  # 64 MiB: more than glibc ever keeps by itself
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults())
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")


def _faults(how: str, **environment: str) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    said = subprocess.run(
        [sys.executable, "-c", FAULTS, how], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, faults = said.stdout.split()
    return kept, int(faults)


@glibc
def test_a_freed_block_is_reused_without_a_new_page() -> None:
    _, anew = _faults("not")
    kept, reused = _faults("kept")
    assert kept == "True"
    assert anew > 4 * 1024  # at least a page for each of the largest huge pages' parts
    assert reused < anew / 50


@glibc
@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=100"}]
)
def test_what_the_user_has_set_stays(environment: dict[str, str]) -> None:
    kept, faults = _faults("kept", **environment)
    assert kept == "False"
    assert faults > 4 * 1024


def test_another_system_keeps_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqsru.training import heap

    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)

    class Musl:
        """A library without those names."""

    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: Musl())
    assert heap.keep_freed() is False
