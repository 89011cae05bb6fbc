"""What a new task and a new cell cost: a file and a line in a registry each, and every command knows them."""

import difflib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import write_texts

import seqsru
from seqsru.commands import COMMANDS
from seqsru.tasks import TASKS

PACKAGE = Path(seqsru.__file__).parent
HERE = Path(__file__).parent
CONFIG = """\
task: parity
output: {folder}/run
data: {{train: {folder}/train.txt, validation: {folder}/valid.txt}}
tokenizer: words
model: {{stack: {{cell: {{name: mine, heat: 2.0}}, hidden_size: 8, num_layers: 2}}}}
optimizer: {{name: adam, lr: 1e-2}}
training: {{steps: 120, tensorboard: false}}
"""
# One process for all commands: each gives its exit status and what it printed.
PROGRAM = """
import contextlib, io, json, sys
from seqsru.commands.main import main
told = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    told.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


def registered(path, module, name, key):
    """Add an import and an entry to a registry, where they belong in it."""
    lines = path.read_text().splitlines(keepends=True)
    imports = [number for number, line in enumerate(lines) if line.startswith("from seqsru.")]
    lines.insert(imports[-1] + 1, f"from {module} import {name}\n")
    closing = next(number for number in range(imports[-1], len(lines)) if lines[number] == "}\n")
    lines.insert(closing, f'    "{key}": {name},\n')
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with a task and a cell more."""
    copy = tmp_path_factory.mktemp("house") / "seqsru"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "parity.py", copy / "tasks" / "parity.py")
    registry = copy / "tasks" / "__init__.py"
    last = '        "translation": "translation.TranslationTask",\n'
    registry.write_text(registry.read_text().replace(last, last + '        "parity": "parity.Parity",\n'))
    shutil.copy(HERE / "mine.py", copy / "cells" / "mine.py")
    registered(copy / "cells" / "registry.py", "seqsru.cells.mine", "MineCell", "mine")
    return copy


def test_the_difference_is_a_file_and_a_line_each(package):
    def files(folder):
        return {
            str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*.py")
            if "__pycache__" not in path.parts
        }

    before, after = files(PACKAGE), files(package)
    assert before.keys() <= after.keys()
    assert after.keys() - before.keys() == {"tasks/parity.py", "cells/mine.py"}
    added = {}
    for name in before:
        changes = [
            line
            for line in difflib.ndiff(before[name].splitlines(), after[name].splitlines())
            if line[0] in "+-"
        ]
        if changes:
            added[name] = changes
    assert added == {
        "tasks/__init__.py": ['+         "parity": "parity.Parity",'],
        "cells/registry.py": ["+ from seqsru.cells.mine import MineCell", '+     "mine": MineCell,'],
    }


@pytest.mark.slow
def test_every_command_answers_or_says_that_the_task_does_not_have_it(package, tmp_path):
    write_texts(tmp_path)
    config = tmp_path / "parity.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    spec = tmp_path / "spec.yaml"
    budget = "budget: {updates: 2}\nseeds: [1]"
    spec.write_text(f"output: {tmp_path}/compared\nbase: {config}\nsystems: {{mine: {{}}}}\n{budget}\n")
    able = {
        command: " or ".join(task.noun for task in TASKS.values() if command in task.answers)
        for command in COMMANDS
        if any(command in task.answers for task in TASKS.values()) and command != "evaluate"
    }
    run, text = str(tmp_path / "run"), str(tmp_path / "test.txt")
    calls = {
        "check": ["train", "--check", str(config)],
        "typo": ["train", str(config), "model.stack.cell.heet=1"],
        "refused": ["train", str(config), "training.margin=0"],
        "probe": ["doctor", "--probe", str(config)],
        "train": ["train", str(config)],
        "again": ["train", run],
        "help": ["train", "--help"],
        "evaluate": ["evaluate", run, text, "--json", str(tmp_path / "out.json")],
        "no test": ["evaluate", run],
        "compare": ["compare", str(spec), "--check"],
        "shares": ["evaluate", run, text, "--items", str(tmp_path / "items.json")],
        "a flag of others": ["evaluate", run, text, "--beam", "3"],
        **{command: [command, run] for command in able},
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(list(calls.values()))],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=package.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = dict(zip(calls, json.loads(done.stdout.splitlines()[-1])))
    for call in ("check", "probe", "train", "again", "help", "evaluate"):
        assert told[call][0] == 0, (call, told[call])
    assert "heat: 2.0" in told["check"][1] and "task: parity" in told["help"][1]
    assert told["train"][1].startswith("accuracy ") and "|cell:mine|" in told["train"][1]
    assert json.loads((tmp_path / "out.json").read_text())["accuracy"] > 50
    assert told["typo"][::2] == [
        2,
        "command line: model.stack.cell.heet is not a setting; did you mean 'heat'?\n",
    ]
    assert told["refused"][2] == ("command line: training.margin: expected at least 1, found 0; raise it\n")
    assert told["no test"][2].startswith("seqsru: expected data.test in the configuration, found none; ")
    assert told["compare"][2] == (
        f"{spec}:2: base: expected a task that tells the shares of lines, found a parity model; "
        "take a base of another task\n"
    )
    assert told["shares"][2] == (
        "seqsru: expected a task that tells the shares of lines with --items, found a parity model; "
        "leave it out\n"
    )
    assert told["a flag of others"][2].startswith(
        "seqsru: expected --beam with a recogniser or a translation model, found"
    )
    for command in able:
        assert told[command] == [
            2,
            "",
            f"seqsru: expected a run of {able[command]}, found one of a parity model; use this one with "
            "evaluate\n",
        ]
