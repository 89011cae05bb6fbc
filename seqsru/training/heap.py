"""Freed memory that stays with the process, so that the next update finds it as it was.

glibc asks the system anew for every block of more than some megabytes, such as the gradient of an embedding, and
gives it back when it is freed. The system clears each page when it is touched first, and a training touches the
same thousands of pages in every update.
"""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
KEPT = 2**31 - 1  # bytes of free memory at the heap's end, above which it is given back


def keep_freed() -> bool:
    """Let this process's `malloc` reuse large blocks instead of mapping each anew.

    What the user has set by `MALLOC_MMAP_MAX_` and the like, or by `GLIBC_TUNABLES`, stays.

    Returns
    -------
    bool
        Whether it does: not with another C library than glibc, nor where the user has set it.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018  # another library's mallopt may mean other things
    except (TypeError, OSError, AttributeError):  # Windows has no handle of None, macOS and musl no mallopt
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, KEPT))
