"""The folder of one training run: the names in it, and the lock that lets one process write to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seqsru.data.files import sha256, unfinished, write_whole
from seqsru.data.lock import hold
from seqsru.data.tokenizer_record import read_record
from seqsru.errors import Busy, Refused
from seqsru.training import checkpoints, ownership

_holders: dict[Path, int] = {}  # the thread of this process that holds a run directory


class RunDirectory:
    """Everything that a run writes, by name. Making one touches no file.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    path : Path
    config : Path
        The resolved settings.
    signature : Path
        The best value of the headline metric, signed.
    checkpoints : Path
        Folder of :mod:`seqsru.training.checkpoints`.
    metrics, log, tensorboard : Path
        What :class:`seqsru.training.run_log.RunLog` writes.
    lock : Path
        Held by the process that trains; its number is inside.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.signature = self.path / "signature.txt"
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log"
        self.tensorboard = self.path / "tensorboard"
        self.lock = self.path / "lock"

    def tokenizer(self, name: str) -> Path:
        """The file of a tokenizer that was saved under a name; what belongs to it has the same stem."""
        return self.path / f"{name}.json"

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint, good or damaged."""
        return bool(checkpoints.paths(self.checkpoints))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the directory, making it if there is none and tidying what a killed process left half done.

        The lock ends with the process. The thread that holds it may enter again, from any object of the
        same directory.

        Raises
        ------
        Busy
            Another process holds it, or another thread of this one.
        Refused
            The lock is a file that no run wrote.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.lock.exists() and not ownership.is_lock(self.lock):
            raise self._foreign([self.lock])
        held = self.path.resolve()
        if _holders.get(held) == threading.get_ident():
            yield
            return
        with open(self.lock, "a+", encoding="utf-8") as file:
            try:
                hold(file)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise Busy(
                    f"no other run in {self.path}",
                    f"that process {holder} is training there",
                    "wait for it to end, or choose another output",
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            _holders[held] = threading.get_ident()
            try:
                self._tidy()
                yield
            finally:
                del _holders[held]

    def files(self, tokenizers: Iterable[str]) -> list[Path]:
        """Every file that is or may become the run's, with tokenizers of these names."""
        made = [self.tokenizer(name) for name in tokenizers]
        named = [self.config, self.signature, self.metrics, self.log, self.lock, *made]
        folders = (self.checkpoints, self.tensorboard)
        inside = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return [*named, *(path.with_suffix(".model") for path in made), *inside]

    def check_own(self, tokenizers: Iterable[str]) -> None:
        """Refuse to train where something that no run wrote is under one of a run's names.

        What stands beside, under other names, is left alone.

        Raises
        ------
        Refused
            There is such a thing: all of them are named.
        """
        own = {
            self.config: ownership.is_config,
            self.signature: ownership.is_signature,
            self.checkpoints: ownership.is_checkpoints,
            self.metrics: ownership.is_metrics,
            self.log: ownership.is_log,
            self.tensorboard: ownership.is_tensorboard,
            self.lock: ownership.is_lock,
            **dict.fromkeys(map(self.tokenizer, tokenizers), ownership.is_tokenizer),
        }
        # Settings are written first: without them, these are copies that somebody put there.
        late = () if self.begun or self.config.exists() else (self.signature, self.metrics, self.log)
        foreign = [
            path for path, is_own in own.items() if path.exists() and (path in late or not is_own(path))
        ]
        if foreign:
            raise self._foreign(foreign)

    def _foreign(self, paths: Iterable[Path]) -> Refused:
        names = ", ".join(path.name for path in paths)
        return Refused(
            "only a run's own files under the names that a run uses",
            f"{names} in {self.path}, written by no run",
            "move or rename that, or choose another output",
            "output",
        )

    def write(self, path: Path, text: str) -> None:
        """Write one of the run's text files, whole or not at all."""
        write_whole(path, text.encode())

    def forget(self, tokenizers: Iterable[str]) -> None:
        """Delete tokenizers by name, for a run that begins anew with other settings.

        What a run did not write stays: a JSON file that is no tokenizer's record, and any file beside it that
        is not the one the record has the fingerprint of.
        """
        for path in map(self.tokenizer, tokenizers):
            try:
                record = read_record(path)
            except Refused:
                continue
            model = path.with_suffix(".model")
            if model.is_file() and sha256(model) == record["fingerprint"]:
                model.unlink()
            path.unlink()

    def _tidy(self) -> None:
        for path in (self.config, self.signature):
            unfinished(path).unlink(missing_ok=True)
        checkpoints.tidy(self.checkpoints)
