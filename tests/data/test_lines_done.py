"""Lines of long work: what is there after an interruption anywhere, and what is not gone on with."""

import os
import re

import pytest

from seqsru.data.lines_done import going_on, partial
from seqsru.errors import Busy, Refused

WORK = "this teacher, this text"
TEXTS = ["eins", "", "zwei\u2028und", 'ein "Zitat" \\ und Ü', "   ", "fünf", "sechs"]


def worked(path, work=WORK, at_once=2, stop=99):
    """Write what is left of TEXTS, in parts; an interruption after so many parts. Gives where it began."""
    with going_on(path, work, at_once) as done:
        began = done.done
        for part, first in enumerate(range(began, len(TEXTS), at_once)):
            if part == stop:
                return began
            done.add(TEXTS[first : first + at_once])
        done.finish()
        return began


def test_whole_at_once(tmp_path):
    path = tmp_path / "out"
    assert worked(path) == 0
    assert path.read_text(encoding="utf-8").split("\n") == [*TEXTS, ""]
    assert os.listdir(tmp_path) == ["out"]
    assert worked(path, "other work") == 0  # what is whole is no part of anything


@pytest.mark.parametrize("stop, began", [(0, 0), (1, 2), (3, 6), (4, 6)])
def test_interrupted_between_parts(tmp_path, stop, began):
    path = tmp_path / "out"
    path.write_text("as it was\n")
    if stop == 4:  # all lines are there, and the last part is not whole
        with going_on(path, WORK, 2) as done:
            done.add(TEXTS)
    else:
        worked(path, stop=stop)
    assert path.read_text() == "as it was\n"
    assert worked(path) == began
    assert path.read_text(encoding="utf-8").split("\n") == [*TEXTS, ""] and os.listdir(tmp_path) == ["out"]


def test_cut_off_anywhere(tmp_path):
    path = tmp_path / "out"
    worked(path, stop=3)
    whole = partial(path).read_bytes()
    head = whole.index(b"\n") + 1
    for size in range(len(whole)):
        partial(path).write_bytes(whole[:size])
        lines = whole[head:size].count(b"\n")
        assert worked(path, stop=0) == lines // 2 * 2
        assert partial(path).read_bytes() in (whole[:size], whole[: len(partial(path).read_bytes())])
        assert worked(path) == lines // 2 * 2
        assert path.read_text(encoding="utf-8").split("\n") == [*TEXTS, ""]


def test_other_work_is_refused(tmp_path):
    path = tmp_path / "out"
    worked(path, stop=1)
    sentence = (
        f"expected what was done of this work, in this way, in {partial(path)}, found what was done of "
        "another; delete it to begin anew, or name another file"
    )
    before = partial(path).read_bytes()
    for work in ("other work", WORK + "!", WORK[:-1], ""):
        with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
            worked(path, work)
    assert partial(path).read_bytes() == before
    partial(path).write_bytes(b"\xff\x00 something of somebody's")
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        worked(path)
    assert partial(path).read_bytes() == b"\xff\x00 something of somebody's"


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "out"
    with going_on(path, WORK, 2):
        sentence = (
            f"expected one process at a time for {path}, found another that writes {partial(path)}; wait "
            "for it, or end it"
        )
        with pytest.raises(Busy, match=f"^{re.escape(sentence)}$"):
            worked(path)


def test_what_is_no_file(tmp_path):
    path, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    for make, kind in (
        (lambda: partial(path).symlink_to(elsewhere), "a link"),
        (lambda: os.mkfifo(partial(path)), "a pipe"),
        (lambda: partial(path).mkdir(), "a folder"),
    ):
        make()
        sentence = (
            f"expected a file of its own at {partial(path)}, found {kind}; delete it to begin anew, or name "
            "another file"
        )
        with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
            worked(path)
        assert elsewhere.read_text() == "mine\n"
        partial(path).rmdir() if kind == "a folder" else partial(path).unlink()
