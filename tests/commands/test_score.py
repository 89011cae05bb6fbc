"""``seqsru score``."""

import re
from pathlib import Path

import seqsru

ROOT = Path(seqsru.__file__).parent.parent


def test_score_lines(texts, run, language_run):
    scores = seqsru.load(language_run).score(["one two", "", "three", " ", "seven six"])
    expected = [f"{value:.6f}" for value in scores]
    text = (texts / "lines").read_text()
    for found in (
        run("score", language_run, stdin=text),
        run("score", language_run, texts / "lines"),
        run("score", language_run, "-", stdin=text),
    ):
        assert found == (0, "".join(line + "\n" for line in expected), "")


def test_score_translations(texts, run, refused, translation_run):
    pipeline = seqsru.load(translation_run)
    sources, targets = ((texts / f"test.{side}").read_text().splitlines() for side in ("src", "tgt"))
    expected = "".join(f"{value:.6f}\n" for value in pipeline.score(sources, targets))
    assert run("score", translation_run, texts / "test.src", texts / "test.tgt") == (0, expected, "")
    assert refused("score", translation_run, texts / "test.src") == (
        "seqsru: expected 2 files, found 1; a translation model takes SOURCE and TARGET"
    )
    assert re.fullmatch(
        r"seqsru: expected as many lines in \S+/test.src as in \S+/valid.tgt, found 6 and "
        r"12; .*",
        refused("score", translation_run, texts / "test.src", texts / "valid.tgt"),
    )
