"""The tasks: one file each, by name; each is imported when it is asked for, and torch with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqsru.tasks.task import Task as Task


class Tasks(Mapping[str, "type[Task]"]):
    """Classes of tasks by name, from ``module.Class`` below `seqsru.tasks`."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> type[Task]:
        module, _, task = self._places[name].partition(".")
        found: type[Task] = getattr(import_module(f"seqsru.tasks.{module}"), task)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


TASKS = Tasks(
    {
        "classification": "classification.ClassificationTask",
        "language_model": "language_modelling.LanguageModelling",
        "question_answering": "question_answering.QuestionAnswering",
        "speech_recognition": "recognition.RecognitionTask",
        "translation": "translation.TranslationTask",
    }
)

__all__ = ["TASKS", "Task"]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name == "Task":
        return import_module("seqsru.tasks.task").Task
    raise AttributeError(f"module 'seqsru.tasks' has no attribute {name!r}")
