"""The width that is solved for is the one that trying them all finds."""

import random

import pytest

from seqsru.comparing.widths import Width, solved
from seqsru.errors import Refused


def brute(size, wanted, multiple, most=4096):
    """The nearest width of all; of two as near the narrower one."""
    sizes = []
    for width in range(multiple, most, multiple):
        try:
            sizes.append((abs(size(width) - wanted), width, size(width)))
        except Refused:
            continue
    _, width, parameters = min(sizes)
    return Width(width, parameters)


@pytest.mark.parametrize("multiple", [1, 2, 4, 12])
def test_it_is_the_nearest_of_all(multiple):
    draw = random.Random(multiple)
    for _ in range(60):
        square, line, fixed = draw.randint(0, 9), draw.randint(1, 500), draw.randint(0, 10_000)

        def size(width, square=square, line=line, fixed=fixed):
            return square * width * width + line * width + fixed

        wanted = size(multiple * draw.randint(1, 200)) + draw.randint(-400, 400)
        wanted = max(1, wanted)
        assert solved(size, wanted, 1e9, multiple, "hidden") == brute(size, wanted, multiple)


@pytest.mark.parametrize("step", [3, 5, 8])
def test_widths_that_a_model_cannot_have_are_passed_over(step):
    def size(width):
        if width % step:
            raise Refused(f"a multiple of {step}", width, "change it", "hidden_size")
        return 7 * width * width + 11

    for wanted in (200, 3000, 12_345, 900_000):
        assert solved(size, wanted, 1e9, 1, "hidden") == brute(size, wanted, 1)


def test_one_that_is_not_near_enough_is_refused_with_the_nearest():
    def size(width):
        return 100 * width

    assert solved(size, 1010, 0.01, 5, "hidden") == Width(10, 1000)
    with pytest.raises(Refused) as refused:
        solved(size, 1250, 0.01, 5, "hidden = embedding")
    assert str(refused.value) == (
        "expected 1,250 parameters within 1 % for some hidden = embedding, a multiple of 5, "
        "found 1,000 with 10 and 1,500 with 15 as the nearest; set count to one of these, or widen within"
    )
    with pytest.raises(Refused, match=r"^expected 10 parameters .* found 500 with 5 as the nearest; "):
        solved(size, 10, 0.5, 5, "hidden")


def test_a_model_that_has_no_width_says_why():
    def size(width):
        raise Refused("heads that divide it", width, "change the heads", "heads")

    with pytest.raises(Refused, match=r"^heads: expected heads that divide it, found \d+; change the heads$"):
        solved(size, 1000, 0.01, 4, "hidden")
