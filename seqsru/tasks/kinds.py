"""What each task answers to the commands, by the task's name; nothing here needs torch."""

from __future__ import annotations

from seqsru.tasks.answers import Kind
from seqsru.tasks.classification_answers import CLASSIFICATION
from seqsru.tasks.language_answers import LANGUAGE
from seqsru.tasks.translation_answers import TRANSLATION

KINDS: dict[str, Kind] = {
    "classification": CLASSIFICATION,
    "language_model": LANGUAGE,
    "translation": TRANSLATION,
}
