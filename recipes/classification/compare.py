"""Compare classifiers on the six sets.

python recipes/classification/compare.py train FOLDER      # each system on each set, ten folds or three seeds
python recipes/classification/compare.py time FOLDER       # milliseconds a batch, the systems by turns
python recipes/classification/compare.py table FOLDER      # the table of what is there, in Markdown

Training goes through the settings that `seqsru train` takes: base.yaml and the tables below. Each run adds
one JSON line to FOLDER/results.jsonl, and what is there is not run again, so that the work can be stopped and
gone on with. The times go to FOLDER/times.json, the table to FOLDER/table.md and, as JSON, to
FOLDER/summary.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


CORPORA = {  # in the order of the work; four lines of CR are a label alone
    "CR": Corpus("custrev.all", settings=("data.on_bad_line=skip", "training.epochs=4")),
    "SST-1": Corpus("stsa.fine.train", "stsa.fine.dev", "stsa.fine.test"),
    "SUBJ": Corpus("subj.all", settings=("data.encoding=latin-1", "training.epochs=2")),
    "MR": Corpus("rt-polarity.all", settings=("data.encoding=latin-1", "training.epochs=2")),
    "TREC": Corpus("TREC.train.all", None, "TREC.test.all", ("data.encoding=latin-1", "training.epochs=6")),
    "SST-2": Corpus("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test"),
}


def _encoder(cell: str, layers: int) -> str:
    dropout = 0.3 if layers > 1 else 0  # between layers
    return f"model.encoder={{cell: {cell}, hidden_size: 300, num_layers: {layers}, dropout: {dropout}}}"


SYSTEMS = {
    **{f"SRU, {n} layer{'s' if n > 1 else ''}": _encoder("sru", n) for n in range(1, 6)},
    "LSTM": _encoder("lstm", 1),
    "GRU": _encoder("gru", 1),
    "QRNN": _encoder("qrnn", 1),
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
        folds = ["data.folds=0"] if self.fold is None else [f"data.folds={FOLDS}", f"data.fold={self.fold}"]
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


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of the results; none where there are none yet."""
    path = folder / "results.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def work(todo: list[Job], data: Path, folder: Path, processes: int, more: list[str]) -> None:
    """Train what is to be done, and write each line when it is there."""
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(train, job, data, more) for job in todo]
        try:
            for done, future in enumerate(as_completed(running), 1):
                line = future.result()
                with open(folder / "results.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                spent = (time.monotonic() - start) / 60
                where = f"fold {line['fold']}" if line["fold"] is not None else f"seed {line['seed']}"
                print(
                    f"{done}/{len(todo)} {line['data']} {where} {line['system']}: "
                    f"{line['test_accuracy']:.2f} % in {line['seconds']:.0f} s; {spent:.0f} min, "
                    f"about {spent / done * (len(todo) - done):.0f} min to go",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# ---- time ------------------------------------------------------------------------------------------


def measure(data: Path, corpus: str, batches: int, more: list[str]) -> dict[str, Any]:
    """Forward and backward of one batch after the other, one thread, all systems in turn on each.

    Returns
    -------
    dict
        For each system the median milliseconds a batch, and the median and quartiles of its ratio to the
        LSTM's time for the same batch.
    """
    import torch

    from seqsru import runs
    from seqsru import settings as strict
    from seqsru.evaluation.environment import environment

    torch.set_num_threads(1)
    losses: dict[str, Callable[[int], Any]] = {}
    for system in SYSTEMS:
        overrides = [
            *Job(corpus, system, 1, 0 if CORPORA[corpus].test is None else None).overrides(data),
            *more,
        ]
        with TemporaryDirectory() as folder:
            settings = strict.load(BASE, runs.schema(), [*overrides, f"output={json.dumps(folder + '/run')}"])
            trainer = runs.prepare(settings, lambda line: None)
        losses[system] = _turn(trainer)
    times: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for number in range(-3, batches):  # the first ones warm up
        for system, loss in losses.items():
            start = time.perf_counter()
            loss(max(number, 0)).backward()
            if number >= 0:
                times[system].append(1e3 * (time.perf_counter() - start))
    found = {}
    for system, own in times.items():
        ratios = [mine / lstm for mine, lstm in zip(own, times["LSTM"])]
        low, middle, high = statistics.quantiles(ratios, n=4)
        found[system] = {"milliseconds": statistics.median(own), "ratio": middle, "quartiles": [low, high]}
    return {
        "set": corpus,
        "batches": batches,
        "precision": settings["training"]["precision"],
        "environment": environment(torch.device("cpu")),
        "systems": found,
    }


def _turn(trainer: Any) -> Callable[[int], Any]:
    """What gives the loss of a numbered batch, under the precision of the training."""
    batches = list(trainer.objective.batches(1, 0))
    trainer.model.train()

    def loss(number: int) -> Any:
        trainer.model.zero_grad(set_to_none=True)
        with trainer.updates.autocast():
            return trainer.objective.loss(trainer.model, batches[number], None).loss

    return loss


# ---- the table -------------------------------------------------------------------------------------


def summarise(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each set and system, the mean of the accuracies, their standard deviation and their number."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["data"], line["system"]), []).append(line)
    summary: dict[str, dict[str, Any]] = {}
    for (corpus, system), group in groups.items():
        accuracies = [line["test_accuracy"] for line in group]
        summary.setdefault(corpus, {})[system] = {
            "accuracy": statistics.mean(accuracies),
            "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
            "macro_f1": statistics.mean(line["test_macro_f1"] for line in group),
            "runs": len(group),
            "parameters": max(line["parameters"] for line in group),
        }
    return summary


def table(summary: dict[str, dict[str, Any]], times: dict[str, Any] | None) -> str:
    """The summary in Markdown: a row a system, a column a set."""
    corpora = [corpus for corpus in CORPORA if corpus in summary]
    head = ["system", *corpora, "parameters", "ms a batch", "to the LSTM"]
    rows = []
    for system in SYSTEMS:
        row = [system]
        for corpus in corpora:
            cell = summary[corpus].get(system)
            runs = "" if cell is None or cell["runs"] == expected_runs(corpus) else f" ({cell['runs']} runs)"
            row.append("" if cell is None else f"{cell['accuracy']:.2f} ± {cell['deviation']:.2f}{runs}")
        sizes = [summary[corpus][system]["parameters"] for corpus in corpora if system in summary[corpus]]
        row.append(f"{min(sizes) / 1e6:.2f}–{max(sizes) / 1e6:.2f} M" if sizes else "")
        if times is None:
            row += ["", ""]
        else:
            one = times["systems"][system]
            low, high = one["quartiles"]
            row += [f"{one['milliseconds']:.2f}", f"{one['ratio']:.2f} [{low:.2f}–{high:.2f}]"]
        rows.append(row)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def expected_runs(corpus: str) -> int:
    """How many trainings of a system on a set there are in all."""
    return FOLDS if CORPORA[corpus].test is None else len(SEEDS)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=["train", "time", "table"])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the results")
    parser.add_argument(
        "--data", type=Path, default=BASE.parent / "data" / "classification", help="folder of the sets"
    )
    parser.add_argument("--sets", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--folds", type=int, help="only the first folds or seeds of each set")
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time, a thread each")
    parser.add_argument("--batches", type=int, default=60, help="to time")
    parser.add_argument("--set", dest="more", nargs="+", default=[], help="settings besides base.yaml's")
    given = parser.parse_args()
    if given.do == "train":
        done = {
            tuple(line[name] for name in ("data", "system", "seed", "fold")) for line in read(given.folder)
        }
        todo = [
            job
            for job in jobs(given.sets, given.systems)
            if tuple(job.key().values()) not in done and (given.folds is None or job.seed <= given.folds)
        ]
        work(todo, given.data, given.folder, given.processes, given.more)
        return 0
    times = given.folder / "times.json"
    if given.do == "time":
        given.folder.mkdir(parents=True, exist_ok=True)
        found = measure(given.data, given.sets[0], given.batches, given.more)
        times.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    summary = summarise(read(given.folder))
    (given.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = table(summary, json.loads(times.read_text(encoding="utf-8")) if times.is_file() else None)
    (given.folder / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
