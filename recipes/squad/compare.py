"""Compare readers of four cells and three depths at equal parameters and equal time.

python recipes/squad/compare.py train CONFIG     # each system, as long as CONFIG says, and its test answers
python recipes/squad/compare.py time CONFIG      # milliseconds a batch, the systems by turns
python recipes/squad/compare.py table CONFIG     # the table of what is there, in Markdown

A system is CONFIG with another cell and depth, in a folder beside its output: runs/lstm-4 and so on. Both
stacks get the hidden size with which the parameters come nearest to those of the SRU of the same depth and
the hidden size of CONFIG. What is done is not done again, and an interrupted training goes on. The times go
to runs/times.json, the table to runs/table.md and, as JSON, to runs/summary.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CELLS = ("sru", "lstm", "gru", "qrnn")
DEPTHS = (2, 4, 6)


@dataclass(frozen=True)
class System:
    """A cell and a depth, with the hidden size that makes its parameters equal."""

    cell: str
    layers: int
    hidden: int

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.cell}-{self.layers}"

    def overrides(self, runs: Path) -> list[str]:
        """What is set besides the config."""
        stacks = [
            f"model.{stack}.{setting}={value}"
            for stack in ("paragraph", "question")
            for setting, value in (
                ("cell", self.cell),
                ("hidden_size", self.hidden),
                ("num_layers", self.layers),
            )
        ]
        return [f"output={json.dumps(str(runs / self.name))}", *stacks]


def parameters(settings: Any, system: System) -> int:
    """How many parameters a system has, with two words in place of those that the data decides on."""
    import torch

    from seqsru.data.excerpts import feature_count
    from seqsru.models.reader import paragraph_features

    model, features = settings["model"], feature_count(settings["reading"].make())
    size = model["embedding_size"]
    reads = {"paragraph": paragraph_features(size, features, model["aligned"]), "question": size}
    changed = {"cell": system.cell, "options": {}, "hidden_size": system.hidden, "num_layers": system.layers}
    with torch.device("meta"):
        stacks = {name: model[name].make(input_size=count, **changed) for name, count in reads.items()}
        return sum(p.numel() for p in model.make(2, features, **stacks).parameters())


def systems(settings: Any, cells: Sequence[str], depths: Sequence[int]) -> Iterator[System]:
    """The systems, depth by depth."""
    width = settings["model"]["paragraph"]["hidden_size"]
    for layers in depths:
        wanted = parameters(settings, System("sru", layers, width))
        for cell in cells:
            low, high = 1, 4 * width  # parameters grow with the size
            while high - low > 1:
                middle = (low + high) // 2
                below = parameters(settings, System(cell, layers, middle)) <= wanted
                low, high = (middle, high) if below else (low, middle)
            sizes = {size: parameters(settings, System(cell, layers, size)) for size in (low, high)}
            yield System(cell, layers, min(sizes, key=lambda size: abs(sizes[size] - wanted)))


def train(config: Path, runs: Path, system: System, more: Sequence[str]) -> None:
    """Train a system and answer the test questions, each unless it is done."""
    command, folder = [sys.executable, "-m", "seqsru"], runs / system.name
    if not (folder / "test.json").is_file():
        # A training that has ended says so and ends again; one that was interrupted goes on.
        subprocess.run([*command, "train", str(config), *system.overrides(runs), *more], check=True)
        asked = [
            "--threads",
            "1",
            "--answers",
            str(folder / "answers.json"),
            "--json",
            str(folder / "test.json"),
        ]
        subprocess.run([*command, "evaluate", str(folder), *asked], check=True)


# ---- time ------------------------------------------------------------------------------------------


def measure(config: Path, every: Sequence[System], batches: int, more: Sequence[str]) -> dict[str, Any]:
    """Forward and backward of one batch after the other, one thread, all systems in turn on each.

    Returns
    -------
    dict
        For each system the median milliseconds a batch, and the median and quartiles of its ratio to the time
        of the LSTM of its depth for the same batch.
    """
    import torch

    from seqsru import runs
    from seqsru.evaluation.environment import environment

    torch.set_num_threads(1)
    turns = {}
    for system in every:
        with TemporaryDirectory() as folder:
            settings = runs.load_settings(config, [*system.overrides(Path(folder)), *more])
            trainer = runs.prepare(settings, lambda line: None)
        trainer.model.train()
        turns[system] = trainer, trainer.objective.batches(1, 0)
    times: dict[System, list[float]] = {system: [] for system in every}
    for number in range(-2, batches):  # the first ones warm up
        for system, (trainer, given) in turns.items():
            batch = next(given)
            trainer.model.zero_grad(set_to_none=True)
            start = time.perf_counter()
            with trainer.updates.autocast():
                loss = trainer.objective.loss(trainer.model, batch, None).loss
            loss.backward()
            if number >= 0:
                times[system].append(1e3 * (time.perf_counter() - start))
    base = {system.layers: times[system] for system in every if system.cell == "lstm"}
    found = {}
    for system, own in times.items():
        found[system.name] = {"milliseconds": statistics.median(own)}
        if system.layers in base:
            ratios = [mine / lstm for mine, lstm in zip(own, base[system.layers])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[system.name] |= {"ratio": middle, "quartiles": [low, high]}
    return {"batches": batches, "environment": environment(torch.device("cpu")), "systems": found}


# ---- the table -------------------------------------------------------------------------------------


def summarise(settings: Any, runs: Path, every: Sequence[System]) -> dict[str, Any]:
    """What each system that is done has: its scores, how it compares with the LSTM of its depth, its size."""
    from seqsru.data.squad import read_squad
    from seqsru.evaluation.answer_score import Asked, answer_score, paired_answers, read_answers

    questions = read_squad([settings["data"]["test"]], offsets=settings["data"]["offsets"]).questions
    asked = [Asked(one.id, tuple(answer.text for answer in one.answers)) for one in questions]
    tokens, summary, scores = settings["training"]["f1_tokens"], {}, {}
    for system in every:
        folder = runs / system.name
        if not (folder / "test.json").is_file():
            continue
        found = json.loads((folder / "test.json").read_text(encoding="utf-8"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        validations = [one for one in map(json.loads, lines) if one["kind"] == "valid"]
        scores[system] = answer_score(asked, read_answers(folder / "answers.json"), tokens)
        summary[system.name] = {
            **{name: found[name] for name in ("exact_match", "f1", "intervals", "questions", "signature")},
            "hidden": system.hidden,
            "parameters": parameters(settings, system),
            "epochs": len(validations),
        }
    for system, score in scores.items():
        other = next((one for one in scores if (one.cell, one.layers) == ("lstm", system.layers)), None)
        if other is not None and other != system:
            compared = paired_answers(scores[other], score)
            summary[system.name]["to_lstm"] = {one.name: one.as_dict() for one in compared}
    return summary


def table(summary: dict[str, Any], times: dict[str, Any] | None) -> str:
    """The summary in Markdown: a row a system."""
    head = [
        "system",
        "hidden size",
        "passes",
        "exact match",
        "F1",
        "F1 to the LSTM",
        "ms a batch",
        "to the LSTM",
    ]
    rows = []
    for name, one in summary.items():
        row = [name, str(one["hidden"]), str(one["epochs"])]
        for measure_ in ("exact_match", "f1"):
            row.append(f"{one[measure_]:.2f} ± {one['intervals'][measure_][1]:.2f}")
        other = one.get("to_lstm", {}).get("f1")
        row.append(
            "" if other is None else f"{one['f1'] - other['baseline']:+.2f} (p = {other['p_value']:.3f})"
        )
        timed = {} if times is None else times["systems"].get(name, {})
        row.append(f"{timed['milliseconds']:.0f}" if timed else "")
        spread = "–".join(f"{quartile:.2f}" for quartile in timed.get("quartiles", ()))
        row.append(f"{timed['ratio']:.2f} [{spread}]" if spread else "")
        rows.append(row)
    return "".join("| " + " | ".join(line) + " |\n" for line in [head, ["---"] * len(head), *rows])


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=["train", "time", "table"])
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--depths", nargs="+", type=int, default=list(DEPTHS))
    parser.add_argument("--batches", type=int, default=30, help="to time")
    parser.add_argument("--set", dest="more", nargs="+", default=[], help="settings besides CONFIG's")
    given = parser.parse_args()
    from seqsru import runs as trained

    settings = trained.load_settings(given.config, given.more)
    runs = settings["output"].parent
    runs.mkdir(parents=True, exist_ok=True)
    every = list(systems(settings, given.cells, given.depths))
    times = runs / "times.json"
    if given.do == "train":
        for system in every:
            print(f"== {system.name}, hidden size {system.hidden}", flush=True)
            train(given.config, runs, system, given.more)
        return 0
    if given.do == "time":
        found = measure(given.config, every, given.batches, given.more)
        times.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    summary = summarise(settings, runs, every)
    (runs / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = table(summary, json.loads(times.read_text(encoding="utf-8")) if times.is_file() else None)
    (runs / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
