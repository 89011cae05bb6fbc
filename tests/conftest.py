"""Settings every test runs under, and the folder of real corpora."""

import os
from pathlib import Path

import pytest
import torch

# Fresh tensors are filled with NaN, so an element that a kernel leaves unwritten cannot pass.
torch.use_deterministic_algorithms(True)
torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mirror():
    """Folder of real corpora, laid out as the recipes' `data` folders; named by SEQSRU_MIRROR."""
    folder = os.environ.get("SEQSRU_MIRROR")
    if not folder:
        pytest.skip("SEQSRU_MIRROR is not set: this test reads real corpora from the folder it names")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"SEQSRU_MIRROR names {folder}, which is not a folder")
    return path
