"""Everything worth doing on a GPU in one call of ten minutes: tests and measurements.

    bash tools/gpu_check.sh OUT

prints what `seqsru doctor` says and then the report, whose first lines are the figures that took half as
long again as predicted. ``OUT`` gets it as text and JSON, the table for the README, and the whole log. Each
part of a section of `gpu_sections` runs in a process of its own, so that one that fails, or hangs, or
breaks the device's context is recorded as failed and the others still run; all files are written again
after each. While one measures, the next has begun and waits, its imports done.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SLOW = 1.5  # times what is predicted: printed first


class Job(NamedTuple):
    """A part of a section, and the seconds that it may take."""

    section: str
    part: str
    limit: float

    @property
    def name(self) -> str:
        """``section, part``."""
        return f"{self.section}, {self.part}"


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument(
        "--device", default="cuda", help="cuda, cuda:1, or cpu to try the program out (default: cuda)"
    )
    parser.add_argument("--tiny", action="store_true", help="sizes that say nothing, to try the program out")
    parser.add_argument("--only", help="sections to run, separated by commas (default: all)")
    parser.add_argument(
        "--budget",
        type=float,
        default=540.0,
        help="seconds after which no section is started or goes on (default: %(default)s)",
    )
    parser.add_argument("--section", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.section:
        return run_section(*given.section, given.device, given.tiny, given.out)
    import torch
    from gpu_sections import SECTIONS

    names = given.only.split(",") if given.only else list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"expected sections among {', '.join(SECTIONS)}, found {unknown[0]!r}; use one of these")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("expected a CUDA device, found that torch sees none; pass --device cpu --tiny to try it")
    on_cpu = not given.device.startswith("cuda")
    jobs = [
        Job(name, part, SECTIONS[name].limit)
        for name in names
        for part in SECTIONS[name].parts
        if not (on_cpu and part == "tf32")  # a type of GPUs
    ]
    options = ["--device", given.device] + ["--tiny"] * given.tiny
    report = check(jobs, options, given.out, given.budget, describe(given.device))
    print(render(report))
    return 0 if all(section["status"] == "ok" for section in report["sections"].values()) else 1


def describe(device: str) -> dict:
    """Device and versions; on CUDA also its memory, multiprocessors and compute capability."""
    import torch

    from seqsru.evaluation.environment import environment

    here = torch.device(device)
    found = environment(here) | {"cuda": torch.version.cuda}
    if here.type == "cuda":
        properties = torch.cuda.get_device_properties(here)
        found |= {
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "devices": torch.cuda.device_count(),
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def check(jobs: list[Job], options: list[str], out: Path, budget: float, about: dict) -> dict:
    """Run the jobs one after the other, each at most its limit, and write the report after each."""
    out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    report: dict = {"environment": about, "sections": {}}
    waiting: Child | None = None
    for number, job in enumerate(jobs):
        left = budget - (time.monotonic() - begin)
        if left <= 0:
            section = {"status": "skipped", "error": f"the budget of {budget:g} s was spent; raise --budget"}
        else:
            child, waiting = waiting or Child(job, options, out), None
            if number + 1 < len(jobs):
                waiting = Child(jobs[number + 1], options, out)
            section = child.finish(min(job.limit, left))
        report["sections"][job.name] = section
        report["seconds"] = round(time.monotonic() - begin, 1)
        (out / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (out / "gpu_check.txt").write_text(render(report) + "\n", encoding="utf-8")
        (out / "table.md").write_text(table(report), encoding="utf-8")
    if waiting is not None:
        waiting.end()
    return report


class Child:
    """The process of a job, which waits for a line of input when its imports are done."""

    def __init__(self, job: Job, options: list[str], out: Path) -> None:
        self.job, self.result = job, out / f"{job.section}.{job.part}.part.json"
        self.printed = tempfile.TemporaryFile("w+")
        command = [sys.executable, __file__, str(self.result), "--section", job.section, job.part, *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self.printed, stderr=self.printed, start_new_session=True
        )

    def finish(self, limit: float) -> dict:
        """Let it go on; return its status, rows or error, and seconds, and print what it printed."""
        begin = time.monotonic()
        try:
            self.process.communicate(b"go\n", timeout=limit)
        except subprocess.TimeoutExpired:
            section: dict = {"status": "failed", "error": f"not done after {limit:.0f} s"}
        else:
            section = self._found()
        self.end()
        return section | {"seconds": round(time.monotonic() - begin, 1)}

    def _found(self) -> dict:
        if self.process.returncode == 0 and self.result.exists():
            rows = json.loads(self.result.read_text(encoding="utf-8"))
            failed = any(row.get("outcome") == "failed" for row in rows)
            return {"status": "failed" if failed else "ok", "rows": rows}
        self.printed.seek(0)
        text = self.printed.read()[-3000:].strip()
        return {"status": "failed", "error": f"exit status {self.process.returncode}: {text}"}

    def end(self) -> None:
        """End it with all that it started; print what it printed, which the log keeps; leave no file."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.printed.seek(0)
        if text := self.printed.read().strip():
            print(f"---- {self.job.name}\n{text}\n----", file=sys.stderr)
        self.printed.close()
        self.result.unlink(missing_ok=True)


def run_section(name: str, part: str, device: str, tiny: bool, result: Path) -> int:
    """Run one part of a section here, as soon as a line is read, and write its rows."""
    import torch
    from gpu_sections import SECTIONS

    if not sys.stdin.readline():  # nobody waits for it any more
        return 1
    rows = SECTIONS[name].run(torch.device(device), tiny, part)
    result.write_text(json.dumps(rows), encoding="utf-8")
    return 0


def render(report: dict) -> str:
    """The report as text: the machine, what was slower than predicted, then a table for each section."""
    about = report["environment"]
    versions = " ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [f"{about['device_name']} | python {about['python']} {versions} cuda {about['cuda']}"]
    slow = slower(report)
    lines += [
        "",
        f"{len(slow)} figures above {SLOW} times what is predicted" + (", the worst first" if slow else ""),
    ]
    lines += columns(slow)
    for name, section in report["sections"].items():
        seconds = f", {section['seconds']} s" if "seconds" in section else ""
        lines += ["", f"{name}: {section['status']}{seconds}"]
        lines += [section["error"]] if "error" in section else []
        lines += columns(section.get("rows", []))
    return "\n".join(lines)


def slower(report: dict) -> list[dict]:
    """Rows whose ratio to what is predicted is above `SLOW`, the worst first, with what they are."""
    found = []
    for name, section in report["sections"].items():
        for row in section.get("rows", []):
            if (row.get("ratio") or 0) > SLOW:
                what = " ".join(str(value) for value in row.values() if isinstance(value, str) and value)
                figures = {key: row.get(key) for key in ("us", "predicted us", "ratio")}
                found.append({"section": name, "what": what, **figures})
    return sorted(found, key=lambda row: -row["ratio"])


def table(report: dict) -> str:
    """The table for the README: layers forward and backward as times of the SRU's, precision by precision."""
    heads: list[str] = []
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for name, section in report["sections"].items():
        kind, _, precision = name.partition(", ")
        for row in section.get("rows", []) if kind == "layers" else []:
            if row["pass"] == "training":
                line = lines.setdefault((row["T,B,D"].replace(",", ", "), precision, row["by"]), {})
                line[row["layer"]] = f"{row['to SRU']:.2f} [{row['q1']:.2f}–{row['q3']:.2f}]"
                if row["layer"] == "SRU":
                    line["SRU"] = f"{row['us'] / 1e3:.3f} ms"
                if row["layer"] not in heads:
                    heads.append(row["layer"])
    about = report["environment"]
    titles = [head if head == "SRU" else f"{head} / SRU" for head in heads]
    text = [
        f"On one {about['device_name']}, forward and backward, torch {about['versions'].get('torch')}:",
        "",
    ]
    text.append("| " + " | ".join(["T, B, D", "products", "from", *titles]) + " |")
    text.append("|" + "---|" * (3 + len(heads)))
    text += [
        "| " + " | ".join([*key, *(line.get(head, "–") for head in heads)]) + " |"
        for key, line in lines.items()
    ]
    return "\n".join(text) + "\n"


def columns(rows: list[dict]) -> list[str]:
    """Rows under their keys, aligned: text to the left, numbers to the right; what is absent is a dash."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [["-" if row.get(key) is None else str(row[key]) for key in keys] for row in rows]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(keys)]
    numeric = [all(isinstance(row.get(key, 0), (int, float, type(None))) for row in rows) for key in keys]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numeric)
        ).rstrip()
        for line in ([keys, *cells] if rows else [])
    ]


if __name__ == "__main__":
    sys.exit(main())
