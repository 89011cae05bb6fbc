"""A sentence gives the same bits whatever is beside it, before it, or in the memory it is worked on in."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from seqsru.decoding import Decoding, MinimumLength
from seqsru.engine import workspace
from seqsru.engine.inference import Engine
from seqsru.engine.workspace import CACHED, Size, _weights, together
from seqsru.errors import Refused
from tests.engine.tiny_models import EOS, START, ids, lowered, same_outputs, small, translator

CELLS = ("sru", "lstm", "gru", "qrnn", "conv", "ssru", "mingru", "minlstm")
CALL = {"eos": EOS}
over_precisions = pytest.mark.parametrize("int8", [False, True])


def fresh(cell="sru", int8=False, kind="translator", **settings):
    """Make an engine of a small model that has no memory yet."""
    return Engine(small(kind, int8, cell=cell, **settings).model)


def sentences(seed=0, count=9):
    rng = np.random.default_rng(seed)
    return [ids(rng, int(rng.integers(1, 25)), 40) for _ in range(count)]


def search(made, sources, slots, **changes):
    decoding = Decoding(**{"beam": 3, "n_best": 3, **changes})
    limits = [len(source) + 4 for source in sources]
    return made.search(
        sources, [START] * len(sources), limits, decoding=decoding, slots=slots, attention=True, **CALL
    )


def test_as_many_sentences_at_once_as_the_cache_holds(monkeypatch):
    model = small("translator", True).model
    size = Size(slots=40, beam=1, room=25, longest=25)
    assert together(model, size) == 40  # all that are asked for
    each = 4 * (model.memory * 32 + 2 * model.decoder.state)
    assert _weights(model, size) < CACHED
    monkeypatch.setattr(workspace, "_weights", lambda *_: 0)
    for held, beam, expected in ((3, 1, 6), (13, 1, 12), (19, 1, 18), (10**6, 1, 40), (0, 1, 6), (0, 3, 2)):
        monkeypatch.setattr(workspace, "CACHED", held * each)
        assert together(model, replace(size, beam=beam)) == expected
    assert together(model, replace(size, slots=4)) == 4
    with_shortlist = replace(size, columns=600)
    monkeypatch.setattr(workspace, "CACHED", 40 * each)
    assert together(model, size) == 36 and together(model, with_shortlist) < 36
    monkeypatch.setattr(workspace, "_weights", lambda *_: 50 * each)
    assert together(model, size) == 40


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("cell", ["sru", "lstm", "gru"])
def test_the_weights_that_a_step_reads(cell, int8):
    torch_model = translator(cell=cell)
    model = lowered(torch_model, int8)
    matrices = [
        tensor
        for name, tensor in torch_model.decoder.named_parameters()
        if tensor.dim() == 2 and not any(part in name for part in ("key", "value", "bridge", ".v"))
    ]
    read = sum(-(-max(t.shape) // 64) * 64 * min(t.shape) for t in matrices)
    found = _weights(model, Size(columns=60))
    assert 0.9 * read <= found / (1 if int8 else 4) <= 1.1 * read
    with_output = _weights(model, Size())
    assert with_output - found == 24 * 64 * (1 if int8 else 4)


@pytest.mark.parametrize("columns", [False, True])
def test_fewer_sentences_at_once_change_no_bit(monkeypatch, columns):
    sources = sentences(count=17)
    call = {"decoding": Decoding(beam=2), "slots": 17, **CALL}
    if columns:
        call["columns"] = [np.arange(index % 3, 50, 1 + index % 2) for index in range(17)]
        call["columns"] = [np.union1d(ids_, [EOS]) for ids_ in call["columns"]]
    limits = [20] * 17
    whole = fresh(int8=True).search(sources, [START] * 17, limits, **call)
    monkeypatch.setattr(workspace, "CACHED", 0)
    monkeypatch.setattr(workspace, "_weights", lambda *_: 0)
    made = fresh(int8=True)
    same_outputs(made.search(sources, [START] * 17, limits, **call), whole)
    assert made._workspaces[0].size.slots == 3


@over_precisions
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_slots_and_order(cell, int8, attention):
    additive = {"attention": attention} if attention == "additive" else {"attention_options": {"heads": 3}}
    model = lowered(translator(cell, decoder=additive), int8)
    made, sources = Engine(model), sentences()
    alone = [search(Engine(model), [source], 1)[0] for source in sources]
    for slots in range(1, 8):
        same_outputs(search(made, sources, slots), alone)
    shuffled = np.random.default_rng(1).permutation(9)
    for order in (shuffled, range(8, -1, -1), sorted(range(9), key=lambda i: -len(sources[i]))):
        found = search(made, [sources[i] for i in order], 4)
        same_outputs(found, [alone[i] for i in order])


@over_precisions
def test_beams_do_not_show_in_what_is_greedy(int8):
    made = fresh(int8=int8)
    sources = sentences(2)
    # An output found by a wide beam scores as the same tokens do when they are given.
    for outputs, source in zip(search(made, sources, 3, beam=12, n_best=12), sources):
        for output in outputs[:4]:
            (nll,) = made.score([source], [[START, *output.tokens[:-1]]], [output.tokens])
            total = 0.0
            for one in nll.tolist():
                total -= one
            assert total == output.log_prob


@over_precisions
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["translator", "language_model"])
def test_scores_are_those_of_steps(cell, int8, kind):
    made = fresh(cell, int8, kind)
    rng = np.random.default_rng(0)
    source = [] if kind == "language_model" else ids(rng, 9, 40)
    inputs, targets = ids(rng, 40, 50), ids(rng, 40, 50)
    (nll,) = made.score([source], [inputs], [targets])
    steps = made.follow([source] * 40, [inputs[: n + 1] for n in range(40)])
    np.testing.assert_array_equal(-nll, steps[np.arange(40), targets].astype(np.float64))


@over_precisions
@pytest.mark.parametrize("cell", CELLS)
def test_a_prompt_is_read_as_tokens_are_generated(cell, int8):
    made = fresh(cell, int8, "language_model")
    decoding = Decoding(beam=2, n_best=2, rules=(MinimumLength(9),))
    ((whole, _),) = made.search([[3, 4]], [5], [9], decoding=decoding, **CALL)
    (nll,) = made.score([[]], [[3, 4, 5, *whole.tokens[:-1]]], [[4, 5, *whole.tokens]])
    total = 0.0
    for one in nll[2:].tolist():
        total -= one
    assert total == whole.log_prob


@over_precisions
@pytest.mark.parametrize("cell", CELLS)
def test_a_state_that_is_carried(cell, int8):
    made = fresh(cell, int8, "language_model")
    tokens = ids(np.random.default_rng(0), 61, 50)
    (whole,) = made.score([[]], [tokens[:-1]], [tokens[1:]])
    for cuts in ([0, 1, 2, 30, 60], [0, 31, 60], list(range(61))):
        pieces = list(zip(cuts[:-1], cuts[1:]))
        for _ in range(2):  # nothing is left of the call before
            found = made.score(
                [[]] * len(pieces),
                [tokens[a:b] for a, b in pieces],
                [tokens[a + 1 : b + 1] for a, b in pieces],
                carried=True,
            )
            np.testing.assert_array_equal(np.concatenate(found), whole)


@over_precisions
@pytest.mark.parametrize("kind", ["translator", "language_model"])
def test_sentences_that_are_scored_together(int8, kind):
    made = fresh("lstm", int8, kind)
    rng = np.random.default_rng(0)
    sources = sentences(1) if kind == "translator" else [[]] * 9
    inputs = [ids(rng, int(rng.integers(0, 40)), 50) for _ in sources]
    targets = [ids(rng, len(read), 50) for read in inputs]
    alone = [fresh("lstm", int8, kind).score([s], [a], [b])[0] for s, a, b in zip(sources, inputs, targets)]
    for order in (range(9), range(8, -1, -1)):
        found = made.score(*([side[i] for i in order] for side in (sources, inputs, targets)))
        for place, i in enumerate(order):
            np.testing.assert_array_equal(found[place], alone[i])


@over_precisions
@pytest.mark.parametrize("cell", CELLS)
def test_memory_that_is_used_again(cell, int8):
    made = fresh(cell, int8)
    plan = [sentences(seed, count) for seed, count in enumerate([1, 9, 2, 5, 1])]
    plan[2] = [[1] * 60, [2] * 3]  # longer than any
    expected = [[search(fresh(cell, int8), [source], 1)[0] for source in sources] for sources in plan]
    for _ in range(2):
        for sources, outputs in zip(plan, expected):
            same_outputs(search(made, sources, 3), outputs)
            search(made, sources, 3, beam=5, n_best=1)  # another memory between
            made.score(sources, [[1, 2, 3]] * len(sources), [[4, 5, 6]] * len(sources))
    assert len(made._workspaces) <= 4


@over_precisions
def test_shortlists_of_neighbours(int8):
    made = fresh(int8=int8, tying="none")
    sources, rng = sentences(3), np.random.default_rng(0)
    columns = [np.union1d([EOS], ids(rng, int(rng.integers(1, 60)), 50)) for _ in sources]
    call = {"decoding": Decoding(beam=3, n_best=3, coverage=0.1), **CALL}

    def found(made, order, slots):
        return made.search(
            [sources[i] for i in order], [START] * len(order), [12] * len(order),
            columns=[columns[i] for i in order], slots=slots, **call,
        )  # fmt: skip

    alone = [found(fresh(int8=int8, tying="none"), [i], 1)[0] for i in range(9)]
    for slots in range(1, 8):
        same_outputs(found(made, range(9), slots), alone)
    same_outputs(found(made, range(8, -1, -1), 4), alone[::-1])


@over_precisions
def test_draws_do_not_depend_on_slots(int8):
    made = fresh("sru", int8, "language_model", sharpness=2.0)
    uniform = np.random.default_rng(0).random((12, 10))
    choice = {"max_length": 12, "temperature": 1.2, "top_k": 20, "top_p": 0.95, **CALL}
    alone = [made.draw([3, 4], 5, 1, uniform=uniform[:, i : i + 1], **choice)[0] for i in range(10)]
    for slots in (1, 2, 3, 7, 10, 32):
        same_outputs([made.draw([3, 4], 5, 10, uniform=uniform, slots=slots, **choice)], [alone])


@over_precisions
def test_threads_with_an_engine_each(int8):
    sources = [sentences(seed, 6) for seed in range(12)]
    expected = [search(fresh("lstm", int8), part, 2) for part in sources]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(lambda part: search(fresh("lstm", int8), part, 3), sources))
            for a, b in zip(found, expected):
                same_outputs(a, b)


def test_what_does_not_fit_in_memory_is_refused():
    for size in (
        Size(slots=10**6, beam=10**5, longest=10**6),
        Size(beam=10**5, longest=10**9, room=10**6, keep=True),
    ):
        with pytest.raises(Refused) as refusal:
            fresh()._space(size)
        assert str(refusal.value) == (
            f"beam: expected a search that fits in memory, found {size.slots} x {size.beam} outputs of "
            f"{size.longest} tokens at once; lower beam, batch_size or the longest output"
        )


def test_a_workspace_does_for_what_is_smaller():
    large = Size(slots=4, beam=3, room=30, longest=40, steps=9, n_best=2, keep=True, columns=70).rounded()
    assert large.covers(
        Size(slots=2, beam=3, room=32, longest=48, steps=16, n_best=2, keep=True, columns=128)
    )
    for change in (
        {"beam": 2},
        {"n_best": 1},
        {"keep": False},
        {"slots": 5},
        {"room": 33},
        {"longest": 49},
        {"steps": 17},
        {"columns": 129},
        {"columns": 0},
    ):
        smaller = {"slots": 1, "beam": 3, "n_best": 2, "keep": True, "columns": 1, **change}
        assert not large.covers(Size(**smaller)), change
