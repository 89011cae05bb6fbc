"""`seqsru evaluate --items`: what each line adds to the headline of every task."""

import json

import pytest

from seqsru.evaluation.items import Items, read_shares
from seqsru.runs import open_run

RUNS = {
    "language_run": ("perplexity", "perplexity"),
    "classification_run": ("accuracy", "accuracy"),
    "question_run": ("f1", "f1"),
    "recognition_run": ("wer", "wer"),
    "translation_run": ("bleu", "bleu"),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_shares_give_the_number_that_is_printed(name, run, request, tmp_path):
    folder = request.getfixturevalue(name)
    measure, key = RUNS[name]
    split = ["--split", "validation"] if name == "translation_run" else []
    files = [tmp_path / "values.json", tmp_path / "items.json"]
    status, _, err = run("evaluate", folder, *split, "--json", files[0], "--items", files[1])
    assert status == 0, err
    values = json.loads(files[0].read_text())
    items = Items.from_dict(json.loads(files[1].read_text()))
    assert items.name == measure and items.higher_is_better == (measure not in ("perplexity", "wer"))
    lines = values.get("lines", values.get("questions", values.get("utterances")))
    assert len(items.sums) == lines
    assert items.value() == pytest.approx(values[key], abs=1e-9)


@pytest.mark.parametrize("name", RUNS)
def test_every_measure_of_a_task_has_its_shares(name, run, request, tmp_path):
    folder = request.getfixturevalue(name)
    known = open_run(folder, checkpoint="best", average=1, device="cpu").task.answers["evaluate"].measures
    split = ["--split", "validation"] if name == "translation_run" else []
    split += ["--metrics", "bleu,chrf,ter"] if name == "translation_run" else []
    files = [tmp_path / "values.json", tmp_path / "items.json"]
    flags = [*split, "--json", files[0], "--items", files[1], "--measures", ",".join(reversed(known))]
    status, _, err = run("evaluate", folder, *flags)
    assert status == 0, err
    values, found = json.loads(files[0].read_text()), read_shares(json.loads(files[1].read_text()))
    assert set(found) == set(known) and len(known) > 1 and next(iter(found)) == RUNS[name][0]
    for measure, items in found.items():
        assert items.value() == pytest.approx(values[measure], abs=1e-9), measure
    digests = {items.text for items in found.values()}
    assert len(digests) == 1


def test_measures_that_are_none_are_refused_before_the_work(question_run, run, tmp_path):
    path = tmp_path / "items.json"
    status, out, err = run("evaluate", question_run, "--items", path, "--measures", "exact")
    assert (status, out) == (2, "") and not path.exists()
    assert err.splitlines()[-1] == (
        "seqsru: measures: expected one of exact_match, f1, found 'exact'; did you mean 'exact_match'?"
    )
    status, out, err = run("evaluate", question_run, "--measures", "f1")
    assert (status, out) == (2, "") and err.splitlines()[-1] == (
        "seqsru: expected --items with --measures, found none; name a file for the shares of the lines"
    )


def test_lines_alone_have_shares_of_their_own(language_run, run, tmp_path):
    path = tmp_path / "items.json"
    status, out, _ = run("evaluate", language_run, "--state", "separate", "--items", path)
    found = Items.from_dict(json.loads(path.read_text())).value()
    assert status == 0 and float(out.split()[1]) == pytest.approx(found, abs=1e-4)
    status, _, err = run("evaluate", language_run, "--engine", "compiled", "--items", path)
    assert status == 2 and err.splitlines()[-1] == (
        "seqsru: engine: expected engine torch for the share of each line, found compiled; "
        "take engine torch, or state separate"
    )


@pytest.mark.parametrize(
    "how",
    [
        ["--cache", "20", "--cache-theta", "0.5", "--cache-share", "0.1", "--temperature", "1.2"],
        ["--dynamic", "sgd", "--dynamic-rate", "0.1", "--dynamic-decay", "0.01", "--dynamic-segment", "7"],
        ["--state", "separate", "--temperature", "1.2"],
    ],
)
def test_a_model_that_adapts_has_shares_of_lines_too(how, language_run, run, tmp_path):
    files = [tmp_path / "values.json", tmp_path / "items.json"]
    status, _, err = run("evaluate", language_run, *how, "--json", files[0], "--items", files[1])
    assert status == 0, err
    items, values = Items.from_dict(json.loads(files[1].read_text())), json.loads(files[0].read_text())
    assert len(items.sums) == values["lines"] and items.value() == pytest.approx(
        values["perplexity"], abs=1e-9
    )
    plain = tmp_path / "plain.json"
    assert run("evaluate", language_run, *how[:2] * (how[0] == "--state"), "--items", plain)[0] == 0
    assert items.value() != pytest.approx(Items.from_dict(json.loads(plain.read_text())).value(), abs=1e-4)


def test_a_line_has_its_share_of_the_first_figure(translation_run, run, tmp_path):
    files = [tmp_path / "values.json", tmp_path / "items.json"]
    flags = ["--split", "validation", "--metrics", "ter", "--lowercase"]
    status, _, err = run("evaluate", translation_run, *flags, "--json", files[0], "--items", files[1])
    assert status == 0, err
    items = Items.from_dict(json.loads(files[1].read_text()))
    assert items.value() == pytest.approx(json.loads(files[0].read_text())["ter"], abs=1e-9)
