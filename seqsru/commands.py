"""What the commands that need a configuration or a run do.

The flags of a command are the parameters of what it calls, read from signatures as settings are: a new option
of the search is a flag of ``seqsru translate`` with no edit here.
"""

import argparse
import json
import shlex
from pathlib import Path

from seqsru import build, config
from seqsru.data import LineReport
from seqsru.evaluation.plots import new_figure, plot_attention
from seqsru.measurements import evaluate, latency, score
from seqsru.options import (
    add_decoding,
    add_run,
    add_settings,
    add_threads,
    chunks,
    complete,
    decoding,
    open_run,
    output,
    pipeline_for,
    progress,
    say,
    use_threads,
)
from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.translation import Translation, TranslationPipeline
from seqsru.schema import describe, from_signature

GENERATION = from_signature(LanguagePipeline.generate, skip=["self", "prompt"])


# ---- train -----------------------------------------------------------------------------------------


def train(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru train``."""
    parser.description = """Train a model as a YAML file says, into the run directory that its `output` names.

A run that is there already goes on exactly where it stopped; so does `seqsru train RUN`. Ctrl-C saves first.
Settings after the file override it. Mistakes in them are found before anything is read, with file and line.

  seqsru train lm.yaml
  seqsru train lm.yaml output=runs/b model.stack.cell=lstm optimizer.lr=1e-3
  seqsru train runs/b                           # go on
  seqsru train --check lm.yaml                  # find mistakes, print every setting, train nothing

The run directory gets config.yaml (every setting; it alone repeats the run), the tokenizer, checkpoints,
metrics.jsonl, a log and signature.txt. The best validation and its signature go to stdout.
"""
    parser.epilog = f"settings (name, default, type, meaning):\n\n{describe(build.schema())}"
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML file, or a run to go on with")
    parser.add_argument("settings", metavar="key=value", nargs="*", help="override a setting: key.path=value")
    parser.add_argument("--check", action="store_true", help="print the resolved settings and stop")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    path, overrides = options.config, list(options.settings)
    if path.is_dir():
        if not any(override.startswith("output=") for override in overrides):
            overrides.append(f"output={json.dumps(str(path))}")  # it may have been moved since
        path = path / build.CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a YAML file or a run directory at {options.config}, found none; check the path"
        )
    settings = config.load(path, build.schema(), overrides)
    if options.check:
        build.rehearse(settings)
        print(config.dump(settings.values), end="")
        return 0
    outcome = build.train(settings, say)
    directory = settings.values["output"]
    if not outcome.finished:
        say(
            f"seqsru: stopped after step {outcome.step} and saved; go on with: "
            f"seqsru train {shlex.quote(str(directory))}"
        )
        return 130
    print((directory / build.SIGNATURE).read_text(encoding="utf-8"), end="")
    return 0


# ---- text to text ----------------------------------------------------------------------------------


def translate(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru translate``."""
    parser.description = """Translate text: one line out for each line in, in order; empty lines stay empty.

Lines come from stdin or FILE and go to stdout. From a terminal each is answered at once, otherwise up to a
thousand are worked on together; a translation does not depend on the others.

  seqsru translate runs/en-de < in.txt > out.txt
  echo half past seven | seqsru translate runs/quickstart
  seqsru translate runs/en-de in.txt --beam 10 --n-best 3 --moses     # 0 ||| text ||| log_prob= -1.2 ||| -0.3
  seqsru translate runs/en-de in.txt --json --attention               # one JSON object a line
  seqsru translate runs/en-de in.txt --plot attention                 # attention/line-1.png, …
"""
    add_run(parser)
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="text (default: stdin)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--moses", action="store_true", help="n-best lists: index ||| text ||| log_prob= x ||| score"
    )
    form.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a line: text, score, log_prob, tokens, alternatives",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="with --json: weights on the source for each target token, and labels",
    )
    parser.add_argument(
        "--plot", metavar="FOLDER", type=Path, help="draw the attention of each line to FOLDER/line-N.png"
    )
    add_decoding(parser)
    add_threads(parser)
    parser.set_defaults(run=_translate)


def _translate(options: argparse.Namespace) -> int:
    use_threads(options)
    pipeline = pipeline_for(open_run(options), TranslationPipeline, "translate")
    settings = decoding(options, pipeline)
    if settings.get("n_best", pipeline.decoding.n_best) > 1 and not (options.json or options.moses):
        raise ValueError(
            "translate: expected --json or --moses with more than one output a line, found "
            "neither; plain text has one line for each line in"
        )
    if options.attention and not options.json:
        raise ValueError(
            "translate: expected --json with --attention, found none; add it, or draw the "
            "attention with --plot"
        )
    if options.plot is not None:
        new_figure("line.png", width=1.0, height=1.0)  # is matplotlib there? asked before the work
        options.plot.mkdir(parents=True, exist_ok=True)
    cut, number = LineReport(str(options.file or "<stdin>")), 0
    with output(options.output) as stream, progress(options.output) as bar:
        for lines in chunks(options.file):
            wanted = options.attention or options.plot is not None
            for translation in pipeline.translate(lines, attention=wanted, **settings):
                _write(translation, number, options, stream)
                cut.total = number = number + 1
                if translation.cut:
                    cut.add("longer than max_source, cut", number)
                if options.plot is not None and translation.attention is not None:
                    labels = translation.source_labels, translation.target_labels
                    plot_attention(translation.attention, *labels, options.plot / f"line-{number}.png")
            stream.flush()
            bar.update(len(lines))
    if cut:
        say(str(cut))
    return 0


def _write(translation: Translation, index: int, options: argparse.Namespace, stream) -> None:
    """Write one line's translation in the form that was asked for."""
    if options.json:
        found = {"index": index, **translation.as_dict(options.attention)}
        print(json.dumps(found, ensure_ascii=False), file=stream)
    elif options.moses:
        for one in (translation, *translation.alternatives):
            print(f"{index} ||| {one.text} ||| log_prob= {one.log_prob:.6f} ||| {one.score:.6f}", file=stream)
    else:
        print(translation.text, file=stream)


def generate(parser: argparse.ArgumentParser) -> None:
    """Declare ``seqsru generate``."""
    parser.description = """Continue text with a language model, drawing each token at random.

Each line of stdin is the beginning of a line; --prompt gives one instead. Drawn lines go to stdout, whole.

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
    drawing = complete(options, GENERATION)
    pipeline = pipeline_for(open_run(options), LanguagePipeline, "generate")
    for lines in chunks(None) if options.prompt is None else [[options.prompt]]:
        for line in lines:
            for text in pipeline.generate(line, **drawing):
                print(text, flush=True)
    return 0


COMMANDS = {
    "train": train,
    "translate": translate,
    "generate": generate,
    "score": score,
    "evaluate": evaluate,
    "latency": latency,
}
