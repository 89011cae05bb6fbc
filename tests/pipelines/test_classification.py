"""The classification pipeline: a label for each line, the same bits whatever is beside it."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data.examples import Labels
from seqsru.data.vocabulary import Words
from seqsru.errors import Refused
from seqsru.evaluation import latency
from seqsru.models.classifier import Classifier, Convolution
from seqsru.pipelines.classification import Classification, ClassificationPipeline, predict

WORDS = "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf und mal plus minus mehr als".split()


def sentences(count, seed=0, longest=30):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


LINES = ["", *sentences(60), "   ", "ein", *sentences(9, seed=2, longest=9), "\t", "\u00a0", "unbekannt ein"]
READERS = [
    *((pooling, True, 20) for pooling in ("last", "max", "mean", "attention")),
    *((pooling, False, 13) for pooling in ("mean", "attention")),
    ("convolution", False, 7),
]


def make(reader="max", both=True, size=20, cell="sru", **options):
    torch.manual_seed(0)
    words, labels = Words.train([" ".join(WORDS)]), Labels(["gut", "naja", "schlecht"])
    if reader == "convolution":
        encoder, reader = Convolution(24, widths=(1, 3, 5), features=size), "max"
    else:
        encoder = Stack(cell, 24, size, 2, bidirectional=both)
    model = Classifier(
        words.size, labels.size, encoder, 24, pooling=reader, word_dropout=0.5, output_dropout=0.5
    )
    with torch.no_grad():  # untrained models say nearly the same of every line
        model.embedding.weight *= 10
        model.output.weight *= 10
        if model.query is not None:
            model.query.normal_()
    return ClassificationPipeline(model, words, labels, **options)


def facts(found):
    """Everything that must not change by a bit."""
    return found.label, dict(found.probabilities)


@pytest.mark.parametrize("reader, both, size", READERS)
def test_neighbours_change_nothing(reader, both, size, monkeypatch):
    """Alone, in other batches, in another order: the same label and, to the bit, the same probabilities."""
    pipeline = make(reader, both, size)
    expected = [facts(found) for found in pipeline.classify(LINES)]
    assert len({str(fact) for fact in expected}) > 60
    assert [facts(found) for line in LINES for found in pipeline.classify([line])] == expected
    for count in (2, 7):
        some = [LINES[at : at + count] for at in range(0, len(LINES), count)]
        assert [facts(found) for lines in some for found in pipeline.classify(lines)] == expected
    order = list(range(len(LINES)))
    random.Random(1).shuffle(order)
    shuffled = pipeline.classify([LINES[index] for index in order])
    assert [facts(shuffled[order.index(index)]) for index in range(len(LINES))] == expected
    monkeypatch.setattr("seqsru.pipelines.classification.READ_AT_ONCE", 40)
    assert [facts(found) for found in pipeline.classify(LINES)] == expected


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("reader", ["mean", "attention"])
def test_a_line_in_a_large_batch(threads, reader):
    pipeline, line = make(reader, size=150), sentences(1, seed=8)[0]
    (alone,) = pipeline.classify([line])
    found = pipeline.classify([line] * 300)
    assert len({tuple(facts(one)[1].values()) for one in found}) == 1 and facts(found[0]) == facts(alone)


def test_probabilities_are_the_models():
    pipeline, line = make(), "ein zwei drei fremd"
    ids = torch.tensor(pipeline.tokenizer.encode(line)).unsqueeze(1)
    with torch.no_grad():
        features = pipeline.model(ids, torch.ones_like(ids, dtype=torch.bool))
        expected = pipeline.model.output(features).softmax(-1)[0]
    (found,) = pipeline.classify([line])
    assert list(found.probabilities) == ["gut", "naja", "schlecht"]
    assert list(found.probabilities.values()) == pytest.approx(expected.tolist(), rel=1e-5)
    assert sum(found.probabilities.values()) == pytest.approx(1.0)
    assert found.label == max(found.probabilities, key=found.probabilities.get)


def test_of_equals_the_first():
    pipeline = make()
    torch.nn.init.zeros_(pipeline.model.output.weight)
    torch.nn.init.zeros_(pipeline.model.output.bias)
    assert pipeline.classify(["ein"])[0].label == "gut"
    torch.nn.init.constant_(pipeline.model.output.bias[1:], 1.0)
    assert pipeline.classify(["ein"])[0].label == "naja"


def test_empty_lines_have_no_label():
    found = make().classify(LINES)
    assert len(found) == len(LINES)
    for line, one in zip(LINES, found):
        assert (one == Classification("", {})) == (not line.strip())
    assert make().classify([]) == [] and make().classify(["", " "]) == [Classification("", {})] * 2


def test_texts_without_tokens_have_the_classes_of_the_bias():
    """A subword tokenizer can leave nothing of a line that is more than white space."""
    model = make().model
    expected = model.output.bias.log_softmax(-1)
    found = predict(model, [[], [2, 3], []])
    assert found.shape == (3, 3) and found.dtype == torch.float32 and not found.requires_grad
    for row in (0, 2):
        torch.testing.assert_close(found[row], expected)
    assert torch.equal(found[1:2], predict(model, [[2, 3]])) and not torch.allclose(found[1], expected)
    assert torch.equal(predict(model, [[]]), found[:1]) and predict(model, []).shape == (0, 3)


def test_lower_case_where_it_learned_lower_case():
    lines, low = ["EIN Zwei FÜNF", "ein"], ["ein zwei fünf", "ein"]
    expected = [facts(found) for found in make().classify(low)]
    assert [facts(found) for found in make(lowercase=True).classify(lines)] == expected
    assert facts(make().classify(lines)[0]) != expected[0]


def test_as_plain_values():
    found = Classification("pos", {"neg": 0.03125, "pos": 0.96875})
    assert found.line() == "pos\tneg=0.0312\tpos=0.9688"
    assert found.as_dict() == {"label": "pos", "probabilities": {"neg": 0.03125, "pos": 0.96875}}
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()
    empty = Classification("", {})
    assert empty.line() == "" and empty.as_dict() == {"label": "", "probabilities": {}}


def test_nothing_can_be_changed():
    pipeline = make()
    assert not pipeline.model.training
    for name in ("model", "tokenizer", "labels", "lowercase", "more"):
        with pytest.raises(AttributeError):
            setattr(pipeline, name, None)
    with pytest.raises(AttributeError):
        pipeline.classify(["ein"])[0].label = "gut"


def test_threads_share_it():
    """Each gets what it would alone, to the bit."""
    pipeline = make("attention")

    def work(start):
        return [facts(found) for found in pipeline.classify(LINES[start:])]

    alone = [work(start) for start in (0, 1, 20)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, [0, 1, 20] * 4)) == alone * 4


def test_it_is_timed():
    pipeline = make()
    report = latency.measure([pipeline.timed("sru")], ["ein zwei", "drei"], repeats=2)
    (system,) = report["systems"]
    assert system["decoder"] == "classifier" and system["encoding"]["n"] == 4


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"tokenizer": Words.train(["a"])},
            "^tokenizer: expected a tokenizer of 20 types, found 3; use what the model was trained with$",
        ),
        (
            {"labels": Labels(["a", "b"])},
            "^labels: expected 3 labels, found 2; use what the model was trained with$",
        ),
    ],
)
def test_parts_of_another_model(change, message):
    pipeline = make()
    parts = {"model": pipeline.model, "tokenizer": pipeline.tokenizer, "labels": pipeline.labels}
    with pytest.raises(Refused, match=message):
        ClassificationPipeline(**{**parts, **change})
