"""The shares of lines in a number, and the paired bootstrap over them."""

import json
import random

import numpy as np
import pytest

from seqsru.errors import Refused
from seqsru.evaluation.answer_score import Asked, answer_score, paired_answers
from seqsru.evaluation.bleu import paired_bootstrap, translation_scores
from seqsru.evaluation.classification import classification_score
from seqsru.evaluation.error_rate import error_items, error_rates
from seqsru.evaluation.items import (
    Items,
    compare,
    label_items,
    read_shares,
    shares_of,
    translation_items,
)

WORDS = "the cat dog sat on a mat and ran to house".split()


def lines(seed, count=30):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(count)]


def noisy(texts, seed, rate):
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < rate else word for word in text.split())
        for text in texts
    ]


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_translations_compare_as_sacrebleus_own_bootstrap(name):
    references = lines(1)
    one, other = noisy(references, 2, 0.35), noisy(references, 3, 0.3)
    items = [translation_items(name, texts, [references], "13a", "x") for texts in (one, other)]
    scores = [translation_scores(texts, references, [name])[0].value for texts in (one, other)]
    assert [one.value() for one in items] == pytest.approx(scores, abs=1e-9)
    (expected,) = paired_bootstrap(one, other, references, [name])
    found = compare([items[0]], [items[1]])
    assert (found.baseline, found.system) == pytest.approx((expected.baseline, expected.system), abs=1e-9)
    assert found.p_value == expected.p_value < 1.0


def test_answers_compare_as_their_own_bootstrap():
    right = lines(4)
    asked = [Asked(str(n), (text,)) for n, text in enumerate(right)]
    scores = [
        answer_score(asked, {str(n): text for n, text in enumerate(noisy(right, seed, 0.4))})
        for seed in (5, 6)
    ]
    expected = paired_answers(*scores)[1]
    sums = [np.stack([score.by_question[:, 1], np.ones(score.total)], 1) for score in scores]
    found = compare(*[[Items("f1", "percent", True, one, "x")] for one in sums])
    assert (found.baseline, found.system, found.p_value) == pytest.approx(
        (expected.baseline, expected.system, expected.p_value)
    )


def test_labels_and_errors_add_up_to_their_scores():
    draw = random.Random(7)
    gold, predicted = (draw.choices("abcd", k=50) for _ in range(2))
    score = classification_score(gold, predicted, list("abcde")).values()
    for name in ("accuracy", "macro_f1"):
        assert label_items(name, gold, predicted, "abcde", "x").value() == pytest.approx(100 * score[name])
    said, written = lines(8), noisy(lines(8), 9, 0.3)
    for name, rate in zip(("wer", "cer"), error_rates(said, written)):
        assert error_items(name, said, written, "x").value() == pytest.approx(rate.counts.rate)


def test_a_file_of_several_measures_is_read_as_it_was_written():
    made = [label_items(name, list("aab"), list("aba"), "ab", "x") for name in ("macro_f1", "accuracy")]
    written = json.loads(json.dumps(shares_of(made)))
    assert list(read_shares(written)) == ["macro_f1", "accuracy"]
    assert read_shares(written)["accuracy"].value() == made[1].value()
    assert "further" not in shares_of(made[:1]) and list(read_shares(shares_of(made[:1]))) == ["macro_f1"]
    with pytest.raises(Refused) as refused:
        read_shares({**written, "further": 3})
    assert str(refused.value) == "expected a list of further measures, found a int; check the file"
    with pytest.raises(Refused, match="^expected the shares of lines in a number, found something else "):
        read_shares({**written, "further": ["accuracy"]})


def test_several_runs_are_resampled_alike_on_one_text_and_by_themselves_on_others():
    draw = np.random.default_rng(1)

    def runs(shift, texts):
        return [
            Items(
                "accuracy", "percent", True, np.stack([draw.random(20) < 0.5 + shift, np.ones(20)], 1), text
            )
            for text in texts
        ]

    for texts in (["x", "x"], ["x", "y"]):
        one, other = runs(0.0, texts), runs(0.2, texts)
        found = compare(one, other)
        generator, choices = np.random.default_rng(12345), {}
        for text in texts:
            if text not in choices:
                choices[text] = generator.choice(20, size=(1000, 20), replace=True)
        means = []
        for side in (one, other):
            values = [100 * items.sums[choices[items.text], 0].mean(1) for items in side]
            means.append((values[0] + values[1]) / 2)
        between = np.abs(means[1] - means[0])
        real = abs(
            np.mean([100 * i.sums[:, 0].mean() for i in other])
            - np.mean([100 * i.sums[:, 0].mean() for i in one])
        )
        assert found.p_value == ((between - between.mean() >= real - 1e-9).sum() + 1) / 1001
        assert (found.low, found.high) == pytest.approx(
            tuple(np.percentile(means[1] - means[0], [2.5, 97.5]))
        )


def test_perplexity_and_bits():
    sums = np.array([[2.0, 3.0], [4.0, 1.0]])
    assert Items("perplexity", "exp", False, sums, "x").value() == pytest.approx(np.exp(1.5))
    assert Items("bits_per_byte", "bits", False, sums, "x").value() == pytest.approx(1.5 / np.log(2))
    assert Items("perplexity", "exp", False, sums * [[1e3, 1]], "x").value() == float("inf")


def test_equal_systems_do_not_differ_and_others_are_not_compared():
    items = label_items("accuracy", "aab", "aba", "ab", "x")
    assert compare([items], [items]).p_value == 1.0
    assert Items.from_dict(json.loads(json.dumps(items.as_dict()))).value() == items.value()
    with pytest.raises(
        Refused, match=r"^expected the same lines for both systems, found y and x; compare systems on one"
    ):
        compare([items], [label_items("accuracy", "aab", "aba", "ab", "y")])
    with pytest.raises(
        Refused, match=r"^expected the same measure for both systems, found macro_f1 and accuracy; "
    ):
        compare([items], [label_items("macro_f1", "aab", "aba", "ab", "x")])
    with pytest.raises(
        Refused, match=r"^expected the same number of lines for both systems, found 2 and 3; "
    ):
        compare([items], [label_items("accuracy", "aa", "ab", "ab", "x")])
    with pytest.raises(
        Refused, match=r"^system: expected as many runs of the one as of the other, one at least, "
    ):
        compare([items], [])
    with pytest.raises(
        Refused, match=r"^expected the shares of lines in a number, found something else \('sums'\)"
    ):
        Items.from_dict({})
