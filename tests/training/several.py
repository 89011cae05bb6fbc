"""What each process of `torchrun` does for the tests of several: the trainings of the arguments in turn.

Arguments: a folder with texts, and configurations there, each with its overrides behind commas.
"""

import sys
from pathlib import Path

import torch

from seqsru import runs
from seqsru import settings as strict

torch.set_num_threads(1)
folder = Path(sys.argv[1])
for argument in sys.argv[2:]:
    name, *overrides = argument.split(",")
    runs.train(strict.load(folder / name, runs.schema(), overrides), lambda line: None)
