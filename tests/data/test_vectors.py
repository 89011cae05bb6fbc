"""Word vectors of word2vec and GloVe: both forms, only the rows asked for, and files that are not right."""

import numpy
import pytest

from seqsru.data.vectors import read_vectors
from seqsru.errors import Refused

WORDS = {"the": 5, "café": 2, "no\u00a0break": 7, "absent": 9}
TABLE = {"the": [1, -2, 0.5], "of": [3, 3, 3], "café": [0.25, 1e-3, -1e2], "no\u00a0break": [7, 8, 9]}


def text(table, header=False, end="\n"):
    lines = [f"{len(table)} 3"] * header + [" ".join([w, *map(str, row)]) for w, row in table.items()]
    return "".join(line + end for line in lines).encode()


def binary(table, between=b"\n", count=None):
    rows = [w.encode() + b" " + numpy.array(row, "<f4").tobytes() for w, row in table.items()]
    return f"{len(table) if count is None else count} 3\n".encode() + between.join(rows) + between


@pytest.mark.parametrize(
    "content, form",
    [
        (text(TABLE), "text"),
        (text(TABLE, header=True), "text"),
        (text(TABLE, end=" \n"), "text"),  # word2vec ends its lines with a space
        (text(TABLE, end="\r\n"), "text"),
        (text(TABLE)[:-1], "text"),
        (binary(TABLE), "binary"),
        (binary(TABLE, between=b""), "binary"),
    ],
)
def test_the_rows_of_the_words_that_are_wanted(tmp_path, content, form):
    (tmp_path / "v").write_bytes(content)
    found = read_vectors(tmp_path / "v", WORDS, 3, form=form)
    assert found.ids.tolist() == [2, 5, 7] and found.rows.dtype == numpy.float32
    expected = [TABLE["café"], TABLE["the"], TABLE["no\u00a0break"]]
    numpy.testing.assert_array_equal(found.rows, numpy.array(expected, numpy.float32))
    assert str(found).endswith("/v: 4 vectors; of 4 words of the vocabulary 3 found (75.0 %)")


def test_a_word_with_spaces_and_one_that_comes_again(tmp_path):
    (tmp_path / "v").write_text(". . . 1 2 3\nthe 4 5 6\nthe 7 8 9\n")
    found = read_vectors(tmp_path / "v", {". . .": 0, "the": 1}, 3)
    assert found.rows.tolist() == [[1, 2, 3], [4, 5, 6]] and found.twice == 1
    assert str(found).endswith("; 1 words came again, their first vector counts")


@pytest.mark.parametrize(
    "content, form, message",
    [
        (
            text(TABLE, header=True),
            "binary",
            "expected 4 vectors in .*, found 3; fetch it again, for it is cut, or set vectors_form to text",
        ),
        (text(TABLE), "binary", "^vectors_form: expected a line of two counts at the start of"),
        (binary(TABLE), "text", "^vectors_form: expected UTF-8 text at .*/v:2, found bytes that are none"),
        (b"5 3\nthe 1 2 3\n", "text", "expected 5 vectors in .*, as it begins, found 1; fetch it again"),
        (binary(TABLE)[:-8], "binary", "expected 4 vectors in .*, as it begins, found 3"),
        (binary(TABLE, count=9), "binary", "expected 9 vectors in .*, as it begins, found 4"),
        (b"2 4\nthe 1 2 3 4\n", "text", "^embedding_size: expected vectors of 3 numbers in .*, found 4; set"),
        (b"2 4\n", "binary", "^embedding_size: expected vectors of 3 numbers in .*, found 4; set"),
        (b"the 1 2 3 4\n", "text", "^embedding_size: expected vectors of 3 numbers in .*, found 4 at line 1"),
        (b"the 1 2\n", "text", "^embedding_size: expected vectors of 3 numbers in .*, found 2 at line 1"),
        (b"the 1 2 3\nof 1 2 x\ncaf 1 2 3\n", "text", None),
        (b"the 1 2 x\n", "text", "expected a word and 3 numbers at .*/v:1, found 'the 1 2 x"),
        (b"the 1 nan 3\n", "text", "expected finite numbers in vector 1 of .*, of 'the', found one that is"),
        (
            b"der 1 2 3\n",
            "text",
            "^vectors: expected words of the vocabulary in .*, found none of 4 among its 1",
        ),
        (b"", "text", "found none of 4 among its 0"),
        (b"\n", "text", "expected a word and 3 numbers at .*/v:1"),
    ],
)
def test_files_that_are_not_right(tmp_path, content, form, message):
    (tmp_path / "v").write_bytes(content)
    if message is None:  # what nobody asked for is not looked at
        assert read_vectors(tmp_path / "v", WORDS, 3, form=form).ids.tolist() == [5]
        return
    with pytest.raises(Refused, match=message):
        read_vectors(tmp_path / "v", WORDS, 3, form=form)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a text file at"):
        read_vectors(tmp_path / "none", WORDS, 3)
