"""Phrases about numbers, dates and times, each drawn with its one right translation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from seqsru.data.numerals import (
    english_cardinal,
    english_ordinal,
    english_year,
    german_cardinal,
    german_ordinal,
    german_year,
)

Item = TypeVar("Item")


class Pair(NamedTuple):
    """A phrase and its translation."""

    english: str
    german: str


class Picker:
    """Choices drawn from `Random.random` alone: the one method whose sequence Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def number(self, low: int, high: int) -> int:
        """Return low ≤ n ≤ high."""
        return low + int(self._random() * (high - low + 1))

    def of(self, items: Sequence[Item]) -> Item:
        return items[self.number(0, len(items) - 1)]

    def chance(self, share: float) -> bool:
        return self._random() < share


# ---- numbers ---------------------------------------------------------------------------------------------


def _number(pick: Picker, digits: int) -> int:
    """Return a number of up to `digits` digits, any length as likely, many of them with zeros inside."""
    length = pick.number(1, digits)
    n = pick.number(10 ** (length - 1) if length > 1 else 0, 10**length - 1)
    while pick.chance(0.4):
        place = 10 ** pick.number(0, length - 1)
        n -= n // place % 10 * place
    return n


def _cardinal(pick: Picker) -> Pair:
    n = max(1, _number(pick, 7))  # zero would be one phrase, learnt from no other
    english, german = english_cardinal(n), german_cardinal(n)
    if english.startswith(("one hundred", "one thousand")) and pick.chance(0.3):
        return Pair("a" + english.removeprefix("one"), german.removeprefix("ein"))
    return Pair(english, german)


_COUNTED = (
    ("day", "der", "Tag"),
    ("month", "der", "Monat"),
    ("week", "die", "Woche"),
    ("hour", "die", "Stunde"),
    ("minute", "die", "Minute"),
    ("year", "das", "Jahr"),
    ("decade", "das", "Jahrzehnt"),
    ("century", "das", "Jahrhundert"),
)


def _ordinal(pick: Picker) -> Pair:
    n = max(1, _number(pick, 4))
    english, article, german = pick.of(_COUNTED)
    return Pair(f"the {english_ordinal(n)} {english}", f"{article} {german_ordinal(n, 'e')} {german}")


# ---- years and dates -------------------------------------------------------------------------------------

_MONTHS = (
    ("January", "Januar", 31),
    ("February", "Februar", 29),
    ("March", "März", 31),
    ("April", "April", 30),
    ("May", "Mai", 31),
    ("June", "Juni", 30),
    ("July", "Juli", 31),
    ("August", "August", 31),
    ("September", "September", 30),
    ("October", "Oktober", 31),
    ("November", "November", 30),
    ("December", "Dezember", 31),
)
_WEEKDAYS = (
    ("Monday", "Montag"),
    ("Tuesday", "Dienstag"),
    ("Wednesday", "Mittwoch"),
    ("Thursday", "Donnerstag"),
    ("Friday", "Freitag"),
    ("Saturday", "Samstag"),
    ("Sunday", "Sonntag"),
)


def _year(pick: Picker) -> Pair:
    year = pick.number(1100, 2098)
    english, german = english_year(year), german_year(year)
    if pick.chance(0.5):
        other = pick.number(year + 1, 2099)
        return Pair(f"from {english} to {english_year(other)}", f"von {german} bis {german_year(other)}")
    before, davor = pick.of(
        (
            ("in", "im Jahr"),
            ("since", "seit"),
            ("before", "vor"),
            ("after", "nach"),
            ("until", "bis"),
            ("the year", "das Jahr"),
        )
    )
    return Pair(f"{before} {english}", f"{davor} {german}")


def _month_and_days(pick: Picker) -> tuple[str, str, int, int]:
    english, german, days = pick.of(_MONTHS)
    return english, german, pick.number(1, days), days


def _date(pick: Picker) -> Pair:
    month, monat, day, days = _month_and_days(pick)
    the, en = f"the {english_ordinal(day)}", german_ordinal(day, "en")
    year, jahr = "", ""
    if pick.chance(0.4):
        n = pick.number(1100, 2099)
        year, jahr = f" {english_year(n)}", f" {german_year(n)}"
    weekday, wochentag = pick.of(_WEEKDAYS)
    form = pick.number(0, 5)
    if form == 0:
        return Pair(f"{the} of {month}{year}", f"der {german_ordinal(day, 'e')} {monat}{jahr}")
    if form == 1:
        return Pair(
            f"{weekday} {the} of {month}{year}", f"{wochentag}, der {german_ordinal(day, 'e')} {monat}{jahr}"
        )
    if form == 2:
        return Pair(f"on {weekday} {the} of {month}{year}", f"am {wochentag}, dem {en} {monat}{jahr}")
    if form == 3:
        before, davor = pick.of(
            (
                ("on", "am"),
                ("since", "seit dem"),
                ("until", "bis zum"),
                ("before", "vor dem"),
                ("after", "nach dem"),
            )
        )
        return Pair(f"{before} {the} of {month}{year}", f"{davor} {en} {monat}{jahr}")
    if form == 4:
        last = pick.number(min(day, days - 1) + 1, days)
        return Pair(
            f"from {the} to the {english_ordinal(last)} of {month}{year}",
            f"vom {en} bis zum {german_ordinal(last, 'en')} {monat}{jahr}",
        )
    month2, monat2, day2, _ = _month_and_days(pick)
    return Pair(
        f"from {the} of {month} to the {english_ordinal(day2)} of {month2}{year}",
        f"vom {en} {monat} bis zum {german_ordinal(day2, 'en')} {monat2}{jahr}",
    )


# ---- times -----------------------------------------------------------------------------------------------


def _clock(pick: Picker, hour: int) -> Pair:
    """Return a time of the twelve-hour clock within the hour from `hour`, 1 to 12."""
    after = hour % 12 + 1
    now, then = english_cardinal(hour), english_cardinal(after)
    jetzt, dann = german_cardinal(hour), german_cardinal(after)
    form = pick.number(0, 5)
    if form == 0:
        return Pair(f"{now} o'clock", f"{jetzt.removesuffix('s') if hour == 1 else jetzt} Uhr")
    if form == 1:
        return Pair(f"half past {now}", f"halb {dann}")
    if form == 2:
        return Pair(f"quarter past {now}", f"Viertel nach {jetzt}")
    if form == 3:
        return Pair(f"quarter to {then}", f"Viertel vor {dann}")
    minutes = pick.number(1, 29)
    if minutes % 5:
        said, gesagt = f"{english_cardinal(minutes)} minutes", f"{german_cardinal(minutes)} Minuten"
        if minutes == 1:
            said, gesagt = "one minute", "eine Minute"
    else:
        said, gesagt = english_cardinal(minutes), german_cardinal(minutes)
    return (
        Pair(f"{said} past {now}", f"{gesagt} nach {jetzt}")
        if form == 4
        else Pair(f"{said} to {then}", f"{gesagt} vor {dann}")
    )


# The part of a day, how German says it alone and after a weekday, and hours whose every minute lies in it.
_PARTS = (
    ("morning", "morgens", "morgen", range(5, 11)),
    ("afternoon", "nachmittags", "nachmittag", range(2, 6)),
    ("evening", "abends", "abend", range(6, 11)),
)


def _time(pick: Picker) -> Pair:
    weekday, wochentag = pick.of(_WEEKDAYS)
    form = pick.number(0, 6)
    if form == 0:  # the twenty-four-hour clock
        hour, minute = pick.number(13, 23), pick.number(1, 59)
        said = f"oh {english_cardinal(minute)}" if minute < 10 else english_cardinal(minute)
        return Pair(
            f"on {weekday} at {english_cardinal(hour)} {said}",
            f"am {wochentag} um {german_cardinal(hour)} Uhr {german_cardinal(minute)}",
        )
    if form in (1, 2):
        part, alone, joined, hours = pick.of(_PARTS)
        time = _clock(pick, pick.of(hours))
        if form == 1:
            return Pair(f"at {time.english} in the {part}", f"um {time.german} {alone}")
        return Pair(f"on {weekday} {part} at {time.english}", f"am {wochentag}{joined} um {time.german}")
    time = _clock(pick, pick.number(1, 12))
    if form == 3:
        return Pair(f"on {weekday} at {time.english}", f"am {wochentag} um {time.german}")
    if form in (4, 5):
        other = _clock(pick, pick.number(1, 12))
        return Pair(f"from {time.english} to {other.english}", f"von {time.german} bis {other.german}")
    before, davor = pick.of((("", ""), ("at ", "um "), ("since ", "seit "), ("until ", "bis ")))
    return Pair(f"{before}{time.english}", f"{davor}{time.german}")


# Each as likely as often as it stands here.
KINDS: tuple[Callable[[Picker], Pair], ...] = (
    _cardinal,
    _cardinal,
    _ordinal,
    _year,
    _date,
    _date,
    _time,
    _time,
)
