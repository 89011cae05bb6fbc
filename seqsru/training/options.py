"""The settings of the training loop and their defaults, in one place."""

# Annotations are read at run time: these fields are the `training` section of a config.
from dataclasses import dataclass
from typing import Literal, get_args

Normalize = Literal["tokens", "batch"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how to train. One of `epochs` and `steps` is given.

    Parameters
    ----------
    epochs : int
        Passes over the data; 0 where `steps` is given.
    steps : int
        Updates; 0 where `epochs` is given.
    max_minutes : float
        End after so much training time, with a validation and a checkpoint; 0 is no limit. A schedule does
        not know of it: it goes by steps and epochs.
    accumulate : int
        Batches an update; an epoch's last update may have fewer.
    normalize : {"tokens", "batch"}
        tokens: the loss is a mean over tokens. batch: summed over time, averaged over rows, as in the SRU
        paper's Penn Treebank recipe.
    clip : float
        Largest norm of the gradient; 0 is no clipping.
    precision : {"float32", "bfloat16"}
        bfloat16: matrix products under autocast, weights and sums in float32; in validation too.
    validate_every : int
        Updates between validations; 0 is at the end of each epoch. There is always one at the end of
        training.
    save_every : int
        Updates between checkpoints, besides those after each validation; 0 is none.
    patience : int
        End after so many validations in a row without a new best; 0 is never.
    keep : int
        Newest checkpoints kept.
    keep_best : int
        Best checkpoints kept besides.
    log_every : int
        Updates between lines of metrics.
    tensorboard : bool
        Whether to write TensorBoard events; needs the extra plot.
    threads : int
        CPU threads of torch; 0 leaves its own choice. The bits of the result depend on it.

    Raises
    ------
    ValueError
        Neither or both of epochs and steps, or a value out of range.
    """

    epochs: int = 0
    steps: int = 0
    max_minutes: float = 0.0
    accumulate: int = 1
    normalize: Normalize = "tokens"
    clip: float = 0.0
    precision: Precision = "float32"
    validate_every: int = 0
    save_every: int = 0
    patience: int = 0
    keep: int = 2
    keep_best: int = 1
    log_every: int = 100
    tensorboard: bool = True
    threads: int = 0

    def __post_init__(self) -> None:
        """Refuse a setting that cannot be meant."""
        for name in ("accumulate", "keep", "log_every"):
            _at_least(1, name, getattr(self, name))
        for name in (
            "epochs",
            "steps",
            "max_minutes",
            "clip",
            "validate_every",
            "save_every",
            "patience",
            "keep_best",
            "threads",
        ):
            _at_least(0, name, getattr(self, name))
        if (self.epochs > 0) == (self.steps > 0):
            raise ValueError(
                f"training: expected either epochs or steps, found epochs {self.epochs} and "
                f"steps {self.steps}; give one of them"
            )
        for name, choices in (("normalize", get_args(Normalize)), ("precision", get_args(Precision))):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"training: expected {name} to be {' or '.join(choices)}, found "
                    f"{getattr(self, name)!r}; choose one"
                )


def _at_least(least: int, name: str, value: float) -> None:
    if value < least:
        raise ValueError(f"training: expected {name} of at least {least}, found {value}; raise it")
