"""Which part of the package may import which, and what importing loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqsru

PACKAGE = Path(seqsru.__file__).parent
# What a part may import, and so whatever that may; a part is a folder, or a file that stands alone.
ARROWS = {
    "errors": set(),
    "regular": {"errors"},
    "settings": {"regular"},
    "ops": {"regular"},
    "data": {"regular"},
    "decoding": {"settings"},
    "engine": {"ops", "decoding"},
    "cells": {"ops"},
    "models": {"cells"},
    "evaluation": {"models", "data", "decoding"},
    "pipelines": {"evaluation", "engine"},
    "training": {"data", "ops", "settings"},
    "tasks": {"pipelines", "training", "settings"},
    "runs": {"tasks"},
    "comparing": {"runs"},
    "commands": {"comparing"},
    "__main__": {"commands"},
    "__init__": {"cells", "runs"},
}


def reachable(part):
    """Every part that a part may import: arrows are transitive."""
    return {part}.union(*map(reachable, ARROWS.get(part, ())))


def part_of(names):
    """Part of the package that a module, given as its names below seqsru, belongs to."""
    return names[0] if names else "__init__"


def imported(source, package):
    """Names below seqsru of every module a source imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "seqsru":
                    yield alias.name.split(".")[1:]
        elif isinstance(node, ast.ImportFrom):
            base = ["seqsru", *package][: 1 + len(package) - (node.level - 1)] if node.level else []
            names = base + (node.module.split(".") if node.module else [])
            if names[0] == "seqsru":
                # `from seqsru import cells` names the part last, `from seqsru import __version__` none.
                yield from (
                    [names[1:]]
                    if len(names) > 1
                    else ([alias.name] for alias in node.names if not alias.name.startswith("__"))
                )


def forbidden(files):
    """(file, part) for each import no arrow allows; ``files`` maps a path below the package to its source."""
    for path, source in files.items():
        names = Path(path).with_suffix("").parts
        own = part_of(names)
        for module in imported(source, list(names[:-1])):
            if part_of(module) not in reachable(own):
                yield path, part_of(module)


def test_no_file_imports_against_the_arrows():
    files = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert len(files) > 10
    assert list(forbidden(files)) == []


@pytest.mark.parametrize(
    "path, source, part",
    [
        ("ops/scan.py", "def f():\n    from seqsru.cells import Cell", "cells"),
        ("ops/scan.py", "import seqsru.data.lines", "data"),
        ("ops/scan.py", "from ..cells.sru import SRUCell", "cells"),
        ("ops/scan.py", "from .. import cells", "cells"),
        ("ops/scan.py", "from seqsru import settings", "settings"),
        ("decoding/beam.py", "from seqsru.models import Translator", "models"),
        ("evaluation/bleu.py", "from seqsru.pipelines.language import LanguagePipeline", "pipelines"),
        ("training/trainer.py", "from seqsru.models import LanguageModel", "models"),
        ("settings/values.py", "from ..ops import sru_scan", "ops"),
        ("tasks/translation.py", "import seqsru.runs", "runs"),
        ("runs.py", "from seqsru.commands.main import main", "commands"),
        ("errors.py", "from seqsru.settings import shown", "settings"),
        ("cells/sru.py", "from seqsru import SRU", "SRU"),
    ],
)
def test_the_check_sees(path, source, part):
    assert list(forbidden({path: source})) == [(path, part)]


def test_the_check_allows():
    good = {
        "ops/scan.py": "from .reference import scan\nfrom seqsru.ops import linear\nimport torch.data",
        "settings/values.py": "from seqsru.settings.schema import Section\nfrom seqsru.errors import Refused",
        "runs.py": "from seqsru import __version__\nfrom seqsru.settings import load",
        "commands/train.py": "from seqsru.cells import CELLS",
    }
    assert list(forbidden(good)) == []


def test_one_level_of_folders_and_no_stray_part():
    for path in PACKAGE.rglob("*.py"):
        names = path.relative_to(PACKAGE).with_suffix("").parts
        assert len(names) <= 2, f"{path} is more than one folder down"
        assert part_of(names) in ARROWS, f"{path} belongs to no part of the package"


def loaded(statement, modules):
    """Those of ``modules`` that a fresh interpreter has loaded after ``statement``."""
    code = f"import sys\n{statement}\nprint(*[m for m in {modules!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return run.stdout.split()


def test_importing_does_nothing():
    heavy = [
        "torch",
        "numpy",
        "numba",
        "sentencepiece",
        "sacrebleu",
        "yaml",
        "tqdm",
        "safetensors",
        "matplotlib",
    ]
    assert loaded("import seqsru; assert seqsru.__version__; import seqsru.commands.main", heavy) == []


@pytest.mark.slow
def test_layers_need_only_torch():
    others = [
        "numba",
        "sentencepiece",
        "sacrebleu",
        "yaml",
        "tqdm",
        "safetensors",
        "matplotlib",
        "tensorboard",
    ]
    # None in sys.modules makes an import fail, whether or not the package is installed.
    statement = (
        f"sys.modules.update(dict.fromkeys({others!r}))\nimport seqsru.ops, seqsru.decoding, "
        f"seqsru.models\n"
        "from seqsru import SRU"
    )
    assert loaded(statement, []) == []


@pytest.mark.slow
def test_the_rest_loads_no_compiler_and_no_model_of_text_and_looks_for_no_device():
    statement = (
        "import torch\ntorch.cuda.is_available = torch.cuda.device_count = lambda: 1 / 0\n"
        "from seqsru import SRU, load\nimport seqsru.commands.translate"
    )
    assert loaded(statement, ["numba", "sentencepiece", "sacrebleu", "matplotlib", "tensorboard"]) == []


def test_what_the_package_exports():
    assert dir(seqsru) == ["SRU", "__version__", "load"]
    assert seqsru.load.__module__ == "seqsru.runs"
    with pytest.raises(AttributeError, match="module 'seqsru' has no attribute 'LSTM'"):
        seqsru.LSTM
