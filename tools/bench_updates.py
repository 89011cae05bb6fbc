"""What an update of a training takes on a CPU, in one environment beside another.

    python tools/bench_updates.py recipes/ptb/sru.yaml --beside THP_MEM_ALLOC_ENABLE=0
    python tools/bench_updates.py lm.yaml --beside OMP_NUM_THREADS=1 --set training.precision=float32

Each is `seqsru train` in a process of its own, which ends after so many updates and keeps nothing. They take
turns, and a ratio divides two times of one turn: only such ratios mean anything on a shared machine. The time
of a turn is the first decile of its updates, as what others do on the machine only adds to it. It is that of
all threads of the process, user and system; faults are pages of memory that it had to be given.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seqsru.errors import Refused

WARM_UP = 5  # updates before the first that counts: kernels are compiled, memory is taken
MEASURES = {"milliseconds": "processor ms", "system": "of them the system's", "faults": "page faults"}


def used() -> dict[str, float]:
    """What this process has used until now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    system = 1e3 * usage.ru_stime
    return {"milliseconds": 1e3 * usage.ru_utime + system, "system": system, "faults": usage.ru_minflt}


def train(updates: int, arguments: Sequence[str]) -> None:
    """Train so many updates, write what each took to stdout, and end the process."""
    from seqsru.commands.main import main
    from seqsru.commands.pages import ask_for_huge_pages

    ask_for_huge_pages()  # as the command does, before torch is imported
    from seqsru.training.updates import Updates

    make, found = Updates.make, []

    def measured(*given: Any) -> Any:
        before = used()
        result = make(*given)
        found.append({name: value - before[name] for name, value in used().items()})
        if len(found) == WARM_UP + updates:
            print(json.dumps(found[WARM_UP:]), flush=True)
            os._exit(0)
        return result

    Updates.make = measured  # type: ignore[method-assign,assignment]
    raise SystemExit(main(["train", *arguments]) or 1)  # it ended too early


def child(
    config: Path, updates: int, settings: Sequence[str], environment: Mapping[str, str]
) -> dict[str, float]:
    """What an update of a training in a process of its own takes: of its updates the first decile."""
    with tempfile.TemporaryDirectory() as folder:
        own = [f"output={folder}/run", "training.tensorboard=false", *settings]
        further = [word for one in own for word in ("--set", one)]
        command = [sys.executable, __file__, "--child", str(updates), str(config), *further]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise Refused(
            f"{WARM_UP + updates} updates of {config}",
            (done.stderr.strip().splitlines() or ["none"])[-1],
            "see what `seqsru train` says of it",
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        name: statistics.quantiles([one[name] for one in found], n=10, method="inclusive")[0]
        for name in MEASURES
    }


def table(turns: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """Medians over the turns in Markdown, and the ratios of their times."""
    names = list(turns[0])
    lines = [["", *MEASURES.values(), "times the first's"], ["---"] * (len(MEASURES) + 2)]
    for name in names:
        row = [f"{statistics.median(turn[name][of] for turn in turns):,.0f}" for of in MEASURES]
        ratios = sorted(turn[name]["milliseconds"] / turn[names[0]]["milliseconds"] for turn in turns)
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append([name, *row, "" if name == names[0] else ratio])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, and print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    several: Any = {"action": "append", "default": []}
    parser.add_argument("config", type=Path, help="YAML file of a training")
    parser.add_argument("--set", metavar="key=value", help="a setting over that of the file", **several)
    parser.add_argument("--beside", metavar="NAME=VALUE", help="a variable of another environment", **several)
    parser.add_argument("--updates", type=int, default=40, help="that count, a turn (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: %(default)s)")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        train(given.child, [str(given.config), *given.set])
    environments = {"as it is": {}} | {one: dict([one.split("=", 1)]) for one in given.beside}
    measure = partial(child, given.config, given.updates, given.set)
    try:
        turns = [{name: measure(e) for name, e in environments.items()} for _ in range(given.repeats)]
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    print(table(turns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
