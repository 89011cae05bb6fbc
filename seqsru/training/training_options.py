"""The settings of the training loop and their defaults, in one place."""

# Annotations are read at run time: these fields are the `training` section of a config.
from dataclasses import dataclass, field
from typing import Literal, get_args

from seqsru.errors import Refused, check_at_least, check_at_most, check_known, check_threads
from seqsru.settings import checked_arguments

Normalize = Literal["tokens", "batch"]
Precision = Literal["float32", "tf32", "bfloat16"]
OnNaN = Literal["stop", "skip"]
CudaGraphs = Literal["auto", "off"]

# On the fields that may differ when a run goes on: when it ends, what it keeps and on how many threads, not
# what it computes.
MAY_CHANGE = {"may_change": True}


@checked_arguments
@dataclass(frozen=True)
class TrainingOptions:
    """How long and how to train. One of `epochs` and `steps` is given.

    Parameters
    ----------
    epochs : int
        Passes over the data; 0 where `steps` is given. A run may go on to more of them, unless its schedule
        has an end, as cosine does.
    steps : int
        Updates; 0 where `epochs` is given. As for epochs.
    max_minutes : float
        End after so much training time, with a validation and a checkpoint; 0 is no limit. Kernels that are
        compiled, which happens once on a machine, do not count. A schedule does not know of it: it goes by
        steps and epochs, but for cosine with ``over: time``.
    max_processor_minutes : float
        The same of the time that processors spend, which other work on the machine does not use up; of
        several processes that of each. 0 is no limit.
    accumulate : int
        Batches an update; an epoch's last update may have fewer. Several processes share them, or, of a
        language model, the rows of each: the training is the same with any number of processes.
    normalize : {"tokens", "batch"}
        tokens: the loss is a mean over tokens. batch: summed over time, averaged over rows, as in the SRU
        paper's Penn Treebank recipe.
    clip : float
        Largest norm of the gradient; 0 is no clipping. A run that came to numbers that are
        not finite may go on with another.
    on_nan : {"stop", "skip"}
        What to do with an update whose gradient or loss is not a finite number: stop, naming its files and
        lines, or leave it out, count it and go on. Either way they are in the log.
    precision : {"float32", "tf32", "bfloat16"}
        What the matrix products of every cell use, in validation too; weights and sums are float32. float32
        is IEEE's, of cuDNN's layers as well; tf32 is a type of NVIDIA GPUs alone; bfloat16 is autocast.
    cuda_graphs : {"auto", "off"}
        auto: on a GPU, batches of a shape that comes again are started as one CUDA graph each, with the same
        bits in less time; the log says which are not. off: kernel by kernel, in less memory.
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
        CPU threads of torch, at most 256 or four a processor; 0 leaves its own choice. The bits of the result
        depend on it; a run that goes on with others says so in its log.

    Raises
    ------
    Refused
        Neither or both of epochs and steps, or a value out of range.
    """

    epochs: int = field(default=0, metadata=MAY_CHANGE)
    steps: int = field(default=0, metadata=MAY_CHANGE)
    max_minutes: float = field(default=0.0, metadata=MAY_CHANGE)
    max_processor_minutes: float = field(default=0.0, metadata=MAY_CHANGE)
    accumulate: int = 1
    normalize: Normalize = "tokens"
    clip: float = 0.0
    on_nan: OnNaN = field(default="stop", metadata=MAY_CHANGE)
    precision: Precision = "float32"
    cuda_graphs: CudaGraphs = field(default="auto", metadata=MAY_CHANGE)
    validate_every: int = 0
    save_every: int = field(default=0, metadata=MAY_CHANGE)
    patience: int = field(default=0, metadata=MAY_CHANGE)
    keep: int = field(default=2, metadata=MAY_CHANGE)
    keep_best: int = field(default=1, metadata=MAY_CHANGE)
    log_every: int = field(default=100, metadata=MAY_CHANGE)
    tensorboard: bool = field(default=True, metadata=MAY_CHANGE)
    threads: int = field(default=0, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        """Refuse a setting that cannot be meant."""
        check_at_least(1, accumulate=self.accumulate, keep=self.keep, log_every=self.log_every)
        check_at_least(
            0,
            epochs=self.epochs,
            steps=self.steps,
            max_minutes=self.max_minutes,
            max_processor_minutes=self.max_processor_minutes,
            clip=self.clip,
            validate_every=self.validate_every,
            save_every=self.save_every,
            patience=self.patience,
            keep_best=self.keep_best,
            threads=self.threads,
        )
        check_at_most(1_000_000_000, accumulate=self.accumulate)
        check_at_most(1_000_000, clip=self.clip)
        check_at_most(
            1_000_000_000,
            max_minutes=self.max_minutes,
            max_processor_minutes=self.max_processor_minutes,
        )
        check_threads(0, threads=self.threads)
        if (self.epochs > 0) == (self.steps > 0):
            raise Refused(
                "either epochs or steps",
                f"epochs {self.epochs} and steps {self.steps}",
                "give one of them",
                "epochs",
            )
        check_known(get_args(Normalize), normalize=self.normalize)
        check_known(get_args(Precision), precision=self.precision)
        check_known(get_args(OnNaN), on_nan=self.on_nan)
        check_known(get_args(CudaGraphs), cuda_graphs=self.cuda_graphs)
