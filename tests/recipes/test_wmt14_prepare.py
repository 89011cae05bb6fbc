"""The WMT'14 recipe's preparation: filters on pairs, and plain text from the marked sample."""

import importlib
import json
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "wmt14"
STEMS = ("europarl-v7.de-en", "commoncrawl.de-en", "news-commentary-v9.de-en")


@pytest.fixture
def recipe(monkeypatch):
    """The recipe's modules by name, as its own scripts import them."""
    monkeypatch.syspath_prepend(str(RECIPE))
    yield importlib.import_module
    for name in ("prepare", "restore"):
        sys.modules.pop(name, None)


def corpora(folder, **texts):
    """Three parallel corpora, those not given with one good pair of their own."""
    for at, stem in enumerate(STEMS):
        pairs = texts.get(stem.partition("-")[0].partition(".")[0], [(f"Pair {at}.", f"Paar {at}.")])
        for language, lines in zip(("en", "de"), zip(*pairs)):
            (folder / f"{stem}.{language}").write_bytes(
                b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
            )


def run(recipe, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
    return recipe("prepare").main()


def test_filters_act_on_pairs_and_are_counted(recipe, monkeypatch, tmp_path, capsys):
    corpora(
        tmp_path,
        europarl=[
            ("Good morning.", "Guten Morgen."),
            ("", "Ein voller Satz ohne Quelle."),
            ("Not German at all.", "Not German at all."),
            ("Good morning.", "Guten Morgen."),
            (" Good morning. ", "Guten Tag."),
            ("word " * 121, "Wort " * 121),
            ("Short.", "Ein Satz, der sehr viel länger ist als seine Quelle."),
            ("Curly \u0093quotes\u0094", "Falsch kodiert"),
            (b"Latin \xe9", "Latein"),
        ],
        commoncrawl=[("Good morning.", "Guten Morgen."), ("One\u2028line.", "Eine Zeile.")],
    )
    out = tmp_path / "out"
    assert run(recipe, monkeypatch, tmp_path, out) == 0
    assert (out / "train.en").read_bytes().decode().split("\n") == [
        "Good morning.",
        "Good morning.",
        "One\u2028line.",
        "Pair 2.",
        "",
    ]
    assert (out / "train.de").read_bytes().decode().split("\n") == [
        "Guten Morgen.",
        "Guten Tag.",
        "Eine Zeile.",
        "Paar 2.",
        "",
    ]
    report = json.loads((out / "report.json").read_text())
    assert report["kept"] == 4
    assert report["corpora"][0]["skipped"] == {
        "not UTF-8, skipped": 1,
        "empty, skipped": 1,
        "not translated, skipped": 1,
        "seen before, skipped": 1,
        "longer than 120 words, skipped": 1,
        "of very different lengths, skipped": 1,
        "with control characters, skipped": 1,
    }
    assert report["corpora"][0]["first_lines"]["seen before, skipped"] == [4]
    assert report["corpora"][1]["skipped"] == {"seen before, skipped": 1}
    assert "9 lines; 1 not UTF-8, skipped (line 9); 1 empty, skipped (line 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda folder: (folder / "commoncrawl.de-en.de").unlink(),
            "expected a text file at .*commoncrawl.de-en.de, found",
        ),
        (
            lambda folder: (folder / "commoncrawl.de-en.de").write_text("a\nb\n"),
            "as many lines in .*, found 1 and 2; align",
        ),
    ],
)
def test_bad_folders(recipe, monkeypatch, tmp_path, capsys, spoil, message):
    import re

    corpora(tmp_path)
    spoil(tmp_path)
    assert run(recipe, monkeypatch, tmp_path, tmp_path / "out") == 2
    assert re.search("^prepare.py: .*" + message, capsys.readouterr().err, re.M)


def test_nothing_left(recipe, monkeypatch, tmp_path, capsys):
    corpora(tmp_path, europarl=[("", "")], commoncrawl=[("a", "a")], news=[("b", "b")])
    assert run(recipe, monkeypatch, tmp_path, tmp_path / "out") == 2
    assert "expected pairs in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "language, marked, plain",
    [
        ("en", "parliament￨C &apos;s￨L role￨L ,￨N and￨L mine￨L .￨N", "Parliament's role, and mine."),
        ("en", "&quot;￨N i￨U refuse￨L ,￨N &quot;￨N he￨C said￨L .￨N", '"I refuse," He said.'),
        ("en", "the￨C eu￨U (￨N see￨L &#91;￨N 1￨L &#93;￨N )￨N r&amp;d￨M !￨N", "The EU (see [1]) R&D!"),
        ("en", "at￨C 19￨L :￨N 45￨L for￨L $￨N 5￨L ;￨N note￨L :￨N end￨L", "At 19:45 for $5; note: end"),
        ("en", "euro-mediterranean￨M (if￨M", "Euro-Mediterranean (If"),
        (
            "de",
            "österreich￨M und￨L änderung￨M :￨N ein￨L &quot;￨N mini￨C &quot;￨N -design￨L",
            'Österreich und Änderung: ein "Mini"-design',
        ),
        ("de", "südafrika￨C &quot;￨N ,￨N sagte￨L sie￨L", 'Südafrika", sagte sie'),
        ("de", "", ""),
    ],
)
def test_restored_text(recipe, language, marked, plain):
    assert recipe("restore").restore(marked, language=language) == plain


@pytest.mark.parametrize("language, side, share", [("en", "src", 0.92), ("de", "tgt", 0.75)])
def test_most_lines_are_restored_exactly(recipe, mirror, language, side, share):
    """The sample's test set is newstest2014, whose plain text is known; what differs is quotes and mixed
    case."""
    restore = recipe("restore").restore
    marked = (mirror / "wmt-10k" / f"{side}-test-case.txt").read_text(encoding="utf-8").split("\n")[:-1]
    plain = (mirror / "wmt" / f"newstest2014-official.{language}").read_text("utf-8").split("\n")[:-1]
    assert len(marked) == len(plain) == 2737
    same = sum(restore(line, language=language) == known for line, known in zip(marked, plain))
    assert same / len(plain) > share


def test_sample(recipe, mirror, monkeypatch, tmp_path):
    assert run(recipe, monkeypatch, "--sample", mirror / "wmt-10k", tmp_path) == 0
    english, german = (
        (tmp_path / f"train.{language}").read_text("utf-8").split("\n")[:-1] for language in ("en", "de")
    )
    kept = json.loads((tmp_path / "report.json").read_text())["kept"]
    assert len(english) == len(german) == kept > 9_500
    assert english[0].startswith(
        "It is not acceptable that, with the help of the national bureaucracies, Parliament's"
    )
    assert not any("￨" in line or "&quot;" in line for line in english + german)
