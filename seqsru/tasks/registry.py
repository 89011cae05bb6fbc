"""The tasks by name."""

from __future__ import annotations

from seqsru.tasks.classification import ClassificationTask
from seqsru.tasks.language_modelling import LanguageModelling
from seqsru.tasks.task import Task
from seqsru.tasks.translation import TranslationTask

TASKS: dict[str, type[Task]] = {
    "classification": ClassificationTask,
    "language_model": LanguageModelling,
    "translation": TranslationTask,
}
