"""The settings of a search and their defaults, in one place: a setting more is a field more."""

# Annotations are read at run time: these fields are the `decoding` section of a config.
import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from seqsru.decoding.penalties import Penalty
from seqsru.decoding.rules import Rule
from seqsru.errors import Refused, check_at_most, check_known, unknown
from seqsru.settings import checked_arguments

Stop = Literal["first", "exact", "all"]
BatchBy = Literal["sentences", "tokens"]
GUARDS = ("tidy", "repeats", "numbers")
NEUTRAL = ("n_best", "batch_size", "batch_by")  # fields that leave the best output as it is
MOST_BEAM = 100_000  # rows of a sentence that memory may be asked for


@checked_arguments
@dataclass(frozen=True)
class Decoding:
    """How sentences are decoded.

    What each setting means is fixed; only `batch_size` and `batch_by` leave the output as it is.

    Parameters
    ----------
    beam : int
        Live hypotheses a sentence; 1 is greedy search.
    penalty : {"power", "gnmt", "none"}
        Length penalty: `power` is L ** alpha, `gnmt` is ((5 + L) / 6) ** alpha, `none` is 1; L counts
        ``</s>``.
    alpha : float
        Exponent of the length penalty.
    coverage : float
        Weight of GNMT's coverage penalty, added to the score of a finished hypothesis; 0 is off.
    stop : {"first", "exact", "all"}
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
    batch_by : {"sentences", "tokens"}
        What `batch_size` counts: `sentences` or `tokens`.
    guard : str
        What is done about lines that a model has not learnt to translate, with commas between: `tidy` writes
        them as a sentence first, `repeats` takes another translation in place of one that repeats itself or
        does not end, `numbers` keeps their numbers and addresses; `none`.
    rules : tuple of Rule
        Applied in order to the log probabilities of every step.

    Raises
    ------
    Refused
        A setting cannot be meant.
    """

    beam: int = 5
    penalty: Penalty = "power"
    alpha: float = 1.0
    coverage: float = 0.0
    stop: Stop = "first"
    n_best: int = 1
    length_factor: float = 2.0
    length_offset: int = 10
    max_source: int = 1024
    batch_size: int = 32
    batch_by: BatchBy = "sentences"
    guard: str = "none"
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a setting that cannot be meant."""
        if self.beam < 1:
            raise Refused("at least 1", self.beam, "1 is greedy search", "beam")
        check_at_most(MOST_BEAM, beam=self.beam)
        if not 1 <= self.n_best <= self.beam:
            raise Refused(
                f"1 to the beam's {self.beam}", self.n_best, "widen the beam or ask for fewer", "n_best"
            )
        check_known(get_args(Penalty), penalty=self.penalty)
        check_known(get_args(Stop), stop=self.stop)
        check_known(get_args(BatchBy), batch_by=self.batch_by)
        for setting, instead in (
            ("alpha", "0 switches it off"),
            ("coverage", "0 switches it off"),
            ("length_factor", "0 leaves length_offset alone"),
        ):
            value = getattr(self, setting)
            if not (value >= 0 and math.isfinite(value)):
                raise Refused("a finite number of at least 0", value, instead, setting)
        # Beyond these, powers of a length and lengths themselves are no numbers any more.
        check_at_most(50, alpha=self.alpha)
        check_at_most(1_000_000, coverage=self.coverage)
        check_at_most(1_000_000, length_factor=self.length_factor)
        check_at_most(1_000_000, length_offset=self.length_offset)
        if self.batch_size < 1:
            raise Refused("at least 1", self.batch_size, "1 decodes line by line", "batch_size")
        if self.max_source < 2:
            raise Refused("at least 2, a token and </s>", self.max_source, "raise it", "max_source")
        if self.longest(1) < 1:
            raise Refused(
                "length_factor + length_offset of at least 1",
                f"{self.length_factor} + {self.length_offset}",
                "an output has at least </s>",
                "length_offset",
            )
        for name in self.guards:
            check_known((*GUARDS, "none"), guard=name)
        wrong = [rule for rule in self.rules if not isinstance(rule, Rule)]
        if wrong:
            raise Refused("rules of seqsru.decoding.RULES, made", wrong[0], "make them first", "rules")

    def changed(self, **changes: Any) -> "Decoding":
        """Return a copy with other values for some fields.

        Raises
        ------
        Refused
            A name is no field, or a value cannot be meant.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise unknown(name, known, what="a setting of decoding")
        return replace(self, **changes)

    def signature_fields(self) -> dict[str, object]:
        """What a signature says of a search: each field that the best output depends on, by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in NEUTRAL}
        return {
            **values,
            "rules": "+".join(map(str, self.rules)) or "none",
            "guard": "+".join(self.guards) or "none",
        }

    @property
    def guards(self) -> tuple[str, ...]:
        """The names in `guard`."""
        return () if self.guard == "none" else tuple(name.strip() for name in self.guard.split(","))

    def longest(self, source_length: int) -> int:
        """Return the most tokens of an output for a source of `source_length`, both with ``</s>``."""
        return math.floor(self.length_factor * source_length + self.length_offset)
