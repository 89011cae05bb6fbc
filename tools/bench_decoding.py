"""Compare the decoding of seqsru's engine with CTranslate2 and Marian on the processor, one sentence and 32.

    python tools/bench_decoding.py --out decoding.json --plot decoding.png
    python tools/bench_decoding.py --systems 'sru-*,ctranslate2-*' --quick

The first run makes a virtual environment for the peers and installs them from the package registry; a later
one finds them there. All models have random weights, a vocabulary of 8,000 and sources of 25 pieces; every
output is forced to 25 tokens, as the notes under the table say for each. A time is that of a whole call, from
numbers or words of the source to those of the output, with the encoder; nothing is segmented into pieces.
tools/bench_sentences.py times whole sentences, text in to text out, and the start of the command.

Only ratios inside one run mean anything on a shared machine. So the systems take turns: in each of the
repeats every system is timed once with each batch and beam, after one call that is not timed, and a ratio
divides two times of one repeat. Medians are printed with their quartiles. Everything decodes on one thread,
except that a peer takes more for one sentence where a trial before the repeats found that faster.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_layers import spread
from decoding_processes import PEERS, Worker, installed, peers_versions, progress
from decoding_report import draw, text_of

from seqsru.errors import Refused
from seqsru.evaluation.environment import environment
from seqsru.evaluation.plots import new_figure

SIZES = {"vocabulary": 8000, "source": 25, "target": 25, "shortlist": 600}
SETTINGS = ((1, 1), (1, 5), (32, 1), (32, 5))  # batch, beam
# A thread of Marian is one more batch at once, which makes no batch faster.
THREADS = {"ctranslate2": (1, 2), "marian": (1,), "seqsru": (1,)}
SETTLE = 0.3  # seconds that the threads of a peer may go on waiting actively after a call
TRIALS = 5

FORCED = {
    "seqsru": "least and greatest number of tokens 25; beams ranked by log probability over length",
    "ctranslate2": "min_decoding_length = max_decoding_length = 25",
    "marian": "the bias of </s> in the output product is -10000, and max-length-factor ends an output of 25 "
    "tokens",
}
NOTES = (
    "a shortlist is 600 random pieces a sentence, drawn before the clock runs; gathering columns counts",
    "the Transformers have 4 x width hidden features, Marian's student 1,536; no peer has a shortlist",
)


def own(cell: str, depth: int, width: int, int8: bool = True, shortlist: bool = False) -> dict[str, Any]:
    """A model of seqsru."""
    sizes = {"encoder": depth, "decoder": depth, "width": width}
    return {"kind": "seqsru", "cell": cell, **sizes, "int8": int8, "shortlist": shortlist}


def transformer(encoder: int, decoder: int, width: int, heads: int) -> dict[str, Any]:
    """A model of CTranslate2."""
    return {"kind": "ctranslate2", "encoder": encoder, "decoder": decoder, "width": width, "heads": heads}


SYSTEMS: dict[str, dict[str, Any]] = {
    **{
        f"sru-4+4x{width}-{'int8' if int8 else 'float32'}{'-shortlist' if shortlist else ''}": own(
            "sru", 4, width, int8, shortlist
        )
        for width in (256, 512)
        for int8 in (True, False)
        for shortlist in (True, False)
    },
    **{
        f"{cell}-2+2x{width}-int8": own(cell, 2, width)
        for width in (256, 512)
        for cell in ("sru", "qrnn", "lstm")
    },
    "ctranslate2-6+6x512-int8": transformer(6, 6, 512, 8),
    "ctranslate2-6+2x512-int8": transformer(6, 2, 512, 8),
    "ctranslate2-3+3x256-int8": transformer(3, 3, 256, 4),
    "ctranslate2-4+4x128-int8": transformer(4, 4, 128, 4),
    "marian-6+2x256-ssru-int8": {"kind": "marian", "encoder": 6, "decoder": 2, "width": 256},
}
Key = tuple[str, int, int]  # system, batch, beam
Ask = Callable[[str, int, int, int, int], dict[str, Any]]  # of system, threads, batch, beam, count


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, print and perhaps write the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument(
        "--systems",
        default="*",
        help="patterns of what to time, separated by commas, among " + ", ".join(SYSTEMS),
    )
    parser.add_argument("--repeats", type=int, help="turns of each system (default: 9, with --quick 2)")
    parser.add_argument(
        "--seconds", type=float, help="least time of one turn (default: 0.3, with --quick 0.01)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that everything works; the times mean little"
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--environment",
        type=Path,
        default=cache / "seqsru" / "peers",
        help="folder of the peers' virtual environment (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    parser.add_argument("--plot", type=Path, help="file for a figure, .png, .svg or .pdf")
    given = parser.parse_args(arguments)
    repeats = given.repeats if given.repeats is not None else 2 if given.quick else 9
    seconds = given.seconds if given.seconds is not None else 0.01 if given.quick else 0.3
    try:
        names = chosen(given.systems)
        if repeats < 1:
            raise ValueError(f"expected at least 1 repeat, found {repeats}")
        if given.plot:
            new_figure(given.plot, 1.0, 1.0)
    except (ValueError, Refused) as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    with ExitStack() as stack:
        report = run(names, given.environment, repeats, seconds, stack)
    print(text_of(report))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if given.plot and report["rows"]:
        draw(report, given.plot)
    return 0 if report["rows"] else 1


def chosen(patterns: str) -> list[str]:
    """Give the systems that any of the patterns names, in the order of the table."""
    wanted = patterns.split(",")
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in SYSTEMS):
            raise ValueError(f"expected systems among {', '.join(SYSTEMS)}, found {pattern!r}")
    return [name for name in SYSTEMS if any(fnmatchcase(name, pattern) for pattern in wanted)]


def run(names: list[str], folder: Path, repeats: int, seconds: float, stack: ExitStack) -> dict[str, Any]:
    """Start a worker a kind, try the threads, take turns, and put the report together."""
    left_out: dict[str, str] = {}
    workers: dict[str, Worker] = {}
    for kind in dict.fromkeys(SYSTEMS[name]["kind"] for name in names):
        models = {name: SYSTEMS[name] for name in names if SYSTEMS[name]["kind"] == kind}
        try:
            python = installed(kind, folder) if kind in PEERS else Path(sys.executable)
            workers[kind] = stack.enter_context(Worker(kind, python, models, SIZES))
        except RuntimeError as error:
            left_out.update(dict.fromkeys(models, str(error)))

    def ask(name: str, threads: int, batch: int, beam: int, count: int) -> dict[str, Any]:
        request = {"system": name, "threads": threads, "batch": batch, "beam": beam, "count": count}
        return workers[SYSTEMS[name]["kind"]].ask(request)

    trials: dict[str, dict[str, dict[int, float]]] = {}
    threads: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    for name in [name for name in names if name not in left_out]:
        progress(f"{name}: making and trying it")
        try:
            for batch, beam in SETTINGS:
                key = (name, batch, beam)
                threads[key] = 1
                options = [n for n in THREADS[SYSTEMS[name]["kind"]] if n <= (os.cpu_count() or 1)]
                if batch == 1 and len(options) > 1:
                    tried = try_threads(ask, name, beam, options)
                    trials.setdefault(name, {})[search_name(beam)] = tried
                    threads[key] = min(tried, key=tried.__getitem__)
                once = measured(ask, key, threads[key], 1)["seconds"]
                counts[key] = max(1, round(seconds / once))
        except RuntimeError as error:
            left_out[name] = str(error)
    for name, reason in left_out.items():
        progress(f"{name} is left out: {reason}")
    keys = [(name, *setting) for name in names if name not in left_out for setting in SETTINGS]
    times, loads = take_turns(ask, keys, threads, counts, repeats)
    return {
        "environment": environment(torch.device("cpu")),
        "peers": peers_versions(folder),
        "load_averages": loads,
        "sizes": SIZES,
        "repeats": repeats,
        "forced": FORCED,
        "notes": NOTES,
        "thread_trials_ms_a_token": trials,
        "left_out": left_out,
        "rows": rows_of(times, threads, counts),
        "ratios": ratios_of(times),
    }


def measured(ask: Ask, key: Key, threads: int, count: int) -> dict[str, float]:
    """Decode `count` batches; every output must have the length that all are forced to."""
    name, batch, beam = key
    answer = ask(name, threads, batch, beam, count)
    if answer["lengths"] != [SIZES["target"]] or answer["sentences"] != count * batch:
        raise RuntimeError(
            f"expected {count * batch} outputs of {SIZES['target']} tokens, found {answer['sentences']} of "
            + " and ".join(map(str, answer["lengths"]))
        )
    tokens = answer["sentences"] * SIZES["target"]
    if threads > 1:
        time.sleep(SETTLE)
    return {
        "seconds": answer["seconds"],
        "ms": 1e3 * answer["seconds"] / tokens,
        "cpu_ms": 1e3 * answer["cpu"] / tokens,
    }


def try_threads(ask: Ask, name: str, beam: int, options: Iterable[int]) -> dict[int, float]:
    """Milliseconds a token of one sentence at a time for each number of threads, tried in turn."""
    found: dict[int, list[float]] = {threads: [] for threads in options}
    for _ in range(TRIALS):
        for threads, times in found.items():
            times.append(measured(ask, (name, 1, beam), threads, 2)["ms"])
    return {threads: median(times) for threads, times in found.items()}


def take_turns(
    ask: Ask, keys: list[Key], threads: dict[Key, int], counts: dict[Key, int], repeats: int
) -> tuple[dict[Key, list[dict[str, float]]], list[float]]:
    """Time every system once in each repeat, one batch and beam after another; also the loads."""
    times: dict[Key, list[dict[str, float]]] = {key: [] for key in keys}
    loads = []
    for repeat in range(repeats):
        loads.append(round(os.getloadavg()[0], 2))
        progress(f"repeat {repeat + 1} of {repeats}, load average {loads[-1]}")
        for setting in SETTINGS:
            turn = [key for key in keys if key[1:] == setting]
            first = repeat % max(1, len(turn))  # nobody always comes after the same one
            for key in turn[first:] + turn[:first]:
                times[key].append(measured(ask, key, threads[key], counts[key]))
    loads.append(round(os.getloadavg()[0], 2))
    return times, loads


def rows_of(
    times: dict[Key, list[dict[str, float]]], threads: dict[Key, int], counts: dict[Key, int]
) -> list[dict[str, Any]]:
    """A row a system, batch and beam."""
    return [
        {
            "system": name,
            "kind": SYSTEMS[name]["kind"],
            "batch": batch,
            "search": search_name(beam),
            "threads": threads[name, batch, beam],
            "calls": counts[name, batch, beam],
            "ms_a_token": spread([one["ms"] for one in found]),
            "tokens_a_second": spread([1e3 / one["ms"] for one in found]),
            "cpu_ms_a_token": spread([one["cpu_ms"] for one in found]),
            "all_ms_a_token": [one["ms"] for one in found],
        }
        for (name, batch, beam), found in times.items()
    ]


def ratios_of(times: dict[Key, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Time of each of seqsru's systems over that of each peer, within each repeat."""
    rows = []
    for (name, batch, beam), found in times.items():
        for (peer, *setting), others in times.items():
            kinds = SYSTEMS[name]["kind"], SYSTEMS[peer]["kind"]
            if setting != [batch, beam] or kinds[0] != "seqsru" or kinds[1] == "seqsru":
                continue
            ratio = spread([one["ms"] / other["ms"] for one, other in zip(found, others)])
            search = search_name(beam)
            rows.append({"system": name, "peer": peer, "batch": batch, "search": search, "ratio": ratio})
    return rows


def search_name(beam: int) -> str:
    """Name a search for people."""
    return "greedy" if beam == 1 else f"beam {beam}"


if __name__ == "__main__":
    sys.exit(main())
