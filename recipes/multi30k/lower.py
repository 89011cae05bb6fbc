"""Write the captions of Multi30k in lower case.

python recipes/multi30k/lower.py FOLDER OUT

Each .en and .de file of FOLDER has a file of that name in OUT, with as many lines.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Write them; 2 where the arguments are not two or there is no such file."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder, out = map(Path, arguments)
    files = sorted(path for language in ("en", "de") for path in folder.glob(f"*.{language}"))
    if not files:
        print(f"expected .en and .de files in {folder}, found none; fetch multi30k first", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    for path in files:
        (out / path.name).write_bytes(path.read_bytes().decode("utf-8").lower().encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
