"""Settings every test runs under, and the folder of real corpora."""

import os
import signal
from pathlib import Path

# Before torch starts its threads, and for every process that a test starts: models this small gain nothing
# from a second thread, and on a busy machine two wait for each other far longer than they work.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

# Fresh tensors are filled with NaN, so an element that a kernel leaves unwritten cannot pass.
torch.use_deterministic_algorithms(True)

# A shell that starts the tests in the background has them ignore Ctrl-C, which they hand on to the commands
# that they start: tests of Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def threads(request):
    """One thread, whatever the test before set; a test of threads asks for more, or sets them itself."""
    wanted = getattr(request, "param", 1)
    torch.set_num_threads(wanted)
    yield wanted
    torch.set_num_threads(1)


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
