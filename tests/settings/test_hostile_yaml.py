"""YAML that is too much: refused at once, with the line; each in a fraction of a second."""

import re

import pytest

from seqsru import settings as strict
from seqsru.settings import Section, Setting, SettingsError

SCHEMA = Section({"seed": Setting(int, 1), "rate": Setting(float, 1.0), "name": Setting(str, "a")})
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


MANY = "expected at most 20,000 values, 50 in one another, aliases followed, found more; remove aliases or "
DEEP = r"expected YAML, found a mistake \(more than 50 in one another\); check indentation, colons, brackets "


@pytest.mark.parametrize(
    "text, told",
    [
        (BOMB, f"1: a12: {MANY}"),
        (f"name: a\nx: &a [{'x, ' * 999}x]\ny: [{'*a, ' * 99}*a]\n", f"2: y: {MANY}"),
        ("name: a\nx: " + "[" * 90_000, f"2: {DEEP}"),
        ("name: a\nx: " + "{a: " * 90_000, f"2: {DEEP}"),
        ("".join(f"{' ' * n}a:\n" for n in range(900)), f"50: {DEEP}"),
        (
            "#" * 9_000_000,
            "1: expected settings of at most 1 MiB, found a larger file; name a file of settings$",
        ),
        (
            "seed: " + "9" * 5000,
            r"1: seed: expected a number below 1.8e308, found 9{40}… \(5,000 characters\); ",
        ),
        (
            "name: [\nb, " + "7" * 999 + "]",
            r"2: name: expected a number below 1.8e308, found 7{40}… \(999 char",
        ),
        ("rate: 1e400", "1: rate: expected a number below 1.8e308, found 1e400; give such a number$"),
        ("rate: -.inf", "1: rate: expected a finite number, found -inf; give such a number$"),
        ('name: a\nseed: "\\UFFFFFFFF"', "2: expected YAML, found an escape of no character; remove it$"),
        ('name: "\\ud800"', "1: name: expected text, found half of a character's escape; remove it$"),
    ],
)
def test_too_much(tmp_path, text, told):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        strict.load(path, SCHEMA)
    assert re.match(re.escape(str(path)) + ":" + told, str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 5000


def test_what_is_within_the_limits_is_read(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text("name: &a b\nseed: 18446744073709551615\nrate: 1e300\n" + "#" * 100_000)
    assert dict(strict.load(path, SCHEMA)) == {"name": "b", "seed": 2**64 - 1, "rate": 1e300}


def test_an_endless_file_is_read_no_further():
    with pytest.raises(
        SettingsError, match="^/dev/zero:1: expected settings of at most 1 MiB, found a larger"
    ):
        strict.load("/dev/zero", SCHEMA)
