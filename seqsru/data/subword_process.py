"""The process that trains a sentencepiece model, so that Ctrl-C can end it: the library looks for no signal.

`train` starts this file as a program, which imports nothing of the package and so is there at once. Its
standard input is the text, a line end after each line, its argument the options and the process to end with,
its standard output the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryFile


def train(lines: Iterable[str], options: Mapping[str, object]) -> bytes:
    """A model trained on lines; ``options`` are those of ``SentencePieceTrainer.train``.

    Raises
    ------
    RuntimeError
        What sentencepiece says against it.
    """
    program = Path(__file__).read_text(encoding="utf-8")
    with TemporaryFile() as text:  # not held in memory
        text.writelines(line.encode() + b"\n" for line in lines)
        text.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps({"parent": os.getpid(), "options": dict(options)})],
            stdin=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            model, said = process.communicate()
        finally:
            process.kill()  # after Ctrl-C; one that has ended does not mind
    if process.returncode:
        words = said.decode("utf-8", "replace").strip()
        raise RuntimeError(words.rpartition("\n")[2] or f"it ended with status {process.returncode}")
    return model


def main() -> None:
    """Train, and end when the process that waits for the model does."""
    given = json.loads(sys.argv[1])

    def watch() -> None:
        while os.getppid() == given["parent"]:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line[:-1].decode() for line in sys.stdin.buffer),
        model_writer=model,
        **given["options"],
    )
    sys.stdout.buffer.write(model.getvalue())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
