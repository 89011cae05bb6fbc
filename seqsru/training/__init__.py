"""The one training loop: what it minimises, optimizers, schedules, checkpoints and the run directory."""

from seqsru.training.checkpoints import CheckpointError
from seqsru.training.finite import TrainingDiverged
from seqsru.training.objective import BatchLoss, Objective
from seqsru.training.optimizers import OPTIMIZERS
from seqsru.training.progress import Outcome
from seqsru.training.run_directory import RunDirectory
from seqsru.training.schedules import SCHEDULES
from seqsru.training.trainer import Trainer
from seqsru.training.training_options import TrainingOptions

__all__ = [
    "BatchLoss",
    "CheckpointError",
    "OPTIMIZERS",
    "Objective",
    "Outcome",
    "RunDirectory",
    "SCHEDULES",
    "Trainer",
    "TrainingDiverged",
    "TrainingOptions",
]
