"""The translation pipeline: one line out for each line in, the same whatever is beside it."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data import Words
from seqsru.decoding import Decoding, ForbiddenTokens, MinimumLength
from seqsru.errors import Refused
from seqsru.evaluation import latency
from seqsru.evaluation.plots import plot_attention
from seqsru.models import Decoder, Translator
from seqsru.pipelines.translation import TranslationPipeline

WORDS = "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf und mal plus minus mehr als".split()


def sentences(count, seed=0, longest=20):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def make(cell="sru", attention="dot", **options):
    torch.manual_seed(0)
    tokenizer = Words.train([" ".join(WORDS)])
    encoder = Stack(cell, 24, 20, 2, bidirectional=True)
    decoder = Decoder(cell, 24, 40, 32, 2, attention=attention)
    model = Translator(tokenizer.size, tokenizer.size, encoder, decoder, 24)
    with torch.no_grad():  # untrained models do not end by themselves, nor look at the source much
        model.source_embedding.weight *= 3
        model.output_bias[tokenizer.eos] = 1.5
    return TranslationPipeline(model, tokenizer, tokenizer, **options)


LINES = ["", *sentences(6), "   ", "ein", *sentences(5, seed=2), "\t", "unbekannt ein"]
SHORT = Decoding(length_factor=1.0, length_offset=2)


def facts(translation):
    """Everything that must not change by a bit."""
    return (
        translation.text,
        translation.tokens,
        translation.log_prob,
        translation.score,
        [facts(other) for other in translation.alternatives],
    )


@pytest.mark.parametrize(
    "cell, attention, beam, stop",
    [
        ("sru", "dot", 1, "first"),
        ("sru", "dot", 4, "first"),
        ("sru", "additive", 5, "exact"),
        ("gru", "dot", 3, "all"),
    ],
)
def test_batches_change_nothing(cell, attention, beam, stop):
    """Alone, in other batches, in another order: the same text and, to the bit, the same scores."""
    pipeline = make(cell, attention, decoding=SHORT)
    options = {"beam": beam, "stop": stop, "n_best": min(beam, 2)}
    expected = [facts(t) for t in pipeline.translate(LINES, **options)]
    assert len({fact[0] for fact in expected}) > 4
    assert [facts(t) for line in LINES for t in pipeline.translate([line], **options)] == expected
    for batch in ({"batch_size": 3}, {"batch_size": 48, "batch_by": "tokens"}):
        assert [facts(t) for t in pipeline.translate(LINES, **options, **batch)] == expected
    order = list(range(len(LINES)))
    random.Random(1).shuffle(order)
    shuffled = pipeline.translate([LINES[index] for index in order], **options)
    assert [facts(shuffled[order.index(index)]) for index in range(len(LINES))] == expected


def test_scores_do_not_depend_on_the_batch(monkeypatch):
    pipeline, targets = make(), sentences(len(LINES), seed=5)
    expected = pipeline.score(LINES, targets)
    assert [pipeline.score([line], [target])[0] for line, target in zip(LINES, targets)] == expected
    monkeypatch.setattr("seqsru.pipelines.eager.SCORED_AT_ONCE", 40)
    assert pipeline.score(LINES[::-1], targets[::-1])[::-1] == expected


def test_a_translation_scores_what_the_search_says():
    """The steps of the search and one pass over the whole translation agree, for n-best and unknown words."""
    pipeline = make(decoding=SHORT)
    translations = pipeline.translate(LINES, beam=4, n_best=4)
    for line, translation in zip(LINES, translations):
        if line.strip():
            found = [translation, *translation.alternatives]
            scores = pipeline.score([line] * len(found), [t.text for t in found])
            for one, score in zip(found, scores):
                assert one.log_prob == pytest.approx(score, abs=1e-5 * max(1, abs(score)))
                assert one.score == pytest.approx(one.log_prob / (len(one.tokens) + 1), rel=1e-12)


def test_score_is_the_models():
    pipeline = make()
    tokenizer, model = pipeline.target_tokenizer, pipeline.model
    source, target = "ein zwei drei", "vier fünf"
    ids = torch.tensor([*tokenizer.encode(source), tokenizer.eos]).unsqueeze(1)
    out = [*tokenizer.encode(target), tokenizer.eos]
    with torch.no_grad():
        features = model(ids, None, torch.tensor([tokenizer.bos, *out[:-1]]).unsqueeze(1))
        log_probs = model.logits(features)[:, 0].double().log_softmax(-1)
    expected = sum(float(log_probs[step, token]) for step, token in enumerate(out))
    assert pipeline.score([source], [target]) == [pytest.approx(expected, abs=1e-5)]
    assert pipeline.score([], []) == []


def test_empty_lines_stay_empty():
    translations = make().translate(LINES, attention=True)
    assert len(translations) == len(LINES)
    for line, translation in zip(LINES, translations):
        if not line.strip():
            assert (translation.text, translation.tokens, translation.log_prob) == ("", [], 0.0)
            assert translation.attention is None and not translation.alternatives
    assert make().translate([]) == []


def test_n_best_is_sorted():
    for translation in make().translate(sentences(5), beam=5, n_best=5):
        found = [translation, *translation.alternatives]
        assert len(found) == 5 and len({tuple(t.tokens) for t in found}) == 5
        scores = [t.score for t in found]
        assert scores == sorted(scores, reverse=True)


def test_beam_one_is_greedy():
    pipeline = make()
    model, tokenizer = pipeline.model, pipeline.target_tokenizer
    lines = sentences(4)
    for line, translation in zip(lines, pipeline.translate(lines, beam=1)):
        source = [*tokenizer.encode(line), tokenizer.eos]
        tokens, limit = [], 2 * len(source) + 10
        padded = torch.tensor(source + [tokenizer.pad] * (-len(source) % 8)).unsqueeze(1)
        with torch.no_grad():
            memory, state = model.begin(padded, torch.arange(len(padded)).unsqueeze(1) < len(source))
            token = tokenizer.bos
            while len(tokens) < limit - 1:
                log_probs, _, state = model.step(torch.tensor([token]), memory, state)
                token = int(log_probs.argmax())
                if token == tokenizer.eos:
                    break
                tokens.append(token)
        assert translation.tokens == tokens


def test_attention():
    pipeline = make()
    line = "ein zwei drei"
    (translation,) = pipeline.translate([line], attention=True, beam=3)
    assert translation.attention.shape == (len(translation.tokens) + 1, 4)
    torch.testing.assert_close(translation.attention.sum(1), torch.ones(len(translation.tokens) + 1))
    assert translation.source_labels == ["ein", "zwei", "drei", "<eos>"]
    assert translation.target_labels == [*translation.text.split(), "<eos>"]
    (plain,) = pipeline.translate([line], beam=3)
    assert facts(plain) == facts(translation) and plain.attention is None and plain.source_labels == []


def test_coverage():
    pipeline = make()
    lines = sentences(6)
    for translation in pipeline.translate(lines, coverage=0.4, attention=True):
        seen = translation.attention.double().sum(0).clamp(max=1).log().sum()
        expected = translation.log_prob / (len(translation.tokens) + 1) + 0.4 * float(seen)
        assert translation.score == pytest.approx(expected, rel=1e-9)
    assert [t.text for t in pipeline.translate(lines, coverage=0.4)] == [
        t.text for t in pipeline.translate(lines, coverage=0.4, attention=True)
    ]


def test_long_lines_are_cut_and_reported():
    pipeline = make()
    lines = ["ein zwei", "ein zwei drei vier fünf", "", "ein zwei drei"]
    translations = pipeline.translate(lines, max_source=4)
    assert [t.cut for t in translations] == [0, 2, 0, 0]
    assert facts(translations[1]) == facts(translations[3])
    report = pipeline.cut_report(translations, "input")
    assert str(report) == "input: 4 lines; 1 longer than max_source, cut (line 2)"
    assert not pipeline.cut_report(translations[2:], "input")


def test_longest_output():
    pipeline = make(decoding=Decoding(rules=(MinimumLength(99),)))
    lines = ["ein", "ein zwei drei vier"]
    translations = pipeline.translate(lines, length_factor=1.5, length_offset=3, beam=2)
    assert [len(t.tokens) + 1 for t in translations] == [6, 10]


def test_rules_and_defaults_of_the_pipeline():
    tokenizer = make().target_tokenizer
    banned = tokenizer.encode("ein zwei drei vier fünf sechs sieben")
    pipeline = make(decoding=Decoding(beam=2, n_best=2, rules=(ForbiddenTokens(banned),)))
    for translation in pipeline.translate(sentences(6)):
        assert not set(banned) & set(translation.tokens) and len(translation.alternatives) == 1
    assert all(not t.alternatives for t in pipeline.translate(sentences(3), n_best=1))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: make().score(["ein"], []),
            "targets: expected a translation for each of the 1 lines, found 0",
        ),
        (lambda: make().translate(["ein"], beam=2, n_best=3), "n_best: expected 1 to the beam's 2, found 3"),
        (lambda: make().translate(["ein"], baem=2), "found 'baem'; did you mean 'beam'?"),
        (lambda: make().translate(["ein"], baem=None), "found 'baem'; did you mean 'beam'?"),
        (
            lambda: TranslationPipeline(make().model, Words.train(["a"]), make().target_tokenizer),
            "source_tokenizer: expected a source tokenizer of 20 types, found one of 3",
        ),
        (
            lambda: TranslationPipeline(make().model, make().target_tokenizer, Words.train(["a"])),
            "target_tokenizer: expected a target tokenizer of 20 types, found one of 3",
        ),
    ],
)
def test_impossible_input(call, message):
    with pytest.raises(Refused, match=message):
        call()


def test_decoding_travels_whole():
    """The pipeline's own, another for a call, and changes of either; None changes nothing."""
    pipeline, lines = make(decoding=SHORT), sentences(4)
    wide = SHORT.changed(beam=4, n_best=2, rules=(MinimumLength(3),))
    expected = [facts(t) for t in make(decoding=wide).translate(lines)]
    assert [facts(t) for t in pipeline.translate(lines, wide)] == expected
    options = {"beam": 4, "n_best": 2, "rules": (MinimumLength(3),)}
    assert [facts(t) for t in pipeline.translate(lines, **options)] == expected
    assert [facts(t) for t in pipeline.translate(lines, wide.changed(beam=2), beam=4, alpha=None)] == expected
    assert pipeline.decoding == SHORT


def test_nothing_can_be_changed():
    pipeline = make()
    for name in ("model", "source_tokenizer", "target_tokenizer", "decoding", "rules"):
        with pytest.raises(AttributeError):
            setattr(pipeline, name, None)


def test_threads_share_it():
    """Each gets what it would alone, to the bit, whatever the others ask for."""
    pipeline, targets = make(decoding=SHORT), sentences(len(LINES), seed=5)

    def work(beam):
        translations = pipeline.translate(LINES, beam=beam, n_best=min(2, beam), attention=beam == 2)
        return [facts(t) for t in translations], pipeline.score(LINES, targets)

    alone = [work(beam) for beam in (1, 2, 3)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, [1, 2, 3] * 4)) == alone * 4


def test_as_plain_values():
    """What JSON output prints of a line, key by key in this order."""
    (translation,) = make().translate(["ein zwei"], beam=3, n_best=2, attention=True)
    plain = translation.as_dict()
    assert list(plain) == ["text", "score", "log_prob", "tokens", "alternatives"]
    assert plain["alternatives"] == [translation.alternatives[0].as_dict()]
    assert (plain["text"], plain["tokens"]) == (translation.text, translation.tokens)
    whole = translation.as_dict(attention=True)
    names = ["text", "score", "log_prob", "tokens", "attention", "source_labels", "target_labels"]
    assert list(whole) == [*names, "alternatives"] and list(whole["alternatives"][0]) == list(whole)
    assert whole["attention"] == translation.attention.tolist()
    assert whole["source_labels"] == ["ein", "zwei", "<eos>"]
    assert json.loads(json.dumps(whole)) == whole
    assert make().translate(["", "ein"])[0].as_dict(attention=True) == {
        "text": "",
        "score": 0.0,
        "log_prob": 0.0,
        "tokens": [],
        "attention": None,
        "source_labels": [],
        "target_labels": [],
        "alternatives": [],
    }


@pytest.mark.parametrize("beam, decoder", [(None, "beam 5"), (1, "beam 1")])
def test_it_is_timed(beam, decoder):
    torch.manual_seed(1)
    words = Words(["<unk>", "<eos>", *"abcdefgh"])
    encoder = Stack("sru", 8, 4, bidirectional=True)
    model = Translator(10, 10, encoder, Decoder("sru", 8, 8, 8), 8)
    pipeline = TranslationPipeline(model, words, words, decoding=Decoding(n_best=2))
    before = pipeline.translate(["a b c", "d"])
    timed = pipeline.timed("sru", beam=beam)
    report = latency.measure([timed], ["a b c", "d"], length=6, repeats=2)
    system = report["systems"][0]
    assert (system["decoder"], system["steps"]) == (decoder, 2 * 2 * 6)
    assert system["encoding"]["n"] == 4 and system["encoding"]["p50"] < system["first_token"]["max"]
    natural = latency.measure([timed], ["a b c", "d"], repeats=1)["systems"][0]
    tokens = [len(t.tokens) for t in pipeline.translate(["a b c", "d"], beam=beam, n_best=1)]
    assert natural["steps"] >= sum(tokens)
    assert pipeline.translate(["a b c", "d"]) == before


def test_its_attention_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    (translation,) = make().translate(["ein zwei $ drei"], attention=True)
    labels = translation.source_labels, translation.target_labels
    plot_attention(translation.attention, *labels, tmp_path / "attention.png")
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")
