"""A source with several references: counted, and bad lines left out of all."""

import pytest

from seqsru.data.references import read_references
from seqsru.errors import NotFound, Refused


def write(folder, **texts):
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return [folder / name for name in texts]


def test_any_number_of_references(tmp_path):
    source, *references = write(tmp_path, s=b"a\nb\n", r1=b"A\nB\n", r2=b"1\n\n", r3=b"x\ny")
    read = read_references(source, references)
    assert read.pair.source == ["a", "b"]
    assert read.references == [["A", "B"], ["1", ""], ["x", "y"]]  # an empty line is a reference
    assert read_references(source, references[:1]).references == [["A", "B"]]


@pytest.mark.parametrize("text, count", [(b"1\n", 1), (b"1\n2\n3\n", 3), (b"", 0)])
def test_counts_are_held_against_the_source(tmp_path, text, count):
    source, first, second = write(tmp_path, s=b"a\nb\n", r1=b"A\nB\n", r2=text)
    with pytest.raises(Refused) as refusal:
        read_references(source, [first, second])
    assert str(refusal.value) == (
        f"expected as many lines in {second} as in {source}, found {count} and 2; align the files line by "
        "line, nothing is cut to the shorter one"
    )
    with pytest.raises(Refused, match=rf"^expected as many lines in {source} as in {second}, found 2 and"):
        read_references(source, [second, first])


def test_a_bad_line_takes_those_of_the_others_with_it(tmp_path):
    paths = write(
        tmp_path, s=b"a\nb\nc\nd\n", r1=b"A\n\xff\nC\nD\n", r2=b"1\n2\n\xff\n4\n", r3=b"w\nx\ny\nz\n"
    )
    with pytest.raises(Refused, match=r"^expected UTF-8 text in .*r1:2, found byte 0xFF at byte offset 0 of"):
        read_references(paths[0], paths[1:])
    with pytest.raises(Refused, match=r"^expected UTF-8 text in .*r2:3, found byte 0xFF"):
        read_references(paths[0], [paths[3], paths[2]])
    read = read_references(paths[0], paths[1:], on_bad_line="skip")
    assert (read.pair.source, read.pair.numbers) == (["a", "d"], [1, 4])
    assert read.references == [["A", "D"], ["1", "4"], ["w", "z"]]
    assert [bool(report) for report in read.reports] == [True, True, False]
    assert read_references(paths[0], paths[1:], on_bad_line="replace").references[1][2] == "\ufffd"


def test_a_file_that_is_not_there(tmp_path):
    source, first = write(tmp_path, s=b"a\n", r1=b"A\n")
    with pytest.raises(NotFound, match=r"^expected a text file at .*absent, found nothing; check the path"):
        read_references(source, [first, tmp_path / "absent"])
