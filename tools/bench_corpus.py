"""What a corpus of many pairs costs: time to encode, time to the first update, and memory.

    python tools/bench_corpus.py DATA FOLDER [--pairs 10000000] [--updates 20]

DATA is a folder with tatoeba-deu-eng/train.{en,de} and multi30k/train.{en,de}, from whose sentences the
corpus is made, each copy with other numbers in it. FOLDER gets the corpus, the cache and the runs, about 2 GB
for ten million pairs; it is deleted afterwards. Three trainings are started, each in a process of its own:
with an empty cache, with one whose sums were not checked yet, and with one that nothing changed since then.

Memory is what the system says of the process: the most that was resident at one time (VmHWM), and how much of
what is resident at the end is its own (RssAnon) and how much pages of files (RssFile; RssShmem in memory).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

CONFIG = """\
task: translation
output: {folder}/run-{name}
cache: {folder}/cache
data:
  train: {{source: {folder}/train.en, target: {folder}/train.de}}
  validation: {{source: {folder}/valid.en, target: {folder}/valid.de}}
tokenizer: {{name: sentencepiece_model, model: {folder}/pieces.model}}
model:
  embedding_size: 64
  encoder: {{cell: {{name: sru, backend: reference}}, hidden_size: 64}}
  decoder: {{cell: {{name: sru, backend: reference}}, hidden_size: 64}}
batches: {{tokens: 4096}}
optimizer: {{name: adam, lr: 1e-3}}
training: {{epochs: 0, steps: {updates}, log_every: 1, validation_metric: perplexity, tensorboard: false}}
"""


def main() -> None:
    """Make the corpus, train twice, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path, help="made, and deleted afterwards")
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--train", metavar="NAME", help="what the processes are started with")
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.folder, arguments.train)
        return
    arguments.folder.mkdir(parents=True)
    try:
        make_corpus(arguments.data, arguments.folder, arguments.pairs)
        for name in ("cold", "warm", "again"):
            config = CONFIG.format(folder=arguments.folder, name=name, updates=arguments.updates)
            (arguments.folder / f"{name}.yaml").write_text(config, encoding="utf-8")
            time.sleep(3)  # what was just written is not trusted to be what it was
            given = [sys.executable, __file__, str(arguments.data), str(arguments.folder), "--train", name]
            subprocess.run(given, check=True)
    finally:
        shutil.rmtree(arguments.folder)


def make_corpus(data: Path, folder: Path, pairs: int) -> None:
    """Write pairs, a few of them for validation, and a sentencepiece model of both languages."""
    from seqsru.data import Pieces

    sides = []
    for language in ("en", "de"):
        files = [data / corpus / f"train.{language}" for corpus in ("tatoeba-deu-eng", "multi30k")]
        sides.append([line for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1]])
    began = time.monotonic()
    for lines, language in zip(sides, ("en", "de")):
        with open(folder / f"train.{language}", "w", encoding="utf-8") as out:
            for copy in range(-(-pairs // len(lines))):
                some = lines[: pairs - copy * len(lines)]
                out.writelines(f"{line} {copy * 7919 + i % 97}\n" for i, line in enumerate(some))
        (folder / f"valid.{language}").write_text(
            "".join(f"{line}\n" for line in lines[:50]), encoding="utf-8"
        )
    model = Pieces.train([*sides[0][::20], *sides[1][::20]], vocabulary_size=8000).model
    (folder / "pieces.model").write_bytes(model)
    size = sum((folder / f"train.{language}").stat().st_size for language in ("en", "de"))
    print(
        f"corpus: {pairs:,} pairs, {size / 1e9:.2f} GB, made in {time.monotonic() - began:.0f} s", flush=True
    )


def train(folder: Path, name: str) -> None:
    """Train, and print times from the start of the process on, and memory."""
    began = time.monotonic() - float(Path("/proc/uptime").read_text().split()[0]) + start_of_process()
    from seqsru import runs
    from seqsru.training.trainer import Trainer

    firsts: list[tuple[float, float]] = []
    update = Trainer._update

    def watched(self: Trainer, *given: object) -> None:
        update(self, *given)  # type: ignore[arg-type]
        firsts.append((time.monotonic() - began, time.process_time()))

    Trainer._update = watched  # type: ignore[method-assign]
    runs.train(
        runs.load_settings(folder / f"{name}.yaml"),
        lambda line: print(f"  {time.monotonic() - began:6.1f} s  {line}"),
    )
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = {
        key: int(status[key].split()[0]) // 1024
        for key in ("VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem")
    }
    seconds = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "cache": name,
        "first update after s": round(firsts[0][0], 1),
        "of which on the processor s": round(firsts[0][1], 1),
        "last update after s": round(firsts[-1][0], 1),
        "processor s": round(seconds.ru_utime + seconds.ru_stime, 1),
        **{f"{key} MiB": value for key, value in memory.items()},
        "load": os.getloadavg()[0],
    }
    print(json.dumps(report), flush=True)


def start_of_process() -> float:
    """Seconds from the start of the system to that of this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
