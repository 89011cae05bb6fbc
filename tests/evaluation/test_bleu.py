"""sacrebleu's own numbers and signatures, passed on unchanged."""

import json
import os

import pytest
import sacrebleu

from seqsru.errors import Refused
from seqsru.evaluation.bleu import paired_bootstrap, translation_scores

REFERENCES = [
    "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
    "Ein Boston Terrier läuft über saftig-grünes Gras vor einem weißen Zaun.",
    "Ein Mädchen in einem Karateanzug bricht ein Brett mit einem Tritt.",
    "Fünf Leute in Winterjacken und mit Helmen stehen im Schnee.",
]
GOOD = [
    "Ein Mann mit einem orangefarbenen Hut, der auf etwas starrt.",
    "Ein Boston Terrier läuft über grünes Gras vor einem weißen Zaun.",
    "Ein Mädchen im Karateanzug bricht ein Brett mit einem Tritt.",
    "Fünf Leute in Winterjacken mit Helmen stehen im Schnee.",
]
BAD = ["Ein Mann.", "", "Ein Brett bricht ein Mädchen in einem Anzug.", "Leute stehen im Schnee herum."]


def test_scores_are_sacrebleus():
    bleu, chrf, ter = translation_scores(GOOD, REFERENCES, ["bleu", "chrf", "ter"])
    assert bleu.value == sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score
    assert chrf.value == sacrebleu.corpus_chrf(GOOD, [REFERENCES]).score
    assert ter.value == sacrebleu.corpus_ter(GOOD, [REFERENCES]).score
    assert (bleu.name, chrf.name, ter.name) == ("BLEU", "chrF2", "TER")
    assert bleu.signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert bleu.line.startswith(f"BLEU|{bleu.signature} = {bleu.value:.2f} ")


def test_perfect_translation():
    (score,) = translation_scores(REFERENCES, REFERENCES)
    assert score.value == pytest.approx(100.0)


def test_paired_bootstrap(monkeypatch):
    """The seed is the house's, whatever the environment says, and the environment stays as it was."""
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    bleu, chrf = paired_bootstrap(BAD * 10, GOOD * 10, REFERENCES * 10, ["bleu", "chrf"])
    assert os.environ["SACREBLEU_SEED"] == "7"
    assert (bleu.name, chrf.name) == ("BLEU", "chrF2")
    assert bleu.baseline < bleu.system and bleu.p_value < 0.01
    assert "bs:1000|seed:12345" in bleu.signature
    assert abs(bleu.system_interval[0] - bleu.system) < 3 * bleu.system_interval[1]
    assert bleu.line.startswith(f"BLEU|{bleu.signature}: {bleu.baseline:.2f} -> {bleu.system:.2f} (+")
    monkeypatch.delenv("SACREBLEU_SEED")
    assert paired_bootstrap(BAD * 10, GOOD * 10, REFERENCES * 10)[0] == bleu
    assert "SACREBLEU_SEED" not in os.environ
    plain = json.loads(json.dumps(bleu.as_dict()))
    assert plain == bleu.as_dict() and plain["system_interval"] == list(bleu.system_interval)


def test_a_system_does_not_beat_itself():
    (same,) = paired_bootstrap(GOOD, GOOD, REFERENCES)
    assert same.p_value == 1.0 and same.system == same.baseline


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: translation_scores(GOOD[:3], REFERENCES),
            "references: expected a reference for each of the 3 lines of the translations, found 4",
        ),
        (lambda: paired_bootstrap(GOOD, BAD[:2], REFERENCES), "each of the 2 lines of the system, found 4"),
        (lambda: translation_scores([], []), "at least one line to score, found none"),
        (
            lambda: translation_scores(GOOD, REFERENCES, ["meteor"]),
            "metrics: expected one of bleu, chrf, ter, found 'meteor'",
        ),
    ],
)
def test_impossible_input(call, message):
    with pytest.raises(Refused, match=message):
        call()
