"""Everything worth doing on a GPU in one call of under ten minutes: tests and measurements.

    bash tools/gpu_check.sh OUT

writes ``OUT/gpu_check.json`` and ``OUT/gpu_check.txt``, and prints the second. It needs torch, numba-cuda,
pytest and this checkout, downloads nothing and installs nothing. Each section of `gpu_sections` runs in a
process of its own, so that one that fails, or hangs, or breaks the device's context is recorded as failed
and the others still run; both files are written again after each.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


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
    parser.add_argument("--section", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.section:
        return run_section(given.section, given.device, given.tiny, given.out)
    import torch
    from gpu_sections import SECTIONS

    names = given.only.split(",") if given.only else list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"expected sections among {', '.join(SECTIONS)}, found {unknown[0]!r}; use one of these")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("expected a CUDA device, found that torch sees none; pass --device cpu --tiny to try it")
    limits = {name: SECTIONS[name][1] for name in names}
    options = ["--device", given.device] + ["--tiny"] * given.tiny
    report = check(limits, options, given.out, given.budget, describe(given.device))
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


def check(limits: dict[str, float], options: list[str], out: Path, budget: float, about: dict) -> dict:
    """Run the sections one after the other, each at most its limit, and write the report after each."""
    out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    report: dict = {"environment": about, "sections": {}}
    for name, limit in limits.items():
        left = budget - (time.monotonic() - begin)
        if left <= 0:
            section = {"status": "skipped", "error": f"the budget of {budget:g} s was spent; raise --budget"}
        else:
            section = run_apart(name, options, out, min(limit, left))
        report["sections"][name] = section
        report["seconds"] = round(time.monotonic() - begin, 1)
        (out / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (out / "gpu_check.txt").write_text(render(report) + "\n", encoding="utf-8")
    return report


def run_apart(name: str, options: list[str], out: Path, limit: float) -> dict:
    """Run one section in a process of its own and return its status, rows or error, and seconds."""
    result = out / f"{name}.part.json"
    command = [sys.executable, __file__, str(result), "--section", name, *options]
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True)
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # the section and what it started
            child.wait()
            section: dict = {"status": "failed", "error": f"not done after {limit:.0f} s"}
        else:
            errors.seek(0)
            if child.returncode == 0 and result.exists():
                rows = json.loads(result.read_text(encoding="utf-8"))
                failed = any(row.get("outcome") == "failed" for row in rows)
                section = {"status": "failed" if failed else "ok", "rows": rows}
            else:
                text = errors.read()[-3000:].strip()
                section = {"status": "failed", "error": f"exit status {child.returncode}: {text}"}
    result.unlink(missing_ok=True)
    return section | {"seconds": round(time.monotonic() - begin, 1)}


def run_section(name: str, device: str, tiny: bool, result: Path) -> int:
    """Run one section here and write its rows."""
    import torch
    from gpu_sections import SECTIONS

    rows = SECTIONS[name][0](torch.device(device), tiny)
    result.write_text(json.dumps(rows), encoding="utf-8")
    return 0


def render(report: dict) -> str:
    """The report as text: the machine, then a table for each section."""
    about = report["environment"]
    versions = " ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [f"{about['device_name']} | python {about['python']} {versions} cuda {about['cuda']}"]
    for name, section in report["sections"].items():
        seconds = f", {section['seconds']} s" if "seconds" in section else ""
        lines += ["", f"{name}: {section['status']}{seconds}"]
        lines += [section["error"]] if "error" in section else []
        lines += columns(section.get("rows", []))
    return "\n".join(lines)


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
