"""Pages of memory of 2 MiB, for the commands that compute gradients."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What the kernel does with them: "always [madvise] never", say.
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask_for_huge_pages() -> None:
    """Have torch ask for pages of 2 MiB, which it looks up before its first tensor on a CPU.

    Gradients and what an update casts are allocated anew each time, and every page of 4 KiB of them costs a
    fault. What the user has set stays; where there are no such pages, asking for them would only be told of.
    """
    if "torch" in sys.modules:
        return
    try:
        given = HUGE_PAGES.read_text(encoding="ascii")
    except (OSError, ValueError):
        return
    if "[madvise]" in given or "[always]" in given:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
