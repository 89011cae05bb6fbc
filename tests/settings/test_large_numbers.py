"""Whole numbers that are larger than any use of them."""

import pytest

from seqsru.errors import Refused
from seqsru.settings import SettingsError, from_signature, resolve


def options(*, steps: int = 1, rate: float = 1.0, name: str | None = None):
    """Some settings."""


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**40 - 1])
@pytest.mark.parametrize("name", ["steps", "rate"])
def test_whole_numbers_have_64_bits(name, value):
    with pytest.raises(SettingsError) as caught:
        resolve(from_signature(options), [f"{name}={value}"])
    assert str(caught.value) == (
        f"command line: {name}: expected a number of 64 bits, found {value}; give a smaller one"
    )


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63)])
def test_the_largest_are_known(value):
    assert resolve(from_signature(options), [f"steps={value}"])["steps"] == value


def test_a_number_of_thousands_of_digits_is_no_whole_number():
    with pytest.raises(Refused, match="^command line: steps: expected a whole number, found inf; change it$"):
        resolve(from_signature(options), ["steps=" + "9" * 5000])
