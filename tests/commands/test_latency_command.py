"""``seqsru latency``."""

import json
from pathlib import Path

import seqsru

ROOT = Path(seqsru.__file__).parent.parent


def test_latency_of_a_language_model(texts, run, language_run, tmp_path):
    status, out, err = run(
        "latency",
        language_run,
        texts / "test.txt",
        "--first",
        "2",
        "--length",
        "3",
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
    report = json.loads((tmp_path / "l.json").read_text())
    assert report["protocol"]["lines"] == 2 and report["signatures"] == [out.splitlines()[-1]]
    assert "|data:test.txt|lines:2|decoder:sampling|batch:1|length:3|threads:1|" in out.splitlines()[-1]
    assert "later tokens" in out and (tmp_path / "l.svg").stat().st_size > 1000


def test_latency_of_two_translation_models(texts, run, refused, translation_run, language_run, tmp_path):
    status, out, err = run(
        "latency",
        translation_run,
        "--against",
        translation_run,
        "--first",
        "2",
        "--beam",
        "1",
        "--length",
        "4",
        "--repeats",
        "2",
        "--json",
        tmp_path / "l.json",
    )
    assert status == 0 and err == "" and "P50 of later tokens" in out
    assert len(json.loads((tmp_path / "l.json").read_text())["signatures"]) == 2
    assert "|data:valid.src|lines:2|decoder:beam 1|batch:1|length:4|threads:1|" in out.splitlines()[-1]
    assert refused("latency", translation_run, "--first", "0") == (
        "seqsru: expected --first of at least 1, found 0; leave it out"
    )
    assert refused("latency", language_run, "--beam", "2") == (
        "seqsru: expected --beam with a recogniser or a translation model, found a language model; "
        "leave it out"
    )
    assert refused("latency", language_run, "--plot", "latency.txt") == (
        "seqsru: plot: expected a file ending in .png, .svg, .pdf, found latency.txt; rename it"
    )
