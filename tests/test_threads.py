"""A number of threads that no machine has is refused before the threads are started, wherever it is given."""

import os

import pytest
import torch

from seqsru.commands import flags
from seqsru.errors import Refused, check_threads
from seqsru.training.training_options import TrainingOptions

MOST = max(256, 4 * os.cpu_count())


@pytest.mark.parametrize("number", [MOST + 1, 10**9, 2**31, 2**63])
def test_too_many_are_refused(number):
    expected = (
        f"expected from 1 to {MOST} threads, found {number}; give as many as there are processors to use"
    )
    with pytest.raises(Refused, match=f"^--threads: {expected}$"):
        flags.use_threads(flags.argparse.Namespace(threads=number))
    with pytest.raises(Refused, match=f"^threads: {expected.replace('from 1', 'from 0')}$"):
        TrainingOptions(epochs=1, threads=number)
    assert torch.get_num_threads() == 1


def test_more_than_there_are_processors_are_not():
    check_threads(threads=2 * os.cpu_count())
    assert TrainingOptions(epochs=1, threads=MOST).threads == MOST
    with pytest.raises(Refused, match="^threads: expected at least 0, found -1; raise it$"):
        TrainingOptions(epochs=1, threads=-1)
