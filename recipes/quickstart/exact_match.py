"""Share of lines that are translated exactly.

python exact_match.py SOURCE REFERENCE TRANSLATION RESULT.json

Prints the share and the first lines that differ; writes {"exact_match": percent, "lines": n} to RESULT.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Compare the files and write the result."""
    *texts, result = (Path(argument) for argument in arguments)
    sources, references, translations = (
        path.read_text(encoding="utf-8").removesuffix("\n").split("\n") for path in texts
    )
    if not len(sources) == len(references) == len(translations):
        counts = f"{len(sources)}, {len(references)} and {len(translations)}"
        sys.exit(f"expected three files of as many lines, found {counts}; translate the source again")
    wrong = [i for i, reference in enumerate(references) if reference != translations[i]]
    right = len(references) - len(wrong)
    percent = 100 * right / len(references)
    print(f"{right} of {len(references)} phrases never seen in training are exactly right: {percent:.2f} %")
    for i in wrong[:5]:
        print(f"  wrong: {sources[i]} -> {translations[i]} (should be {references[i]})")
    result.write_text(json.dumps({"exact_match": percent, "lines": len(references)}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
