"""Settings and flags of a search: the fields of `Decoding`, and the rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from seqsru.decoding import RULES, Decoding, Rule
from seqsru.errors import Refused
from seqsru.settings import REQUIRED, Maker, Section, Setting, from_signature, resolve


def _active(**chosen: Rule | None) -> tuple[Rule, ...]:
    return tuple(rule for rule in chosen.values() if rule is not None)


def rules_section() -> Section:
    """The rules of the search, each of them off unless it is given; what they make is a tuple."""
    entries = {name: from_signature(rule, optional=True) for name, rule in RULES.items()}
    return Section(entries, "Tokens that may not be generated.", makers=(Maker(_active, tuple(entries)),))


def decoding_section(text: str) -> Section:
    """Settings of a `Decoding`, rules included."""
    return replace(from_signature(Decoding, sections={"rules": rules_section()}), text=text)


def search_flags(skip: Iterable[str] = ()) -> Section:
    """The flags of a search: the fields of `Decoding` but those of ``skip``, and ``--rule``."""
    rule = Setting(
        list[str],
        [],
        "NAME.OPTION=VALUE: a rule for the search besides the run's, such as no_repeat_ngram.size=3; of "
        f"{', '.join(RULES)}.",
    )
    fields = from_signature(Decoding, skip=["rules", *skip])
    runs = {
        name: replace(setting, default=REQUIRED, text=f"{setting.text} Default: the run's.")
        for name, setting in fields.entries.items()
        if isinstance(setting, Setting)
    }
    return replace(fields, entries={**runs, "rule": rule})


def searched(decoding: Decoding, flags: dict[str, Any]) -> Decoding:
    """A decoding with the flags that were given; rules are added to its own."""
    changes = dict(flags)
    if "alpha" in changes and changes.get("penalty", decoding.penalty) == "none":
        do = "leave it out, or take --penalty power or gnmt"
        raise Refused("a length penalty with an exponent", "penalty none", do, "alpha")
    rules: tuple[Rule, ...] = resolve(rules_section(), changes.pop("rule", [])).make()
    return decoding.changed(**changes, rules=(*decoding.rules, *rules))
