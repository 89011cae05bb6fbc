"""The comparisons: every system is legal and as large as the others; programs beside them measure runs."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from seqsru import runs
from seqsru import settings as strict
from seqsru.cells import CELLS
from seqsru.commands.main import main
from seqsru.data import copying
from seqsru.errors import Refused
from seqsru.tasks.kinds import kinds

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "recipes" / "compare").glob("*.yaml"))
READERS = [*sorted(ROOT.glob("recipes/squad/depth-*.yaml")), ROOT / "recipes" / "jaquad" / "compare.yaml"]
TEXTS = [
    *sorted(ROOT.glob("recipes/characters/compare-*.yaml")),
    ROOT / "recipes" / "wikitext-2" / "compare.yaml",
]
SCHEMA = runs.schema()
TYPES = {
    "ptb": 10_000,
    "copying": 12,
    "multi30k": 6_000,
    "squad": 20_000,
    "jaquad": 3_000,
    "characters": 65,
    "wikitext-2": 33_278,
}


def program(path):
    name = "recipes_" + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


recall = program(ROOT / "recipes" / "copying" / "recall.py")
state = program(ROOT / "recipes" / "compare" / "state.py")


def read(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def overrides(spec, system):
    settings = {**spec.get("set", {}), **spec["systems"][system]}
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def size(spec, given):
    """Parameters of the model that the base with these overrides makes."""
    base = ROOT / spec["base"]
    values = strict.load(base, SCHEMA, given)
    task, tokenizer = runs.task_of(values), SimpleNamespace(size=TYPES[base.parent.name], fingerprint="")
    with torch.device("meta"):
        model = task.model(dict.fromkeys(task.tokenizer_files(), tokenizer))
    return sum(parameter.numel() for parameter in model.parameters())


def solved(spec, given, goal):
    """The size nearest to the goal, by halving the width, as whoever reads such a file solves for it."""
    by, multiple = spec["parameters"]["by"], spec["parameters"].get("multiple", 4)

    def at(step):
        return size(spec, [*given, *(f"{name}={multiple * step}" for name in by)])

    low, high = 1, 256 // multiple * 8
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < goal else (low, middle)
    return min((at(low), at(high)), key=lambda found: abs(found - goal))


def test_there_is_one_for_each_question():
    names = ["additions", "copy", "depth", "multi30k", "optimizers", "ptb", "search", "sgd"]
    assert [path.stem for path in SPECS] == names
    script = (ROOT / "recipes" / "compare" / "run.sh").read_text(encoding="utf-8")
    readme = (ROOT / "recipes" / "compare" / "README.md").read_text(encoding="utf-8")
    for path in SPECS:
        assert path.stem in script and path.name in readme
        spec = read(path)
        assert spec["output"] == f"recipes/compare/runs/{path.stem}"
        assert spec.get("baseline") in (None, *spec["systems"])
        assert len(spec["budget"]) == 1 and spec["seeds"]


def test_every_cell_is_compared():
    for name in ("ptb", "copy"):
        spec = read(ROOT / "recipes" / "compare" / f"{name}.yaml")
        cells = {one.get("model.stack.cell", {"name": "sru"})["name"] for one in spec["systems"].values()}
        assert cells >= set(CELLS) - ({"srupp", "conv"} if name == "copy" else set())


def test_readers_are_compared_at_each_depth():
    assert [path.stem for path in READERS] == ["depth-2", "depth-4", "depth-6", "compare"]
    for path in READERS:
        spec, recipe = read(path), path.parent
        assert spec["output"] == f"recipes/{recipe.name}/runs/{path.stem}"
        assert spec["base"] == f"recipes/{recipe.name}/sru.yaml"
        depth = int(path.stem.removeprefix("depth-")) if recipe.name == "squad" else 4
        assert spec["set"] == {f"model.{name}.num_layers": depth for name in ("paragraph", "question")}
        assert list(spec["systems"]) == ["SRU", "LSTM", "GRU", "QRNN"]
        for name, own in spec["systems"].items():
            cells = {f"model.{stack}.cell": name.lower() for stack in ("paragraph", "question")}
            assert own == ({} if name == "SRU" else cells)
        assert (spec["budget"], spec["baseline"]) == ({"processor_minutes": 25}, "LSTM")
        assert set(spec["measures"]) < set(kinds()["question_answering"].answers["evaluate"].measures)
        assert path.name in (recipe / "README.md").read_text(encoding="utf-8")


def test_other_texts_have_twins():
    assert [path.stem for path in TEXTS] == ["compare-penn", "compare-shakespeare", "compare"]
    for path in TEXTS:
        spec, base = read(path), strict.load(ROOT / read(path)["base"], SCHEMA)
        assert (spec["output"], spec["baseline"]) == (f"recipes/{path.parent.name}/runs/{path.stem}", "LSTM")
        assert spec["budget"] == {"processor_minutes": base["training"]["max_processor_minutes"]}
        assert base["schedule"]["over"] == "time"  # what each has is the time
        by_characters = base["tokenizer"]["name"] == "characters"
        assert base["training"]["validation_metric"] == ("bits_per_token" if by_characters else "perplexity")
        assert list(spec["systems"]) == ["SRU", "LSTM"] and "set" not in spec


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [*SPECS, *READERS, *TEXTS], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_system_is_legal_and_as_large_as_the_others(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = read(path)
    parameters = spec["parameters"]
    goal = parameters.get("count") or size(spec, overrides(spec, parameters["as"]))
    for system in spec["systems"]:
        found = solved(spec, overrides(spec, system), goal)
        assert abs(found / goal - 1) <= parameters["within"], system


@pytest.mark.parametrize(
    "path", [path for path in SPECS if "search" in read(path)], ids=lambda path: path.stem
)
def test_what_is_searched_is_legal_for_every_system(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = read(path)
    for system in spec["systems"]:
        for name, values in spec["search"]["settings"].items():
            ends = values if isinstance(values, list) else [values["from"], values["to"]]
            for value in ends:
                strict.load(ROOT / spec["base"], SCHEMA, [*overrides(spec, system), f"{name}={value}"])


# ---- the programs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of one system and one of another, trained for a moment on a little text."""
    folder = tmp_path_factory.mktemp("copying")
    copying.write(folder, train=60, validation=8, test=3, farthest=4)
    for name, cell, seed in (("SRU-1", "sru", 1), ("SRU-2", "sru", 2), ("LSTM-1", "lstm", 1)):
        given = [
            *(f"data.{key}={folder / file}.txt" for key, file in (("train", "train"), ("test", "test"))),
            f"data.validation={folder / 'valid.txt'}",
            f"model.stack.cell={{name: {cell}}}",
            "model.stack.hidden_size=8",
            "training.epochs=1",
            "batches.batch_size=4",
            f"seed={seed}",
            f"output={folder / name}",
        ]
        assert main(["train", str(ROOT / "recipes" / "copying" / "sru.yaml"), *given]) == 0
    return folder


def test_recall_of_runs_by_gap(trained, tmp_path, capsys):
    paths = [str(trained / name) for name in ("SRU-1", "SRU-2", "LSTM-1")]
    capsys.readouterr()
    assert recall.main([*paths, "--json", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr().out.splitlines()
    report = json.loads((tmp_path / "r.json").read_text())
    sru, lstm = report["systems"]["SRU"], report["systems"]["LSTM"]
    assert (sru["runs"], lstm["runs"]) == (2, 1)
    gaps = [str(gap) for gap in copying.TESTED]
    assert list(sru["percent"]) == gaps
    ones = [report["runs"][n]["accuracy"] for n in (0, 1)]
    for gap in gaps:
        both = sorted(100 * one[gap] for one in ones)
        assert [sru["low"][gap], sru["high"][gap]] == pytest.approx(both)
        assert sru["percent"][gap] == pytest.approx(sum(both) / 2)
        assert lstm["low"][gap] == lstm["percent"][gap] == lstm["high"][gap]
    assert shown[0].startswith("| system | parameters | runs | 0 | 1 |") and shown[2].startswith("| SRU |")
    assert "|data:test.txt|lines:36|before:8|" in shown[-1] and report["runs"][0]["learned"] == 4


def test_state_of_runs(trained, tmp_path, capsys):
    paths = [str(trained / name) for name in ("SRU-1", "LSTM-1")]
    few = ["--rows", "3", "--steps", "9", "--farthest", "8", "--draws", "2"]
    last = max((trained / "SRU-1" / "checkpoints").iterdir()).name.removeprefix("step-").lstrip("0")
    assert state.main([*paths, *few, "--checkpoint", "last", "--json", str(tmp_path / "s.json")]) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    sru, lstm = found["SRU-1"], found["LSTM-1"]
    assert (sru["run"], sru["layers"][0]["cell"], lstm["layers"][0]["cell"]) == ("SRU-1", "sru", "lstm")
    assert len(sru["layers"][0]["reach"]) == 9 and 0 < sru["layers"][0]["kept"] < 1
    assert f"|rows:3|steps:9|draws:2|weights:step-{last}|" in sru["signature"]
    assert "SRU-1\nlayer " in capsys.readouterr().out


def test_both_draw(trained, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    paths = [str(trained / name) for name in ("SRU-1", "SRU-2", "LSTM-1")]
    assert recall.main([*paths, "--plot", str(tmp_path / "r.svg")]) == 0
    few = ["--rows", "2", "--steps", "6", "--farthest", "4"]
    assert state.main([*paths, *few, "--plot", str(tmp_path / "s.svg")]) == 0
    assert "% of symbols recalled" in (tmp_path / "r.svg").read_text()
    assert "steps back" in (tmp_path / "s.svg").read_text()


def test_refusals(trained, tmp_path, capsys, monkeypatch):
    run = str(trained / "SRU-1")
    assert state.main([run, "--rows", "2", "--steps", "4"]) == 2
    assert (
        "farthest: expected more than farthest = 64 steps, found 4; run longer rows"
        in capsys.readouterr().err
    )
    for one in (recall, state):
        assert one.main([str(tmp_path / "none")]) == 2
        assert "expected a run" in capsys.readouterr().err
        other = SimpleNamespace(
            pipeline=SimpleNamespace(model=None), task=SimpleNamespace(noun="a translator")
        )
        with monkeypatch.context() as patch:
            patch.setattr(runs, "open_run", lambda run, other=other, **given: other)
            with pytest.raises(
                Refused, match="^RUN: expected a run of a language model, found a translator; name "
            ):
                one.measured(Path(run)) if one is recall else one.measured(
                    Path(run), rows=1, steps=1, farthest=1, draws=1
                )
