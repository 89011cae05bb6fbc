"""Lines of what was done: kept through a kill, and refused where they are something else."""

import json

import pytest

from seqsru.comparing.records import Line, Records
from seqsru.errors import Refused


def line(step, job, state="done", **result):
    return Line(step, job, state, {"a": 1}, {"sources": "x"}, result)


def test_lines_come_back_and_a_cut_one_is_cut_off(tmp_path):
    records = Records(tmp_path)
    assert records.lines == {} and not records.path.exists()
    records.write(line("train", "runs/a-1", "begun"))
    records.write(line("train", "runs/a-1", best=1.5))
    records.write(line("train", "runs/b-1", "begun"))
    whole = records.path.read_bytes()
    for cut in range(len(whole) - 2, len(whole) - 60, -7):
        records.path.write_bytes(whole[:cut])
        found = Records(tmp_path)
        assert found.done("train", "runs/a-1").result == {"best": 1.5}
        assert found.done("train", "runs/b-1") is None
        found.write(line("train", "runs/b-1", best=2.0))
        assert [json.loads(text)["job"] for text in records.path.read_text().splitlines()] == [
            "runs/a-1",
            "runs/a-1",
            "runs/b-1",
        ]


@pytest.mark.parametrize("bad", ["{}", "[1]", '{"step": 1}', "nothing", '{"step": "a", "job": "b"}'])
def test_another_line_is_refused_by_its_number(tmp_path, bad):
    records = Records(tmp_path)
    records.write(line("train", "runs/a-1"))
    records.path.write_text(records.path.read_text() + bad + "\n")
    with pytest.raises(Refused) as refused:
        Records(tmp_path)
    assert str(refused.value) == (
        f"expected a line of results at {records.path}:2, found something else; "
        "restore it from a copy, or delete the line"
    )


def test_what_is_put_aside_is_in_the_other_file_alone(tmp_path):
    records = Records(tmp_path)
    for job in "abc":
        records.write(line("train", job))
    records.drop([("train", "b")], tmp_path / "earlier" / "1" / "results.jsonl")
    records.write(line("test", "a"))
    assert list(Records(tmp_path).lines) == [("train", "a"), ("train", "c"), ("test", "a")]
    assert json.loads((tmp_path / "earlier" / "1" / "results.jsonl").read_text())["job"] == "b"
