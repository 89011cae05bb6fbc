"""The engine's search is `beam_search` on the engine's own log probabilities, to the last bit."""

from typing import get_args

import numpy as np
import pytest
import torch

from seqsru.decoding import (
    Decoding,
    ForbiddenTokens,
    MinimumLength,
    NoRepeatedNgram,
    Penalty,
    Rule,
    Stop,
    beam_search,
    sample,
)
from seqsru.decoding.sampling import _draw
from seqsru.errors import Refused
from tests.engine.tiny_models import (
    EOS,
    START,
    engine,
    ids,
    language_model,
    same_outputs,
    small,
    translator,
)

CELLS = ("sru", "lstm", "qrnn", "conv", "gru", "ssru", "mingru", "minlstm")


class Following:
    """A step that asks the engine to read a sentence's tokens from the start, each time."""

    def __init__(self, engine_, sources, prompts=None, columns=None):
        self.engine, self.sources = engine_, sources
        self.prompts = prompts or [[] for _ in sources]  # of a language model
        self.columns = columns
        self.known = {}

    def begin(self):
        return (torch.arange(len(self.sources)),), (torch.zeros(len(self.sources), 0, dtype=torch.int64),)

    def step(self, tokens, memory, state):
        """Return log probabilities and attention; the state is what was read before."""
        read = torch.cat([state[0], tokens.unsqueeze(1)], dim=1)
        owner = memory[0].repeat_interleave(len(tokens) // len(memory[0])).tolist()
        rows = [(sentence, *tokens) for sentence, tokens in zip(owner, read.tolist())]
        new = [row for row in dict.fromkeys(rows) if row not in self.known]
        if new:
            sources = [self.sources[sentence] for sentence, *_ in new]
            inputs = [self.prompts[sentence] + tokens for sentence, *tokens in new]
            weights = np.zeros((len(new), max(1, *map(len, self.sources), 1)), np.float32)
            log_probs = self.engine.follow(sources, inputs, weights if any(sources) else None)
            if self.columns is not None:
                log_probs = np.stack([self._limited(lp, row[0]) for lp, row in zip(log_probs, new)])
            self.known.update(zip(new, zip(log_probs, weights)))
        log_probs, weights = (np.stack(part) for part in zip(*(self.known[row] for row in rows)))
        return torch.from_numpy(log_probs), torch.from_numpy(weights), (read,)

    def _limited(self, log_probs, sentence):
        """Renormalise over a shortlist's columns."""
        limited = np.full_like(log_probs, -np.inf)
        kept = self.columns[sentence]
        limited[kept] = log_probs[kept] - np.logaddexp.reduce(log_probs[kept].astype(np.float64))
        return limited


def reference(follow, starts, limits, decoding, with_attention):
    lengths = torch.tensor([max(1, len(source)) for source in follow.sources])
    valid = torch.arange(int(lengths.max())).unsqueeze(1) < lengths
    memory, state = follow.begin()
    return beam_search(
        follow.step,
        memory,
        state,
        torch.tensor(starts),
        eos=EOS,
        max_length=torch.tensor(limits),
        decoding=decoding,
        source_valid=valid,
        with_attention=with_attention,
    )


def compare(engine_, sources, limits, decoding, *, attention=False, slots=3, prompts=None, starts=None):
    """Search both ways."""
    follow = Following(engine_, [[] for _ in prompts] if prompts else sources, prompts)
    starts = starts or [START] * len(limits)
    found = engine_.search(
        prompts or sources, starts, limits, eos=EOS, decoding=decoding, attention=attention, slots=slots
    )
    expected = reference(follow, starts, limits, decoding, attention)
    if attention:  # the definition keeps a batch's padding
        expected = [
            [
                type(h)(h.tokens, h.log_prob, h.score, h.attention and h.attention)
                if h.attention is None
                else type(h)(h.tokens, h.log_prob, h.score, h.attention[:, : len(source)])
                for h in outputs
            ]
            for source, outputs in zip(sources, expected)
        ]
        for outputs in found:  # an output of no token has no attention
            for number, output in enumerate(outputs):
                if not output.tokens:
                    outputs[number] = type(output)(output.tokens, output.log_prob, output.score, None)
    same_outputs(found, expected)
    return found


def random_rules(rng, vocabulary):
    rules = []
    if rng.random() < 0.4:
        rules.append(MinimumLength(int(rng.integers(1, 8))))
    if rng.random() < 0.4:
        rules.append(ForbiddenTokens(ids(rng, int(rng.integers(1, vocabulary + 1)), vocabulary)))
    for _ in range(2):
        if rng.random() < 0.4:
            rules.append(NoRepeatedNgram(int(rng.integers(1, 4))))
    rng.shuffle(rules)
    return tuple(rules)


def random_decoding(rng, vocabulary):
    beam = int(rng.choice([1, 2, 3, 5, vocabulary, 2 * vocabulary, int(rng.integers(1, 2 * vocabulary + 1))]))
    return Decoding(
        beam=beam,
        n_best=int(rng.integers(1, beam + 1)),
        penalty=str(rng.choice(get_args(Penalty))),
        alpha=float(rng.choice([0.0, 0.3, 1.0, 1.7, float(rng.random() * 3)])),
        coverage=float(rng.choice([0.0, 0.0, 0.2, 1.3])),
        stop=str(rng.choice(get_args(Stop))),
        rules=random_rules(rng, vocabulary),
    )


def random_output(rng, model):
    """Make an output bias as it may be: even, sharp, with ties, without an end."""
    vocabulary = len(model.output_bias)
    kind = rng.integers(6)
    with torch.no_grad():
        if kind == 0:
            model.output_bias.zero_()
        elif kind == 1:
            model.output_bias.mul_(4.0)
        elif kind == 2:
            model.output_bias[EOS] = -torch.inf  # impossible
        elif kind == 3:
            model.output_bias[EOS] += 3.0
        elif kind == 4:  # tokens that tie exactly, </s> perhaps among them
            for _ in range(4):
                a, b = ids(rng, 2, vocabulary)
                model.output_weight[a] = model.output_weight[b]
                model.output_bias[a] = model.output_bias[b]
        else:  # everything ties
            model.output_weight.copy_(model.output_weight[:1].expand_as(model.output_weight))
            model.output_bias.zero_()


def random_search(seed):
    """Compare on one random model, sentences and settings."""
    rng = np.random.default_rng(seed)
    vocabulary = int(rng.choice([4, 5, 9, 16, 17, 30, 70]))
    attention = str(rng.choice(["dot", "additive"]))
    model = translator(
        str(rng.choice(CELLS)),
        source=int(rng.integers(3, 20)),
        target=vocabulary,
        embedding=int(rng.integers(1, 12)),
        hidden=4 * int(rng.integers(1, 5)),
        layers=int(rng.integers(1, 3)),
        encoder={"bidirectional": bool(rng.integers(2))},
        decoder={"attention": attention, "attend": str(rng.choice(["all", "first", "last"]))},
        tying="none",
        seed=seed,
        sharpness=float(rng.choice([0.1, 1.0, 3.0])),
    )
    random_output(rng, model)
    made = engine(model, int8=bool(rng.integers(2)))
    decoding = random_decoding(rng, vocabulary)
    count = int(rng.integers(1, 5))
    sources = [ids(rng, int(rng.integers(1, 8)), model.source_vocabulary) for _ in range(count)]
    if count > 1:
        sources[-1] = sources[0]  # the same sentence twice
    most = 12 if decoding.beam < 20 else 5
    limits = ids(rng, count, most, 1)
    compare(
        made,
        sources,
        limits,
        decoding,
        attention=bool(rng.integers(2)),
        slots=int(rng.integers(1, count + 2)),
    )


def random_language_search(seed):
    rng = np.random.default_rng(seed)
    vocabulary = int(rng.choice([4, 9, 17, 40]))
    model = language_model(
        str(rng.choice(CELLS)),
        vocabulary=vocabulary,
        embedding=int(rng.integers(1, 12)),
        hidden=int(rng.integers(1, 20)),
        layers=int(rng.integers(1, 3)),
        tied=bool(rng.integers(2)),
        seed=seed,
        sharpness=float(rng.choice([0.1, 1.0, 3.0])),
    )
    decoding = random_decoding(rng, vocabulary).changed(coverage=0.0)
    prompts = [ids(rng, int(rng.integers(0, 30)), vocabulary) for _ in range(int(rng.integers(1, 4)))]
    compare(
        engine(model, int8=bool(rng.integers(2))),
        None,
        ids(rng, len(prompts), 9, 1),
        decoding,
        prompts=prompts,
        starts=ids(rng, len(prompts), vocabulary),
        slots=int(rng.integers(1, 4)),
    )


@pytest.mark.parametrize("seed", range(60))
def test_translators(seed):
    random_search(seed)


@pytest.mark.parametrize("seed", range(20))
def test_language_models(seed):
    random_language_search(seed)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(20))
def test_thousands_of_translators(hundred):
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        random_search(seed)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(3))
def test_hundreds_of_language_models(hundred):
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        random_language_search(seed)


# ---- cases that chance may leave out ---------------------------------------------------------------


def settings(**changes):
    return Decoding(**{"beam": 4, "n_best": 4, **changes})


def biased(bias):
    """Make a translator whose output bias is what a function does to it."""
    model = translator(tying="none", seed=5)
    with torch.no_grad():
        bias(model.output_bias)
    return engine(model)


def impossible_end(bias):
    bias[EOS] = -torch.inf


def impossible_but_the_end(bias):
    bias.fill_(-torch.inf)
    bias[EOS] = 0.0


def impossible_but_one(bias):
    bias.fill_(-torch.inf)
    bias[7] = 0.0


@pytest.mark.parametrize("bias", [impossible_end, impossible_but_the_end, impossible_but_one])
@pytest.mark.parametrize("stop", get_args(Stop))
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_what_is_impossible(bias, stop, limit):
    rules = (), (NoRepeatedNgram(1),), (ForbiddenTokens([EOS]),), (ForbiddenTokens(list(range(50))),)
    for rule in rules:
        compare(biased(bias), [[3, 4, 5], [6]], [limit, 3], settings(stop=stop, rules=rule), attention=True)


@pytest.mark.parametrize("rule", [ForbiddenTokens(list(range(50))), ForbiddenTokens([EOS])])
@pytest.mark.parametrize("coverage", [0.0, 0.5])
def test_what_is_forbidden_leaves_the_end_to_the_last_position(rule, coverage):
    made = small("translator")
    for limit in (1, 2, 5):
        outputs = compare(
            made, [[3, 4, 5]], [limit], settings(rules=(rule,), coverage=coverage), attention=True
        )
        if rule.tokens == [EOS]:
            assert all(output.tokens[-1] == EOS and len(output.tokens) == limit for output in outputs[0])
        elif limit > 1:
            assert [output.tokens for output in outputs[0]] == [[]]


def test_beams_beyond_the_vocabulary():
    model = translator(target=5, tying="none", seed=3)
    for beam in range(1, 11):
        compare(engine(model), [[3, 4, 5], [6]], [5, 6], Decoding(beam=beam, n_best=beam, stop="all"))


def test_ties_are_broken_by_row_then_token():
    model = translator(target=9, tying="none", seed=3)
    with torch.no_grad():
        model.output_weight.zero_()
        model.output_bias.zero_()
    for stop in get_args(Stop):
        outputs = compare(engine(model), [[3, 4, 5]] * 3, [4] * 3, settings(stop=stop, n_best=4))
        assert outputs[0] == outputs[1]
    outputs = compare(engine(model), [[3]], [3], settings(beam=2, n_best=1, rules=(MinimumLength(3),)))
    assert outputs[0][0].tokens == [0, 0, EOS]


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_1_is_refused_as_by_the_definition(limit):
    with pytest.raises(
        Refused, match=rf"^max_length: expected at least 1, found {limit}; </s> is a token too$"
    ):
        small("translator").search([[3]], [1], [limit], eos=EOS, decoding=settings())


def test_coverage_of_a_language_model_is_refused():
    made = small("language_model")
    sentence = (
        "expected attention weights from the step, found None; ask the model for them, or use a model that "
        "attends"
    )
    with pytest.raises(Refused, match=f"^coverage: {sentence}$"):
        made.search([[3]], [1], [4], eos=EOS, decoding=settings(coverage=0.1))
    with pytest.raises(Refused, match=f"^with_attention: {sentence}$"):
        made.search([[3]], [1], [4], eos=EOS, decoding=settings(), attention=True)


def test_rules_that_the_engine_does_not_know_are_refused():
    class Mine(Rule):
        def __call__(self, log_probs, history, eos):
            return log_probs

    class Stricter(ForbiddenTokens):
        pass

    for rule in (Mine(), Stricter([3])):
        with pytest.raises(Refused) as refusal:
            small("translator").search([[3]], [1], [4], eos=EOS, decoding=settings(rules=(rule,)))
        name = type(rule).__name__
        assert str(refusal.value) == (
            f"rules: expected rules that the compiled engine knows, found {name}; choose engine torch"
        )


def test_nan_is_refused():
    sentence = (
        "^expected log probabilities, found NaN; the weights are damaged or training diverged: load another "
        "checkpoint$"
    )
    for int8 in (False, True):
        for name in ("output_bias", "output_weight", "target_embedding.weight", "encoder.layers.0.0.weight"):
            for value in (torch.nan, torch.inf):
                model = translator(tying="none")
                with torch.no_grad():
                    dict(model.named_parameters())[name].fill_(value)
                made = engine(model, int8)
                for call in (
                    lambda made=made: made.search([[3]], [1], [4], eos=EOS, decoding=settings()),
                    lambda made=made: made.score([[3]], [[1]], [[4]]),
                    lambda made=made: made.follow([[3]], [[1]]),
                ):
                    with pytest.raises(Refused, match=sentence):
                        call()


@pytest.mark.parametrize("wrong", [-1, 40, 2**40])
def test_ids_of_another_tokenizer_are_refused(wrong):
    made = small("translator")
    do = "use the tokenizer that belongs to the model"

    def check(side, most, call):
        with pytest.raises(Refused) as refusal:
            call()
        assert str(refusal.value) == f"expected {side} ids from 0 to {most}, found {other}; {do}"

    other = wrong
    check("source", 39, lambda: made.search([[3, other]], [1], [4], eos=EOS, decoding=settings()))
    check("source", 39, lambda: made.score([[3, other]], [[1]], [[4]]))
    check("source", 39, lambda: made.follow([[3, other]], [[1]]))
    other = wrong + 10 if wrong > 0 else wrong
    check("target", 49, lambda: made.search([[3]], [other], [4], eos=EOS, decoding=settings()))
    check("target", 49, lambda: made.search([[3]], [1], [4], eos=other, decoding=settings()))
    columns = np.array([other] if other < 0 else [EOS, other])
    check("target", 49, lambda: made.search([[3]], [1], [4], eos=EOS, decoding=settings(), columns=[columns]))
    check("target", 49, lambda: made.score([[3]], [[other]], [[4]]))
    check("target", 49, lambda: made.score([[3]], [[1]], [[other]]))
    check("target", 49, lambda: made.follow([[3]], [[other]]))
    language = small("language_model")
    draw = {"eos": EOS, "max_length": 3, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    check("source", 49, lambda: language.draw([other], 1, 1, uniform=np.zeros((3, 1)), **draw))
    check("target", 49, lambda: language.draw([3], other, 1, uniform=np.zeros((3, 1)), **draw))


def test_what_has_no_sentence_has_no_output():
    made = small("translator")
    assert made.search([], [], [], eos=EOS, decoding=settings()) == []
    assert made.score([], [], []) == []
    assert made.score([[3]], [[]], [[]])[0].shape == (0,)
    with pytest.raises(Refused, match="^inputs: expected at least 1, found 0; raise it$"):
        made.follow([[3]], [[]])


# ---- shortlists ------------------------------------------------------------------------------------


def random_columns(rng, vocabulary):
    kept = rng.random(vocabulary) < rng.choice([0.05, 0.5, 1.0])
    kept[EOS] = True
    return np.flatnonzero(kept)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_shortlist_is_the_search_without_other_tokens(seed, int8):
    rng = np.random.default_rng(seed)
    model = translator(target=int(rng.choice([9, 70, 200])), tying="none", seed=seed, sharpness=2.0)
    made = engine(model, int8)
    sources = [ids(rng, int(rng.integers(1, 8)), 40) for _ in range(4)]
    columns = [random_columns(rng, made.model.vocabulary) for _ in sources]
    starts, limits = [START] * 4, ids(rng, 4, 10, 1)
    decoding = random_decoding(rng, made.model.vocabulary)
    decoding = decoding.changed(beam=min(decoding.beam, 6), n_best=1, coverage=0.0)
    found = made.search(sources, starts, limits, eos=EOS, decoding=decoding, columns=columns, slots=2)
    expected = reference(Following(made, sources, columns=columns), starts, limits, decoding, False)
    assert [[o.tokens for o in outputs] for outputs in found] == [
        [o.tokens for o in outputs] for outputs in expected
    ]
    for outputs, others, kept in zip(found, expected, columns):
        for a, b in zip(outputs, others):
            np.testing.assert_allclose([a.log_prob, a.score], [b.log_prob, b.score], rtol=1e-5, atol=1e-5)
            assert set(a.tokens) <= set(kept.tolist())


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("size", [24, 64, 84])  # rows of less than 16 values of 4 bytes, of 16, and of more
def test_a_shortlist_of_everything_changes_no_bit(size, int8):
    made = small("translator", int8, embedding=size, hidden=size)
    sources, everything = [[3, 4, 5], [6, 7]], np.arange(50)
    call = {"eos": EOS, "decoding": settings()}
    same_outputs(
        made.search(sources, [1, 1], [9, 9], columns=[everything] * 2, **call),
        made.search(sources, [1, 1], [9, 9], **call),
    )


def test_rules_hold_with_a_shortlist_that_lacks_their_tokens():
    made = small("translator", tying="none", seed=4)
    columns = [np.array([EOS, 5, 8, 13, 21, 34])]
    rules = (MinimumLength(4), ForbiddenTokens([8, 9]), NoRepeatedNgram(1))
    (outputs,) = made.search(
        [[3, 4]], [1], [5], eos=EOS, decoding=settings(rules=rules, stop="all"), columns=columns
    )
    assert outputs
    for output in outputs:
        *words, last = output.tokens
        assert last == EOS and len(words) in (3, 4) and len(set(words)) == len(words)
        assert set(words) <= {5, 13, 21, 34}


def test_a_shortlist_without_the_end_is_refused():
    columns = [np.arange(50), np.array([3, 4])]
    with pytest.raises(Refused) as refusal:
        small("translator").search([[3], [4]], [1, 1], [5, 5], eos=EOS, decoding=settings(), columns=columns)
    assert str(refusal.value) == (
        "columns: expected </s> in every shortlist, found none; make the file again with `seqsru quantize`"
    )


# ---- drawing ---------------------------------------------------------------------------------------


def drawn(made, prompt, start, uniform, max_length, **choice):
    """Draw by the definition, from the engine's log probabilities and given numbers."""
    outputs = []
    for column in range(uniform.shape[1]):
        tokens, total = [], 0.0
        while len(tokens) < max_length and (not tokens or tokens[-1] != EOS):
            log_probs = torch.from_numpy(made.follow([[]], [[*prompt, start, *tokens]]))
            one = torch.tensor([uniform[len(tokens), column]], dtype=torch.float64)
            tokens.append(int(_draw(log_probs, one, *choice.values())[0]))
            total += float(log_probs[0, tokens[-1]])
        outputs.append((tokens, total))
    return outputs


CHOICES = [
    (1.0, 0, 1.0),
    (0.6, 5, 1.0),
    (1.5, 0, 0.7),
    (1.0, 20, 0.5),
    (1.0, 1, 1.0),
    (3.0, 50, 0.99),
    (1e-3, 0, 1.0),
]


@pytest.mark.parametrize("temperature, top_k, top_p", CHOICES)
@pytest.mark.parametrize("int8", [False, True])
def test_what_is_drawn(temperature, top_k, top_p, int8):
    rng = np.random.default_rng(1)
    for seed, vocabulary in enumerate((4, 30, 300)):
        made = engine(language_model(vocabulary=vocabulary, seed=seed, sharpness=2.0), int8)
        uniform = rng.random((9, 7))
        uniform[0, :2] = 0.0, np.nextafter(1.0, 0.0)
        choice = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        found = made.draw([3, 1], 2, 7, eos=EOS, max_length=9, uniform=uniform, slots=3, **choice)
        expected = drawn(made, [3, 1], 2, uniform, 9, **choice)
        assert [(o.tokens, o.log_prob, o.score) for o in found] == [
            (t, total, total) for t, total in expected
        ]


def test_what_is_drawn_of_tokens_that_tie():
    model = language_model(vocabulary=12, tied=False)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    made = engine(model)
    uniform = np.linspace(0.0, 1.0, 13)[None, :-1] + 0.01
    for top_k, top_p, most in [(0, 1.0, 12), (5, 1.0, 5), (0, 0.49, 6), (4, 0.5, 2)]:
        choice = {"temperature": 1.0, "top_k": top_k, "top_p": top_p}
        found = made.draw([], 1, 12, eos=EOS, max_length=1, uniform=uniform, **choice)
        assert [(o.tokens, o.log_prob) for o in found] == drawn(made, [], 1, uniform, 1, **choice)
        assert {o.tokens[0] for o in found} == set(range(most))


def test_a_draw_is_that_of_sample():
    made = small("language_model", sharpness=2.0)
    follow = Following(made, [[]] * 6, [[4, 5]] * 6)
    uniform = np.stack(
        [
            torch.rand(6, generator=generator, dtype=torch.float64)
            for generator in [torch.Generator().manual_seed(3)]
            for _ in range(8)
        ]
    )
    expected = sample(
        follow.step, *follow.begin(), torch.full((6,), START), eos=EOS, max_length=torch.full((6,), 8),
        top_k=9, top_p=0.9, temperature=1.3, generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    found = made.draw(
        [4, 5], START, 6, eos=EOS, max_length=8, uniform=uniform, top_k=9, top_p=0.9, temperature=1.3
    )
    same_outputs([found], [expected])


# ---- the clock -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["translator", "language_model"])
def test_the_clock_marks_the_start_every_step_and_the_end(kind):
    made = small(kind)
    for limit in (1, 6):
        times = np.zeros(20, np.int64)
        decoding = Decoding(beam=1, rules=(MinimumLength(limit),))
        ((output,),) = made.search([[3, 4]], [1], [limit], eos=EOS, decoding=decoding, times=times)
        assert len(output.tokens) == limit and (times > 0).sum() == limit + 2
        assert (np.diff(times[: limit + 2]) > 0).all() and not times[limit + 2 :].any()


def test_the_clock_stops_where_there_is_no_more_room():
    times = np.zeros(8, np.int64)
    small("translator").search(
        [[3, 4]], [1], [9], eos=EOS, decoding=Decoding(beam=1, rules=(MinimumLength(9),)), times=times[:4]
    )
    assert (times > 0).tolist() == [True] * 4 + [False] * 4
