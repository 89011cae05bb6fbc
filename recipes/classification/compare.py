"""Compare classifiers on the six sets: python recipes/classification/compare.py --results FILE

Trains every system on every set, ten folds or three seeds each, through the settings that `seqsru train`
takes: base.yaml and the tables below. Each run adds one JSON line to the results file, and what is in the
file is not run again, so that the work can be stopped and gone on with. With --time the systems take turns on
one thread, and their milliseconds for a batch go into the file too. Last of all, and with --table only, the
table of what the file holds is printed, in Markdown.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

BASE = Path(__file__).with_name("base.yaml")
FOLDS = 10
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Corpus:
    """A set of labelled lines; without a file for testing it is cross-validated."""

    train: str
    validation: str | None = None
    test: str | None = None
    settings: tuple[str, ...] = ()


CORPORA = {  # in the order of the work
    "CR": Corpus(
        "custrev.all", settings=("data.on_bad_line=skip", "training.epochs=4")
    ),  # four lines are a label alone
    "SST-1": Corpus("stsa.fine.train", "stsa.fine.dev", "stsa.fine.test"),
    "TREC": Corpus("TREC.train.all", None, "TREC.test.all", ("data.encoding=latin-1",)),
    "SUBJ": Corpus("subj.all", settings=("data.encoding=latin-1", "training.epochs=2")),
    "MR": Corpus("rt-polarity.all", settings=("data.encoding=latin-1", "training.epochs=2")),
    "SST-2": Corpus("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test"),
}
_CELL = "model.encoder={{cell: {}, hidden_size: 300, num_layers: {}, dropout: 0.3}}"
SYSTEMS = {
    **{f"SRU, {n} layer{'s' if n > 1 else ''}": _CELL.format("sru", n) for n in range(1, 6)},
    "LSTM": _CELL.format("lstm", 1),
    "GRU": _CELL.format("gru", 1),
    "QRNN": _CELL.format("qrnn", 1),
    "CNN": "model.encoder={name: convolution, widths: [3, 4, 5], features: 100}",
}


@dataclass(frozen=True)
class Job:
    """One training: a system on a set, with a seed of its own, and of a cross-validation one fold."""

    corpus: str
    system: str
    seed: int
    fold: int | None

    def overrides(self, data: Path) -> list[str]:
        """What is set besides base.yaml."""
        corpus = CORPORA[self.corpus]
        files = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
        given = [f"data.{split}={json.dumps(str(data / file))}" for split, file in files.items() if file]
        folds = [] if self.fold is None else [f"data.folds={FOLDS}", f"data.fold={self.fold}"]
        return [*given, *corpus.settings, *folds, SYSTEMS[self.system], f"seed={self.seed}"]

    def key(self) -> dict[str, object]:
        """What tells its line in the results from others."""
        return {"data": self.corpus, "system": self.system, "seed": self.seed, "fold": self.fold}


def jobs(corpora: Iterable[str], systems: Iterable[str]) -> Iterator[Job]:
    """Every training of the comparison, set by set; folds have a seed each, so that the spread has both."""
    systems = list(systems)
    for corpus in corpora:
        crossed = CORPORA[corpus].test is None
        for turn in range(FOLDS) if crossed else range(len(SEEDS)):
            for system in systems:
                yield Job(corpus, system, turn + 1 if crossed else SEEDS[turn], turn if crossed else None)


def train(job: Job, data: Path, more: list[str]) -> dict[str, object]:
    """Train, test, and give the line for the results."""
    from seqsru import __version__, runs
    from seqsru import settings as strict
    from seqsru.data.splits import read_splits
    from seqsru.evaluation.classification import classification_score
    from seqsru.tasks.classification import percent

    overrides = [*job.overrides(data), *more]
    with TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        settings = strict.load(BASE, runs.schema(), [*overrides, f"output={json.dumps(folder + '/run')}"])
        terminal, sys.stderr = sys.stderr, nothing
        start, worked = time.perf_counter(), time.process_time()
        try:
            outcome = runs.train(settings, lambda line: None)
        finally:
            sys.stderr = terminal
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        if not outcome.finished:
            raise KeyboardInterrupt
        pipeline = runs.load(folder + "/run")
    splits = settings["data"].of(read_splits).make()
    names, test = pipeline.labels.names, splits["test"]
    gold = [names[number] for number in pipeline.labels.encode(test)]
    score = percent(
        classification_score(gold, [found.label for found in pipeline.classify(test.texts)], names)
    )
    updates = -(-len(splits["train"]) // settings["batches"]["batch_size"])
    return {
        **job.key(),
        "test_accuracy": score["accuracy"],
        "test_macro_f1": score["macro_f1"],
        "validation_accuracy": outcome.best,
        "epochs": outcome.step / updates,
        "best_epoch": outcome.best_step / updates,
        "parameters": sum(p.numel() for p in pipeline.model.parameters()),
        "seconds": seconds,
        "cpu_seconds": worked,
        "settings": overrides,
        "seqsru": __version__,
    }


def read(results: Path) -> list[dict]:
    """The lines of a results file; none where there is no file."""
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def work(todo: list[Job], data: Path, results: Path, processes: int, more: list[str]) -> None:
    """Train what is to be done, and write each line when it is there."""
    start = time.monotonic()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(train, job, data, more) for job in todo]
        try:
            for done, future in enumerate(as_completed(running), 1):
                line = future.result()
                with open(results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                spent = time.monotonic() - start
                where = f"fold {line['fold']}" if line["fold"] is not None else f"seed {line['seed']}"
                print(
                    f"{done}/{len(todo)} {line['data']} {where} {line['system']}: {line['test_accuracy']:.2f} % in "
                    f"{line['seconds']:.0f} s; {spent / 60:.0f} min, about {spent / done * (len(todo) - done) / 60:.0f} "
                    "min to go",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main() -> int:
    """Do what the flags say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/classification"), help="folder of the sets")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines: written, and gone on with")
    parser.add_argument("--sets", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--folds", type=int, help="only the first folds or seeds of each set")
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time, a thread each")
    parser.add_argument(
        "--set", dest="more", nargs="+", default=[], help="settings in place of base.yaml's: key=value"
    )
    given = parser.parse_args()
    done = {tuple(line[name] for name in ("data", "system", "seed", "fold")) for line in read(given.results)}
    todo = [
        job
        for job in jobs(given.sets, given.systems)
        if tuple(job.key().values()) not in done and (given.folds is None or job.seed <= given.folds)
    ]
    work(todo, given.data, given.results, given.processes, given.more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
