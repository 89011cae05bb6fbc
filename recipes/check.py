"""Hold what a recipe's run found against its expected.json.

python recipes/check.py EXPECTED.json RUN

EXPECTED.json has a list for each run, under the last part of its directory; an empty one where nobody has
measured yet. Each entry says what the number is, which JSON file of the run and which key hold it, what it
should be, how much worse it may be, and whether more or less is better. Better passes. In the list of a
comparison's table.json a key names a system: systems.SRU.test.mean.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def check(expected: Path, run: Path) -> list[tuple[str, float, float, bool]]:
    """What, expected number, found number and whether it passes, for each entry.

    Raises
    ------
    ValueError
        Nothing is expected of such a run, a results file is missing, or has no such number.
    """
    rows = []
    lists = json.loads(expected.read_text(encoding="utf-8"))
    if run.name not in lists:
        raise ValueError(f"expected a run named {' or '.join(lists)}, found {run.name}; see {expected}")
    for entry in lists[run.name]:
        path = run / entry["file"]
        if not path.is_file():
            raise ValueError(f"expected {entry['what']} in {path}, found no such file; run the recipe first")
        found = json.loads(path.read_text(encoding="utf-8"))
        for key in entry["key"].split("."):
            if isinstance(found, list):
                found = {one["system"]: one for one in found if isinstance(one, dict) and "system" in one}
            if not isinstance(found, dict) or key not in found:
                raise ValueError(f"expected {entry['key']} in {path}, found no {key}; run the recipe again")
            found = found[key]
        if entry["better"] == "higher":
            passes = found >= entry["expected"] - entry["tolerance"]
        else:
            passes = found <= entry["expected"] + entry["tolerance"]
        rows.append((entry["what"], entry["expected"], found, passes))
    return rows


def main(arguments: list[str]) -> int:
    """Print a line a number; 0 if all pass, 1 if one does not, 2 if one is missing."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        rows = check(Path(arguments[0]), Path(arguments[1]))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if not rows:
        print("nobody has measured such a run yet: there is no number to compare with")
    for what, expected, found, passes in rows:
        print(f"{'as expected' if passes else 'WORSE':<12}{what}: {found:.2f} (expected {expected:.2f})")
    return 0 if all(passes for *_, passes in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
