"""What the README shows is what the package does: its example, its config, its commands, its paths."""

import importlib.util
import inspect
import json
import re
import runpy
from pathlib import Path

import bench_layers
import pytest
import torch

import seqsru
from seqsru import runs
from seqsru import settings as strict
from seqsru.cells import CELLS
from seqsru.commands import COMMANDS
from seqsru.commands.main import main
from seqsru.data import synthetic

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = [
    "tokenizer.vocabulary_size=120",
    "model.embedding_size=16",
    "model.encoder.hidden_size=8",
    "model.decoder.hidden_size=16",
    "training.epochs=1",
    "training.tensorboard=false",
    "training.validation_metric=perplexity",
    "decoding.length_factor=0",
    "decoding.length_offset=6",
]


def block(language, number=0):
    """A block of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)[number]


def module(path):
    """A Python file, imported under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"readme_{path.stem}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_example_is_short_and_runs(tmp_path):
    code = block("python")
    assert len([line for line in code.splitlines() if line]) <= 12
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    made = runpy.run_path(str(tmp_path / "example.py"))
    assert made["y"].shape == (35, 4, 256) and made["whole"].shape == (35, 4, 128)
    assert "(35, 4, 256), (4, 4, 128)" in code
    assert isinstance(made["rnn"], seqsru.SRU) and torch.isfinite(made["y"]).all()


CONTRACT = module(ROOT / "tests" / "cells" / "test_cell_contract.py")


@pytest.mark.parametrize(
    "test", [name for name in dir(CONTRACT) if name.startswith("test_") and "torch_cells" not in name]
)
def test_the_ten_line_cell_keeps_the_contract(test, tmp_path, monkeypatch):
    code = block("python", 1)
    body = code.split("class MineCell(Cell):\n")[1].splitlines()
    assert len([line for line in body if line.strip() and not line.strip().startswith('"""')]) <= 10
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.setitem(CELLS, "mine", module(tmp_path / "mine.py").MineCell)
    check = getattr(CONTRACT, test)
    given = {"name": "mine", "input_size": 4, "options": {}, "dtype": torch.bfloat16, "width": 20}
    check(**{name: given[name] for name in inspect.signature(check).parameters})


def test_the_ten_line_cell_is_legal_in_a_config(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(block("python", 1), encoding="utf-8")
    monkeypatch.setitem(CELLS, "mine", module(tmp_path / "mine.py").MineCell)
    text = block("yaml").replace("encoder: {cell: {name: sru}", "encoder: {cell: mine")
    (tmp_path / "en-de.yaml").write_text(text, encoding="utf-8")
    values = strict.load(tmp_path / "en-de.yaml", runs.schema())
    assert values["model"]["encoder"]["cell"] == {"name": "mine"}


def test_every_cell_is_in_the_table():
    for name in CELLS:
        assert re.search(rf"^\| [^|]*`{name}`[^|]* \|", README, re.M), name


def test_the_config_of_your_own_corpus_is_short_and_strict(tmp_path):
    text = block("yaml")
    assert len(text.splitlines()) <= 15
    (tmp_path / "en-de.yaml").write_text(text, encoding="utf-8")
    values = strict.load(tmp_path / "en-de.yaml", runs.schema())
    assert values["model"]["encoder"]["bidirectional"] is True


@pytest.mark.slow
def test_the_config_trains_and_the_commands_beside_it_work(tmp_path, monkeypatch, capsys):
    """The README's config, made small, on generated phrases; then what the README does with the run."""
    monkeypatch.chdir(tmp_path)
    synthetic.write(tmp_path, train=300, validation=20, test=5)
    (tmp_path / "en-de.yaml").write_text(block("yaml"), encoding="utf-8")
    assert main(["train", "en-de.yaml", *SMALL]) == 0
    assert re.match(r"perplexity \d+\.\d\d\nseqsru 0\.", capsys.readouterr().out)
    assert (
        main(
            [
                "latency",
                "runs/en-de",
                "test.en",
                "--length",
                "4",
                "--repeats",
                "1",
                "--warmup",
                "1",
                "--json",
                "latency.json",
            ]
        )
        == 0
    )
    assert "later tokens" in capsys.readouterr().out
    report = json.loads((tmp_path / "latency.json").read_text(encoding="utf-8"))
    assert report["systems"][0]["steps"] == 5 * 4
    assert isinstance(seqsru.load("runs/en-de").translate(["A line."])[0].text, str)


def test_commands_and_paths_exist():
    named = set(re.findall(r"(?:`|^    )seqsru ([a-z]+)", README, re.M))
    assert {"train", "translate", "latency", "doctor"} <= named <= set(COMMANDS)
    for path in re.findall(r"(?:^| |`|\|)((?:recipes|tests|seqsru|tools)/[\w./]*)", README):
        assert path == "seqsru/cells/mine.py" or (ROOT / path).exists(), path
    for path in re.findall(r"bash (\S+)", README):
        assert (ROOT / path).is_file()
    assert "`CELLS` in `seqsru/cells/registry.py`" in README
    assert "CELLS" in (ROOT / "seqsru" / "cells" / "registry.py").read_text(encoding="utf-8")


def test_the_file_map_names_every_part():
    for folder in sorted(path.name for path in (ROOT / "seqsru").iterdir() if path.is_dir()):
        assert folder == "__pycache__" or f"`seqsru/{folder}/`" in README, folder
    for file in sorted((ROOT / "seqsru").glob("[a-z]*.py")):
        assert re.search(rf"`seqsru/(?:{{[\w,]*)?\b{file.stem}\b(?:[\w,]*}})?\.py`", README), file.name


PAPERS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAPERS += [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("recipes/*/README.md"))]


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper):
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / paper).read_text(encoding="utf-8")):
        assert target.startswith("https://") or ((ROOT / paper).parent / target).exists(), target


def test_speeds_are_those_of_every_cell_and_their_commands_are_legal():
    text = (ROOT / "recipes" / "layers" / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
    table = set(re.findall(r"^\| `(?:torch\.nn\.)?([\w]+)`", text, re.M))
    assert {name.lower() for name in table} == set(CELLS) - {"sru"}
    commands = re.findall(r"^    python tools/bench_layers\.py (.+)$", text, re.M)
    assert len(commands) == 4
    for arguments in commands:
        assert (
            bench_layers.main([*arguments.split(), *"--sizes 3x2x8 --repeats 1 --seconds 0.001".split()]) == 0
        )


def test_contributing_names_every_folder_and_what_can_be_added():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:recipes|tests|seqsru|tools)/[\w./]*\.\w+)`", text):
        assert (ROOT / path).exists(), path
    for folder in (path.name for path in (ROOT / "seqsru").iterdir() if path.is_dir()):
        assert folder == "__pycache__" or f"  {folder}/" in text, folder
    for heading in ("A cell", "A task", "A decoding rule", "A schedule", "A command", "A corpus"):
        assert f"**{heading}.**" in text
    assert "## From the file to the constructor" in text
