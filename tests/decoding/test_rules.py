"""Rules: each does what it says, leaves its input alone, and works inside a search."""

import pytest
import torch

from seqsru.decoding import RULES, Decoding, ForbiddenTokens, MinimumLength, NoRepeatedNgram, beam_search
from seqsru.errors import Refused
from tests.decoding.fakes import EOS, Fake

EXAMPLES = {"min_length": {"length": 4}, "forbid": {"tokens": [2, 3]}, "no_repeat_ngram": {"size": 2}}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_decodes(name):
    fake = Fake(6, 3, seed=2, sharpness=2.0)
    memory, state = fake.begin()
    found = beam_search(
        fake.step,
        memory,
        state,
        fake.start(),
        eos=EOS,
        max_length=torch.tensor([9, 9, 9]),
        decoding=Decoding(beam=4, stop="all", n_best=4, rules=(RULES[name](**EXAMPLES[name]),)),
    )
    for hypotheses in found:
        for hypothesis in hypotheses:
            tokens = hypothesis.tokens
            pairs = list(zip(tokens, tokens[1:]))
            assert {
                "min_length": len(tokens) >= 4,
                "forbid": not {2, 3} & set(tokens),
                "no_repeat_ngram": len(set(pairs)) == len(pairs),
            }[name]


@pytest.mark.parametrize(
    "rule, history, forbidden",
    [
        (MinimumLength(3), [[4]], {0}),
        (MinimumLength(2), [[4]], set()),
        (ForbiddenTokens([1, 3]), [[4]], {1, 3}),
        (NoRepeatedNgram(1), [[4, 2]], {2, 4}),
        (NoRepeatedNgram(2), [[1, 2, 3, 1]], {2}),
        (NoRepeatedNgram(2), [[1]], set()),
        (NoRepeatedNgram(3), [[1, 2, 3, 1, 2, 4, 1, 2]], {3, 4}),
        (NoRepeatedNgram(2), [[3, 0, 3]], set()),
    ],
)
def test_forbidden_tokens(rule, history, forbidden):
    log_probs = torch.zeros(1, 5)
    limited = rule(log_probs, torch.tensor(history), EOS)
    assert {token for token in range(5) if limited[0, token] == -torch.inf} == forbidden
    assert torch.equal(log_probs, torch.zeros(1, 5))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MinimumLength(0), "length: expected at least 1, found 0; leave the rule min_length out"),
        (
            lambda: ForbiddenTokens([]),
            "tokens: expected at least one token number, found none; leave the rule forbid out",
        ),
        (
            lambda: NoRepeatedNgram(0),
            "size: expected at least 1, found 0; leave the rule no_repeat_ngram out",
        ),
        (
            lambda: ForbiddenTokens([7])(torch.zeros(1, 5), torch.zeros(1, 0), 0),
            r"tokens: expected token numbers from 0 to 4, found \[7\]; take them from the target tokenizer",
        ),
    ],
)
def test_impossible_rules(make, message):
    with pytest.raises(Refused, match=message):
        make()
