"""The commands whose result is numbers: each with its signature."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqsru import build
from seqsru.data import read_lines, read_parallel
from seqsru.errors import Refused
from seqsru.evaluation.bleu import paired_bootstrap, translation_scores
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.latency import measure
from seqsru.evaluation.latency_report import table
from seqsru.evaluation.plots import new_figure, plot_latency
from seqsru.options import (
    CHUNK,
    DECODING,
    LOADING,
    add_decoding,
    add_run,
    add_settings,
    add_threads,
    chunks,
    complete,
    decoding,
    flag,
    open_run,
    output,
    progress,
    say,
    use_threads,
    write_json,
)
from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.translation import TranslationPipeline
from seqsru.schema import from_signature

MEASURING = from_signature(measure, skip=["decoders", "lines"])
STATES = ("carried", "separate")
METRICS = ("bleu", "chrf", "ter")


# ---- text to numbers -------------------------------------------------------------------------------


def score(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru score``."""
    parser.description = """Print the log probability (natural logarithm) of each line, its end included.

With a language model, of each line alone; with a translation model, of TARGET's lines given SOURCE's.

  seqsru score runs/lm < text.txt
  seqsru score runs/en-de source.en target.de
"""
    add_run(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="text (default: stdin), or SOURCE and TARGET; - is stdin",
    )
    add_threads(parser)
    parser.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    use_threads(options)
    pipeline = open_run(options).pipeline
    if isinstance(pipeline, LanguagePipeline):
        _expect_files("score", options.files, (0, 1), "a language model takes one text, or stdin")
        for lines in chunks(*options.files or [None]):
            for log_prob in pipeline.score(lines):
                print(f"{log_prob:.6f}")
        return 0
    _expect_files("score", options.files, (2,), "a translation model takes SOURCE and TARGET")
    pair = read_parallel(*options.files)
    for log_prob in pipeline.score(pair.source, pair.target):
        print(f"{log_prob:.6f}")
    return 0


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru evaluate``."""
    parser.description = """Measure a run on the texts its configuration names, or on others.

A language model: perplexity (a word, and a token), bits a token and a byte. A translation model: BLEU and
chrF of its translations by sacrebleu, on detokenised text. Each number with its signature, on stdout.

  seqsru evaluate runs/lm                       # data.test of its configuration
  seqsru evaluate runs/lm --split valid --state separate
  seqsru evaluate runs/en-de newstest.en newstest.de --beam 10 --average 5 --json bleu.json
  seqsru evaluate runs/en-de --baseline other.txt     # better than these translations? paired bootstrap
"""
    add_run(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="a text, or SOURCE and REFERENCE (default: --split of the configuration)",
    )
    parser.add_argument(
        "--split", choices=("valid", "test"), help="which texts of the configuration (default test)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers to this file too")
    language = parser.add_argument_group("language models")
    language.add_argument(
        "--state",
        choices=STATES,
        help="carried from line to line, or each line alone (default: the run's training.valid_state)",
    )
    translation = parser.add_argument_group("translation models")
    translation.add_argument("--metrics", metavar="NAMES", help=f"of {','.join(METRICS)} (default bleu,chrf)")
    translation.add_argument(
        "--translations", metavar="FILE", type=Path, help="write the translations to this file"
    )
    translation.add_argument("--baseline", metavar="FILE", type=Path, help="translations to compare with")
    add_decoding(parser)
    add_threads(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    use_threads(options)
    run = open_run(options)
    files = _files(options, run, "evaluate")
    if isinstance(run.pipeline, LanguagePipeline):
        _refuse(
            options,
            ["metrics", "translations", "baseline", "rule", *DECODING.entries],
            "a translation model",
            "a language model",
        )
        return _perplexity(options, run, files[0])
    _refuse(options, ["state"], "a language model", "a translation model")
    return _bleu(options, run, *files)


def _perplexity(options: argparse.Namespace, run: build.Run, file: Path) -> int:
    values = run.settings.values
    text = read_lines(file, on_bad_line=values["data"]["on_bad_line"])
    if text.report:
        say(str(text.report))
    state = options.state or values["training"]["valid_state"]
    found = run.pipeline.perplexity(text.lines, carried=state == "carried")
    signature = run.signed(
        {"data": file.name, "tokens": found.tokens, "unknown": found.unknown, "state": found.state}
    )
    for name, value in found.values().items():
        print(f"{name} {value:.4f}")
    print(signature)
    write_json(options.json, {**found.as_dict(), "data": str(file), "signature": signature})
    return 0


def _bleu(options: argparse.Namespace, run: build.Run, source: Path, reference: Path) -> int:
    pipeline: TranslationPipeline = run.pipeline
    settings = {**decoding(options, pipeline), "n_best": 1}
    metrics = (options.metrics or "bleu,chrf").split(",")
    translation_scores(["x"], ["x"], metrics)  # are these metrics? asked before the work
    pair = read_parallel(source, reference, on_bad_line=run.settings.values["data"]["on_bad_line"])
    if pair.report:
        say(str(pair.report))
    baseline = None if options.baseline is None else read_lines(options.baseline).lines
    if baseline is not None and len(baseline) != len(pair.target):
        raise Refused(
            f"as many lines in {options.baseline} as in {reference}",
            f"{len(baseline):,} and {len(pair.target):,}",
            "compare translations of one source",
        )
    texts: list[str] = []
    with progress(source, len(pair.source)) as bar:
        for first in range(0, len(pair.source), CHUNK):
            lines = pair.source[first : first + CHUNK]
            texts += [translation.text for translation in pipeline.translate(lines, **settings)]
            bar.update(len(lines))
    if options.translations is not None:
        with output(options.translations) as stream:
            stream.writelines(text + "\n" for text in texts)
    scores = translation_scores(texts, pair.target, metrics)
    used = pipeline.decoding.changed(**settings)
    signature = run.signed(
        {
            "data": source.name,
            "lines": len(texts),
            "beam": used.beam,
            "penalty": used.penalty,
            "alpha": used.alpha,
        }
    )
    for one in scores:
        print(one.line)
    print(signature)
    report: dict[str, Any] = {name: one.value for name, one in zip(metrics, scores)}
    report |= {
        "signatures": {name: one.signature for name, one in zip(metrics, scores)},
        "lines": len(texts),
        "data": str(source),
        "signature": signature,
    }
    if baseline is not None:
        compared = paired_bootstrap(baseline, texts, pair.target, metrics)
        for comparison in compared:
            print(comparison.line)
        report["comparison"] = {name: one.as_dict() for name, one in zip(metrics, compared)}
    write_json(options.json, report)
    return 0


def latency(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru latency``."""
    parser.description = """Measure how long one token takes: batch 1, the users' decoder, warm-up excluded.

The first token, later tokens, the model's step alone, reading the source, and whole lines, text in to text
out: mean, P50, P90, P99 and max in milliseconds, with the environment and a signature.

  seqsru latency runs/en-de                     # lines of data.test, or data.valid
  seqsru latency runs/en-de in.txt --beam 1 --threads 1 --json latency.json --plot latency.png
  seqsru latency runs/sru --against runs/lstm --length 50       # by turns, and the ratio with its spread
"""
    add_run(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="lines to decode (default: data.test of the configuration, else data.valid)",
    )
    parser.add_argument("--against", metavar="RUN", type=Path, help="another run to compare with")
    parser.add_argument(
        "--first", metavar="N", type=int, default=100, help="use the first N lines (default 100)"
    )
    parser.add_argument("--beam", metavar="K", type=int, help="of a translation model (default: the run's)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the whole report to this file")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the distribution: .png, .svg or .pdf")
    add_settings(parser, "protocol", MEASURING)
    parser.set_defaults(run=_latency)


def _latency(options: argparse.Namespace) -> int:
    if options.first < 1:
        raise ValueError(f"latency: expected --first of at least 1, found {options.first}; leave it out")
    if options.plot is not None:
        new_figure(options.plot, width=1.0, height=1.0)  # can it be drawn? asked before the work
    runs = [open_run(options)]
    if options.against is not None:
        runs.append(build.open_run(options.against, **complete(options, LOADING)))
    names = [options.run_directory.name, *([options.against.name] if options.against is not None else [])]
    if len(set(names)) < len(names):
        names = [str(options.run_directory), str(options.against)]
    values = runs[0].settings.values
    files = (
        [options.file]
        if options.file is not None
        else (runs[0].builder.files(values, "test") or runs[0].builder.files(values, "valid"))
    )
    lines = [line for line in read_lines(files[0]).lines if line.strip()][: options.first]
    targets = [_target(name, run, options.beam) for name, run in zip(names, runs)]
    report = measure(targets, lines, **complete(options, MEASURING))
    protocol = report["protocol"]
    signatures = [
        run.signed(
            {
                "data": files[0].name,
                "lines": len(lines),
                "decoder": target.decoder,
                "batch": 1,
                "length": protocol["length"] or "natural",
                "threads": protocol["threads"],
            }
        )
        for run, target in zip(runs, targets)
    ]
    print(table(report), end="")
    for signature in signatures:
        print(signature)
    write_json(options.json, {**report, "signatures": signatures})
    if options.plot is not None:
        plot_latency(report, options.plot)
    return 0


def _target(name: str, run: build.Run, beam: int | None) -> TimedDecoder:
    if isinstance(run.pipeline, LanguagePipeline):
        if beam is not None:
            raise ValueError(
                "latency: expected --beam with a translation model, found a language model; leave it out"
            )
        return run.pipeline.timed(name)
    return run.pipeline.timed(name, beam=beam)


def _files(options: argparse.Namespace, run: build.Run, command: str) -> list[Path]:
    """The files given, or those of the configuration; as many as the task reads."""
    values = run.settings.values
    kinds = "a text" if isinstance(run.pipeline, LanguagePipeline) else "SOURCE and REFERENCE"
    if options.files and options.split:
        raise ValueError(f"{command}: expected files or --split, found both; leave one out")
    if options.files:
        count = len(run.builder.files(values, "valid"))
        _expect_files(command, options.files, [count], f"this run takes {kinds}")
        return options.files
    split = options.split or "test"
    found = run.builder.files(values, split)
    if not found:
        raise ValueError(
            f"{command}: expected data.{split} in the configuration, found none; name {kinds}, "
            "or take --split valid"
        )
    return found


def _expect_files(command: str, files: Sequence[Path], counts: Sequence[int], why: str) -> None:
    if len(files) not in counts:
        expected = " or ".join(map(str, counts))
        raise ValueError(f"{command}: expected {expected} files, found {len(files)}; {why}")


def _refuse(options: argparse.Namespace, names: Sequence[str], theirs: str, ours: str) -> None:
    """Raise a ValueError for a flag that means something to another task only."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"evaluate: expected {flag(name)} with {theirs}, found {ours}; leave it out")
