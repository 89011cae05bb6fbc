"""The one training loop, its tasks, optimizers and schedules, and checkpoints."""

from seqsru.training.checkpoints import CheckpointError
from seqsru.training.classification_task import ClassificationTask
from seqsru.training.language_model_task import LanguageModelTask
from seqsru.training.optimizers import OPTIMIZERS
from seqsru.training.options import TrainingOptions
from seqsru.training.progress import Outcome
from seqsru.training.schedules import SCHEDULES
from seqsru.training.trainer import Trainer, TrainingDiverged
from seqsru.training.translation_task import TranslationTask

TASKS = {
    "classification": ClassificationTask,
    "language_model": LanguageModelTask,
    "translation": TranslationTask,
}

__all__ = [
    "CheckpointError",
    "ClassificationTask",
    "LanguageModelTask",
    "OPTIMIZERS",
    "Outcome",
    "SCHEDULES",
    "TASKS",
    "Trainer",
    "TrainingDiverged",
    "TrainingOptions",
    "TranslationTask",
]
