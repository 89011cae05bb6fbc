"""Bytes to lines: what ends one, what a bad one does, and pairs of files."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data.lines import LineReport, count_lines, iter_lines, read_lines, read_parallel
from seqsru.errors import NotFound, Refused

# Every character that some other way of reading takes for the end of a line.
ODD_SPACES = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\u00a0\u202f\u00ad\u200b"


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    "content, lines",
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\n", ["a\r"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\r", ["a"]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        (b"\xef\xbb\xbf", [""]),
        (b"a\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b" a \n\t\n", [" a ", "\t"]),
    ],
)
def test_what_ends_a_line(tmp_path, content, lines):
    path = written(tmp_path, "text", content)
    read = read_lines(path)
    assert read.lines == lines
    assert list(read.numbers) == list(range(1, len(lines) + 1))
    assert not read.report and read.report.total == len(lines) == count_lines(path)


def test_only_a_newline_ends_a_line(tmp_path):
    lines = [f"left{space}right" for space in ODD_SPACES]
    assert read_lines(written(tmp_path, "text", "\n".join(lines).encode())).lines == lines


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0")), min_size=1))
def test_any_text_comes_back(lines):
    lines[0] = lines[0].lstrip("\ufeff")
    stream = io.BytesIO("".join(line + "\n" for line in lines).encode())
    assert [text for _, text in iter_lines(stream, LineReport("text"))] == lines


@pytest.mark.parametrize(
    "content, message",
    [
        (
            b"good\nbad\xe9 one\n",
            r"expected UTF-8 text in .*text:2, found byte 0xE9 at byte offset 3 of the line \(8 "
            r"of the file\); convert the file to UTF-8, or set on_bad_line to skip or "
            r"replace",
        ),
        (b"\xef\xbb\xbfa\xff\n", r"text:1, found byte 0xFF at byte offset 4 of the line \(4 of the file\)"),
        (b"a\r\n\0b\n", r"text:2, found a NUL byte at byte offset 0 of the line \(3 of the file\)"),
        (b"a\n\xed\xa0\x80", r"text:2, found byte 0xED at byte offset 0"),  # a lone surrogate
        (b"ab\xc3", r"text:1, found byte 0xC3 at byte offset 2"),  # cut in a character
    ],
)
def test_bad_line_is_named(tmp_path, content, message):
    with pytest.raises(Refused, match=message):
        read_lines(written(tmp_path, "text", content))


def test_bad_lines_skipped_or_replaced_and_counted(tmp_path):
    path = written(tmp_path, "text", b"one\nt\xe9wo\nthr\0ee\nfour\n\xff\n")
    skipped = read_lines(path, on_bad_line="skip")
    assert skipped.lines == ["one", "four"] and skipped.numbers == [1, 4]
    assert skipped.report.counts == {"not UTF-8, skipped": 2, "NUL, skipped": 1}
    assert skipped.report.first == {"not UTF-8, skipped": [2, 5], "NUL, skipped": [3]}
    replaced = read_lines(path, on_bad_line="replace")
    assert replaced.lines == ["one", "t\ufffdwo", "thr\ufffdee", "four", "\ufffd"]
    assert str(replaced.report) == (
        f"{path}: 5 lines; 2 not UTF-8, replaced (lines 2, 5); 1 NUL, replaced (line 3)"
    )


def test_report_shows_the_first_lines_only():
    report = LineReport("text", 9)
    for number in range(1, 8):
        report.add("empty, skipped", number)
    assert str(report) == "text: 9 lines; 7 empty, skipped (lines 1, 2, 3, 4, 5, …)"
    copy = report.copy()
    copy.add("empty, skipped", 9)
    assert report.counts == {"empty, skipped": 7} and copy.counts == {"empty, skipped": 8}


def test_unknown_way_with_bad_lines(tmp_path):
    with pytest.raises(Refused, match="on_bad_line: expected one of error, skip, replace, found 'ignore'"):
        read_lines(written(tmp_path, "text", b"a\n"), on_bad_line="ignore")


def test_earlier_names_still_hold():
    from seqsru.data import DataError, Report

    assert DataError is Refused and Report is LineReport


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(NotFound, match="expected a text file at .*absent, found nothing; check"):
        read_lines(tmp_path / "absent")
    with pytest.raises(NotFound, match="found a folder; name a file in it"):
        read_lines(tmp_path)


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a\u2028b\nc".encode())))
    read = read_lines("-")
    assert read.lines == ["a\u2028b", "c"] and read.name == "<stdin>"
    assert not sys.stdin.buffer.closed


def test_lines_arrive_one_by_one():
    def once():
        yield b"first\n"
        raise AssertionError("read ahead")

    assert next(iter_lines(once(), LineReport("pipe"))) == (1, "first")


def test_parallel(tmp_path):
    source = written(tmp_path, "s", "a\nb\u2028\nc".encode())
    target = written(tmp_path, "t", b"x\r\n\nz\n")
    pair = read_parallel(source, target)
    assert (pair.source, pair.target) == (["a", "b\u2028", "c"], ["x", "", "z"])
    assert list(pair.numbers) == [1, 2, 3] and not pair.report


def test_parallel_files_of_different_length(tmp_path):
    source = written(tmp_path, "s", b"a\nb\n" * 600)
    target = written(tmp_path, "t", b"a\n" * 1199)
    with pytest.raises(Refused, match=r"as many lines in .*s as in .*t, found 1,200 and 1,199; align"):
        read_parallel(source, target)


def test_parallel_bad_line_takes_its_pair_along(tmp_path):
    source = written(tmp_path, "s", b"a\n\xff\nc\nd\n")
    target = written(tmp_path, "t", b"w\n\xff\n\0\nz\n")
    with pytest.raises(Refused, match="expected UTF-8 text in .*s:2, found byte"):
        read_parallel(source, target)
    pair = read_parallel(source, target, on_bad_line="skip")
    assert (pair.source, pair.target, pair.numbers) == (["a", "d"], ["w", "z"], [1, 4])
    assert pair.report.counts == {"not UTF-8, skipped": 1, "NUL, skipped": 1}
    replaced = read_parallel(source, target, on_bad_line="replace")
    assert replaced.source == ["a", "\ufffd", "c", "d"] and len(replaced.numbers) == 4


def test_latin_1_corpus_is_an_error_and_never_guessed(mirror):
    with pytest.raises(Refused, match=r"expected UTF-8 text in .*rt-polarity\.all:\d+, found byte"):
        read_lines(mirror / "classification" / "rt-polarity.all")


def test_corpora_have_the_lines_they_should(mirror):
    pair = read_parallel(mirror / "multi30k" / "train.en", mirror / "multi30k" / "train.de")
    assert len(pair.source) == len(pair.target) == 29_000
    assert len(read_lines(mirror / "wmt" / "newstest2014.de").lines) == 3003
    assert len(read_lines(mirror / "wmt-10k" / "src-train-case.txt").lines) == 10_000
    # White space that is none to us, and text that starts and ends with a space.
    assert any("\u202f" in line for line in read_lines(mirror / "tatoeba-deu-eng" / "train.de").lines)
    assert all(line[0] == line[-1] == " " for line in read_lines(mirror / "ptb" / "ptb.test.txt").lines)
