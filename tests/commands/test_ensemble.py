"""Several runs that translate together: `--ensemble`, and `seqsru.load` of a list."""

import json
import math
import re

import pytest
import torch
from tiny_runs import TRANSLATION, write_config

import seqsru
from seqsru.commands.main import main
from seqsru.errors import Refused
from seqsru.pipelines import TranslationPipeline


@pytest.fixture(scope="module")
def other_run(texts, translation_run):
    """A translation model of another architecture, with the tokenizers of the first."""
    config = write_config(texts, TRANSLATION)
    changes = ["seed=2", "model.decoder.cell=lstm", "model.encoder.num_layers=2", "decoding.beam=4"]
    assert main(["train", str(config), f"output={texts / 'mt-other'}", *changes]) == 0
    return texts / "mt-other"


@pytest.fixture(scope="module")
def letters_run(texts):
    """A translation model of characters."""
    config = write_config(texts, TRANSLATION)
    changes = ["tokenizer.name=characters", "training.steps=1"]
    assert main(["train", str(config), f"output={texts / 'mt-letters'}", *changes]) == 0
    return texts / "mt-letters"


def test_translations_and_scores_are_those_of_the_mean(texts, run, translation_run, other_run):
    sources = (texts / "test.src").read_text().splitlines()
    together = seqsru.load([translation_run, other_run], TranslationPipeline)
    assert together.decoding == seqsru.load(translation_run).decoding
    found = together.translate(sources, n_best=2, beam=3, attention=True)
    for source, one in zip(sources, found):
        assert one.attention.shape[1] == len(source.split()) + 1
        assert torch.allclose(one.attention.sum(1), torch.ones(len(one.attention)), atol=1e-5)
    texts_found = [one.text for one in found]
    command = "translate", translation_run, texts / "test.src", "--ensemble", other_run, "--beam", "3"
    status, out, err = run(*command)
    assert (status, out.splitlines(), err) == (0, texts_found, "")
    lists = run(*command, "--n-best", "2", "--moses")[1].splitlines()
    assert len(lists) == 2 * len(sources)
    scores = together.score(sources, [line.upper() for line in sources])
    (texts / "upper").write_text("".join(line.upper() + "\n" for line in sources))
    out = run("score", translation_run, "--ensemble", other_run, texts / "test.src", texts / "upper")[1]
    assert out.splitlines() == [f"{score:.6f}" for score in scores]


def test_each_step_is_the_mean(translation_run, other_run):
    """The log probability of one line, put together by hand from the steps of the two models in float64."""
    together, *parts = (
        seqsru.load(runs) for runs in ([translation_run, other_run], translation_run, other_run)
    )
    source, target = "three one two", "TWO ONE THREE"
    tokenizers = parts[0].source_tokenizer, parts[0].target_tokenizer
    ids = torch.tensor([*tokenizers[0].encode(source), tokenizers[0].eos]).unsqueeze(1)
    wanted = [*tokenizers[1].encode(target), tokenizers[1].eos]
    into = torch.tensor([tokenizers[1].bos, *wanted[:-1]]).unsqueeze(1)
    chances = []
    with torch.no_grad():
        for part in parts:
            model = part.model.double()
            chances.append(torch.softmax(model.logits(model(ids, None, into)), -1)[:, 0])
    mean = (chances[0] + chances[1]) / 2
    expected = sum(math.log(mean[time, token]) for time, token in enumerate(wanted))
    assert together.score([source], [target]) == [pytest.approx(expected, abs=1e-4)]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_run_any_number_of_times_is_itself(texts, run, translation_run, times):
    others = ["--ensemble", translation_run] * (times - 1)
    arguments = [texts / "test.src", "--n-best", "2", "--json", "--attention", "--coverage", "0.3"]
    plain = run("translate", translation_run, *arguments)
    assert run("translate", translation_run, *others, *arguments) == plain
    sources = (texts / "test.src").read_text().splitlines()
    pipeline = seqsru.load([translation_run] * times)
    assert pipeline.score(sources, sources) == seqsru.load(translation_run).score(sources, sources)
    assert pipeline.translate([""])[0].text == ""


def test_evaluate_signs_the_members(texts, run, translation_run, other_run, tmp_path):
    files = texts / "test.src", texts / "test.tgt"

    def fields(*arguments):
        status, out, err = run("evaluate", translation_run, *files, *arguments)
        assert (status, err) == (0, "")
        line = next(line for line in out.splitlines() if line.startswith("seqsru "))
        return dict(part.split(":", 1) for part in line.split("|")[1:])

    one, two = fields(), fields("--ensemble", other_run, "--json", tmp_path / "numbers.json")
    assert "ensemble" not in one
    assert two["ensemble"] == "mt,mt-other" and two["cell"] == "sru-v2+gru,sru-v2+lstm"
    assert two["layers"] == "1+1,2+1" and two["seed"] == "1,2" and two["beam"] == one["beam"] == "2"
    first, second = two["model"].split(",")
    assert first == one["model"] != second
    assert two["threads"] == one["threads"]
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert "ensemble:mt,mt-other|" in numbers["signature"]


def test_what_does_not_go_together(
    texts, run, translation_run, other_run, letters_run, language_run, classification_run, tmp_path
):
    package = tmp_path / "mt.seqsru"
    package.write_bytes(b"seqsru1\n")
    file = texts / "test.src"
    for arguments, sentence in [
        (
            ["--ensemble", other_run, "--ensemble", letters_run],
            f"seqsru: ensemble: expected the target tokenizer of {translation_run} in every run, "
            "found another in "
            f"{letters_run}; train them with one: start_from.run, or the same training text and settings",
        ),
        (
            ["--ensemble", language_run],
            f"seqsru: ensemble: expected runs of a translation model beside {translation_run}, found "
            f"{language_run} of a language model; name runs of one task",
        ),
        (
            ["--ensemble", package],
            f"seqsru: ensemble: expected run directories for an ensemble, found the file {package}; "
            "name the run "
            "directory that it was made of",
        ),
        (
            ["--ensemble", other_run, "--engine", "compiled"],
            "command line: engine: expected torch for several runs, which alone averages them, found "
            "compiled; "
            "leave it out",
        ),
        (
            ["--ensemble", other_run, "--precision", "int8"],
            "command line: precision: expected no precision for several runs, which torch decodes, "
            "found int8; "
            "leave it out",
        ),
        (
            ["--ensemble", other_run, "--output", other_run / "config.yaml"],
            f"seqsru: expected another file for --output, found {other_run}/config.yaml, which is an "
            "input or part "
            "of one; name one of its own",
        ),
        (
            ["--ensemble", tmp_path],
            f"seqsru: expected a run directory with a config.yaml at {tmp_path}, found none; check "
            "the path, or "
            "make one with `seqsru train`",
        ),
    ]:
        assert run("translate", translation_run, file, *arguments) == (2, "", sentence + "\n")
    for trained, noun in ((language_run, "a language model"), (classification_run, "a classifier")):
        sentence = (
            f"seqsru: ensemble: expected one run of {noun}, found 2; name one; several translation "
            "models can predict together\n"
        )
        assert run("evaluate", trained, "--ensemble", trained) == (2, "", sentence)


def test_sources_are_read_by_one_tokenizer(texts, refused, translation_run, tmp_path):
    """Vocabularies of equal size that differ in one word: the numbers fit, and mean other things."""
    for side in ("src", "tgt"):
        content = (texts / f"train.{side}").read_text()
        (tmp_path / f"train.{side}").write_text(content.replace("seven", "eleven"))
        (tmp_path / f"valid.{side}").write_text((texts / f"valid.{side}").read_text())
    config, other = write_config(tmp_path, TRANSLATION), tmp_path / "other"
    assert main(["train", str(config), f"output={other}", "training.steps=1"]) == 0
    first, second = (seqsru.load(one) for one in (translation_run, other))
    assert first.source_tokenizer.size == second.source_tokenizer.size
    assert first.target_tokenizer.fingerprint == second.target_tokenizer.fingerprint
    assert refused("translate", translation_run, texts / "test.src", "--ensemble", other) == (
        f"seqsru: ensemble: expected the source tokenizer of {translation_run} in every run, found another "
        f"in {other}; train them with one: start_from.run, or the same training text and settings"
    )


def test_what_python_may_not_name(translation_run):
    for runs, sentence in [
        ([], "run: expected at least one run, found none; name what `seqsru train` wrote"),
        ([translation_run, 3], "run: expected a path, or a list of paths, found"),
        (None, "run: expected a path, or a list of paths, found None; name what `seqsru train` wrote"),
        (3, "run: expected a path, or a list of paths, found 3; name what `seqsru train` wrote"),
    ]:
        with pytest.raises(Refused, match=f"^{re.escape(sentence)}"):
            seqsru.load(runs)
