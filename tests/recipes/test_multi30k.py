"""The recipe of Multi30k: its configs belong together, and a teacher's translations teach."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_runs import TRANSLATION, write_texts

import seqsru
from seqsru import runs
from seqsru import settings as strict
from seqsru.commands.main import main
from seqsru.tasks.corpora import each

RECIPE = Path(__file__).parents[2] / "recipes" / "multi30k"


@pytest.fixture(scope="module")
def configs():
    known = runs.schema()
    return {
        name: strict.load(RECIPE / f"{name}.yaml", known)
        for name in ("sru", "long", "lower", "again", "student")
    }


def parameters(settings):
    size = settings["tokenizer"]["vocabulary_size"]
    tokenizer = SimpleNamespace(size=size, fingerprint="joint")
    model = runs.task_of(settings).model({"source tokenizer": tokenizer, "target tokenizer": tokenizer})
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes_are_those_the_readme_names(configs):
    readme = (RECIPE / "README.md").read_text(encoding="utf-8")
    counts = {name: parameters(configs[name]) for name in ("long", "student")}
    assert all(f"({count:,})" in readme for count in counts.values())
    assert counts["long"] < 4_000_000 and 2 * counts["student"] < counts["long"]


def differing(a, b):
    return {name for name in a if a[name] != b[name]}


def test_the_lower_case_config_is_the_other_on_other_text(configs):
    assert differing(configs["long"], configs["lower"]) == {"data", "output"}


def test_the_model_taught_by_itself_is_the_other_on_both_texts(configs):
    long, again = configs["long"], configs["again"]
    assert differing(long, again) == {"data", "output", "training"}
    assert differing(long["training"], again["training"]) == {"epochs"}
    assert again["data"] == configs["student"]["data"]


def test_the_student_reads_the_captions_and_what_the_script_distils(configs):
    original, distilled = each(configs["student"]["data"]["train"])
    assert original["source"] == distilled["source"] == configs["long"]["data"]["train"]["source"]
    assert original["target"] == configs["long"]["data"]["train"]["target"]
    script = (RECIPE / "distill.sh").read_text(encoding="utf-8")
    assert f'--output "$here/data/{distilled["target"].name}"' in script
    for split in ("validation", "test"):
        assert configs["student"]["data"][split] == configs["long"]["data"][split]


def lower(*arguments):
    command = [sys.executable, str(RECIPE / "lower.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_lower_case(tmp_path):
    folder = tmp_path / "captions"
    folder.mkdir()
    (folder / "train.en").write_text("A Man\u2028in a BLUE shirt.\r\n\n", encoding="utf-8", newline="")
    (folder / "train.de").write_text("Ein MANN auf der STRAẞE, ÄÖÜ", encoding="utf-8")
    (folder / "train.fr").write_text("Un homme", encoding="utf-8")
    assert lower(folder, tmp_path / "out" / "lower").returncode == 0
    out = tmp_path / "out" / "lower"
    assert sorted(path.name for path in out.iterdir()) == ["train.de", "train.en"]
    assert (out / "train.en").read_bytes().decode() == "a man\u2028in a blue shirt.\r\n\n"
    assert (out / "train.de").read_bytes().decode() == "ein mann auf der straße, äöü"
    found = lower(tmp_path / "out", out)
    assert found.returncode == 2 and found.stderr == (
        f"expected .en and .de files in {tmp_path / 'out'}, found none; fetch multi30k first\n"
    )
    assert lower().returncode == 2


@pytest.mark.slow
def test_two_teachers_and_a_student(tmp_path, capsys):
    """The steps of distill.sh, with models too small and trainings too short to be any good."""
    write_texts(tmp_path)
    config, (source, target) = tmp_path / "teacher.yaml", (tmp_path / "train.src", tmp_path / "train.tgt")
    config.write_text(TRANSLATION.format(folder=tmp_path))
    teachers = [tmp_path / "one", tmp_path / "two"]
    for seed, teacher in enumerate(teachers, start=1):
        assert main(["train", str(config), f"seed={seed}", f"output={teacher}", "training.keep_best=2"]) == 0
    distilled = tmp_path / "distilled"
    command = ["distill", teachers[0], source, target, "--ensemble", teachers[1], "--beam", "4"]
    assert main([*map(str, command), "--output", str(distilled)]) == 0
    texts = distilled.read_text().split("\n")
    assert len(texts) == len(source.read_text().split("\n"))
    both = "".join(
        f"    - {{source: {source}, target: {path}, weight: {weight}}}\n"
        for path, weight in ((target, 1.0), (distilled, 1.5))
    )
    text = TRANSLATION.format(folder=tmp_path)
    before = f"  train: {{source: {source}, target: {target}}}\n"
    assert before in text
    pupil = tmp_path / "student.yaml"
    pupil.write_text(text.replace(before, f"  train:\n{both}"))
    student = tmp_path / "student"
    assert main(["train", str(pupil), f"output={student}", "model.embedding_size=8"]) == 0
    files = [str(tmp_path / "test.src"), str(tmp_path / "test.tgt")]
    capsys.readouterr()
    baseline = ["--baseline", files[1], "--lowercase"]
    assert main(["evaluate", str(student), *files, *baseline]) == 0
    assert capsys.readouterr().out.count("p = ") == 4
    assert seqsru.load(student).translate(["one two"])[0].text is not None
    assert main(["quantize", str(student)]) == 0
