"""``seqsru classify``, and what the other commands answer of a classifier."""

import json
import re

import pytest
from tiny_runs import CLASSIFICATION, write_config

import seqsru
from seqsru.pipelines import ClassificationPipeline


def test_classify_writes_a_line_for_a_line(texts, run, classification_run, tmp_path):
    text = (texts / "lines").read_text()
    status, out, err = run("classify", classification_run, stdin=text)
    lines = out.split("\n")
    assert status == 0 and err == "" and len(lines) == 6 and lines[1] == lines[3] == lines[5] == ""
    pipeline = seqsru.load(classification_run, ClassificationPipeline)
    assert lines[:5] == [found.line() for found in pipeline.classify(text.split("\n"))]
    assert re.fullmatch(r"(lucky|plain)\tlucky=0\.\d{4}\tplain=0\.\d{4}", lines[0])
    assert run("classify", classification_run, texts / "lines")[1] == out
    assert run("classify", classification_run, "--output", tmp_path / "out", texts / "lines") == (0, "", "")
    assert (tmp_path / "out").read_text() == out
    found = [
        json.loads(line) for line in run("classify", classification_run, "--json", stdin=text)[1].splitlines()
    ]
    assert [one["index"] for one in found] == [0, 1, 2, 3, 4]
    assert found[0]["label"] == lines[0].split("\t")[0] and found[1] == {
        "index": 1,
        "label": "",
        "probabilities": {},
    }
    assert sum(found[4]["probabilities"].values()) == pytest.approx(1)


def test_evaluate_a_classifier(texts, run, classification_run, tmp_path):
    status, out, err = run(
        "evaluate",
        classification_run,
        "--json",
        tmp_path / "out.json",
        "--confusion",
        tmp_path / "c.png",
        "--predictions",
        tmp_path / "labels",
    )
    assert status == 0 and err == ""
    lines, found = out.splitlines(), json.loads((tmp_path / "out.json").read_text())
    assert lines[0] == f"accuracy {found['accuracy']:.2f}" and lines[1] == f"macro_f1 {found['macro_f1']:.2f}"
    assert re.fullmatch(r"gold \\ predicted +lucky +plain +precision +recall +F1", lines[2])
    assert re.fullmatch(
        r"seqsru \S+\|cell:sru-v2\|layers:1\|pooling:max\|params:\S+?\|data:test.labelled\|lines:6\|"
        r"text:\w{12}\|weights:step-\d+\|model:\w{12}\|seed:1\|torch:[^|]+\|device:cpu\|threads:\d+",
        lines[-1],
    )
    assert lines[-1] == found["signature"] and found["lines"] == 6 == sum(map(sum, found["counts"]))
    gold = [line.split()[0] for line in (texts / "test.labelled").read_text().splitlines()]
    predicted = (tmp_path / "labels").read_text().splitlines()
    assert found["accuracy"] == pytest.approx(100 * sum(map(str.__eq__, gold, predicted)) / 6)
    assert (tmp_path / "c.png").stat().st_size > 1000
    assert "|data:valid.labelled|" in run("evaluate", classification_run, "--split", "validation")[1]
    given = run("evaluate", classification_run, texts / "test.labelled")[1]
    assert given == out


def test_latency_of_a_classifier(run, classification_run, tmp_path):
    status, out, err = run(
        "latency",
        classification_run,
        "--repeats",
        "1",
        "--warmup",
        "1",
        "--json",
        tmp_path / "l.json",
        "--plot",
        tmp_path / "l.svg",
    )
    assert status == 0 and err == ""
    (system,) = json.loads((tmp_path / "l.json").read_text())["systems"]
    assert system["encoding"]["n"] == 6 and "later_tokens" not in system
    assert "|data:test.labelled|lines:6|decoder:classifier|batch:1|" in out and (tmp_path / "l.svg").exists()


def test_what_a_classifier_refuses(texts, refused, classification_run, tmp_path):
    assert refused("translate", classification_run) == (
        "seqsru: expected a run of a translation model, found one of a classifier; use this one with "
        "evaluate, classify, latency"
    )
    assert refused("evaluate", classification_run, "--beam", "2") == (
        "seqsru: expected --beam with a recogniser or a translation model, found a classifier; leave it out"
    )
    (tmp_path / "unknown").write_text("lucky one\nplian two\n")
    assert re.fullmatch(
        r"seqsru: expected a label of the training data \(lucky, plain\) at \S+/unknown:2, found 'plian', "
        r"did you mean 'plain'\?; correct it, or train with it",
        refused("evaluate", classification_run, tmp_path / "unknown"),
    )
    (tmp_path / "empty").write_text("lucky one\n\n")
    assert "found an empty line" in refused("evaluate", classification_run, tmp_path / "empty")
    (tmp_path / "latin").write_bytes("plain caf\u00e9\n".encode("latin-1"))
    assert "set data.encoding" in refused("evaluate", classification_run, tmp_path / "latin")
    assert refused("evaluate", classification_run, "--confusion", tmp_path / "c.bmp") == (
        "command line: confusion: expected a file ending in .png, .svg, .pdf, found "
        f"{tmp_path / 'c.bmp'}; rename it"
    )
    (tmp_path / "one").write_text("lucky one\n" * 20)
    config = write_config(texts, CLASSIFICATION)
    assert "expected lines of at least two labels" in refused(
        "train", config, f"data.train={tmp_path}/one", f"output={tmp_path}/run"
    )


@pytest.mark.parametrize(
    "overrides, problem",
    [
        (["data.folds=1"], "command line: data.folds: "),
        (["data.folds=3", "data.fold=3", "data.test=null"], "command line: data.fold: "),
        (["data.folds=3"], "data.test: "),
        (["data.split_seed=-1"], "command line: data.split_seed: "),
        (["data.encoding=utf-16"], "command line: data.encoding: "),
        (["model.encoder={name: convolution}", "model.pooling=last"], "command line: model.pooling: "),
        (["model.encoder={name: convolution, widths: []}"], "command line: model.encoder.widths: "),
        (
            ["model.encoder={name: convolution, cell: sru}"],
            "command line: model.encoder.cell is not a setting",
        ),
        (["training.validation_metric=bleu"], "command line: training.validation_metric: expected one of"),
        (["batches.batch_size=0"], "command line: batches.batch_size: "),
    ],
)
def test_impossible_settings_have_their_place(texts, refused, tmp_path, overrides, problem):
    config = write_config(texts, CLASSIFICATION)
    assert problem in refused("train", "--check", config, f"output={tmp_path}/run", *overrides)


def test_cross_validation_needs_no_split(texts, run, tmp_path):
    config, parts = write_config(texts, CLASSIFICATION), []
    for fold in range(3):
        folder = tmp_path / str(fold)
        assert (
            run(
                "train",
                config,
                f"output={folder}",
                "data.validation=null",
                "data.test=null",
                "data.folds=3",
                f"data.fold={fold}",
                "training.epochs=1",
                "model.encoder={name: convolution, features: 4}",
            )[0]
            == 0
        )
        out = run("evaluate", folder, "--json", tmp_path / "out.json")[1]
        assert f"|data:train.labelled,fold-{fold}-of-3|lines:20|" in out
        assert "|encoder:convolution|" in out
        parts.append(json.loads((tmp_path / "out.json").read_text())["lines"])
        assert "|data:train.labelled,held-out|" in (folder / "signature.txt").read_text()
    assert sum(parts) == 60


def test_embeddings_that_others_trained(texts, run, refused, tmp_path):
    config, folder = write_config(texts, CLASSIFICATION), tmp_path / "run"
    (tmp_path / "vectors").write_text("one 1 2 3 4 5 6 7 8\nnowhere 0 0 0 0 0 0 0 0\n")
    given = [f"data.vectors={tmp_path}/vectors", "model.frozen_embedding=true"]
    status, out, err = run("train", config, f"output={folder}", *given)
    assert status == 0 and "vectors: 2 vectors; of 9 words of the vocabulary 1 found (11.1 %)\n" in err
    pipeline = seqsru.load(folder, ClassificationPipeline)
    (number,) = pipeline.tokenizer.encode("one")
    assert pipeline.model.embedding.weight[number].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    (tmp_path / "vectors").unlink()  # what was learned is in the checkpoint
    assert run("classify", folder, stdin="one\n")[0] == 0
    (tmp_path / "vectors").write_text("one 1 2 3\n")
    assert (
        f"{texts}/run.yaml:6: model.embedding_size: expected vectors of 8 numbers in {tmp_path}/vectors, "
        "found 3 at line 1; set model.embedding_size to 3, or check the file"
    ) in refused("train", config, f"output={tmp_path}/other", *given)
    (tmp_path / "vectors").write_text("eins 1 2 3 4 5 6 7 8\n")
    assert "command line: data.vectors: expected words of the vocabulary in" in refused(
        "train", config, f"output={tmp_path}/third", *given
    )


def test_evaluate_without_a_test_and_with_bad_lines(texts, run, refused, tmp_path):
    config, folder = write_config(texts, CLASSIFICATION), tmp_path / "run"
    given = ["data.test=null", "data.on_bad_line=skip", "training.epochs=1"]
    assert run("train", config, f"output={folder}", *given)[0] == 0
    assert refused("evaluate", folder) == (
        "seqsru: expected data.test or data.folds in the configuration, found neither; name LABELLED, or "
        "take --split validation"
    )
    (tmp_path / "more").write_text("lucky one seven\n\nplain\nplain two\n")
    status, out, err = run("evaluate", folder, tmp_path / "more")
    assert status == 0 and "|data:more|lines:2|" in out
    assert err == f"{tmp_path}/more: 4 lines; 1 empty, skipped (line 2); 1 without a text, skipped (line 3)\n"
    # Without a test split the lines under the clock are those of validation.
    status, out, err = run("latency", folder, "--repeats", "1", "--warmup", "1")
    assert (status, err) == (0, "") and "|data:valid.labelled|lines:12|" in out
