"""What may be asked of a draw."""

from __future__ import annotations

import math

from seqsru.errors import Refused


def check_drawing(temperature: float, top_k: int, top_p: float) -> None:
    """Refuse a way to draw that cannot be meant."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise Refused(
            "a finite number above 0", temperature, "for the likeliest token set top_k to 1", "temperature"
        )
    if top_k < 0:
        raise Refused("at least 0", top_k, "0 keeps every token", "top_k")
    if not 0 < top_p <= 1:
        raise Refused("above 0 and at most 1", top_p, "1 keeps every token", "top_p")
