"""``seqsru fetch``."""

from pathlib import Path

import seqsru

ROOT = Path(seqsru.__file__).parent.parent


def test_fetch(run, refused, tmp_path, monkeypatch):
    assert run("fetch", "synthetic", tmp_path) == (0, f"{tmp_path}/synthetic\n", "")
    assert "expected the name of a corpus" in refused("fetch", "ptbb", tmp_path)
    monkeypatch.setenv("SEQSRU_MIRROR", str(tmp_path / "mirror"))
    assert "SEQSRU_MIRROR" in refused("fetch", "ptb", tmp_path)
