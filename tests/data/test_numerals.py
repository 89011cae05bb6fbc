"""Number words of both languages, checked by hand."""

import pytest

from seqsru.data.numerals import (
    LIMIT,
    english_cardinal,
    english_ordinal,
    english_year,
    german_cardinal,
    german_ordinal,
    german_year,
)

CARDINALS = [
    (0, "zero", "null"),
    (1, "one", "eins"),
    (6, "six", "sechs"),
    (7, "seven", "sieben"),
    (11, "eleven", "elf"),
    (12, "twelve", "zwölf"),
    (13, "thirteen", "dreizehn"),
    (16, "sixteen", "sechzehn"),
    (17, "seventeen", "siebzehn"),
    (18, "eighteen", "achtzehn"),
    (20, "twenty", "zwanzig"),
    (21, "twenty-one", "einundzwanzig"),
    (30, "thirty", "dreißig"),
    (36, "thirty-six", "sechsunddreißig"),
    (40, "forty", "vierzig"),
    (55, "fifty-five", "fünfundfünfzig"),
    (66, "sixty-six", "sechsundsechzig"),
    (77, "seventy-seven", "siebenundsiebzig"),
    (80, "eighty", "achtzig"),
    (99, "ninety-nine", "neunundneunzig"),
    (100, "one hundred", "einhundert"),
    (101, "one hundred and one", "einhunderteins"),
    (112, "one hundred and twelve", "einhundertzwölf"),
    (630, "six hundred and thirty", "sechshundertdreißig"),
    (1000, "one thousand", "eintausend"),
    (1001, "one thousand and one", "eintausendeins"),
    (1100, "one thousand one hundred", "eintausendeinhundert"),
    (2021, "two thousand and twenty-one", "zweitausendeinundzwanzig"),
    (2121, "two thousand one hundred and twenty-one", "zweitausendeinhunderteinundzwanzig"),
    (17_016, "seventeen thousand and sixteen", "siebzehntausendsechzehn"),
    (21_000, "twenty-one thousand", "einundzwanzigtausend"),
    (23_005, "twenty-three thousand and five", "dreiundzwanzigtausendfünf"),
    (100_000, "one hundred thousand", "einhunderttausend"),
    (101_000, "one hundred and one thousand", "einhunderteintausend"),
    (101_101, "one hundred and one thousand one hundred and one", "einhunderteintausendeinhunderteins"),
    (701_066, "seven hundred and one thousand and sixty-six", "siebenhunderteintausendsechsundsechzig"),
    (1_000_000, "one million", "eine Million"),
    (1_000_001, "one million and one", "eine Million eins"),
    (
        2_345_678,
        "two million three hundred and forty-five thousand six hundred and seventy-eight",
        "zwei Millionen dreihundertfünfundvierzigtausendsechshundertachtundsiebzig",
    ),
    (7_001_000, "seven million one thousand", "sieben Millionen eintausend"),
    (21_000_030, "twenty-one million and thirty", "einundzwanzig Millionen dreißig"),
]
ORDINALS = [
    (1, "first", "erste"),
    (2, "second", "zweite"),
    (3, "third", "dritte"),
    (4, "fourth", "vierte"),
    (5, "fifth", "fünfte"),
    (6, "sixth", "sechste"),
    (7, "seventh", "siebte"),
    (8, "eighth", "achte"),
    (9, "ninth", "neunte"),
    (11, "eleventh", "elfte"),
    (12, "twelfth", "zwölfte"),
    (16, "sixteenth", "sechzehnte"),
    (17, "seventeenth", "siebzehnte"),
    (19, "nineteenth", "neunzehnte"),
    (20, "twentieth", "zwanzigste"),
    (21, "twenty-first", "einundzwanzigste"),
    (30, "thirtieth", "dreißigste"),
    (47, "forty-seventh", "siebenundvierzigste"),
    (100, "one hundredth", "einhundertste"),
    (101, "one hundred and first", "einhunderterste"),
    (107, "one hundred and seventh", "einhundertsiebte"),
    (108, "one hundred and eighth", "einhundertachte"),
    (112, "one hundred and twelfth", "einhundertzwölfte"),
    (120, "one hundred and twentieth", "einhundertzwanzigste"),
    (203, "two hundred and third", "zweihundertdritte"),
    (1000, "one thousandth", "eintausendste"),
    (1001, "one thousand and first", "eintausenderste"),
    (8018, "eight thousand and eighteenth", "achttausendachtzehnte"),
]
YEARS = [
    (1100, "eleven hundred", "elfhundert"),
    (1516, "fifteen sixteen", "fünfzehnhundertsechzehn"),
    (1901, "nineteen oh one", "neunzehnhunderteins"),
    (1906, "nineteen oh six", "neunzehnhundertsechs"),
    (1917, "nineteen seventeen", "neunzehnhundertsiebzehn"),
    (1984, "nineteen eighty-four", "neunzehnhundertvierundachtzig"),
    (2000, "two thousand", "zweitausend"),
    (2001, "two thousand and one", "zweitausendeins"),
    (2010, "twenty ten", "zweitausendzehn"),
    (2026, "twenty twenty-six", "zweitausendsechsundzwanzig"),
]


@pytest.mark.parametrize("n, english, german", CARDINALS)
def test_cardinals(n, english, german):
    assert (english_cardinal(n), german_cardinal(n)) == (english, german)


@pytest.mark.parametrize("n, english, german", ORDINALS)
def test_ordinals(n, english, german):
    assert (english_ordinal(n), german_ordinal(n, "e")) == (english, german)
    assert german_ordinal(n, "en") == german + "n"


@pytest.mark.parametrize("year, english, german", YEARS)
def test_years(year, english, german):
    assert (english_year(year), german_year(year)) == (english, german)


def test_every_number_has_words_of_its_own():
    numbers = [*range(30_000), *range(30_000, LIMIT, 99_991)]
    for words in (english_cardinal, german_cardinal):
        assert len({words(n) for n in numbers}) == len(numbers)
    assert len({german_ordinal(n, "e") for n in range(1, 30_000)}) == 29_999
    for words in (english_year, german_year):
        assert len({words(year) for year in range(1100, 2100)}) == 1000


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (english_cardinal, (-1,), "from 0 to 99,999,999, found -1"),
        (german_cardinal, (LIMIT,), "from 0 to 99,999,999, found 100,000,000; no words are known"),
        (english_ordinal, (0,), "from 1 to 99,999,999, found 0"),
        (german_ordinal, (1_000_000, "e"), "from 1 to 999,999, found 1,000,000"),
        (english_year, (1099,), "a year from 1100 to 2099, found 1099"),
        (german_year, (2100,), "a year from 1100 to 2099, found 2100"),
    ],
)
def test_out_of_range(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
