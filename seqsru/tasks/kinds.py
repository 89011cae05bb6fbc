"""What the tasks answer to the commands, by the tasks' names; nothing here needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqsru.tasks import TASKS
from seqsru.tasks.answers import Kind
from seqsru.tasks.classification_answers import CLASSIFICATION
from seqsru.tasks.language_answers import LANGUAGE
from seqsru.tasks.question_answers import QUESTIONS
from seqsru.tasks.recognition_answers import RECOGNITION
from seqsru.tasks.translation_answers import TRANSLATION

if TYPE_CHECKING:
    from seqsru.tasks.task import Task

# Those whose answers stand in a file of their own, so that a command can name them before torch is imported.
KINDS: dict[str, Kind] = {
    "classification": CLASSIFICATION,
    "language_model": LANGUAGE,
    "question_answering": QUESTIONS,
    "speech_recognition": RECOGNITION,
    "translation": TRANSLATION,
}


def kinds() -> dict[str, Kind | type[Task]]:
    """Return every task, by name, as the commands know it; one without a line above is imported whole."""
    return {name: KINDS[name] if name in KINDS else TASKS[name] for name in TASKS}
