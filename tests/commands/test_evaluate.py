"""``seqsru evaluate``."""

import json
import re
import warnings
from pathlib import Path

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config

import seqsru
from seqsru.training import checkpoints

ROOT = Path(seqsru.__file__).parent.parent


def test_evaluate_a_language_model(texts, run, language_run, tmp_path):
    status, out, err = run("evaluate", language_run, "--json", tmp_path / "out.json")
    assert status == 0 and err == ""
    found = json.loads((tmp_path / "out.json").read_text())
    assert out.splitlines()[:4] == [
        f"{name} {found[name]:.4f}"
        for name in ("perplexity", "token_perplexity", "bits_per_token", "bits_per_byte")
    ]
    signature = out.splitlines()[4]
    assert signature == found["signature"] and found["data"] == str(texts / "test.txt")
    assert re.fullmatch(
        r"seqsru \S+\|cell:sru-v2\|layers:2\|params:\S+?\|data:test.txt\|"
        rf"tokens:{found['tokens']}\|unknown:0\|state:carried\|text:\w{{12}}\|weights:step-\d+\|"
        r"model:\w{12}\|seed:1\|"
        r"torch:[^|]+\|device:cpu\|threads:\d+",
        signature,
    )
    assert "|data:valid.txt|" in run("evaluate", language_run, "--split", "valid")[1]
    alone = run("evaluate", language_run, texts / "test.txt", "--state", "separate")[1]
    assert "|state:separate|" in alone and alone.splitlines()[0] != out.splitlines()[0]


def test_evaluate_tells_of_lines_it_left_out(texts, run, refused, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"one two\n\xff\n")
    path = write_config(texts, LANGUAGE_MODEL)
    assert run("train", path, f"output={tmp_path}/run", "data.on_bad_line=skip", "training.epochs=1")[0] == 0
    status, out, err = run("evaluate", tmp_path / "run", tmp_path / "bad.txt")
    assert status == 0 and "|tokens:3|" in out
    assert err == f"{tmp_path}/bad.txt: 2 lines; 1 not UTF-8, skipped (line 2)\n"


def test_evaluate_a_translation_model(texts, run, translation_run, tmp_path):
    status, out, err = run(
        "evaluate",
        translation_run,
        texts / "test.src",
        texts / "test.tgt",
        "--beam",
        "1",
        "--json",
        tmp_path / "out.json",
        "--translations",
        tmp_path / "out.txt",
        "--baseline",
        texts / "test.tgt",
    )
    assert status == 0 and err == ""
    found = json.loads((tmp_path / "out.json").read_text())
    lines = out.splitlines()
    assert lines[0].startswith(f"BLEU|{found['signatures']['bleu']} = {found['bleu']:.2f} ")
    assert lines[1].startswith(f"chrF2|{found['signatures']['chrf']} = {found['chrf']:.2f}")
    assert lines[2] == found["signature"]
    assert re.search(
        r"\|cell:sru-v2\+gru\|layers:1\+1\|attention:dot\|params:\S+?\|data:test.src\|lines:6\|"
        r"beam:1\|penalty:power\|alpha:1.0\|coverage:0.0\|stop:first\|length_factor:2.0\|length_offset:10\|"
        r"max_source:1024\|guard:none\|rules:none\|text:\w{12}\|weights:step-\d+\|model:\w{12}\|",
        lines[2],
    )
    assert lines[3].startswith("BLEU|") and "100.00 -> " in lines[3] and len(lines) == 5
    assert found["comparison"]["bleu"]["baseline"] == pytest.approx(100)
    translations = (tmp_path / "out.txt").read_text()
    assert translations == run("translate", translation_run, texts / "test.src", "--beam", "1")[1]
    only = run("evaluate", translation_run, "--split", "valid", "--metrics", "ter")[1].splitlines()
    assert only[0].startswith("TER|") and len(only) == 2


def test_what_evaluate_and_score_refuse(texts, refused, language_run, translation_run):
    assert refused("evaluate", translation_run) == (
        "seqsru: expected data.test in the configuration, found none; name SOURCE and REFERENCE, "
        "or take --split validation"
    )
    assert refused("evaluate", language_run, texts / "lines", "--split", "valid") == (
        "seqsru: expected files or --split, found both; leave one out"
    )
    assert refused("evaluate", language_run, texts / "lines", texts / "lines") == (
        "seqsru: expected 1 file, found 2; a language model takes TEXT"
    )
    assert refused("evaluate", language_run, "--beam", "2") == (
        "seqsru: expected --beam with a recogniser or a translation model, found a language model; "
        "leave it out"
    )
    assert refused("evaluate", translation_run, "--split", "valid", "--state", "carried") == (
        "seqsru: expected --state with a language model, found a translation model; leave it out"
    )
    assert "metrics: expected one of bleu, chrf, ter, found 'blue'" in refused(
        "evaluate", translation_run, "--split", "valid", "--metrics", "blue"
    )
    assert re.search(
        r"expected as many lines in \S+/lines as in \S+/valid.tgt, found 5 and 12; compare ",
        refused("evaluate", translation_run, "--split", "valid", "--baseline", texts / "lines"),
    )
    assert refused("score", language_run, "a", "b") == (
        "seqsru: expected 0 or 1 files, found 2; a language model takes TEXT, or stdin"
    )
    assert refused("generate", translation_run, "--prompt", "one") == (
        "seqsru: expected a run of a language model, found one of a translation model; use "
        "this one with evaluate, score, translate, distill, latency"
    )
    assert refused("generate", language_run, "--prompt", "one", "--temperature", "0").startswith(
        "seqsru: temperature: expected a finite number above 0, found 0.0"
    )


def test_a_damaged_checkpoint_is_told(texts, run, tmp_path):
    assert run("train", write_config(texts, LANGUAGE_MODEL), f"output={tmp_path}/run")[0] == 0
    newest = checkpoints.paths(tmp_path / "run" / "checkpoints")[-1]
    (newest / "model.safetensors").write_bytes(b"damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, out, err = run("score", tmp_path / "run", "--checkpoint", "last", stdin="one\n")
    assert status == 0 and len(out.splitlines()) == 1
    assert re.fullmatch(
        rf"seqsru: warning: expected \S*{newest.name}/model.safetensors with sha256 .*\n", err
    )
