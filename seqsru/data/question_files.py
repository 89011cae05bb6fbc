"""The files of questions that a run reads, and what is held out of them for validation."""

# Annotations are read at run time: the fields of `QuestionData` are settings.
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqsru.data.squad import Offsets, OnBadQuestion, QuestionSet, check_questions, held_out, read_squad
from seqsru.errors import Refused, check_at_least, check_probability


@dataclass(frozen=True)
class QuestionData:
    """Files of questions in the JSON of SQuAD.

    Parameters
    ----------
    train : Path or list of Path
        Questions to learn from: one file, or several whose ids are all different.
    validation : Path or None
        Questions that tell when the model was best; without it a share of the training paragraphs is held
        out.
    test : Path or None
        Questions that `seqsru evaluate` reads.
    offsets : {"characters", "bytes", "utf-16"}
        What the offset of an answer counts: code points, as SQuAD's do, bytes of UTF-8 or units of UTF-16.
    on_bad_question : {"error", "skip"}
        Whether a question without text or answer, or with an answer that is not at its offset, ends the
        reading, or is left out and reported.
    holdout : float
        Share of the training paragraphs for validation where there is no file for it.
    split_seed : int
        Of the order that they are drawn in; systems that are compared share it.
    """

    train: Path | tuple[Path, ...]
    validation: Path | None = None
    test: Path | None = field(default=None, metadata={"may_change": True})
    offsets: Offsets = "characters"
    on_bad_question: OnBadQuestion = "error"
    holdout: float = 0.1
    split_seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if not self.train:
            raise Refused("a file of questions, or several", "none", "name one", "train")
        check_probability(holdout=self.holdout)
        check_at_least(0, split_seed=self.split_seed)
        if self.validation is None and not self.holdout:
            do = "0.1 is common"
            raise Refused("a share above 0 where there is no validation file", "0", do, "holdout")

    def read(self) -> dict[str, QuestionSet]:
        """Return the questions to learn from and to validate with."""

        def read(paths: Sequence[Path]) -> QuestionSet:
            return read_squad(paths, offsets=self.offsets, on_bad_question=self.on_bad_question)

        train = read([self.train] if isinstance(self.train, Path) else self.train)
        check_questions(train, "training")
        if self.validation is not None:
            validation = read([self.validation])
        else:
            train, validation = held_out(train, self.holdout, self.split_seed)
            check_questions(train, "training once a share is held out")
        check_questions(validation, "validation")
        return {"train": train, "validation": validation}
