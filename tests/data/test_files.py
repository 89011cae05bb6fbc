"""Files: written whole or not at all, and told apart by their sums."""

import hashlib
import os

import pytest

from seqsru.data.files import file_digest, flush, flush_folder, sha256, write_whole


def test_written_whole(tmp_path):
    write_whole(tmp_path / "a.json", b"old\n")
    write_whole(tmp_path / "a.json", b"new\r\n")
    assert (tmp_path / "a.json").read_bytes() == b"new\r\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_writer_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.json", b"old")

    def die(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"old"


def test_flushed_before_the_renaming(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_whole(tmp_path / "a", b"text")
    flush(tmp_path / "a")
    flush_folder(tmp_path)
    assert done == ["fsync", "replace", "fsync", "fsync"]


def test_sums(tmp_path):
    content = b"0123456789" * 300_000  # more than is read at once
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    assert file_digest(tmp_path / "a", "md5") == f"md5:{hashlib.md5(content).hexdigest()}"
