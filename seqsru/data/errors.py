"""The error that wrong input data raises."""

from __future__ import annotations


class DataError(ValueError):
    """Input a user can mend: one sentence with what was expected, what was found and what to do."""
