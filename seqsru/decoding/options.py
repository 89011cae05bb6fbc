"""The settings of a translation's search and their defaults, in one place."""

# Annotations are read at run time: these fields are the `decoding` section of a config.
import math
from dataclasses import dataclass

from seqsru.decoding.penalties import check_name, check_search

BATCHES = ("sentences", "tokens")


@dataclass(frozen=True)
class Decoding:
    """How sentences are decoded. What each setting means is fixed; only `batch_size` and `batch_by` leave the
    output as it is.

    Parameters
    ----------
    beam : int
        Live hypotheses a sentence; 1 is greedy search.
    penalty : str
        Length penalty: `power` is L ** alpha, `gnmt` is ((5 + L) / 6) ** alpha, `none` is 1; L counts
        ``</s>``.
    alpha : float
        Exponent of the length penalty.
    coverage : float
        Weight of GNMT's coverage penalty, added to the score of a finished hypothesis; 0 is off.
    stop : str
        A sentence is done when `beam` hypotheses are finished (`first`), when no live one can still beat the
        worst of the best `beam` finished (`exact`), or when nothing is live (`all`).
    n_best : int
        Outputs a sentence, best first; at most `beam`.
    length_factor : float
        a in the longest output, a * S + b tokens with ``</s>``; S counts the source's tokens and its
        ``</s>``.
    length_offset : int
        b in the longest output.
    max_source : int
        Source tokens, ``</s>`` included, beyond which a sentence is cut, and the cut reported.
    batch_size : int
        Most sentences, or most padded source tokens, decoded at once.
    batch_by : str
        What `batch_size` counts: `sentences` or `tokens`.
    """

    beam: int = 5
    penalty: str = "power"
    alpha: float = 1.0
    coverage: float = 0.0
    stop: str = "first"
    n_best: int = 1
    length_factor: float = 2.0
    length_offset: int = 10
    max_source: int = 1024
    batch_size: int = 32
    batch_by: str = "sentences"

    def __post_init__(self) -> None:
        """Refuse a setting that cannot be meant."""
        check_search(self.beam, self.penalty, self.alpha, self.coverage, self.stop, self.n_best)
        check_name("batch_by", self.batch_by, BATCHES)
        if self.batch_size < 1:
            raise ValueError(
                f"batch_size: expected at least 1, found {self.batch_size}; 1 decodes line by line"
            )
        if self.max_source < 2:
            raise ValueError(
                f"max_source: expected at least 2, a token and </s>, found {self.max_source}; raise it"
            )
        if not (self.length_factor >= 0 and math.isfinite(self.length_factor)):
            raise ValueError(
                f"length_factor: expected a finite number of at least 0, found "
                f"{self.length_factor}; 0 leaves length_offset alone"
            )
        if self.longest(1) < 1:
            raise ValueError(
                f"length_offset: expected length_factor + length_offset of at least 1, found "
                f"{self.length_factor} + {self.length_offset}; an output has at least </s>"
            )

    def longest(self, source_length: int) -> int:
        """Return the most tokens of an output for a source of `source_length`, both with ``</s>``."""
        return math.floor(self.length_factor * source_length + self.length_offset)
