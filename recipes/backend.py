"""Say whether a recipe's training can run on the device that its settings name, before any data is touched.

python recipes/backend.py CONFIG [key=value …]

Exit status 0: it can. 2: it cannot, for the reason on stderr. 3: the device is a GPU and the backend for it
does not work; stdout names the extra that brings what it needs, stderr says what is missing.
`recipes/install.sh` then installs that extra and asks again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from seqsru import runs
from seqsru.errors import Refused
from seqsru.ops import backend_status
from seqsru.ops.backends import EXTRA


def main(arguments: list[str]) -> int:
    """Check one config with its overrides; print and return as the module says."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        device: torch.device = runs.choose_device(
            runs.load_settings(Path(arguments[0]), arguments[1:])["device"]
        )
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    status = backend_status()["cuda"] if device.type == "cuda" else "ok"
    if status == "ok":
        return 0
    print(f"device {device}: {status.removeprefix('no: ')}", file=sys.stderr)
    print(EXTRA)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
