"""What a signature says of a search: every field that the output depends on."""

from dataclasses import fields, replace

import pytest

from seqsru.decoding import RULES, Decoding, ForbiddenTokens, MinimumLength, NoRepeatedNgram, Rule
from seqsru.decoding.decoding import NEUTRAL
from seqsru.evaluation.signature import signature

OTHER = {
    "beam": 4,
    "penalty": "gnmt",
    "alpha": 1.0000001,
    "coverage": 0.2,
    "stop": "exact",
    "n_best": 2,
    "length_factor": 2.5,
    "length_offset": 11,
    "max_source": 1000,
    "batch_size": 7,
    "batch_by": "tokens",
    "rules": (MinimumLength(2),),
    "guard": "tidy,numbers",
}


def line(**changes):
    return signature(replace(Decoding(), **changes).signature_fields())


@pytest.mark.parametrize("name", [one.name for one in fields(Decoding)])
def test_every_field_that_the_output_depends_on_is_in_it(name):
    """A field that is new fails here until `OTHER` has a value for it."""
    assert (line(**{name: OTHER[name]}) == line()) == (name in NEUTRAL)


def test_it_is_read_at_a_glance():
    assert line() == (
        signature({})
        + "|beam:5|penalty:power|alpha:1.0|coverage:0.0|stop:first|length_factor:2.0|length_offset:10|"
        "max_source:1024|guard:none|rules:none"
    )


def test_rules_are_told_apart_by_their_kind_their_settings_and_their_order():
    chosen = [
        (),
        (MinimumLength(2),),
        (MinimumLength(3),),
        (NoRepeatedNgram(2),),
        (ForbiddenTokens([2]),),
        (ForbiddenTokens([2, 3]),),
        (MinimumLength(2), NoRepeatedNgram(2)),
        (NoRepeatedNgram(2), MinimumLength(2)),
    ]
    lines = [line(rules=rules) for rules in chosen]
    assert len(set(lines)) == len(chosen)
    assert lines[-1].endswith("|rules:no_repeat_ngram.size=2+min_length.length=2")
    assert lines[5].endswith("|rules:forbid.tokens=[2,3]")


def test_every_rule_has_its_name():
    made = {"min_length": [2], "forbid": [[2]], "no_repeat_ngram": [2]}
    for name, rule in RULES.items():
        assert str(rule(*made[name])).startswith(f"{name}.")


def test_a_rule_of_ones_own_is_called_by_its_class():
    class Own(Rule):
        def __call__(self, log_probs, history, eos):
            return log_probs

    assert line(rules=(Own(),)).endswith("|rules:Own")
