"""Encoded texts that are kept: found again, checked, made anew when damaged, by one process at a time."""

import errno
import hashlib
import json
import os
import re
import threading
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data import facts as facts_module
from seqsru.data import text_cache
from seqsru.data.facts import facts_of
from seqsru.data.lines import count_lines
from seqsru.data.mapped import Chained, Mapped, Span
from seqsru.data.text_cache import TextCache
from seqsru.errors import Refused

SIZE = 1 << 18
KEY = {"content": "some"}
NUMBERS = numpy.arange(70_000, dtype=numpy.uint16)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    """Keep what is small, and trust it at once."""
    monkeypatch.setattr(facts_module, "LARGE", 0)
    monkeypatch.setattr(facts_module, "SETTLED", -10.0)
    monkeypatch.setattr(text_cache, "KEPT", 0)


class Builder:
    """Counts how often something is built."""

    def __init__(self, error=None):
        self.count, self.error = 0, error

    def __call__(self, arrays):
        self.count += 1
        for part in (NUMBERS[:9], NUMBERS[9:]):
            arrays.append("ids", part)
        arrays.append("offsets", numpy.array([0, 3, 70_000]))
        if self.error:
            raise self.error
        return {"total": 7}


def encoded(folder, build, key=KEY, told=None):
    told = [] if told is None else told
    return TextCache(folder, told.append).encoded("the text", 10, key, build)


def check(found):
    assert found.facts == {"total": 7}
    assert found.arrays["ids"][:].tolist() == NUMBERS.tolist() and found.arrays["ids"][:].dtype == "<u2"
    assert found.arrays["offsets"][numpy.array([2, 0])].tolist() == [70_000, 0]


def entry(folder):
    (place,) = (path for path in folder.iterdir() if path.name != "facts")
    return place


# ---- facts -----------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", "ü".encode(), "\u2028".encode(), b"\0", b"\xff"])))
def test_facts_are_those_of_the_content(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("facts") / "text"
    path.write_bytes(content := b"".join(parts))
    found, read = facts_of(path, None)
    assert read and found.sha256 == hashlib.sha256(content).hexdigest() and found.lines == count_lines(path)
    assert found.sound == (b"\0" not in content and b"\xff" not in content)


@pytest.mark.parametrize("split", range(4))
def test_a_character_across_two_chunks_is_sound(tmp_path, monkeypatch, split):
    monkeypatch.setattr(facts_module, "CHUNK", 5)
    (tmp_path / "text").write_bytes(b"x" * (5 - split) + "𝄞".encode() + b"\n")
    assert facts_of(tmp_path / "text", None)[0].sound
    (tmp_path / "text").write_bytes(b"x" * (5 - split) + "𝄞".encode()[:-1])
    assert not facts_of(tmp_path / "text", None)[0].sound


def test_a_file_is_read_once_until_it_changes(tmp_path):
    path, kept = tmp_path / "text", tmp_path / "kept"
    path.write_text("one\n")
    before = path.stat()
    assert [facts_of(path, kept)[1] for _ in range(3)] == [True, False, False]
    path.write_text("two\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    found, read = facts_of(path, kept)
    assert read and found.sha256 == hashlib.sha256(b"two\n").hexdigest()
    (tmp_path / "other").write_text("too\n")
    (tmp_path / "other").rename(path)
    assert facts_of(path, kept)[1] and not facts_of(path, kept)[1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stamp": []}', b"\xff", b'{"sha256": 1}'])
def test_damaged_facts_are_not_believed(tmp_path, content):
    (tmp_path / "text").write_text("one\n")
    facts_of(tmp_path / "text", tmp_path / "kept")
    (record,) = (tmp_path / "kept").iterdir()
    good = json.loads(record.read_text())
    for wrong in (content, json.dumps({**good, "lines": "1"}).encode()):
        record.write_bytes(wrong)
        found, read = facts_of(tmp_path / "text", tmp_path / "kept")
        assert read and found.lines == 1


def test_a_file_changed_a_moment_ago_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(facts_module, "SETTLED", 100.0)
    (tmp_path / "text").write_text("one\n")
    assert [facts_of(tmp_path / "text", tmp_path / "kept")[1] for _ in range(2)] == [True, True]


# ---- entries ---------------------------------------------------------------------------------------


def test_what_is_kept_is_found_again(tmp_path):
    build, told = Builder(), []
    check(encoded(tmp_path, build, told=told))
    for _ in range(2):
        check(found := encoded(tmp_path, build))
    assert build.count == 1 and not told
    assert (
        found.origin
        == f"the encoded text in {entry(tmp_path)}, of which no file changed since its sums were checked"
    )
    assert entry(tmp_path).stat().st_mode & 0o77 == 0
    check(encoded(tmp_path, build, {"content": "other"}))
    assert build.count == 2


def test_a_small_text_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "KEPT", 11)
    build = Builder()
    check(found := encoded(tmp_path, build))
    check(encoded(tmp_path, build))
    assert build.count == 2 and not found.origin and not list(tmp_path.iterdir())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def moved(path):
    path.rename(path.parent.parent / "facts")
    path.symlink_to(path.parent.parent / "facts")


@pytest.mark.parametrize("name", ["ids", "offsets", "record.json"])
@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: path.unlink(), lambda path: os.truncate(path, 5), lambda path: path.write_bytes(b"")],
)
@pytest.mark.parametrize("checked", [True, False])
def test_what_is_damaged_is_made_anew(tmp_path, name, damage, checked):
    build, told = Builder(), []
    encoded(tmp_path, build)
    if checked:
        encoded(tmp_path, build)
    damage(entry(tmp_path) / name)
    check(encoded(tmp_path, build, told=told))
    assert build.count == 2 and len(told) == 2  # seen before the lock and behind it
    assert re.fullmatch(rf"the encoded text in {entry(tmp_path)} is damaged \(.*\), and made anew", told[0])
    check(encoded(tmp_path, build))
    assert build.count == 2


def test_a_link_in_an_entry_is_not_followed(tmp_path):
    build = Builder()
    encoded(tmp_path, build)
    moved(entry(tmp_path) / "ids")
    told = []
    check(encoded(tmp_path, build, told=told))
    assert build.count == 2 and "(ids is missing)" in told[0]


def test_sums_that_were_noted_do_not_hide_damage(tmp_path):
    build = Builder()
    encoded(tmp_path, build)
    encoded(tmp_path, build)
    (entry(tmp_path) / "checked.json").write_text("[")
    check(encoded(tmp_path, build))
    assert build.count == 1
    path = entry(tmp_path) / "ids"
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    check(encoded(tmp_path, build))
    assert build.count == 2


def test_one_of_several_encodes_and_the_others_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "PAUSE", 0.01)
    begun, go_on, builds, told, found = threading.Event(), threading.Event(), [], [], []

    def build(arrays):
        builds.append(1)
        begun.set()
        assert go_on.wait(20)
        return Builder()(arrays)

    def tell(line):
        told.append(line)
        if "waiting" in line:
            go_on.set()

    def one():
        found.append(TextCache(tmp_path, tell).encoded("the text", 10, KEY, build))

    threads = [threading.Thread(target=one) for _ in range(3)]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(builds) == 1 and len(found) == 3
    assert set(told) == {"the text: another process encodes it; waiting for that"}
    for one in found:
        check(one)
    assert [path.name for path in tmp_path.iterdir()] == [entry(tmp_path).name]


def test_what_a_killed_process_left_is_removed(tmp_path):
    encoded(tmp_path, Builder())
    name = entry(tmp_path).name
    flip(entry(tmp_path) / "ids")
    (tmp_path / f"{name}.abc.part").mkdir()
    (tmp_path / f"{name}.abc.part" / "ids").write_text("half")
    (tmp_path / f"{name}.lock").write_text("")
    check(encoded(tmp_path, Builder()))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room(tmp_path, number):
    with pytest.raises(Refused) as caught:
        encoded(tmp_path, Builder(OSError(number, "full")))
    assert re.fullmatch(
        rf"cache: expected room for the encoded text of the text in {tmp_path}, found [\d,]+ MiB free after "
        "0 MiB were written; free some, or set cache to a folder with more",
        str(caught.value),
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Refused("a", "b", "c"), OSError(errno.EIO, "broken")])
def test_an_interrupted_encoding_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        encoded(tmp_path, Builder(error))
    assert not list(tmp_path.iterdir())
    check(encoded(tmp_path, Builder()))


def test_a_folder_that_cannot_be_had(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        Refused,
        match=rf"^cache: expected a folder for encoded texts, found {tmp_path}/file/in: Not a directory; "
        "name a folder that can be written to, or leave it out$",
    ):
        encoded(tmp_path / "file" / "in", Builder())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = []
    check(encoded(None, Builder(), told=told))
    assert told == [
        f"the text: {tmp_path}/file/seqsru/texts cannot be written to, so it is encoded anew at every start; "
        "set cache to another folder"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_folder_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check(encoded(None, Builder()))
    assert entry(tmp_path / "cache" / "seqsru" / "texts").is_dir()
    assert [path.stat().st_mode & 0o77 for path in (tmp_path / "cache").rglob("*") if path.is_dir()] == [
        0
    ] * 3


# ---- arrays ----------------------------------------------------------------------------------------


def test_what_is_mapped_is_given_back(tmp_path, monkeypatch):
    numpy.arange(SIZE, dtype=numpy.int64).tofile(tmp_path / "numbers")
    mapped = Mapped(tmp_path / "numbers", numpy.dtype("<i8"))
    monkeypatch.setattr("seqsru.data.mapped.MOST_MAPPED", 1 << 17)

    def resident():
        pages = Path("/proc/self/smaps").read_text().partition(f"{tmp_path}/numbers\n")[2]
        return int(re.search(r"Rss: +(\d+) kB", pages).group(1)) << 10

    most = 0
    for at in range(0, SIZE, 8192):
        assert mapped[numpy.array([at, SIZE - 1 - at])].tolist() == [at, SIZE - 1 - at]
        assert mapped[at : at + 3].tolist() == [at, at + 1, at + 2]
        most = max(most, resident()) if os.path.exists("/proc/self/smaps") else 0
    assert most <= 1 << 19  # of 2 MiB


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=5))
def test_chained_numbers(spans):
    spans = [Span(numpy.arange(20), start, start + length, add) for start, length, add in spans]
    expected = [n + span.add for span in spans for n in range(span.start, span.end)]
    chained = Chained(spans)
    assert len(chained) == len(expected) and chained[1:7].tolist() == expected[1:7]
    places = numpy.array([[i, len(expected) - 1 - i] for i in range(len(expected))], dtype=int).reshape(-1, 2)
    assert chained[places].tolist() == [[expected[a], expected[b]] for a, b in places.tolist()]
