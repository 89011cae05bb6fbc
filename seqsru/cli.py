"""The command line: which commands there are, how a mistake is told, what a signal does.

This file loads nothing heavy, so ``seqsru --help`` answers at once; `seqsru.commands` is imported when a
command of its own is asked for.
"""

import argparse
import difflib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from seqsru import __version__

COMMANDS = {
    "train": "train a model, or go on with a run, as a YAML file says",
    "evaluate": "perplexity of a language model; BLEU and chrF of a translation model",
    "translate": "translate lines of text",
    "score": "log probability of each line, or of a translation given its source",
    "generate": "continue lines of text, drawing at random",
    "latency": "how long one token takes",
    "doctor": "what is installed, which backends work, and why one does not",
    "fetch": "put a named public corpus into a folder",
}
ABOUT = """Train language models and translation models made of recurrent layers, decode and measure them.

  seqsru train lm.yaml optimizer.lr=1e-3        # every setting of the file can be overridden
  seqsru translate runs/en-de < in.txt > out.txt
  seqsru COMMAND --help                         # what it reads and writes, every option, examples
"""
NOTES = """Text, numbers and signatures go to stdout; progress, reports and errors to stderr. After a mistake,
told in one sentence, the exit status is 2 (SEQSRU_TRACEBACK=1 shows where it came from); after Ctrl-C, 130.
"""
# What setup.cfg asks for, for `doctor`.
REQUIRED = ("torch", "numba", "numpy", "sentencepiece", "sacrebleu", "safetensors", "pyyaml", "tqdm")
EXTRAS = {"cuda": ("numba-cuda",), "plot": ("matplotlib", "tensorboard")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # text is UTF-8 and lines end in \n, in any locale
            stream.reconfigure(encoding="utf-8", errors=errors, newline="\n")
    showwarning, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        try:
            status = _run(arguments)
        except SystemExit as stop:  # argparse's way, after --help or a mistake
            status = int(stop.code or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python would complain again when it closes stdout.
        if isinstance(sys.stdout, io.TextIOWrapper):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("seqsru: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("SEQSRU_TRACEBACK") or not told_by_us(error):
            raise
        print(sentence(error), file=sys.stderr)
        return 2
    finally:
        warnings.showwarning = showwarning


def _run(arguments: list[str]) -> int:
    chosen = arguments[0] if arguments else ""
    if chosen and not chosen.startswith("-") and chosen not in COMMANDS:
        near = difflib.get_close_matches(chosen, COMMANDS, 1)
        raise ValueError(
            f"expected a command ({', '.join(COMMANDS)}), found {chosen!r}"
            + (f"; did you mean {near[0]!r}?" if near else "; see `seqsru --help`")
        )
    if chosen in COMMANDS:
        parser = argparse.ArgumentParser(f"seqsru {chosen}", formatter_class=_help)
        _OWN[chosen](parser) if chosen in _OWN else _from_commands(chosen, parser)
        options = parser.parse_intermixed_args(arguments[1:])
        return options.run(options)
    parser = argparse.ArgumentParser("seqsru", description=ABOUT, epilog=NOTES, formatter_class=_help)
    parser.add_argument("--version", action="version", version=f"seqsru {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    parser.parse_args(arguments)  # prints help or the version, or says what is wrong, and exits
    return 2


def _help(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=110)


def _from_commands(name: str, parser: argparse.ArgumentParser) -> None:
    from seqsru import commands

    commands.COMMANDS[name](parser)


def told_by_us(error: BaseException) -> bool:
    """Whether an error is a sentence for the user: one of the system's, or raised in the package itself.

    A ValueError from deep inside another library is a bug of ours, which a traceback should show.
    """
    if isinstance(error, OSError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).is_relative_to(Path(__file__).parent)


def sentence(error: BaseException) -> str:
    """An error as the user sees it; lines that begin with the place of a setting stay as they are."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"seqsru: {error.filename}: {error.strerror}; check the path and the permissions"
    from seqsru.places import ConfigError

    return str(error) if isinstance(error, ConfigError) else f"seqsru: {error}"


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"seqsru: warning: {message}", file=sys.stderr)


# ---- the commands that need no run -----------------------------------------------------------------


def fetch(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru fetch``."""
    from seqsru.data.corpora import CORPORA, GENERATED

    parser.description = f"""Put a named public corpus into FOLDER/NAME as plain files, sums checked.

Names: {", ".join([*CORPORA, *GENERATED])}.

A download that broke off goes on where it stopped. With SEQSRU_MIRROR=FOLDER in the environment the files are
copied from FOLDER/NAME and no address is opened. The folder of the corpus is printed on stdout.

  seqsru fetch ptb data                         # data/ptb/ptb.train.txt, …
"""
    parser.add_argument("name", metavar="NAME", help="which corpus")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="made if needed")
    parser.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    from seqsru.data.corpora import fetch

    print(fetch(options.name, options.folder))
    return 0


def doctor(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru doctor``."""
    parser.description = """Say what is installed, which backends of the scans work, and why one does not.

Every backend runs once. The exit status is 1 if the reference or the CPU backend does not work.

With --probe, look instead at the layers of a model before its training: the variance of h, of c after the
last step and of the gradient of h (the loss summed over tokens), and the norm of the parameters' gradient, on
the first batch. Variances that grow or shrink by a factor from layer to layer mean a stack that is set badly.

  seqsru doctor
  seqsru doctor --probe lm.yaml model.stack.num_layers=12
"""
    parser.add_argument("--probe", metavar="CONFIG", type=Path, help="YAML file of a training")
    parser.add_argument("settings", metavar="key=value", nargs="*", help="override a setting of it")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    if options.probe is not None:
        return _probe(options)
    if options.settings:
        raise ValueError(
            f"doctor: expected settings only with --probe, found {options.settings[0]!r}; give --probe CONFIG"
        )
    import platform

    print(f"seqsru {__version__} at {Path(__file__).parent}")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    for package in REQUIRED:
        print(f"  {package:<16}{_version(package) or f'not installed: pip install {package}'}")
    for extra, packages in EXTRAS.items():
        for package in packages:
            advice = f'not installed (optional): pip install "seqsru[{extra}]"'
            print(f"  {package:<16}{_version(package) or advice}")
    import torch

    from seqsru.evaluation.environment import cpu_name
    from seqsru.ops import backend_status

    print(f"{cpu_name()}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    print(f"GPUs: {', '.join(gpus) or 'none that torch can use'}")
    print("backends")
    status = backend_status()
    for name, text in status.items():
        print(f"  {name:<16}{text}")
    return 0 if status["reference"] == status["cpu"] == "ok" else 1


def _probe(options: argparse.Namespace) -> int:
    from seqsru import build, config
    from seqsru.evaluation.probe import table
    from seqsru.options import say

    settings = config.load(options.probe, build.schema(), options.settings)
    print(table(build.probe_layers(settings, say)))
    return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_OWN = {"doctor": doctor, "fetch": fetch}
