"""Several references, the tokenizers of BLEU and chrF, in ``evaluate`` and in validation."""

import json

import pytest
import sacrebleu
from tiny_runs import TRANSLATION, write_config

from seqsru.evaluation import bleu_tokenizers

CHINESE = {
    "one": "一",
    "two": "二二",
    "three": "三三三",
    "four": "四",
    "five": "五五",
    "six": "六",
    "seven": "七七",
}


@pytest.fixture(scope="module")
def chinese(texts):
    """A folder with the same sources, whose translations are Chinese without spaces."""
    folder = texts / "chinese"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        lines = (texts / f"{split}.src").read_text().splitlines()
        (folder / f"{split}.src").write_text("".join(line + "\n" for line in lines))
        (folder / f"{split}.tgt").write_text(
            "".join("".join(CHINESE[word] for word in line.split()) + "\n" for line in lines)
        )
    return folder


@pytest.fixture(scope="module")
def chinese_run(chinese):
    from seqsru.commands.main import main

    path = write_config(chinese, TRANSLATION)
    options = [
        "tokenizer=characters",
        "training.validation_metric=chrf",
        "training.steps=60",
        "optimizer.lr=3e-2",
    ]
    assert main(["train", str(path), f"output={chinese}/run", *options]) == 0
    return chinese / "run"


def test_several_references_are_sacrebleus(texts, run, translation_run, tmp_path):
    files = [texts / "test.src", texts / "test.tgt", texts / "test.src", tmp_path / "third"]
    third = [
        "",
        *(texts / "test.tgt").read_text().lower().splitlines()[1:],
    ]  # an empty line stays a reference
    files[3].write_text("\n".join(third) + "\n")
    (tmp_path / "other").write_text((texts / "test.src").read_text().upper())
    status, out, err = run(
        "evaluate",
        translation_run,
        *files,
        "--metrics",
        "bleu,chrf,ter",
        *("--translations", tmp_path / "out", "--json", tmp_path / "json", "--baseline", tmp_path / "other"),
    )
    assert (status, err) == (0, "")
    hypotheses = (tmp_path / "out").read_text().splitlines()
    references = [path.read_text().splitlines() for path in files[1:]]
    found = json.loads((tmp_path / "json").read_text())
    assert found["bleu"] == sacrebleu.corpus_bleu(hypotheses, references).score
    assert found["chrf"] == sacrebleu.corpus_chrf(hypotheses, references).score
    assert found["ter"] == sacrebleu.corpus_ter(hypotheses, references).score
    assert all(line.split("|")[1] == "nrefs:3" for line in out.splitlines() if not line.startswith("seqsru"))
    assert (
        found["comparison"]["bleu"]["baseline"]
        == sacrebleu.corpus_bleu((tmp_path / "other").read_text().splitlines(), references).score
    )


def test_what_is_wrong_with_references_is_told_before_the_work(texts, refused, translation_run, tmp_path):
    (tmp_path / "short").write_text("one\n")
    source, target = texts / "test.src", texts / "test.tgt"
    assert refused("evaluate", translation_run, source, target, tmp_path / "short") == (
        f"seqsru: expected as many lines in {tmp_path}/short as in {source}, found 1 and 6; align the files "
        "line by line, nothing is cut to the shorter one"
    )
    assert refused("evaluate", translation_run, source) == (
        "seqsru: expected at least 2 files, found 1; a translation model takes SOURCE and REFERENCE, and any "
        "further REFERENCE"
    )


def test_references_in_the_configuration(texts, run, refused, tmp_path):
    path = write_config(texts, TRANSLATION)
    changes = [
        f"output={tmp_path}/run",
        "training.steps=1",
        f"data.validation.references=[{texts}/valid.src]",
        f"data.test={{source: {texts}/test.src, target: {texts}/test.tgt, references: [{texts}/test.src]}}",
    ]
    status, out, err = run("train", path, *changes)
    assert status == 0 and "|nrefs:2|" in out
    assert "|nrefs:2|" in run("evaluate", tmp_path / "run")[1]
    assert "|nrefs:2|" in run("evaluate", tmp_path / "run", "--split", "validation")[1]
    assert run("train", tmp_path / "run")[:2] == (0, out)
    absent = refused("train", path, f"output={tmp_path}/b", f"data.validation.references=[{tmp_path}/absent]")
    assert absent == (
        f"command line: data.validation.references.0: expected a file at {tmp_path}/absent, found none; "
        "check the path"
    )
    train = refused("train", path, f"data.train.references=[{texts}/train.tgt]")
    assert "data.train.references is not a setting" in train or "expected a setting" in train


def test_a_tokenizer_for_a_language_without_spaces(chinese, run, chinese_run, tmp_path):
    warning = (
        "warning: the references have almost no spaces, and the tokenizer 13a leaves them nearly whole, so "
        "that BLEU tells little; take --tokenize zh, char or another, or --metrics chrf\n"
    )
    files = [chinese / "test.src", chinese / "test.tgt"]
    status, plain, err = run("evaluate", chinese_run, *files, "--json", tmp_path / "13a")
    assert (status, err) == (0, warning)
    status, out, err = run("evaluate", chinese_run, *files, "--tokenize", "zh", "--json", tmp_path / "zh")
    assert (status, err) == (0, "") and "|tok:zh|" in out
    bleu = [json.loads((tmp_path / name).read_text())["bleu"] for name in ("13a", "zh")]
    assert bleu[0] < 1 < bleu[1]
    assert run("evaluate", chinese_run, *files, "--metrics", "chrf,ter")[2] == ""
    for tokenize in ("char", "none", "intl"):
        assert f"|tok:{tokenize}|" in run("evaluate", chinese_run, *files, "--tokenize", tokenize)[1]


def test_the_tokenizer_of_the_run_is_the_default(chinese, run, tmp_path):
    path = write_config(chinese, TRANSLATION)
    options = [f"output={tmp_path}/run", "training.steps=1", "training.validation_tokenize=char"]
    status, out, err = run("train", path, *options)
    assert status == 0 and "|tok:char|" in out and "warning" not in err
    files = [chinese / "test.src", chinese / "test.tgt"]
    assert "|tok:char|" in run("evaluate", tmp_path / "run", *files)[1]
    assert "|tok:zh|" in run("evaluate", tmp_path / "run", *files, "--tokenize", "zh")[1]


def test_validation_warns_once_and_in_the_log(chinese, run, tmp_path):
    path = write_config(chinese, TRANSLATION)
    status, out, err = run("train", path, f"output={tmp_path}/run", "training.validate_every=1")
    assert status == 0
    warning = (
        "warning: the references have almost no spaces, and the tokenizer 13a leaves them nearly whole, so "
        "that BLEU tells little; set training.validation_tokenize to zh, char or another, or "
        "validation_metric to chrf\n"
    )
    assert err.count(warning) == 1 == (tmp_path / "run" / "log").read_text().count(warning)
    for change in ("validation_metric=chrf", "validation_metric=perplexity", "validation_tokenize=zh"):
        assert "warning" not in run("train", path, f"output={tmp_path}/{change}", f"training.{change}")[2]


def test_chrf_chooses_the_checkpoint(chinese, chinese_run):
    records = [
        json.loads((path / "state.json").read_text())["validation"]
        for path in (chinese_run / "checkpoints").glob("step-*")
    ]
    values = [record["value"] for record in records]
    assert all(record["metric"] == "chrf" and record["higher_is_better"] for record in records)
    assert (chinese_run / "signature.txt").read_text().startswith(f"chrf {max(values):.2f}\n")


def test_a_tokenizer_that_cannot_be_had_is_refused_before_anything(
    texts, refused, translation_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(bleu_tokenizers, "EXTRAS", {"ja-mecab": ("ja", ("a_package_that_is_not_there",))})
    needs = "expected the packages that ja-mecab needs, found no a_package_that_is_not_there"
    told = f'{needs}; pip install "seqsru[ja]"'
    files = [texts / "test.src", texts / "test.tgt"]
    translations = tmp_path / "out"
    arguments = ["--tokenize", "ja-mecab", "--translations", translations]
    assert refused("evaluate", translation_run, *files, *arguments) == f"command line: tokenize: {told}"
    assert not translations.exists()
    path = write_config(texts, TRANSLATION)
    change = ["training.validation_tokenize=ja-mecab", f"output={tmp_path}/run"]
    for check in ([], ["--check"]):
        assert (
            refused("train", path, *change, *check) == f"command line: training.validation_tokenize: {told}"
        )
    assert not (tmp_path / "run").exists()
