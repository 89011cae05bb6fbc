"""Every fault that is tried, in number, and a table of what held: ``python tests/faults/long.py [share]``.

A share below 1 tries so much of each kind. The exit status is 1 if something did not hold.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sections
import torch


def main(share):
    """Try everything, and print the table."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rows, faults = [], 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "bench").mkdir()
        bench = sections.Bench(folder / "bench")

        def numbers(count):
            return range(max(1, round(share * count)))

        for name, section in {
            "hostile run directories, used and gone on with": lambda: sections.hostile_runs(
                bench, numbers(1200)
            ),
            "damaged files of compiled code": lambda: sections.damaged_cache(numbers(300)),
            "settings that are none, or cannot be meant": lambda: sections.yaml_files(bench, numbers(30)),
            "a training killed before an operation on a file": lambda: sections.killed_anywhere(
                folder, share
            ),
            "no room at a write": lambda: sections.full_disk(bench, share),
            "a disk of 16 to 200 KiB": lambda: sections.small_disk(bench, range(16, 200, round(2 / share))),
            "loads of a run that is being trained": lambda: sections.loads_while_training(
                folder, len(numbers(1000))
            ),
            "SIGTERM at a random moment": lambda: sections.terminated(bench, numbers(100)),
            "SIGTERM while starting": lambda: sections.started(bench, numbers(20)),
        }.items():
            began = time.monotonic()
            tried, wrong = section()
            rows.append(f"| {name} | {tried:,} | {tried - len(wrong):,} | {time.monotonic() - began:,.0f} |")
            faults += len(wrong)
            print(rows[-1], *wrong, sep="\n", flush=True)
    print("\n| what was tried | times | held | seconds |\n|---|---|---|---|", *rows, sep="\n")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
