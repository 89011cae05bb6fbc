"""The processes that tools/bench_decoding.py asks, and the virtual environment of the peers among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

# What is installed of each peer. Of pymarian only its compiled module is used, which needs none of what the
# package asks for.
PEERS = {"ctranslate2": ["ctranslate2", "numpy"], "marian": ["--no-deps", "pymarian"]}
PACKAGES = ("ctranslate2", "pymarian", "numpy")


def installed(kind: str, folder: Path) -> Path:
    """Give the Python that has a peer; make its environment and install the peer where that is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        progress(f"making {folder}")
        checked([sys.executable, "-m", "venv", str(folder)])
    versions = peers_versions(folder)
    if any(package not in versions for package in PEERS[kind] if not package.startswith("-")):
        progress(f"installing {kind} into {folder}")
        checked([str(python), "-m", "pip", "install", "--quiet", *PEERS[kind]])
    return python


def checked(command: list[str]) -> None:
    """Run a command; if it fails, the last line that it wrote is the reason."""
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise RuntimeError(f"{' '.join(command[:4])} failed: {lines[-1]}")


def peers_versions(folder: Path) -> dict[str, str]:
    """Versions of the peers' packages that are installed."""
    found = {}
    for record in folder.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = record.name.removesuffix(".dist-info").partition("-")
        if name in PACKAGES:
            found[name] = version
    return found


def clean_environment() -> dict[str, str]:
    """The variables of this process without what leads a Python to other modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class Worker:
    """A process that has the systems of one kind and answers a line by a line; a context ends it."""

    def __init__(
        self, kind: str, python: Path, models: dict[str, dict[str, Any]], sizes: dict[str, int]
    ) -> None:
        self.kind, self.stack = kind, ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.log: IO[str] = self.stack.enter_context((Path(folder) / "log").open("w+", encoding="utf-8"))
        script = Path(__file__).with_name("decoding_systems.py")
        variables = clean_environment()
        variables.pop("OMP_NUM_THREADS", None)  # CTranslate2 is told its threads
        if kind != "ctranslate2":
            variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [str(python), str(script), kind, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=variables,
        )
        self.send({"models": models, "sizes": sizes})

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *details: object) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass
        self.process.terminate()
        self.process.wait()
        self.stack.close()

    def send(self, message: dict[str, Any]) -> None:
        """Write a line."""
        assert self.process.stdin is not None
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # its answer is missing too, and says why

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write a request and wait for its answer."""
        assert self.process.stdout is not None
        self.send(request)
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = (self.log.read().strip() or "it wrote nothing").splitlines()[-1]
            raise RuntimeError(f"the process of {self.kind} ended with {self.process.wait()}: {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def progress(text: str) -> None:
    """Tell what goes on, beside the results."""
    print(text, file=sys.stderr, flush=True)
