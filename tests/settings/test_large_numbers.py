"""Numbers that are larger than any use of them."""

import pytest

from seqsru.errors import Refused
from seqsru.settings import from_signature, resolve


def options(*, steps: int = 1):
    """Some settings."""


def test_a_number_of_thousands_of_digits_is_no_whole_number():
    with pytest.raises(
        Refused,
        match="^command line: steps: expected a number below 1.8e308, found "
        + "9" * 40
        + r"… \(5,000 characters\); give such a number$",
    ):
        resolve(from_signature(options), ["steps=" + "9" * 5000])
