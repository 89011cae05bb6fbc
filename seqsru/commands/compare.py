"""``seqsru compare``."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from seqsru import settings as strict
from seqsru.commands.flags import tell
from seqsru.commands.parser import Parser
from seqsru.errors import NotFound, Refused


def _end() -> str:
    from seqsru.comparing.spec import schema

    return f"SPEC (name, default, type, meaning):\n\n{strict.describe(schema())}"


def declare(parser: Parser) -> None:
    """Declare the command."""
    parser.description = """Train several systems on one task with equal budgets, and put them side by side.

Each has the same time or updates, the same number of parameters if the file asks for that, and the same
seeds. The folder that `output` names gets a run directory of each training, results.jsonl with what was
measured, and the table as table.md, table.csv and table.json, with plots. One training runs at a time, or
as many as `jobs` says; what is done is not done again, so the same command goes on after Ctrl-C or a crash.
Results of other settings, sources or machines are refused, and never put into one table. The exit status is
1 where a training failed.

  seqsru compare ptb.yaml --check               # widths, settings, the plan and its time; train nothing
  seqsru compare ptb.yaml
  seqsru compare ptb.yaml --table               # the table of what is there by now
  seqsru compare ptb.yaml --anew                # put aside what the file, or the machine, no longer fits
  seqsru compare ptb.yaml --again LSTM          # train it anew: other work had taken its processors

A file of a language model, which is searched first:

  output: runs/ptb
  base: ptb/sru.yaml
  set: {training.threads: 2}
  systems:
    SRU: {}
    LSTM: {model.stack.cell.name: lstm, model.stack.num_layers: 2}
  parameters: {count: 9000000, by: [model.stack.hidden_size, model.embedding_size]}
  budget: {minutes: 20}
  seeds: [1, 2, 3]
  baseline: LSTM
  goal: 80
  search:
    trials: 12
    budget: {minutes: 3}
    settings: {optimizer.lr: {from: 1e-3, to: 1e-2, scale: log}}
"""
    parser.end = _end
    parser.add_argument("spec", metavar="SPEC", type=Path, help="YAML file that says what is compared")
    parser.add_argument(
        "--check", action="store_true", help="solve widths, check every setting, print the plan"
    )
    parser.add_argument("--table", action="store_true", help="write and print the table of what is there")
    parser.add_argument(
        "--anew",
        action="store_true",
        help="put aside, and do anew, what was done with other settings or sources",
    )
    parser.add_argument(
        "--again",
        metavar="SYSTEM",
        action="append",
        default=[],
        help="put aside the trainings of this system, and do them anew, with the settings that a search "
        "found; may be repeated",
    )
    parser.set_defaults(keeps_result=True)  # in the folder, so standard output may be closed


def run(arguments: argparse.Namespace) -> int:
    """Compare."""
    asked = [name for name in ("check", "table", "anew") if vars(arguments)[name]]
    if len(asked) > 1:
        raise Refused(
            "one of --check, --table and --anew", " and ".join(f"--{one}" for one in asked), "choose one"
        )
    if arguments.again and asked not in ([], ["anew"]):
        raise Refused(f"--again without --{asked[0]}", "both", "leave one out")
    if not arguments.spec.is_file():
        raise NotFound(f"a YAML file at {arguments.spec}", "none", "check the path")
    from seqsru.comparing.outlook import described
    from seqsru.comparing.plan import Plan
    from seqsru.comparing.spec import read
    from seqsru.comparing.table import table_in
    from seqsru.comparing.work import Work

    spec = read(arguments.spec)
    if arguments.check:
        with TemporaryDirectory() as folder:
            plan = Plan(spec, Path(folder), tell)
            plan.check()
            for line in described(spec, plan):
                print(line)
        return 0
    work = Work(spec, tell, anew=arguments.anew, again=arguments.again)
    if arguments.table:
        work.make_table()
        print(table_in(spec.options.output), end="")
        return 0
    good = work.run()
    print(table_in(spec.options.output), end="")
    return 0 if good else 1
