"""What several processes that answer a command share: the lines of a text, and one output, in order.

Nothing here needs torch where `torchrun` did not start the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def several() -> bool:
    """Whether `torchrun` started this program as one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1) > 1


def leads() -> bool:
    """Whether this process is the one that reads standard input, writes and tells."""
    return not several() or os.environ.get("RANK", "0") == "0"


def shared(function: Callable[[Any], Sequence[T]], items: Sequence[Any]) -> list[T]:
    """Results for items that all processes have, in order, each from the process whose turn it is.

    Parameters
    ----------
    function : callable
        Items to a result each.
    items : sequence
    """
    if not several():
        return list(function(items))
    from seqsru.training.processes import joined

    return joined().map(function, items)


def read_once(parts: Iterable[T]) -> Iterator[T]:
    """What the first process reads, part by part, for all of them."""
    if not several():
        yield from parts
        return
    from seqsru.training.processes import joined

    processes = joined()
    source = iter(parts) if processes.leads else iter(())
    while (part := processes.first(lambda: next(source, None))) is not None:
        yield part
