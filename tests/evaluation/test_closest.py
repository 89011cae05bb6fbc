"""Which translation is closest to a reference."""

import re

import pytest
import sacrebleu

from seqsru.errors import Refused
from seqsru.evaluation.closest import Closest

REFERENCE = "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt."
TEXTS = [
    "",
    "Ein Mann.",
    "Ein Mann mit einem Hut, der auf etwas starrt.",
    "Ein Mann mit einem orangefarbenen Hut starrt etwas an.",
    "Mann Ein Hut orangefarbenen einem mit, anstarrt etwas der.",
]


@pytest.mark.parametrize("by, score", [("chrf", sacrebleu.sentence_chrf), ("bleu", sacrebleu.sentence_bleu)])
def test_the_best_by_sacrebleus_score_of_a_sentence(by, score):
    closest = Closest(by)
    for reference in (REFERENCE, "Ein Mann.", "Hut", "", TEXTS[2]):
        scores = [score(text, [reference]).score for text in TEXTS]
        assert closest(TEXTS, reference) == scores.index(max(scores))
        assert closest(TEXTS[::-1], reference) == scores[::-1].index(max(scores))
    assert closest(TEXTS, REFERENCE) == 3
    assert closest([*TEXTS, REFERENCE, REFERENCE], REFERENCE) == 5  # of equals the likelier, which is first
    assert closest(["ganz anderes"], REFERENCE) == 0


def test_the_two_may_differ():
    texts, reference = ["a house by the sea", "houses at the seaside"], "a houses at seaside by the sea"
    assert {Closest(by)(texts, reference) for by in ("chrf", "bleu")} == {0, 1}


def test_another_name():
    sentence = "pick: expected one of chrf, bleu, found 'blue'; did you mean 'bleu'?"
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        Closest("blue")
