"""Plots of arrays and scores: drawn, or refused with what is missing."""

import sys

import numpy as np
import pytest

from seqsru.errors import NotInstalled, Refused
from seqsru.evaluation.classification import ClassificationScore
from seqsru.evaluation.plots import SUFFIXES, new_figure, plot_attention, plot_confusion

WEIGHTS = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
SCORE = ClassificationScore(("HUM", "$x$", "rare"), ((41, 3, 0), (7, 1200, 1), (0, 0, 0)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_drawn(tmp_path, suffix):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    plot_attention(WEIGHTS, ["a", "$", "</s>"], ["b", "</s>"], tmp_path / f"attention{suffix}")
    plot_confusion(SCORE, tmp_path / f"confusion{suffix}")
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2


def test_the_confusion_matrix_says_what_it_shows(tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # text stays text
    plot_confusion(SCORE, tmp_path / "confusion.svg")
    drawn = (tmp_path / "confusion.svg").read_text()
    for text in (">gold<", ">predicted<", ">1200<", ">$x$<", f"accuracy {SCORE.accuracy:.4f}, macro F1 "):
        assert text in drawn


@pytest.mark.parametrize("weights, found", [(None, "none"), (WEIGHTS.T, r"an array of shape \(3, 2\)")])
def test_weights_for_other_labels(weights, found):
    message = f"weights: expected weights for 2 target and 3 source tokens, found {found}; translate a line"
    with pytest.raises(Refused, match=message):
        plot_attention(weights, ["a", "b", "</s>"], ["c", "</s>"], "plot.png")


def test_no_labels():
    with pytest.raises(Refused, match="weights for 0 target and 0 source tokens, found none"):
        plot_attention(None, [], [], "plot.png")


def test_another_suffix():
    with pytest.raises(
        Refused, match="plot: expected a file ending in .png, .svg, .pdf, found plot.txt; rename it"
    ):
        new_figure("plot.txt", width=1.0, height=1.0)


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (
        lambda path: plot_attention(WEIGHTS, ["a", "b", "</s>"], ["c", "</s>"], path),
        lambda path: plot_confusion(SCORE, path),
    ):
        with pytest.raises(NotInstalled, match=r'run: pip install "seqsru\[plot\]"'):
            draw(tmp_path / "plot.png")
