"""What the CUDA backend says where Numba's CUDA target is installed and something that it loads is not."""

import sys

import pytest

from seqsru.errors import NotInstalled
from seqsru.ops import cuda


class Broken:
    """An importer that ends the import of numba.cuda as it ends without libcudart."""

    def find_spec(self, name, path, target=None):
        if name == "numba.cuda":
            raise RuntimeError('Failure finding "libcudart.so"')


def test_a_missing_runtime_library_is_refused_and_not_a_traceback(monkeypatch):
    pytest.importorskip("numba", reason="numba is not installed")
    for name in [name for name in sys.modules if name == "numba.cuda" or name.startswith("numba.cuda.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("numba.cuda", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    cuda.simulated.cache_clear()
    with pytest.raises(NotInstalled) as caught:
        cuda.simulated()
    cuda.simulated.cache_clear()
    assert str(caught.value) == (
        "expected numba-cuda for the cuda backend, found that it cannot be imported "
        '(Failure finding "libcudart.so"); '
        'run: pip install "seqsru[cuda]"'
    )
