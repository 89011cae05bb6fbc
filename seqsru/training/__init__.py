"""The one training loop: what it minimises, optimizers, schedules, checkpoints and the run directory."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.training.averaging import AVERAGING
    from seqsru.training.checkpoints import CheckpointError
    from seqsru.training.finite import TrainingDiverged
    from seqsru.training.objective import BatchLoss, Objective
    from seqsru.training.optimizers import OPTIMIZERS
    from seqsru.training.progress import Outcome
    from seqsru.training.run_directory import RunDirectory
    from seqsru.training.schedules import SCHEDULES
    from seqsru.training.trainer import Trainer
    from seqsru.training.training_options import TrainingOptions

# Where everything is: the lock of a run needs no torch, which takes a second to import.
_PLACES = {
    "AVERAGING": "averaging",
    "BatchLoss": "objective",
    "CheckpointError": "checkpoints",
    "OPTIMIZERS": "optimizers",
    "Objective": "objective",
    "Outcome": "progress",
    "RunDirectory": "run_directory",
    "SCHEDULES": "schedules",
    "Trainer": "trainer",
    "TrainingDiverged": "finite",
    "TrainingOptions": "training_options",
}

__all__ = [
    "AVERAGING",
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


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.training.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.training' has no attribute {name!r}")
