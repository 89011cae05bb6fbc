"""What the tests that need a GPU share: they are skipped without one."""

import os

import pytest
import torch

# Deterministic products, which tests/conftest.py asks for, need it before the first one.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def gpu():
    """Skip unless torch finds a CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: this test needs a GPU")
