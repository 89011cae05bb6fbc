"""Several processes that do one work, as `torchrun` starts them: what they tell one another, and who leads.

torch's own means do the work: `torch.distributed` (gloo on a CPU, nccl between GPUs) and, for gradients,
`DistributedDataParallel`. A program that `torchrun` did not start is `ALONE`, and asks nobody.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from seqsru.errors import Elsewhere, Refused
from seqsru.training.watch import AGAIN, Watch

T = TypeVar("T")
LONG = timedelta(days=30)  # who waits is told by `Watch` that nobody comes, not by a clock
# What torch's errors of a lost connection have in common: they are plain RuntimeErrors.
LOST = ("gloo", "nccl", "connection", "peer", "socket", "store")


class Processes:
    """All processes of a work, seen from one of them.

    Parameters
    ----------
    rank : int
        Number of this process, from 0.
    count : int
        How many there are.
    watch : Watch, optional
        What sees to it that none waits for one that has gone.
    """

    def __init__(self, rank: int = 0, count: int = 1, watch: Watch | None = None) -> None:
        self.rank, self.count, self._watch = rank, count, watch

    @property
    def several(self) -> bool:
        """Whether there is anybody to ask."""
        return self.count > 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """Share of this process, out of items that all have."""
        return items[self.rank :: self.count]

    def part(self, rows: int) -> tuple[int, int]:
        """First row, and the one after the last, of this process's share of so many neighbours."""
        return self.rank * rows // self.count, (self.rank + 1) * rows // self.count

    def every(self, value: T, *, at_once: bool = False) -> list[T]:
        """What each process gave, in their order; a point that none passes before all have come.

        Parameters
        ----------
        value : object
        at_once : bool
            Whether the others are known to come soon, so that one that does not has stopped.
        """
        if not self.several:
            return [value]
        found: list[Any] = [None] * self.count
        with self.guarded(), self.watched(at_once):
            dist.all_gather_object(found, value)
        return found

    def sums(self, *values: float, at_once: bool = True) -> list[float]:
        """The sum over all processes of each number; ``at_once`` as for `every`."""
        if not self.several:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        with self.guarded(), self.watched(at_once=at_once):
            dist.all_reduce(numbers)
        return list(map(float, numbers.tolist()))

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a tensor on a device, without waiting for that."""
        with self.guarded():
            dist.all_reduce(tensor)
        return tensor

    def first(self, make: Callable[[], T]) -> T:
        """What the process that leads makes, while the others wait; what it refuses, all refuse."""
        if not self.several:
            return make()
        made: list[Any] = [None, None]
        if self.leads:
            try:
                made[0] = make()
            except (Refused, OSError) as error:
                made[1] = str(error)
                self._tell(made)
                raise
        self._tell(made)
        if made[1] is not None:
            raise Elsewhere("process 0 to go on", f"that it refused ({made[1]})", "see what it said")
        result: T = made[0]
        return result

    def map(self, function: Callable[[list[Any]], Sequence[T]], items: Sequence[Any]) -> list[T]:
        """Results for items that all have, in their order: each process works on a share of them."""
        if not self.several:
            return list(function(list(items)))
        results: list[Any] = [None] * len(items)
        for rank, share in enumerate(self.every(list(function(list(self.mine(items)))))):
            results[rank :: self.count] = share
        return results

    def _tell(self, made: list[Any]) -> None:
        with self.guarded(), self.watched(at_once=False):
            dist.broadcast_object_list(made, src=0)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Tell in one sentence that another process has gone, where torch's error says that it lost one."""
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            text = str(error)
            if not self.several or not any(word in text.lower() for word in LOST):
                raise
            raise Refused(
                f"all {self.count} processes to go on",
                f"that one of them has gone, as process {self.rank} sees it",
                f"see above what ended it; {AGAIN}",
            ) from error

    @contextmanager
    def watched(self, at_once: bool) -> Iterator[None]:
        """Around a meeting: see to it that all come; ``at_once`` as for `every`."""
        assert self._watch is not None
        with self._watch.waiting(at_once):
            yield


ALONE = Processes()


def local_rank() -> int:
    """Number of this process among those of its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0") or 0)


def joined() -> Processes:
    """The processes that `torchrun` started beside this one; `ALONE` where it did not.

    They are joined once, and left when the process ends: nobody finds those again who left.
    """
    if int(os.environ.get("WORLD_SIZE", "1") or 1) < 2:
        return ALONE
    if not _joined:
        _joined.append(_join())
    return _joined[0]


_joined: list[Processes] = []


def _join() -> Processes:
    absent = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if absent:
        do = "start them with torchrun, or leave WORLD_SIZE unset"
        raise Refused("RANK, MASTER_ADDR and MASTER_PORT beside WORLD_SIZE", f"no {absent[0]}", do)
    found, rank, count = next(rendezvous("env://"))
    # torchrun's store outlives a restart, and with it where the processes of the last attempt were.
    made: Any = dist  # whose types do not say all that it has
    store = made.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", found)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=LONG)
    watch = Watch(store.clone(), rank, count)
    watch.start()
    atexit.register(watch.stop)
    return Processes(rank, count, watch)


class _Loss(nn.Module):
    """A function of a model's as a module, which is what `DistributedDataParallel` reads."""

    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, *given: Any) -> Any:
        return self._loss(self.model, *given)


def shared_gradients(
    model: nn.Module, loss: Callable[..., Any], processes: Processes, example: tuple[Any, ...]
) -> nn.parallel.DistributedDataParallel:
    """A function of the model and more whose gradients all processes sum.

    Its backward pass leaves in every process the sum over all, unless it is in ``no_sync()``.

    Parameters
    ----------
    model : Module
        Without gradients; it has none afterwards.
    loss : callable
        Of the model and further arguments; gives what has the ``loss`` to go backward from.
    processes : Processes
    example : tuple
        Further arguments that it can be called with.
    """
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        loss(model, *example).loss.backward()
        idle = any(p.grad is None for p in model.parameters() if p.requires_grad)
        model.zero_grad()
        idle = any(processes.every(idle))
        shared = nn.parallel.DistributedDataParallel(_Loss(model, loss), find_unused_parameters=idle)
        shared.register_comm_hook(None, lambda _, bucket: _summed(bucket))  # torch checks any annotation
        # torch orders its buckets anew after the first pass. That is this one: in an update it would sum in
        # another order than in the next, and a run that goes on in another order than one that did not stop.
        shared(*example).loss.backward()
        model.zero_grad()
    return shared


def _summed(bucket: Any) -> torch.futures.Future[Tensor]:
    """Sum a bucket over all processes; torch would give the mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed
