"""What the commands that need a configuration or a run do.

The flags of a command are the parameters of what it calls, read from signatures as settings are: a new option of
the search is a flag of ``seqsru translate`` with no edit here.
"""
import argparse
import json
import shlex
from pathlib import Path

from seqsru import build, config
from seqsru.data import read_lines
from seqsru.evaluation.clock import Target
from seqsru.evaluation.language import LanguagePipeline
from seqsru.evaluation.latency import measure, table
from seqsru.evaluation.perplexity import perplexity
from seqsru.evaluation.plots import plot_latency
from seqsru.options import (add_run, add_settings, add_threads, chunks, given, open_run, output, say, use_threads,
                            write_json)
from seqsru.schema import describe, from_signature

GENERATION = from_signature(LanguagePipeline.generate, skip=["self", "prompt"])
MEASURING = from_signature(measure, skip=["targets", "lines"])


# ---- train -----------------------------------------------------------------------------------------

def train(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru train``."""
    parser.description = """Train a model as a YAML file says, into the run directory that its `output` names.

A run that is there already goes on exactly where it stopped; so does `seqsru train RUN`. Ctrl-C saves first.
Settings after the file override it. A mistake in a setting is found before anything is read, with file and line.

  seqsru train lm.yaml
  seqsru train lm.yaml output=runs/b model.stack.cell=lstm optimizer.lr=1e-3
  seqsru train runs/b                           # go on
  seqsru train --check lm.yaml                  # find mistakes, print every setting, train nothing

The run directory gets config.yaml (every setting; this file alone repeats the run), the tokenizer, checkpoints,
metrics.jsonl, a log and signature.txt. The best validation and its signature go to stdout.
"""
    parser.epilog = f"settings (name, default, type, meaning):\n\n{describe(build.schema())}"
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML file, or a run directory to go on in")
    parser.add_argument("settings", metavar="key=value", nargs="*", help="override a setting: key.path=value")
    parser.add_argument("--check", action="store_true", help="print the resolved settings and stop")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    path, overrides = options.config, list(options.settings)
    if path.is_dir():
        if not any(override.startswith("output=") for override in overrides):
            overrides.append(f"output={json.dumps(str(path))}")         # it may have been moved since
        path = path / build.CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"expected a YAML file or a run directory at {options.config}, found none; check "
                                "the path")
    settings = config.load(path, build.schema(), overrides)
    if options.check:
        build.rehearse(settings)
        print(config.dump(settings.values), end="")
        return 0
    outcome = build.train(settings, say)
    directory = settings.values["output"]
    if not outcome.finished:
        say(f"seqsru: stopped after step {outcome.step} and saved; go on with: "
            f"seqsru train {shlex.quote(str(directory))}")
        return 130
    print((directory / build.SIGNATURE).read_text(encoding="utf-8"), end="")
    return 0


# ---- score and generate ----------------------------------------------------------------------------

def generate(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru generate``."""
    parser.description = """Continue text with a language model, drawing each token at random.

Each line of stdin is the beginning of a line; --prompt gives one instead. Each drawn line goes to stdout whole.

  seqsru generate runs/lm --prompt "the company" --count 5 --temperature 0.8
  seqsru generate runs/lm --top-p 0.9 < beginnings.txt
"""
    add_run(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="beginning of a line (default: the lines of stdin)")
    add_settings(parser, "drawing", GENERATION)
    add_threads(parser)
    parser.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> int:
    use_threads(options)
    drawing = given(options, GENERATION)
    pipeline = open_run(options).language("generate")
    for lines in chunks(None) if options.prompt is None else [[options.prompt]]:
        for line in lines:
            for text in pipeline.generate(line, **drawing):
                print(text, flush=True)
    return 0


COMMANDS = {"train": train, "generate": generate}
