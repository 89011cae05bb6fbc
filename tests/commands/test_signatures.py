"""Two numbers that may differ have two signatures, and one number has one, whatever was asked for."""

import json

import pytest
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, QUESTIONS, TRANSLATION, write_config


@pytest.fixture(scope="module")
def altered(texts):
    """The texts with one word changed, under the same names."""
    folder = texts / "altered"
    folder.mkdir()
    for name in ("test.src", "test.tgt", "test.txt", "test.labelled"):
        lines = (texts / name).read_text().split("\n")
        word = lines[0].split()[-1]
        other = "ONE" if word.isupper() else "one"
        lines[0] = lines[0][: -len(word)] + ("two" if word == other else other)
        (folder / name).write_text("\n".join(lines))
    return folder


def signed(out):
    """The signature among the lines of an output."""
    return next(line for line in out.splitlines() if line.startswith("seqsru "))


SEARCHES = [
    ["--beam", "3"],
    ["--penalty", "gnmt"],
    ["--alpha", "0.5"],
    ["--coverage", "0.1"],
    ["--stop", "exact"],
    ["--stop", "all"],
    ["--length-factor", "1"],
    ["--length-offset", "3"],
    ["--max-source", "2"],
    ["--rule", "min_length.length=3"],
    ["--rule", "no_repeat_ngram.size=1"],
    ["--rule", "min_length.length=3", "--rule", "no_repeat_ngram.size=1"],
    ["--checkpoint", "last", "--average", "1"],
]


def test_a_translation_is_signed_with_its_search(texts, altered, run, translation_run):
    def evaluated(*arguments, folder=texts, files=("test.src", "test.tgt")):
        status, out, err = run("evaluate", translation_run, *(folder / name for name in files), *arguments)
        assert (status, err) == (0, "")
        return signed(out)

    plain = evaluated()
    lines = [plain, *(evaluated(*arguments) for arguments in SEARCHES[:-1])]
    lines += [
        evaluated(folder=altered),
        evaluated(files=("test.src", "test.src")),
        evaluated(files=("test.src", "test.tgt", "test.src")),
        evaluated(files=("test.src", "test.src", "test.tgt")),
    ]
    assert len(set(lines)) == len(lines)
    for arguments in (["--batch-size", "1"], ["--batch-by", "tokens"], SEARCHES[-1], ["--metrics", "ter"]):
        assert evaluated(*arguments) == plain
    assert all(len(line) < 450 for line in lines)


def test_a_language_model_is_signed_with_its_text_and_state(texts, altered, run, language_run):
    asked = [
        [texts / "test.txt"],
        [altered / "test.txt"],
        [texts / "valid.txt"],
        [texts / "test.txt", "--state", "separate"],
        [texts / "test.txt", "--average", "2", "--checkpoint", "last"],
    ]
    outs = [run("evaluate", language_run, *arguments)[1] for arguments in asked]
    assert len({signed(out) for out in outs}) == len(asked) == len({out.split("\n")[0] for out in outs})


def test_a_classifier_is_signed_with_its_text(texts, altered, run, classification_run):
    (altered / "relabelled").mkdir()
    text = (texts / "test.labelled").read_text()
    (altered / "relabelled" / "test.labelled").write_text(text.replace("lucky", "plain", 1))
    folders = [texts, altered, altered / "relabelled"]
    lines = [signed(run("evaluate", classification_run, folder / "test.labelled")[1]) for folder in folders]
    assert len(set(lines)) == 3


def test_runs_of_other_settings_are_told_apart_by_their_weights(texts, run, language_run, tmp_path):
    path = write_config(texts, LANGUAGE_MODEL)
    assert run("train", path, f"output={tmp_path}/other", "optimizer.lr=2e-2")[0] == 0
    lines = [signed(run("evaluate", folder)[1]) for folder in (language_run, tmp_path / "other")]
    assert lines[0] != lines[1]
    first, second = ((folder / "signature.txt").read_text() for folder in (language_run, tmp_path / "other"))
    assert signed(first) != signed(second)


TRAININGS = {
    "lm": (LANGUAGE_MODEL, [[], ["training.validation_state=separate"], ["training.precision=bfloat16"]]),
    "mt": (
        TRANSLATION,
        [
            [],
            ["decoding.stop=all"],
            ["decoding.rules.min_length.length=2"],
            ["decoding.coverage=0.2"],
            ["training.validation_beam=1"],
            ["training.validation_tokenize=char"],
            ["training.validation_metric=chrf"],
            ["training.validation_metric=perplexity"],
            ["data.validation.references=[{folder}/valid.src]"],
        ],
    ),
    "classifier": (
        CLASSIFICATION,
        [[], ["training.validation_metric=loss"], ["training.validation_metric=macro_f1"]],
    ),
    "reader": (
        QUESTIONS,
        [
            [],
            ["training.validation_metric=exact_match"],
            ["training.f1_tokens=characters"],
            ["data.validation=null"],
        ],
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_what_train_prints_is_signed_with_how_it_was_measured(name, texts, run, tmp_path):
    text, every = TRAININGS[name]
    path, outs = write_config(texts, text), []
    for number, changes in enumerate(every):
        changes = [change.format(folder=texts) for change in changes]
        status, out, err = run("train", path, f"output={tmp_path}/{number}", *changes)
        assert status == 0, err
        outs.append(out)
    assert len({out.split("|", 1)[0] + signed(out) for out in outs}) == len(every)


def test_the_weights_of_the_best_validation_are_those_that_are_signed(texts, run, language_run):
    """The best is not the last here: what `evaluate` loads has the digest that training printed."""
    evaluated = signed(run("evaluate", language_run, "--split", "validation")[1])
    printed = signed((language_run / "signature.txt").read_text())
    fields = [dict(part.partition(":")[::2] for part in line.split("|")) for line in (evaluated, printed)]
    for name in ("model", "weights", "text", "tokens", "unknown", "state", "data"):
        assert fields[0][name] == fields[1][name]


def test_latency_is_signed_with_search_and_protocol(texts, run, translation_run, tmp_path):
    common = ["latency", translation_run, texts / "test.src", "--first", "1"]
    every = [
        ["--repeats", "1", "--warmup", "1"],
        ["--repeats", "2", "--warmup", "1"],
        ["--repeats", "1", "--warmup", "2"],
        ["--repeats", "1", "--warmup", "1", "--beam", "3"],
        ["--repeats", "1", "--warmup", "1", "--alpha", "0.5"],
        ["--repeats", "1", "--warmup", "1", "--guard", "repeats"],
        ["--repeats", "1", "--warmup", "1", "--rule", "no_repeat_ngram.size=2"],
        ["--repeats", "1", "--warmup", "1", "--length", "3"],
    ]
    lines = [signed(run(*common, *arguments)[1]) for arguments in every]
    assert len(set(lines)) == len(every)
    assert "|stop:first|" in lines[0] and "|rules:none|" in lines[0]


def test_json_has_the_signature_that_is_printed(texts, run, translation_run, tmp_path):
    out = run("evaluate", translation_run, texts / "test.src", texts / "test.tgt", "--json", tmp_path / "j")[
        1
    ]
    assert json.loads((tmp_path / "j").read_text())["signature"] == signed(out)
