"""Time whole sentences, text in to text out, and the start of the command: a model of the table's size.

    python tools/bench_sentences.py --out sentences.json
    python tools/bench_sentences.py --quick                   # see that everything works

tools/bench_decoding.py times the engine between token ids; this times what users of it wait for. It makes
text of random words, trains a translation model on it for one update, which leaves it as random as its first
weights, and quantises it, with the shortlist that is learned of that text and without. Then it asks

    seqsru latency FILE lines --beam 1 --length 25            # for each file: P50 and P99 of a sentence
    seqsru translate FILE                                     # for a process's first answer, and its memory

so segmentation into pieces, the shortlist's columns, the search and putting the text together all count.
Lines have 24 words; outputs, which a random model would end anywhere, are forced to 25 tokens, </s> included.
Loading is timed in this process, several times, with the parts that it consists of.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from seqsru.commands.main import main as command  # noqa: E402

SEED = 1
CONFIG = """\
task: translation
output: {folder}/run
seed: 1
data:
  train: {{source: {folder}/train.src, target: {folder}/train.tgt}}
  validation: {{source: {folder}/valid.src, target: {folder}/valid.tgt}}
tokenizer: {{name: sentencepiece, algorithm: bpe, vocabulary_size: {vocabulary}, joint: true}}
model:
  embedding_size: {width}
  tying: all
  encoder: {{cell: sru, hidden_size: {width}, num_layers: {depth}}}
  decoder: {{cell: sru, hidden_size: {width}, num_layers: {depth}, attention: {{name: dot, heads: 4}}}}
batches: {{tokens: 512}}
optimizer: {{name: sgd, lr: 1e-6}}
training: {{steps: 1, tensorboard: false}}
decoding: {{beam: 1}}
"""
WANTED = {
    "a sentence, P50 ms": 2.0,
    "a sentence, P99 ms": 3.5,
    "loading, ms": 50.0,
    "first answer, s": 1.0,
    "memory, MB": 150.0,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, and print the numbers."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--width", type=int, default=256, help="features of a layer (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=4, help="layers of each side (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=8000, help="pieces (default: %(default)s)")
    parser.add_argument("--words", type=int, default=24, help="words of a line (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=10, help="passes over 100 lines (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tiny model and few lines: the times mean little"
    )
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    given = parser.parse_args(arguments)
    if given.quick:
        given.width, given.depth, given.vocabulary, given.repeats = 16, 1, 120, 2
    with TemporaryDirectory() as folder:
        report = measured(Path(folder), given)
    for name, system in report["systems"].items():
        print(name)
        for what, value in system.items():
            wanted = f"  (wanted: at most {WANTED[what]:g})" if what in WANTED and not given.quick else ""
            print(f"  {what:24} {value:8.3f}{wanted}")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Make the model and its files, and time them."""
    write_texts(folder, given.words, given.vocabulary, lines=300 if given.quick else 4000)
    (folder / "run.yaml").write_text(
        CONFIG.format(folder=folder, vocabulary=given.vocabulary, width=given.width, depth=given.depth)
    )
    ask("train", folder / "run.yaml")
    systems = {}
    for name, flags in (("int8, shortlist", ()), ("int8", ("--shortlist", "none"))):
        file = folder / "model.seqsru"
        ask("quantize", folder / "run", "--output", file, *flags)
        forced = ("--beam", 1, "--length", given.words + 1)
        few = ("--first", 5 if given.quick else 100, "--repeats", given.repeats)
        ask("latency", file, folder / "valid.src", *forced, *few, "--json", folder / "latency.json")
        (system,) = json.loads((folder / "latency.json").read_text())["systems"]
        sentences, tokens = (system[what]["percentiles"] for what in ("sentences", "later_tokens"))
        systems[name] = {
            "a sentence, least ms": sentences[0],  # what a busy machine cannot add to
            "a sentence, P50 ms": sentences[50],
            "a sentence, P99 ms": sentences[99],
            "a later token, P50 ms": tokens[50],
            **loading(file),
            **first_answer(file, (folder / "valid.src").read_text().splitlines()[0]),
        }
    return {"load_average": os.getloadavg()[0], "arguments": vars(given) | {"out": None}, "systems": systems}


def write_texts(folder: Path, words: int, vocabulary: int, *, lines: int) -> None:
    """Write lines of random words, frequent ones first as in any language, so that most are pieces.

    A translation is the words, each with its letters turned around, in order: a shortlist can be learned.
    """
    draw = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = ("".join(draw.choices(letters, k=draw.randint(2, 7))) for _ in range(vocabulary))
    known = list(dict.fromkeys(made))
    weights = [1 / (place + 20) for place in range(len(known))]
    for split, count in (("train", lines), ("valid", 100)):
        text = [draw.choices(known, weights, k=words) for _ in range(count)]
        (folder / f"{split}.src").write_text("".join(" ".join(line) + "\n" for line in text))
        turned = (" ".join(word[::-1] for word in line) for line in text)
        (folder / f"{split}.tgt").write_text("".join(line + "\n" for line in turned))


def ask(*arguments: object) -> None:
    """Call a command of seqsru in this process; what it prints goes to the standard error."""
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        status = command([str(argument) for argument in arguments])
    finally:
        sys.stdout = stdout
    if status:
        raise SystemExit(status)


def loading(file: Path, times: int = 15) -> dict[str, float]:
    """Milliseconds to load a file, and of reading, verifying and checking alone; medians."""
    from seqsru.engine import file as files
    from seqsru.engine.checks import check_model
    from seqsru.engine.tensor_file import read
    from seqsru.tasks import packages

    _, tensors = read(file, "numbers")
    model = files.load(file).model
    parts: dict[str, Callable[[], object]] = {
        "loading, ms": lambda: packages.opened(file),
        "  reading": lambda: read(file, "numbers"),
        "  its sum": lambda: files.checksum(tensors, {}),
        "  checking the program": lambda: check_model(model),
    }
    return {name: median(seconds(part) for _ in range(times)) * 1e3 for name, part in parts.items()}


def seconds(work: Callable[[], object]) -> float:
    """Time a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def first_answer(file: Path, line: str, times: int = 5) -> dict[str, float]:
    """Seconds from the start of the command to its first answer, and the most memory it took; medians."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    waits = []
    for _ in range(times):
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "seqsru", "translate", str(file)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
            process.stdout.readline()
            waits.append(time.perf_counter() - start)
            memory = highest_memory(process.pid)
    return {"first answer, s": median(waits), "memory, MB": memory}


def highest_memory(process: int) -> float:
    """Megabytes that a process has had at most, by what Linux says of it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:  # another system says it of all processes that have ended, together
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
