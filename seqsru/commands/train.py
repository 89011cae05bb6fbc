"""``seqsru train``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from seqsru import runs
from seqsru import settings as strict
from seqsru.commands.flags import tell
from seqsru.commands.pages import ask_for_huge_pages
from seqsru.commands.parser import Parser
from seqsru.errors import NotFound, Refused
from seqsru.regular import is_regular, read
from seqsru.tasks.sharing import leads
from seqsru.training.lock import CONFIG, SIGNATURE, check_free


def declare(parser: Parser) -> None:
    """Declare the command."""
    parser.description = """Train a model as a YAML file says, into the run directory that its `output` names.

A run that is there already goes on exactly where it stopped; so does `seqsru train RUN`. Ctrl-C saves first.
Settings after the file override it. Mistakes in them are found before anything is read, with file and line.

  seqsru train lm.yaml
  seqsru train lm.yaml output=runs/b model.stack.cell=lstm optimizer.lr=1e-3
  seqsru train runs/b                           # go on
  seqsru train new.yaml start_from.run=runs/b   # begin with its weights and tokenizers, on other data
  seqsru train --check lm.yaml                  # find mistakes, print every setting, train nothing

The run directory gets config.yaml (every setting; it alone repeats the run), the tokenizer, checkpoints,
metrics.jsonl, a log and signature.txt. The best validation and its signature go to stdout.
"""
    parser.end = lambda: f"settings (name, default, type, meaning):\n\n{strict.describe(runs.schema())}"
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML file, or a run to go on with")
    parser.add_argument("settings", metavar="key=value", nargs="*", help="override a setting: key.path=value")
    parser.set_defaults(keeps_result=True)  # in the run directory, so standard output may be closed
    parser.add_argument("--check", action="store_true", help="print the resolved settings and stop")


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    ask_for_huge_pages()
    path, overrides = arguments.config, list(arguments.settings)
    if path.is_dir():
        if not any(override.startswith("output=") for override in overrides):
            overrides.append(f"output={json.dumps(str(path))}")  # it may have been moved since
        path = path / CONFIG
        if os.path.lexists(path) and not is_regular(path):
            read(path, strict.MOST_BYTES, "restore it from a copy", what="the settings of a run")
    if not path.exists():
        raise NotFound(f"a YAML file or a run directory at {arguments.config}", "none", "check the path")
    file = strict.File(path)
    if not arguments.check and leads():  # of several processes one holds the run
        _check_free(file, overrides)
    settings = runs.load_settings(file, overrides)
    if arguments.config.is_dir() and not _same(settings["output"], arguments.config):
        here, there = shlex.quote(str(arguments.config)), shlex.quote(str(settings["output"]))
        raise Refused(
            f"the run in {arguments.config} to go on in its own folder",
            f"output={settings['output']}",
            f"copy it first (cp -r {here} {there}; seqsru train {there}), or begin anew with its settings "
            f"(seqsru train {shlex.quote(str(path))} output={there})",
        )
    if arguments.check:
        runs.rehearse(settings)
        runs.check_output(settings)
        print(strict.dump(settings.plain()), end="")
        return 0
    outcome = runs.train(settings, tell)
    directory = settings["output"]
    if not outcome.finished:
        tell(
            f"seqsru: stopped after step {outcome.step} and saved; go on with: "
            f"seqsru train {shlex.quote(str(directory))}"
        )
        return 128 + outcome.signal
    if leads():
        print(read(directory / SIGNATURE, strict.MOST_BYTES, "train again").decode(), end="")
    return 128 + outcome.signal if outcome.signal else 0


def _check_free(file: strict.File, overrides: Sequence[str]) -> None:
    """Refuse a run that another process trains, before torch is imported, which takes a second.

    What the settings say otherwise is read, and checked, later.
    """
    try:
        told = [strict.parse(file.data.decode("utf-8-sig"), str)]
        told += [strict.parse(one.partition("=")[2], str) for one in overrides if one.startswith("output=")]
    except ValueError:
        return  # it is refused later, in full
    output = told[-1].value if len(told) > 1 else None
    if isinstance(told[0].value, dict) and output is None and "output" in told[0].value:
        output = told[0].value["output"].value
    if isinstance(output, str) and output and "\0" not in output:
        check_free(Path(output).expanduser())


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
