"""The folder of one training run: the names in it, and the lock that lets one process write to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seqsru.data.files import sha256, unfinished, write_whole
from seqsru.data.room import room
from seqsru.data.tokenizer_record import read_record
from seqsru.errors import Refused
from seqsru.regular import is_folder, is_regular, read
from seqsru.settings.places import MOST_BYTES
from seqsru.training import checkpoints, ownership
from seqsru.training.covered import config_sums
from seqsru.training.lock import CONFIG, NAME, SIGNATURE, held

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
        Has the number of the process that trains.
    sums : dict of str to str
        Those of the settings and tokenizers that a training goes by, for every checkpoint; empty before
        `keep_sums`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / CONFIG
        self.signature = self.path / SIGNATURE
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log"
        self.tensorboard = self.path / "tensorboard"
        self.lock = self.path / NAME
        self.sums: dict[str, str] = {}

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
        with room(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(self.lock) and not ownership.is_lock(self.lock):
            raise self._foreign([self.lock])
        folder = self.path.resolve()
        if _holders.get(folder) == threading.get_ident():
            yield
            return
        with held(self.path):
            _holders[folder] = threading.get_ident()
            try:
                self._tidy()
                yield
            finally:
                del _holders[folder]

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
        own: dict[Path, Callable[[Path], bool]] = {
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
        if not self.begun:  # nothing vouches for them yet, and they are about to be replaced
            own[self.config] = ownership.is_untouched_config
        foreign = [
            path
            for path, is_own in own.items()
            if os.path.lexists(path) and (path in late or not is_own(path))
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

    def sums_now(self, tokenizers: Iterable[str]) -> dict[str, str]:
        """Sums of the settings and tokenizers that there are, as checkpoints are held against them."""
        made = [self.tokenizer(name) for name in dict.fromkeys(tokenizers)]
        paths = [*made, *(path.with_suffix(".model") for path in made)]
        sums = {path.name: sha256(path) for path in paths if is_regular(path)}
        if is_regular(self.config):
            sums |= config_sums(read(self.config, MOST_BYTES, "restore it from a copy"))
        return sums

    def keep_sums(self, tokenizers: Iterable[str]) -> None:
        """Note in `sums` what the settings and tokenizers are, which checkpoints are then held against."""
        self.sums = self.sums_now(tokenizers)

    def keep_config(self, text: str) -> None:
        """Write the settings; a kill before or after leaves some that every checkpoint accepts."""
        new = config_sums(text.encode())
        if is_regular(self.config):
            old = config_sums(read(self.config, MOST_BYTES, "restore it from a copy"))
            if new == old:
                return
            checkpoints.cover(self.checkpoints, {name: [old[name], new[name]] for name in new})
        self.write(self.config, text)

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
            if is_regular(model) and sha256(model) == record["fingerprint"]:
                model.unlink()
            path.unlink()

    def _tidy(self) -> None:
        for path in map(unfinished, (self.config, self.signature)):
            if not is_folder(path):
                path.unlink(missing_ok=True)
        checkpoints.tidy(self.checkpoints)
