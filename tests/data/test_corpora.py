"""Named corpora: what the registry holds, archives, and the mirror folder."""

import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from seqsru.data import CORPORA, GENERATED, corpora, fetch
from seqsru.data.corpora import Remote, copy_remote, fetch_remote
from seqsru.data.files import file_digest
from seqsru.errors import NotFound, Refused

TEXT = "eins\nzwei\u2028zwei\n".encode()


def packed(kind, members):
    """An archive of `kind` as bytes."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    elif kind == "tgz":
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    else:
        out.write(gzip.compress(members[""]))
    return out.getvalue()


@pytest.fixture
def served(monkeypatch):
    """Stands in for the network: address -> content, and the addresses that were asked for."""
    contents, asked = {}, []

    def download(url, path, digest, *, pause):
        asked.append(url)
        path.write_bytes(contents[url])
        assert digest == "md5:" + hashlib.md5(contents[url]).hexdigest()

    monkeypatch.setattr(corpora, "download", download)
    return contents, asked


def remote_of(contents, name, content, files):
    contents[f"http://host/{name}"] = content
    return Remote(f"http://host/{name}", "md5:" + hashlib.md5(content).hexdigest(), files)


@pytest.mark.parametrize(
    "kind, files",
    [
        ("zip", {"set/a.tokens": "a.txt", "set/b.tokens": "b.txt"}),
        ("tgz", {"set/a.tokens": "a.txt", "b.tokens": "b.txt"}),
        ("gz", {"": "a.txt"}),
    ],
)
def test_archives_become_plain_files(served, tmp_path, kind, files):
    contents, asked = served
    members = {name: TEXT + name.encode() for name in files} | {"../escape": b"x", "set/other": b"y"}
    remote = remote_of(contents, f"set.{kind}", packed(kind, members), files)
    fetch_remote(remote, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files.values())
    for member, name in files.items():
        assert (tmp_path / name).read_bytes() == TEXT + member.encode()
    fetch_remote(remote, tmp_path)
    assert len(asked) == 1  # what is there is not fetched again


def test_an_unpacking_that_was_interrupted_goes_on(served, tmp_path):
    contents, asked = served
    content = packed("zip", {"a": TEXT, "b": TEXT})
    remote = remote_of(contents, "set.zip", content, {"a": "a.txt", "b": "b.txt"})
    (tmp_path / "set.zip").write_bytes(contents[remote.url])
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "b.txt.part").write_bytes(TEXT[:3])
    fetch_remote(remote, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"] and not asked
    assert (tmp_path / "b.txt").read_bytes() == TEXT


def test_archive_without_the_member(served, tmp_path):
    remote = remote_of(served[0], "set.tgz", packed("tgz", {"a": TEXT}), {"a": "a.txt", "b": "b.txt"})
    with pytest.raises(Refused, match=r"a member b in .*set\.tgz, found none; .* unpack it by hand"):
        fetch_remote(remote, tmp_path)


def test_plain_file_is_checked_when_it_is_there(served, tmp_path):
    remote = remote_of(served[0], "a.txt", TEXT, {"": "a.txt"})
    fetch_remote(remote, tmp_path)
    fetch_remote(remote, tmp_path)
    (tmp_path / "a.txt").write_bytes(TEXT + b"more")
    with pytest.raises(Refused, match="expected md5:.* for .*a.txt, found md5:.*; the file was changed"):
        fetch_remote(remote, tmp_path)
    with pytest.raises(Refused, match="the file was changed, delete it"):
        copy_remote(remote, tmp_path, tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(
        Refused,
        match=r"the name of a corpus \(ptb, .*, synthetic\), found 'wikitext2'; "
        r"did you mean 'wikitext-2'\?",
    ):
        fetch("wikitext2", tmp_path)
    with pytest.raises(Refused, match="found 'q'; choose one of these"):
        fetch("q", tmp_path)
    assert not list(tmp_path.iterdir())


def test_mirror_lacks_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("SEQSRU_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(
        NotFound,
        match=r"expected .*mirror/enwik8/enwik8 in the folder SEQSRU_MIRROR names, "
        r"found no such file; add it, or unset SEQSRU_MIRROR",
    ):
        fetch("enwik8", tmp_path / "data")


def test_without_a_mirror_addresses_are_opened(monkeypatch, served, tmp_path):
    contents, asked = served
    remote = remote_of(contents, "a.txt", TEXT, {"": "a.txt"})
    monkeypatch.setitem(CORPORA, "ptb", (remote,))
    monkeypatch.delenv("SEQSRU_MIRROR", raising=False)
    assert fetch("ptb", tmp_path) == tmp_path / "ptb"
    assert (tmp_path / "ptb" / "a.txt").read_bytes() == TEXT and asked == [remote.url]


def test_generated(tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATED, "synthetic", lambda folder: (folder / "train.en").write_text("one\n"))
    assert (fetch("synthetic", tmp_path) / "train.en").read_text() == "one\n"


def test_registry_is_sound():
    files = set()
    for name, remotes in CORPORA.items():
        for remote in remotes:
            assert re.fullmatch(r"https?://\S+", remote.url)
            assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", remote.digest)
            for file in remote.files.values():
                assert Path(file).name == file and (name, file) not in files
                files.add((name, file))
    assert len(CORPORA["multi30k"]) == 15 and len({remote.digest for remote in CORPORA["multi30k"]}) == 15
    assert len(CORPORA["classification"]) == 11


@pytest.mark.parametrize("name", ["ptb", "tinyshakespeare", "multi30k", "wikitext-2", "classification"])
def test_copied_from_the_mirror(mirror, monkeypatch, tmp_path, name):
    monkeypatch.setenv("SEQSRU_MIRROR", str(mirror))
    folder = fetch(name, tmp_path)
    assert folder == fetch(name, tmp_path)  # again, with everything in place
    there = sorted(path.name for path in folder.iterdir())
    assert there == sorted(file for remote in CORPORA[name] for file in remote.files.values())
    for file in there:
        assert file_digest(folder / file, "md5") == file_digest(mirror / name / file, "md5")
