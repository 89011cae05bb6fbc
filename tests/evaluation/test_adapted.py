"""A temperature, a continuous cache and dynamic evaluation, against loops that are written down plainly."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from seqsru.cells import CELLS, Stack
from seqsru.data.stream import StreamBatches, TokenStream
from seqsru.data.vocabulary import Characters
from seqsru.errors import Refused
from seqsru.evaluation.adaptation import Adaptation, Cache, Dynamic
from seqsru.evaluation.adapted import Choices, adapted_nlls, stream_nlls
from seqsru.evaluation.learning import first_windows, gradient_rms, trainable_copy
from seqsru.evaluation.perplexity import perplexity, sentence_nlls
from seqsru.evaluation.tuning import tuned
from seqsru.evaluation.wanted import Wanted
from seqsru.models import LanguageModel
from seqsru.pipelines import LanguagePipeline

EOS, TYPES = 1, 7
TOKENS = torch.tensor([(i * i + i // 3) % TYPES for i in range(53)], dtype=torch.int32)
TRAINING = torch.tensor([(i * 3 + i // 5) % TYPES for i in range(211)], dtype=torch.int32)
CACHE = Cache(5, 0.7, 0.3)
MODELS = {"tied": {"hidden": 6}, "projected": {"hidden": 9}, "untied": {"hidden": 9, "tied": False}}


def build(cell="sru", hidden=6, tied=True, dtype=torch.float64, **dropouts):
    torch.manual_seed(3)
    model = LanguageModel(TYPES, Stack(cell, 6, hidden, 2, dropout=0.4), 6, tied=tied, **dropouts).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # predictions that are not all alike
    return model.to(dtype)


def adapted_nll(*given, **options):
    return adapted_nlls(*given, **options).sum().item()


def plain_nll(model):
    return perplexity(model, TokenStream(TOKENS, EOS, 1, 1, 1, 0)).nll


def logits_and_features(model, tokens, state=None, last=EOS):
    """Of each token's prediction, one step at a time: logits (V,) and features (F,)."""
    state = model.initial_state(1) if state is None else state
    for token in tokens.tolist():
        features, state = model(torch.tensor([[last]]), state)
        yield model.logits(features[0, 0]), features[0, 0]
        last = token


def mixed(log_p, remembered, feature, token, cache):
    """−log of equation 2 of the cache, by a loop over what is remembered."""
    if cache is None or not remembered:
        return -log_p[token].item()
    likeness = [math.exp(cache.theta * feature.dot(key).item()) for key, _ in remembered]
    there = sum(value for value, (_, word) in zip(likeness, remembered) if word == token)
    return -math.log(
        (1 - cache.share) * log_p[token].exp().item() + cache.share * there / math.fsum(likeness)
    )


@torch.no_grad()
def by_hand(model, tokens, temperature, cache):
    total, remembered = 0.0, []
    for token, (logits, feature) in zip(tokens.tolist(), logits_and_features(model, tokens)):
        log_p = torch.log_softmax(logits / temperature, 0)
        total += mixed(log_p, remembered, feature, token, cache)
        remembered = [*remembered, (feature, token)][-cache.size :] if cache else []
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize(
    "cache", [None, CACHE, Cache(1, 2.0, 0.9), Cache(52, 1e-3, 0.01), Cache(10**9, 9.0, 0.5)]
)
def test_temperature_and_cache_equal_a_loop(temperature, cache):
    model = build()
    expected = by_hand(model, TOKENS, temperature, cache)
    assert adapted_nll(model, TOKENS, EOS, Adaptation(temperature, cache)) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("cell", ["lstm", "qrnn", "minlstm"])
@pytest.mark.parametrize("shape", MODELS.values(), ids=MODELS)
def test_other_models_too(cell, shape):
    model = build(cell, **shape)
    assert adapted_nll(model, TOKENS, EOS, Adaptation(1.2, CACHE)) == pytest.approx(
        by_hand(model, TOKENS, 1.2, CACHE), rel=1e-12
    )


@pytest.mark.parametrize("adaptation", [Adaptation(0.8), Adaptation(1.0, CACHE), Adaptation(1.3, CACHE)])
def test_the_window_does_not_matter(adaptation):
    values = [
        adapted_nll(build(dtype=torch.float32), TOKENS, EOS, adaptation, window=window)
        for window in (1, 2, 5, 6, 52, 53, 1000)
    ]
    assert values == pytest.approx([values[0]] * len(values), rel=1e-6)


def test_how_much_is_looked_at_at_once_does_not_matter(monkeypatch):
    expected = adapted_nll(build(), TOKENS, EOS, Adaptation(1.3, Cache(40, 0.7, 0.3)))
    monkeypatch.setattr("seqsru.evaluation.adapted.SCORES", 100)
    monkeypatch.setattr("seqsru.evaluation.adapted.LOGITS", 20)
    found = adapted_nll(build(), TOKENS, EOS, Adaptation(1.3, Cache(40, 0.7, 0.3)))
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_anything_it_is_the_plain_nll():
    model = build()
    assert adapted_nll(model, TOKENS, EOS, Adaptation()) == pytest.approx(plain_nll(model), rel=1e-13)


@pytest.mark.parametrize("rule", ["sgd", "rms"])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 23, 24, 25])
def test_what_may_follow_has_probability_one_together(rule, length):
    """So no probability depends on the token itself, whatever stands before, segment ends included."""
    model, rms = build(), [torch.rand_like(p) for p in build().parameters()]
    adaptation = Adaptation(1.4, CACHE, Dynamic(rule, 0.1, 0.05, 8, 0.1))
    before = adapted_nll(model, TOKENS[:length], EOS, adaptation, rms)
    after = [
        adapted_nll(model, torch.cat([TOKENS[:length], torch.tensor([word])]), EOS, adaptation, rms)
        for word in range(TYPES)
    ]
    assert math.fsum(math.exp(before - nll) for nll in after) == pytest.approx(1.0, rel=1e-10)


# ---- dynamic evaluation ----------------------------------------------------------------------------


def learning_by_hand(model, tokens, dynamic, rms, cache=None, temperature=1.0):
    """Segment for segment with `backward`, torch's SGD or the formula of RMS written down."""
    model = copy.deepcopy(model)
    start = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=dynamic.rate)
    mean = torch.cat([r.flatten() for r in rms]).mean()
    total, remembered, state, last = 0.0, [], model.initial_state(1), EOS
    for first in range(0, len(tokens), dynamic.segment):
        optimizer.zero_grad()
        loss = 0.0
        segment = tokens[first : first + dynamic.segment].long()
        features, state = model(torch.cat([torch.tensor([last]), segment[:-1]])[:, None], state)
        state, last = tuple(t.detach() for t in state), segment[-1].item()
        for token, feature in zip(segment.tolist(), features[:, 0]):
            logits = model.output.weight @ feature + model.output.bias
            loss = loss + nn.functional.cross_entropy(logits, torch.tensor(token)) / len(segment)
            log_p = torch.log_softmax(logits.detach() / temperature, 0)
            total += mixed(log_p, remembered, feature.detach(), token, cache)
            remembered = [*remembered, (feature.detach(), token)][-cache.size :] if cache else []
        loss.backward()
        if dynamic.clip:
            nn.utils.clip_grad_norm_(model.parameters(), dynamic.clip)
        now = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            if dynamic.rule == "sgd":
                optimizer.step()
                for p, p0, old in zip(model.parameters(), start, now):
                    p += dynamic.decay * (p0 - old)
            else:
                for p, p0, old, r in zip(model.parameters(), start, now, rms):
                    back = (dynamic.decay * r / mean).minimum(torch.ones(()).double())
                    p += back * (p0 - old) - dynamic.rate * p.grad / (r + dynamic.epsilon)
    return total


def statistics_by_hand(model, tokens, rows, length, count):
    """Root mean squares of gradients over the first windows of a text cut into rows of one length."""
    model = copy.deepcopy(model)
    squares, state = [torch.zeros_like(p) for p in model.parameters()], model.initial_state(rows)
    row, before = len(tokens) // rows, torch.cat([torch.tensor([EOS]), tokens[:-1]])
    cut = [part.long().view(rows, row).t() for part in (before[: rows * row], tokens[: rows * row])]
    for first in range(0, count * length, length):
        model.zero_grad()
        features, state = model(cut[0][first : first + length], state)
        state = tuple(t.detach() for t in state)
        loss = nn.functional.cross_entropy(
            model.logits(features).flatten(0, 1), cut[1][first : first + length].flatten()
        )
        loss.backward()
        for square, p in zip(squares, model.parameters()):
            square += p.grad**2
    return [(square / count).sqrt() for square in squares]


@pytest.mark.parametrize(
    "rule, decay", [("sgd", 0.0), ("sgd", 0.1), ("rms", 0.0), ("rms", 0.2), ("rms", 1.0)]
)
@pytest.mark.parametrize("segment, clip", [(1, 1.0), (8, 0.0), (8, 0.2), (8, 50.0), (60, 1.0)])
def test_dynamic_evaluation_equals_a_loop(rule, decay, segment, clip):
    model = build()
    windows = StreamBatches(TRAINING[:210], 10, 5, EOS)
    rms = gradient_rms(model, first_windows(windows, 101))  # three windows of 50
    by_loop = statistics_by_hand(model, TRAINING[:210], 10, 5, 3)
    for ours, theirs in zip(rms, by_loop):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-15)
    dynamic = Dynamic(rule, 0.05 if rule == "sgd" else 0.002, decay, segment, 1e-2, clip)
    found = adapted_nll(model, TOKENS, EOS, Adaptation(dynamic=dynamic), rms)
    assert found == pytest.approx(
        learning_by_hand(model, TOKENS, dynamic, by_loop), rel=1e-6 if clip else 1e-10
    )
    clipped = adapted_nll(
        model, TOKENS, EOS, Adaptation(dynamic=Dynamic(rule, dynamic.rate, decay, segment, 1e-2, 1e9)), rms
    )
    assert (abs(clipped - found) > 1e-4) == (clip == 0.2 or (segment, clip) == (1, 1.0))
    if segment < len(TOKENS):
        assert abs(found - plain_nll(model)) > 1e-3  # it does something
    else:
        assert found == pytest.approx(plain_nll(model), rel=1e-12)


@pytest.mark.parametrize("cell, shape", [(cell, "tied") for cell in CELLS] + [("sru", one) for one in MODELS])
def test_all_together_equals_a_loop(cell, shape):
    dropouts = {"output_dropout": 0.5, "embedding_dropout": 0.5, "word_dropout": 0.5}
    model = build(cell, **MODELS[shape], **dropouts)
    rms = gradient_rms(model, StreamBatches(TRAINING, 10, 8, EOS))
    dynamic = Dynamic("rms", 0.003, 0.1, 8, 1e-2)
    found = adapted_nll(model, TOKENS, EOS, Adaptation(1.3, CACHE, dynamic), rms)
    assert found == pytest.approx(learning_by_hand(model, TOKENS, dynamic, rms, CACHE, 1.3), rel=1e-6)


def test_a_model_is_not_changed_and_gives_the_same_bits_again():
    model = build("lstm", dtype=torch.float32, output_dropout=0.5)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    values = []
    for _ in range(2):
        rms = gradient_rms(model, StreamBatches(TRAINING, 10, 8, EOS))
        dynamic = Dynamic("rms", 0.01, 0.1, 8, 1e-2)
        values.append(adapted_nll(model, TOKENS, EOS, Adaptation(1.1, CACHE, dynamic), rms))
        torch.rand(3)  # nothing is drawn
    assert values[0] == values[1]
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module.training for module in model.modules())


def test_layers_whose_gradients_a_gpu_gives_in_training_alone_are_in_training():
    made, parameters = trainable_copy(build("lstm"))
    assert {module.training for module in made.modules() if isinstance(module, nn.RNNBase)} == {True}
    assert not any(module.training for module in made.modules() if not isinstance(module, nn.RNNBase))
    assert len(parameters) == len(list(build("lstm").parameters()))


def test_weights_that_diverge_are_refused():
    dynamic = Dynamic("sgd", 1e300, 0.0, 8, clip=0.0)
    with pytest.raises(Refused) as caught:
        adapted_nll(build(), TOKENS, EOS, Adaptation(dynamic=dynamic))
    assert str(caught.value) == (
        "dynamic_rate: expected a rate that gives a finite perplexity, found nan at 1e+300; "
        "lower it: the weights diverge as they learn"
    )


def test_rms_without_its_statistics_is_refused():
    with pytest.raises(Refused) as caught:
        adapted_nll(build(), TOKENS, EOS, Adaptation(dynamic=Dynamic("rms", 0.1, 0.1, 8, 1.0)))
    assert str(caught.value) == (
        "rms: expected the gradients' statistics for rms, found none; take gradient_rms's"
    )


# ---- several values at once, and the choice of them ------------------------------------------------


def test_a_grid_is_each_of_its_points():
    model = build()
    choices = Choices((1.0, 0.7, 1.6), (2, 30), (0.1, 1.0), (0.2, 0.6))
    for dynamic in (None, Dynamic("sgd", 0.05, 0.1, 8, 1.0)):
        grid = stream_nlls(model, TOKENS, EOS, choices, dynamic)
        assert grid.shape == (3, 2, 2, 2)
        points = itertools.product(choices.temperatures, choices.sizes, choices.thetas, choices.shares)
        each = [adapted_nll(model, TOKENS, EOS, Adaptation(t, Cache(*c), dynamic)) for t, *c in points]
        assert grid.flatten().tolist() == pytest.approx(each, rel=1e-12)


def test_what_is_chosen_makes_the_text_likeliest():
    model = build(dtype=torch.float32)
    rms = gradient_rms(model, StreamBatches(TRAINING, 10, 8, EOS))
    asked = Wanted("tune", "tune", dynamic="rms", dynamic_segment=8)
    told = []
    found, seen = tuned(model, TOKENS, EOS, asked, rms, told.append)
    assert told == seen and found.cache is not None and found.dynamic is not None
    score = math.exp(adapted_nll(model, TOKENS, EOS, found, rms) / len(TOKENS))
    best = [one for one in seen if "temperature" in one.values]
    assert score == pytest.approx(min(one.perplexity for one in best), rel=1e-6)
    alone = [one for one in seen if "dynamic_rate" in one.values]
    rate = {"dynamic_rate": found.dynamic.rate, "dynamic_decay": found.dynamic.decay}
    assert min(alone, key=lambda one: one.perplexity).values == rate
    plain = math.exp(plain_nll(model) / len(TOKENS))
    assert score < min(one.perplexity for one in alone) < plain
    for one in best[:3]:
        t, n, theta, share = (one.values[k] for k in ("temperature", "cache", "cache_theta", "cache_share"))
        point = Adaptation(t, Cache(n, theta, share), found.dynamic)
        nll = adapted_nll(model, TOKENS, EOS, point, rms)
        assert one.perplexity == pytest.approx(math.exp(nll / len(TOKENS)), rel=1e-6)


def test_what_is_given_is_not_chosen():
    model = build()
    asked = Wanted(1.5, 9, 0.3, dynamic="sgd", dynamic_rate=0.01, dynamic_segment=8)
    found, seen = tuned(model, TOKENS, EOS, asked)
    assert (found.temperature, found.cache.size, found.cache.theta) == (1.5, 9, 0.3)
    assert found.dynamic.rate == 0.01 and asked.chosen == ("cache_share", "dynamic_decay")
    assert {one.values.get("dynamic_rate", 0.01) for one in seen} == {0.01}
    whole = Wanted(1.5, 9, 0.3, 0.2, "sgd", 0.01, 0.5, 8)
    assert tuned(model, TOKENS[:0], EOS, whole) == (
        Adaptation(1.5, Cache(9, 0.3, 0.2), Dynamic("sgd", 0.01, 0.5, 8, 1e-3)), []
    )  # fmt: skip


@pytest.mark.parametrize(
    "asked, least",
    [
        (Wanted("tune"), 1),
        (Wanted("tune", "tune"), 2),
        (Wanted(cache=3), 2),
        (Wanted("tune", dynamic="sgd", dynamic_segment=8), 9),
        (Wanted("tune", dynamic="sgd", dynamic_rate=0.1, dynamic_decay=0.1), 1),
    ],
)
def test_too_little_to_choose_on_is_refused(asked, least):
    with pytest.raises(Refused) as caught:
        tuned(build(), TOKENS[: least - 1], EOS, asked)
    assert str(caught.value) == (
        f"tune_tokens: expected at least {least} tokens of the validation text to choose values on, "
        f"found {least - 1}; raise tune_tokens, or give the values"
    )
    tuned(build(), TOKENS[:least], EOS, asked)


def test_a_search_goes_down_from_rates_that_diverge(monkeypatch):
    monkeypatch.setattr("seqsru.evaluation.tuning.RATES", {"sgd": (1e300, 1e60)})
    seen = []
    wanted = Wanted(dynamic="sgd", dynamic_decay=0.0, dynamic_segment=8, dynamic_clip=0.0)
    found, _ = tuned(build(), TOKENS, EOS, wanted, tell=seen.append)
    finite = [one for one in seen if one.perplexity < math.inf]
    assert seen[0].perplexity == math.inf and found.dynamic.rate == finite[0].values["dynamic_rate"] < 1e200
    assert str(seen[-1]).startswith("as it is: ")  # so that nobody takes the best of bad ones for a gain


def test_a_text_is_scored_in_inference_mode_too():
    adaptation = Adaptation(dynamic=Dynamic("sgd", 0.1, 0.0, 8))
    expected = adapted_nll(build(), TOKENS, EOS, adaptation)
    with torch.inference_mode():
        model, tokens = build(), TOKENS.clone()
    model = build()
    with torch.inference_mode():
        assert adapted_nll(model, tokens, EOS, adaptation) == expected


def test_no_rate_that_works_is_refused(monkeypatch):
    monkeypatch.setattr("seqsru.evaluation.tuning.RATES", {"sgd": (1e300, 2.0)})
    with pytest.raises(Refused) as caught:
        tuned(build(), TOKENS, EOS, Wanted(dynamic="sgd", dynamic_segment=8))
    assert str(caught.value) == (
        "dynamic: expected a finite perplexity of the validation text, found none at any rate tried; "
        "give a lower dynamic_rate"
    )


# ---- texts -----------------------------------------------------------------------------------------


def test_lines_apart_have_a_temperature_and_nothing_else():
    model = build()
    text = TokenStream(TOKENS, EOS, 8, 45, 90, 0)
    ends = [n for n, token in enumerate(TOKENS.tolist()) if token == EOS]
    tokens = TokenStream(TOKENS[: ends[-1] + 1], EOS, len(ends), 40, 90, 0)
    score = perplexity(model, tokens, carried=False, adaptation=Adaptation(0.6))
    sentences = list(TOKENS[: ends[-1] + 1].tensor_split([end + 1 for end in ends[:-1]]))
    expected = sum(by_hand(model, sentence, 0.6, None) for sentence in sentences)
    assert score.nll == pytest.approx(expected, rel=1e-10) and score.state == "separate"
    parts = [part.tolist() for part in sentences]
    assert sentence_nlls(model, parts, EOS, 1.0) == sentence_nlls(model, parts, EOS)
    for adaptation in (Adaptation(cache=CACHE), Adaptation(dynamic=Dynamic("sgd", 0.1, 0.1, 8, 1.0))):
        with pytest.raises(Refused) as caught:
            perplexity(model, text, carried=False, adaptation=adaptation)
        assert str(caught.value) == (
            "state: expected one stream for a cache or dynamic evaluation, found lines apart; "
            "take state carried"
        )


def test_a_pipeline_of_characters_gives_bits_of_each():
    lines = ["abc ab", "", "cab größer"]
    characters = Characters.train(lines)
    torch.manual_seed(0)
    model = LanguageModel(characters.size, Stack("sru", 6, 6, 1), 6)
    pipeline = LanguagePipeline(model, characters)
    adaptation = Adaptation(1.2, CACHE, Dynamic("sgd", 0.1, 0.01, 4, 1.0))
    score = pipeline.perplexity(lines, adaptation=adaptation)
    text = TokenStream.from_lines(lines, characters)
    assert score.nll == adapted_nll(model, text.tokens, text.eos, adaptation)
    assert (
        score.tokens == len(text.tokens) and score.bits_per_token != pipeline.perplexity(lines).bits_per_token
    )
    assert score.bits_per_token == pytest.approx(score.nll / math.log(2) / score.tokens)


# ---- what is asked for -----------------------------------------------------------------------------

IDLE = [
    *(
        (
            {f"{of}_{name}": 1},
            f"{of}_{name}: expected {of} beside it, found none; give {of} too, or leave this out",
        )
        for of, names in (
            ("cache", ("theta", "share")),
            ("dynamic", ("rate", "decay", "segment", "epsilon", "clip", "statistics")),
        )
        for name in names
    ),
    *(
        (
            {"dynamic": "sgd", name: 1},
            f"{name}: expected dynamic rms beside it, found sgd; take rms, or leave this out",
        )
        for name in ("dynamic_epsilon", "dynamic_statistics")
    ),
    *(
        (
            {**given, "tune_tokens": 10},
            "tune_tokens: expected a value to choose on the validation text, found none; "
            "leave one of the others to be chosen, or leave this out",
        )
        for given in (
            {},
            {"temperature": 2.0},
            {"cache": 3, "cache_theta": 1.0, "cache_share": 0.5},
            {"dynamic": "sgd", "dynamic_rate": 1.0, "dynamic_decay": 0.0},
        )
    ),
]  # fmt: skip
OUTSIDE = [
    *(
        ({**given, name: value}, f"{name}: expected a finite number above 0, found {value}; raise it")
        for name, given in (
            ("temperature", {}),
            ("cache_theta", {"cache": 3}),
            ("dynamic_rate", {"dynamic": "sgd"}),
            ("dynamic_epsilon", {"dynamic": "rms"}),
        )
        for value in (0.0, -1.0, math.inf, math.nan)
    ),
    *(
        (
            {"cache": 3, "cache_share": value},
            f"cache_share: expected a number above 0 and below 1, found {value}; give such a share",
        )
        for value in (0.0, 1.0, math.nan)
    ),
    *(
        (
            {"dynamic": "sgd", "dynamic_decay": value},
            f"dynamic_decay: expected a number from 0 to 1, found {value}; give a share",
        )
        for value in (-0.1, 1.1, math.nan)
    ),
    *(
        ({**given, name: value}, f"{name}: expected {told}")
        for name, given in (
            ("cache", {}),
            ("dynamic_segment", {"dynamic": "sgd"}),
            ("dynamic_statistics", {"dynamic": "rms"}),
            ("tune_tokens", {"temperature": "tune"}),
        )
        for value, told in (
            (0, "at least 1, found 0; raise it"),
            (10**10, "at most 1,000,000,000, found 10000000000; lower it"),
        )
    ),
    (
        {"dynamic": "sgd", "dynamic_clip": -1.0},
        "dynamic_clip: expected at least 0, found -1.0; raise it",
    ),
    ({"dynamic": "adam"}, "dynamic: expected one of 'sgd', 'rms' or null, found 'adam'; change it"),
    ({"dynamic": "rsm"}, "dynamic: expected one of 'sgd', 'rms' or null, found 'rsm'; did you mean 'rms'?"),
    ({"cache": "some"}, "cache: expected 'tune' or a whole number or null, found 'some'; change it"),
    ({"cache": True}, "cache: expected 'tune' or a whole number or null, found True; change it"),
]  # fmt: skip


@pytest.mark.parametrize("given, told", [*IDLE, *OUTSIDE], ids=str)
def test_what_is_asked_in_vain_is_refused(given, told):
    with pytest.raises(Refused) as caught:
        Wanted(**given)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: Cache(0, 1.0, 0.5), "size: expected at least 1, found 0; raise it"),
        (lambda: Cache(1, 0.0, 0.5), "theta: expected a finite number above 0, found 0.0; raise it"),
        (
            lambda: Cache(1, 1.0, 1.0),
            "share: expected a number above 0 and below 1, found 1.0; give such a share",
        ),
        (
            lambda: Dynamic("sgd", 0.0, 0.0, 1, 1.0),
            "rate: expected a finite number above 0, found 0.0; raise it",
        ),
        (
            lambda: Dynamic("sgd", 1.0, 2.0, 1, 1.0),
            "decay: expected a number from 0 to 1, found 2.0; give a share",
        ),
        (
            lambda: Dynamic("adam", 1.0, 0.0, 1, 1.0),
            "rule: expected one of sgd, rms, found 'adam'; choose one of these",
        ),
        (lambda: Dynamic("sgd", 1.0, 0.0, 0, 1.0), "segment: expected at least 1, found 0; raise it"),
        (lambda: Adaptation(-1.0), "temperature: expected a finite number above 0, found -1.0; raise it"),
    ],
)
def test_values_outside_their_range_are_refused(make, told):
    with pytest.raises(Refused) as caught:
        make()
    assert str(caught.value) == told
