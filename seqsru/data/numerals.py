"""English and German number words: British English with "and", German by the rules of Duden."""

from __future__ import annotations

LIMIT = 100_000_000  # from here on German millions take endings that vary between writers

_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_ENGLISH_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
_ENGLISH_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_GERMAN = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn "
    "sechzehn siebzehn achtzehn neunzehn"
).split()
_GERMAN_TENS = "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
_GERMAN_ORDINALS = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}


def english_cardinal(n: int) -> str:
    """Return `n`, 0 ≤ n < 100,000,000, in words: 23005 is ``twenty-three thousand and five``."""
    _check(n)
    if n < 20:
        return _ENGLISH[n]
    if n < 100:
        return _ENGLISH_TENS[n // 10] + ("-" + _ENGLISH[n % 10] if n % 10 else "")
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            head, rest = f"{english_cardinal(n // size)} {name}", n % size
            break
    if not rest:
        return head
    return head + (" and " if rest < 100 else " ") + english_cardinal(rest)


def english_ordinal(n: int) -> str:
    """Return the ordinal of `n` ≥ 1 in words: 101 is ``one hundred and first``."""
    _check(n, 1)
    cardinal = english_cardinal(n)
    cut = max(cardinal.rfind(" "), cardinal.rfind("-")) + 1
    last = cardinal[cut:]
    ordinal = _ENGLISH_ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return cardinal[:cut] + ordinal


def english_year(year: int) -> str:
    """Return a year from 1100 to 2099 as it is said: ``nineteen oh five``, ``twenty ten``."""
    _check_year(year)
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return english_cardinal(year)
    said = "hundred" if rest == 0 else f"oh {_ENGLISH[rest]}" if rest < 10 else english_cardinal(rest)
    return f"{english_cardinal(century)} {said}"


def german_cardinal(n: int) -> str:
    """Return `n`, 0 ≤ n < 100,000,000, in words: 23005 is ``dreiundzwanzigtausendfünf``.

    Below a million it is one word; ``Million`` is a noun. 100 and 1000 are ``einhundert`` and ``eintausend``.
    """
    _check(n)
    millions, rest = divmod(n, 1_000_000)
    words = []
    if millions:
        words.append("eine Million" if millions == 1 else f"{_german_stem(millions)} Millionen")
    if rest or not millions:
        words.append(_german_stem(rest) + ("s" if rest % 100 == 1 else ""))  # the last of the word: eins
    return " ".join(words)


def german_ordinal(n: int, ending: str) -> str:
    """Return the ordinal of 1 ≤ n < 1,000,000, `ending` being e or en: 101 is ``einhunderterste``."""
    _check(n, 1, 1_000_000)
    higher, last = n - n % 100, n % 100
    if 0 < last < 20:
        stem = _GERMAN_ORDINALS.get(last) or _GERMAN[last] + "t"
        return (_german_stem(higher) if higher else "") + stem + ending
    return _german_stem(n) + "st" + ending


def german_year(year: int) -> str:
    """Return a year from 1100 to 2099 as it is said: ``neunzehnhundertfünf``, ``zweitausendfünf``."""
    _check_year(year)
    century, rest = divmod(year, 100)
    if century >= 20:
        return german_cardinal(year)
    return f"{_german_stem(century)}hundert" + (german_cardinal(rest) if rest else "")


def _german_stem(n: int) -> str:
    """Return 0 ≤ n < 1,000,000 as the beginning of a longer word: 1 is ``ein``."""
    if n < 20:
        return _GERMAN[n]
    if n < 100:
        return (f"{_GERMAN[n % 10]}und" if n % 10 else "") + _GERMAN_TENS[n // 10]
    size, name = (1000, "tausend") if n >= 1000 else (100, "hundert")
    return _german_stem(n // size) + name + (_german_stem(n % size) if n % size else "")


def _check(n: int, least: int = 0, limit: int = LIMIT) -> None:
    if not least <= n < limit:
        raise ValueError(
            f"expected a number from {least:,} to {limit - 1:,}, found {n:,}; no words are known for others"
        )


def _check_year(year: int) -> None:
    if not 1100 <= year < 2100:
        raise ValueError(f"expected a year from 1100 to 2099, found {year}; others are not said in one way")
