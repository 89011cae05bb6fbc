"""``seqsru evaluate`` of a language model with a temperature, a cache and dynamic evaluation."""

import json
import math
import re
import shutil

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config

from seqsru.commands.flags import write_json

ALL = ("--temperature", "tune", "--cache", "tune", "--dynamic", "rms", "--dynamic-segment", "8")
GIVEN = (
    *("--temperature", "1.2", "--cache", "20", "--cache-theta", "0.5", "--cache-share", "0.1"),
    *("--dynamic", "sgd", "--dynamic-rate", "0.1", "--dynamic-decay", "0.01", "--dynamic-segment", "8"),
)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_values_that_are_given(run, language_run, tmp_path):
    before = contents(language_run)
    plain = run("evaluate", language_run)[1]
    status, out, err = run("evaluate", language_run, *GIVEN, "--json", tmp_path / "out.json")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] != plain.splitlines()[0]
    assert (
        "|temperature:1.2|cache:20|cache_theta:0.5|cache_share:0.1|dynamic:sgd|dynamic_rate:0.1|"
        "dynamic_decay:0.01|dynamic_segment:8|dynamic_clip:1.0|weights:"
    ) in out.splitlines()[4]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["signature"] == out.splitlines()[4] and "tuning" not in found
    assert found["adaptation"]["cache_theta"] == 0.5 and found["adaptation"]["dynamic_segment"] == 8
    assert contents(language_run) == before
    assert run("evaluate", language_run, *GIVEN)[1] == out  # the same bits
    assert run("evaluate", language_run)[1] == plain


def test_values_that_are_chosen_on_the_validation_text(texts, run, language_run, tmp_path):
    status, out, err = run(
        "evaluate", language_run, *ALL, "--tune-tokens", "40", "--json", tmp_path / "o.json"
    )
    assert status == 0
    lines = err.splitlines()
    assert re.fullmatch(r"squares of gradients: \d+ tokens of the training text", lines[0])
    assert all(line.startswith("valid.txt, 40 tokens: ") for line in lines[1:])
    found = json.loads((tmp_path / "o.json").read_text())
    tuning, chosen = found["tuning"], found["adaptation"]
    assert (tuning["data"], tuning["tokens"]) == (str(texts / "valid.txt"), 40)
    assert len(tuning["seen"]) == len(lines) - 1
    best = min((one for one in tuning["seen"] if "cache" in one), key=lambda one: one["token_perplexity"])
    names = ("temperature", "cache", "cache_theta", "cache_share")
    assert {name: chosen[name] for name in names} == {name: best[name] for name in names}
    assert re.search(
        r"\|tuned:temperature,cache,cache_theta,cache_share,dynamic_rate,dynamic_decay\|tuned_on:valid.txt\|"
        r"tuned_tokens:40\|tuned_text:\w{12}\|weights:",
        found["signature"],
    )
    assert f"|dynamic_epsilon:0.001|dynamic_statistics:{chosen['dynamic_statistics']}|" in found["signature"]
    # Given as flags, what was chosen gives the same numbers to the last bit.
    flags = [
        part
        for name in (*names, "dynamic", "dynamic_rate", "dynamic_decay", "dynamic_segment")
        for part in ("--" + name.replace("_", "-"), chosen[name])
    ]
    again = run("evaluate", language_run, *flags)[1]
    assert again.splitlines()[:4] == out.splitlines()[:4] and "|tuned" not in again


def test_what_is_chosen_does_not_depend_on_the_text_to_measure(texts, run, language_run, tmp_path):
    """Everything is chosen before the text is read, which then turns out to be no text."""
    (tmp_path / "bad").write_bytes(b"\xff\n")
    status, out, err = run("evaluate", language_run, tmp_path / "bad", *ALL)
    *told, refusal = err.splitlines()
    assert (status, out) == (2, "") and "expected UTF-8" in refusal
    assert told == run("evaluate", language_run, *ALL)[2].splitlines()


def test_a_file_that_is_not_there_is_refused_before_the_work(run, language_run, tmp_path):
    status, out, err = run("evaluate", language_run, tmp_path / "nowhere", *ALL)
    assert status == 2 and err.count("\n") == 1 and f"a text file at {tmp_path}/nowhere" in err


def test_the_validation_text_is_read_where_something_is_chosen_alone(texts, run, tmp_path):
    for name in ("train.txt", "valid.txt", "test.txt"):
        shutil.copy(texts / name, tmp_path)
    config = LANGUAGE_MODEL.replace("epochs: 2", "epochs: 2, precision: bfloat16, keep: 2")
    assert run("train", write_config(tmp_path, config))[0] == 0
    (tmp_path / "valid.txt").write_bytes(b"\xff\n")
    given = ("--average", "2", "--checkpoint", "last")
    status, out, err = run("evaluate", tmp_path / "run", *GIVEN, *given)
    assert (status, err) == (0, "") and "|weights:mean-of-2-last|" in out
    assert run("evaluate", tmp_path / "run", "--temperature", "tune")[0] == 2


@pytest.mark.parametrize("tokenizer", ["characters", "{{name: sentencepiece, vocabulary_size: 20}}"])
def test_other_tokens_than_words(texts, run, tmp_path, tokenizer):
    path = write_config(texts, LANGUAGE_MODEL.replace("tokenizer: words", f"tokenizer: {tokenizer}"))
    assert run("train", path, f"output={tmp_path}/run")[0] == 0
    status, out, _ = run("evaluate", tmp_path / "run", *ALL, "--tune-tokens", "30")
    assert status == 0 and [line.split()[0] for line in out.splitlines()[:4]] == [
        "perplexity", "token_perplexity", "bits_per_token", "bits_per_byte",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flags, told",
    [
        (
            ("--state", "separate", "--cache", "5"),
            "command line: state: expected one stream for a cache or dynamic evaluation, found lines apart; "
            "take state carried",
        ),
        (
            ("--state", "separate", "--dynamic", "sgd"),
            "command line: state: expected one stream for a cache or dynamic evaluation, found lines apart; "
            "take state carried",
        ),
        (
            ("--cache-theta", "0.5"),
            "command line: cache_theta: expected cache beside it, found none; give cache too, or leave this "
            "out",
        ),
        (
            ("--dynamic", "sgd", "--dynamic-epsilon", "0.5"),
            "command line: dynamic_epsilon: expected dynamic rms beside it, found sgd; take rms, or leave "
            "this out",
        ),
        (
            ("--temperature", "0"),
            "command line: temperature: expected a finite number above 0, found 0.0; raise it",
        ),
        (
            ("--temperature", "2", "--tune-tokens", "5"),
            "command line: tune_tokens: expected a value to choose on the validation text, found none; "
            "leave one of the others to be chosen, or leave this out",
        ),
        (
            ("--dynamic", "rms", "--tune-tokens", "40"),
            "command line: tune_tokens: expected at least 41 tokens of the validation text to choose values "
            "on, found 40; raise tune_tokens, or give the values",
        ),
        (
            ("--cache", "many"),
            "command line: cache: expected 'tune' or a whole number, found 'many'; change it",
        ),
        (
            (*GIVEN[8:10], *GIVEN[12:], "--dynamic-rate", "1e30", "--dynamic-clip", "0"),
            "command line: dynamic_rate: expected a rate that gives a finite perplexity, found nan at 1e+30; "
            "lower it: the weights diverge as they learn",
        ),
        (
            ("--engine", "compiled", "--temperature", "2"),
            "seqsru: engine: expected torch for a temperature, a cache or dynamic evaluation, found the "
            "compiled engine; take engine torch with the run directory",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(refused, language_run, flags, told):
    assert refused("evaluate", language_run, *flags) == told


def test_a_file_of_quantize_has_none_of_it(run, refused, language_run, tmp_path):
    assert run("quantize", language_run, "--output", tmp_path / "lm.seqsru")[0] == 0
    for flags in (("--temperature", "tune"), ("--cache", "5"), ("--dynamic", "rms")):
        assert refused("evaluate", tmp_path / "lm.seqsru", *flags).startswith(
            "seqsru: engine: expected torch for a temperature, a cache or dynamic evaluation, found the "
        )


def test_other_tasks_have_none_of_it(refused, classification_run):
    for name, value in (
        ("--temperature", "2"), ("--cache", "5"), ("--cache-theta", "1"), ("--cache-share", "0.5"),
        ("--dynamic", "rms"), ("--dynamic-rate", "1"), ("--dynamic-decay", "0.5"),
        ("--dynamic-segment", "5"), ("--dynamic-epsilon", "1"), ("--dynamic-clip", "1"),
        ("--dynamic-statistics", "5"), ("--tune-tokens", "5"),
    ):  # fmt: skip
        assert refused("evaluate", classification_run, name, value) == (
            f"seqsru: expected {name} with a language model, found a classifier; leave it out"
        )


def test_a_temperature_of_lines_apart_is_chosen_on_lines_apart(run, language_run, tmp_path):
    asked = "--state", "separate", "--split", "validation"
    flags = (*asked, "--temperature", "tune", "--json", tmp_path / "o.json")
    status, out, err = run("evaluate", language_run, *flags)
    assert status == 0 and err.splitlines()[-1] == (
        "the values were chosen on this very text: what follows is no measure of another one"
    )
    seen = json.loads((tmp_path / "o.json").read_text())["tuning"]["seen"]
    for one in seen:  # each is what the flag gives
        given = run("evaluate", language_run, *asked, "--temperature", one["temperature"])[1]
        assert f"token_perplexity {one['token_perplexity']:.4f}" in given
    best = min(seen, key=lambda one: one["token_perplexity"])
    assert f"token_perplexity {best['token_perplexity']:.4f}" in out
    assert "chosen on this very text" not in run("evaluate", language_run, "--temperature", "tune")[2]


def test_the_text_of_the_statistics_is_in_the_signature(texts, run, tmp_path):
    for name in ("train.txt", "valid.txt", "test.txt"):
        shutil.copy(texts / name, tmp_path)
    assert run("train", write_config(tmp_path, LANGUAGE_MODEL))[0] == 0
    flags = ("--dynamic", "rms", "--dynamic-rate", "0.002", "--dynamic-decay", "0.02")
    flags = (*flags, "--dynamic-statistics", "5", "--dynamic-segment", "2")

    def signed():
        out = run("evaluate", tmp_path / "run", *flags)[1]
        return re.search(r"dynamic_statistics:(\d+)\|dynamic_text:(\w{12})\|", out).groups()

    count, before = signed()
    assert int(count) == 20  # a window of two steps and ten rows is the least
    words = (tmp_path / "train.txt").read_text().split("\n")
    (tmp_path / "train.txt").write_text("\n".join(reversed(words)))
    assert signed()[1] != before


def test_numbers_beyond_all_numbers_are_null_in_json(run, language_run, tmp_path):
    flags = ("--dynamic", "sgd", "--dynamic-rate", "1e9", "--dynamic-decay", "0", "--dynamic-clip", "0")
    status, out, _ = run("evaluate", language_run, *flags, "--json", tmp_path / "o.json")
    if status == 0:  # it may be refused as diverged

        def none(name):
            raise AssertionError(name)

        found = json.loads((tmp_path / "o.json").read_text(), parse_constant=none)
        assert ("perplexity inf" in out) == (found["perplexity"] is None)
    write_json(tmp_path / "p.json", {"a": [1.5, math.inf], "b": {"c": math.nan}})
    assert json.loads((tmp_path / "p.json").read_text()) == {"a": [1.5, None], "b": {"c": None}}
