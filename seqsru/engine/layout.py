"""What a compiled search is given: the places of these in one array of int64, addresses and numbers alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names below, which are made from the tuple

    def __getattr__(name: str) -> int: ...


NAMES = (
    # the model
    "NUMBERS", "INT8", "EMBEDDING_SOURCE", "EMBEDDING_TARGET", "EMBEDDED", "ENCODER", "ENCODER_COUNT",
    "ENCODER_STATE", "ENCODER_STATE_ROW", "DECODER", "DECODER_COUNT", "STATE_ROW", "SOURCE_AT", "SOURCE_ROW",
    "TARGET_AT", "TARGET_ROW", "FEATURES_AT",
    "FEATURES_ROW", "OUTPUT_INPUTS", "OUTPUT_TILES", "OUTPUT_WEIGHTS",
    "OUTPUT_SCALES", "OUTPUT_SHIFT", "OUTPUT_BIAS", "OUTPUT_ROWS", "VOCABULARY", "EOS",
    # the sentences
    "SENTENCES", "TOKENS", "OFFSETS", "STARTS", "LIMITS", "COLUMNS", "COLUMN_OFFSETS",
    # how to search
    "SLOTS", "BEAM", "N_BEST", "STOP", "COVERAGE", "PENALTIES", "MINIMUM", "FORBIDDEN", "FORBIDDEN_COUNT",
    "NGRAMS", "NGRAM_COUNT", "ATTENTION",
    # how to draw, and what to score
    "UNIFORM", "UNIFORM_ROW", "TEMPERATURE", "TOP_K", "TOP_P",
    "INPUTS", "TARGETS", "TARGET_OFFSETS", "CARRIED", "NLL",
    # memory
    "FLOATS", "STATES", "NEXT_STATES", "MEMORIES", "ROOM", "LOGITS", "LOGITS_ROW", "SHOWN", "SCRATCH",
    "KEPT_ATTENTION", "LONGEST", "COMPACT", "COMPACT_SIZE", "ROW_SLOT", "SOURCE_LENGTHS", "SENTENCE", "WIDTH",
    "DONE", "PARENTS", "WORDS", "FINISHED", "FINISHED_AT", "FINISHED_ROW", "FINISHED_END", "TOTALS",
    "FINISHED_TOTAL", "FINISHED_SCORE", "CANDIDATE_SUM", "CANDIDATE_ROW", "CANDIDATE_COLUMN", "BEST_VALUE",
    "BEST_COLUMN", "HISTORY", "COVERED", "PICKED", "ORDER", "BLOCK", "EXPONENTIALS", "CHOICES",
    # what is found
    "OUT_COUNT", "OUT_TOKENS", "OUT_LENGTHS", "OUT_TOTALS", "OUT_SCORES", "OUT_ATTENTION",
    # what a call says of itself, and the clock
    "WHAT", "STATUS", "TIMES", "TIMES_COUNT", "TIMES_ROOM",
)  # fmt: skip
BINS = 1024  # of tokens that are drawn from, by their log probabilities

PLACES = {name: place for place, name in enumerate(NAMES)}
globals().update(PLACES)

SEARCH, SCORE, DRAW, FOLLOW = range(4)  # of WHAT
