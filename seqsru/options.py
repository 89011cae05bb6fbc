"""What the commands share: flags read from signatures, the run they load, text in and text out."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm import tqdm

from seqsru import build, config
from seqsru.builder import make_rules, rules_section
from seqsru.data import LineReport, iter_lines, read_lines
from seqsru.data.files import write_whole
from seqsru.decoding import RULES, Decoding
from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.translation import TranslationPipeline
from seqsru.schema import REQUIRED, Section, Setting, from_signature, kind_text, shown

LOADING = from_signature(build.load, skip=["run"])
DECODING = from_signature(Decoding, skip=["rules"])
NAMES = {LanguagePipeline: "a language model", TranslationPipeline: "a translation model"}
CHUNK = 1024  # lines that are worked on together


def say(line: str) -> None:
    """Tell the person at the terminal something that is no result."""
    print(line, file=sys.stderr, flush=True)


def add_settings(parser: argparse.ArgumentParser, title: str, section: Section, default: str = "") -> None:
    """Give a command one flag for each setting of a section.

    Parameters
    ----------
    parser : ArgumentParser
        The command's.
    title : str
        Heading of the flags in the help.
    section : Section
        Settings only.
    default : str
        What holds where a flag is not given, in words; empty for the setting's own default.
    """
    group = parser.add_argument_group(title)
    for name, setting in section.entries.items():
        assert isinstance(setting, Setting)
        held = default or ("" if setting.default is REQUIRED else f"default {shown(setting.default)}")
        text = f"{setting.text} ({'; '.join(filter(None, [kind_text(setting.kind), held]))})"
        group.add_argument(
            flag(name),
            dest=name,
            metavar=name.rpartition("_")[2].upper(),
            help=text.replace("``", "`").replace("%", "%%"),
        )


def flag(name: str) -> str:
    """The flag of a setting: ``--n-best``."""
    return "--" + name.replace("_", "-")


def complete(options: argparse.Namespace, section: Section) -> dict[str, Any]:
    """The settings of a section: flags that were given, checked, and defaults."""
    texts = {name: getattr(options, name) for name in section.entries if getattr(options, name) is not None}
    return config.check(section, texts).values


def given(options: argparse.Namespace, section: Section) -> dict[str, Any]:
    """The settings of a section whose flags were given, checked."""
    asked = {name: setting for name, setting in section.entries.items() if getattr(options, name) is not None}
    return complete(options, Section(asked))


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run directory and how to load it."""
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="what `seqsru train` wrote")
    add_settings(parser, "what to load", LOADING)


def open_run(options: argparse.Namespace) -> build.Run:
    """Load the run that a command names."""
    return build.open_run(options.run_directory, **complete(options, LOADING))


def pipeline_for(run: build.Run, kind: type, command: str):
    """The run's pipeline, which a command needs to be of one kind."""
    if not isinstance(run.pipeline, kind):
        found = NAMES[type(run.pipeline)]
        raise ValueError(
            f"{command}: expected a run of {NAMES[kind]}, found one of {found}; `seqsru --help` "
            "says what that can do"
        )
    return run.pipeline


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Declare the search of a translation model."""
    add_settings(parser, "search of a translation model", DECODING, "default the run's")
    parser.add_argument(
        "--rule",
        metavar="NAME.OPTION=VALUE",
        action="append",
        help="a rule for the search besides the run's, such as no_repeat_ngram.size=3; of "
        + ", ".join(RULES),
    )


def decoding(options: argparse.Namespace, pipeline: TranslationPipeline) -> dict[str, Any]:
    """The settings of the search that were given; rules that were are added to the pipeline's."""
    rules = make_rules(config.resolve(rules_section(), options.rule or []).values)
    return {**given(options, DECODING), "rules": (*pipeline.decoding.rules, *rules)}


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare the number of threads."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="threads of the CPU (a whole number; default torch's own choice)",
    )


def use_threads(options: argparse.Namespace) -> None:
    """Set the number of threads that was asked for."""
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(
                f"expected --threads of at least 1, found {options.threads}; leave it out for "
                "torch's own choice"
            )
        torch.set_num_threads(options.threads)


def chunks(path: Path | None) -> Iterator[list[str]]:
    """Lines of a file or of standard input, up to `CHUNK` to work on together; from a terminal one by one."""
    if path is not None and str(path) != "-":
        lines = read_lines(path).lines
        yield from (lines[first : first + CHUNK] for first in range(0, len(lines), CHUNK))
        return
    size = 1 if sys.stdin.isatty() else CHUNK
    lines = []
    for _, line in iter_lines(sys.stdin.buffer, LineReport("<stdin>")):
        lines.append(line)
        if len(lines) == size:
            yield lines
            lines = []
    if lines:
        yield lines


def progress(path: Path | None, total: int | None = None) -> tqdm:
    """A bar of lines on stderr, if that is a terminal and the result of the command does not go there too."""
    return tqdm(total=total, unit="line", disable=True if path is None and sys.stdout.isatty() else None)


@contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """A file to write to, or standard output."""
    if path is None:
        yield sys.stdout
    else:
        with open(path, "w", encoding="utf-8", newline="\n") as stream:
            yield stream


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write a result where ``--json`` says, if it was given."""
    if path is not None:
        write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
