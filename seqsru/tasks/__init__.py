"""The tasks: one file each, by name."""

from seqsru.tasks.classification import ClassificationTask
from seqsru.tasks.language_modelling import LanguageModelling
from seqsru.tasks.task import Task
from seqsru.tasks.translation import TranslationTask

TASKS: dict[str, type[Task]] = {
    "classification": ClassificationTask,
    "language_model": LanguageModelling,
    "translation": TranslationTask,
}

__all__ = ["TASKS", "Task"]
