"""Lines of a label and a text: what parts them, the encoding, and bad lines named, or skipped and counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data.labelled import read_labelled
from seqsru.errors import NotFound, Refused

CORPORA = {  # file: encoding, lines, labels
    "rt-polarity.all": ("latin-1", 10_662, 2),
    "subj.all": ("latin-1", 10_000, 2),
    "TREC.train.all": ("latin-1", 5_452, 6),
    "TREC.test.all": ("utf-8", 500, 6),
    "stsa.fine.train": ("utf-8", 8_544, 5),
    "stsa.fine.dev": ("utf-8", 1_101, 5),
    "stsa.fine.test": ("utf-8", 2_210, 5),
    "stsa.binary.train": ("utf-8", 6_920, 2),
    "stsa.binary.dev": ("utf-8", 872, 2),
    "stsa.binary.test": ("utf-8", 1_821, 2),
}


def read(folder, content, **options):
    path = folder / "set"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labelled(path, **options)


@pytest.mark.parametrize(
    "line, separator, label, text",
    [
        ("pos a film", "whitespace", "pos", "a film"),
        ("pos\ta film", "whitespace", "pos", "a film"),
        ("pos  \t a  film ", "whitespace", "pos", "a  film"),
        ("pos a\tfilm", "whitespace", "pos", "a\tfilm"),
        ("very good\ta film", "tab", "very good", "a film"),
        (" very good \t a\tfilm", "tab", "very good", "a\tfilm"),
        ("DESC:manner How ?", "whitespace", "DESC:manner", "How ?"),
        ("pos\u00a0x a film", "whitespace", "pos\u00a0x", "a film"),  # a no-break space parts nothing
    ],
)
def test_what_ends_a_label(tmp_path, line, separator, label, text):
    lines = read(tmp_path, line + "\n", separator=separator)
    assert (lines.labels, lines.texts, lines.numbers, len(lines)) == ([label], [text], [1], 1)


@pytest.mark.parametrize(
    "content", [b"0 a\n1 b\n", b"0 a\n1 b", b"0 a\r\n1 b\r\n", b"\xef\xbb\xbf0 a\n1 b\n"]
)
def test_what_ends_a_line(tmp_path, content):
    lines = read(tmp_path, content)
    assert (lines.labels, lines.texts, lines.numbers) == (["0", "1"], ["a", "b"], [1, 2])
    assert not lines.report and lines.report.total == 2


ODD_SPACES = "\x0b\x0c\x1c\x1d\x1e\r\x85\u00a0"
WIDE_ODD_SPACES = "\u2028\u2029\u202f\u200b"


@pytest.mark.parametrize("encoding, odd", [("utf-8", ODD_SPACES + WIDE_ODD_SPACES), ("latin-1", ODD_SPACES)])
def test_only_a_newline_ends_a_line(tmp_path, encoding, odd):
    texts = [f"left{space}right" for space in odd]
    content = "".join(f"{i} {text}\n" for i, text in enumerate(texts))
    lines = read(tmp_path, content.encode(encoding), encoding=encoding)
    assert lines.texts == texts and lines.labels == list(map(str, range(len(texts))))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), min_size=1)


@given(st.lists(st.tuples(st.text("abc 0:", min_size=1), TEXT), min_size=1))
def test_any_text_comes_back(tmp_path_factory, lines):
    lines = [(label.strip(), text.strip()) for label, text in lines if label.strip() and text.strip()]
    content = "".join(f"{label}\t{text}\n" for label, text in lines)
    found = read(tmp_path_factory.getbasetemp(), content, separator="tab")
    assert list(zip(found.labels, found.texts)) == lines


def test_encodings(tmp_path):
    for encoding in ("utf-8", "latin-1", "cp1252"):
        assert read(tmp_path, "naïf un café\n".encode(encoding), encoding=encoding).labels == ["naïf"]
    assert read(tmp_path, "0 \u30bd\u8868\n".encode("shift_jis"), encoding="shift_jis").texts == ["ソ表"]


def test_lower_case_is_for_the_text_alone(tmp_path):
    lines = read(tmp_path, "DESC What IS Été ?\n", lowercase=True)
    assert (lines.labels, lines.texts) == (["DESC"], ["what is été ?"])


ADVICE = "or set on_bad_line to skip"


@pytest.mark.parametrize(
    "content, options, message",
    [
        (
            b"0 a\n1 caf\xe9 b\n",
            {},
            r"^expected utf-8 text at .*set:2, found byte 0xE9 at byte offset 5 of the line \(9 of the "
            rf"file\); set data\.encoding to the encoding of .*set \(latin-1 is common\), convert "
            rf"it, {ADVICE}$",
        ),
        (
            b"0 \x81\n",
            {"encoding": "cp1252"},
            r"expected cp1252 text at .*set:1, found byte 0x81 at byte offset 2",
        ),
        (
            b"\xef\xbb\xbf0 \xff\n",
            {},
            r"set:1, found byte 0xFF at byte offset 5 of the line \(5 of the file\)",
        ),
        (b"\xef\xbb\xbf\xef\xbb\xbf\xef", {}, r"set:1, found byte 0xEF at byte offset 6 of the line \(6 "),
        (b"0 ab\xc3", {}, "set:1, found byte 0xC3 at byte offset 4"),  # cut in a character
        (
            b"0 a\r\n1 \0b\n",
            {"encoding": "latin-1"},
            r"^expected latin-1 text at .*set:2, found a NUL byte at byte offset 2 of the line \(7 of the "
            rf"file\); remove it, {ADVICE}$",
        ),
        (
            b"0 a\n\n1 b\n",
            {},
            rf"^expected a label, a space or tab and a text at .*set:2, found an empty line; remove "
            rf"it, {ADVICE}$",
        ),
        (b"0 a\n \t\r\n", {}, "set:2, found an empty line"),
        (b"0 a\n\xc2\xa0\n", {}, "set:2, found an empty line"),
        (
            b"1\n",
            {},
            r"^expected a label, a space or tab and a text at .*set:1, found only '1'; add what is missing; "
            rf"separator says what ends a label, {ADVICE}$",
        ),
        (b"1 \n", {}, "set:1, found only '1'; add"),
        (b"0 \xa0\n", {"encoding": "latin-1"}, "set:1, found only '0'; add"),
        (
            b"very good film\n",
            {"separator": "tab"},
            "a label, a tab and a text at .*, found only 'very good film'",
        ),
        (
            b" a film\n",
            {},
            rf"^expected a label first at .*set:1, found a space or tab there; put the label "
            rf"there, {ADVICE}$",
        ),
        (b" \ta film\n", {"separator": "tab"}, "a label first at .*set:1, found a tab there"),
        (b"0 a\n", {"separator": "comma"}, "separator: expected one of whitespace, tab, found 'comma'"),
        (b"0 a\n", {"on_bad_line": "replace"}, "on_bad_line: expected one of error, skip, found 'replace'"),
    ],
)
def test_bad_line_is_named(tmp_path, content, options, message):
    with pytest.raises(Refused, match=message):
        read(tmp_path, content, **options)


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037", "rot13", "undefined", "latin-15"]
)
def test_an_encoding_that_is_none_of_ours(tmp_path, encoding):
    message = f"^encoding: expected a text encoding that writes ASCII as ASCII, found '{encoding}'; utf-8 and"
    with pytest.raises(Refused, match=message):
        read(tmp_path, b"0 a\n", encoding=encoding)


def test_bad_lines_skipped_and_counted(tmp_path):
    content = b"0 a\n\n1 caf\xe9\n2\n x\n3 b\0\n\xff y\n4 d\n"
    lines = read(tmp_path, content, on_bad_line="skip")
    assert (lines.labels, lines.texts, lines.numbers) == (["0", "4"], ["a", "d"], [1, 8])
    assert lines.report.counts == {
        "empty, skipped": 1,
        "not utf-8, skipped": 2,
        "without a text, skipped": 1,
        "without a label, skipped": 1,
        "NUL, skipped": 1,
    }
    assert str(lines.report).startswith(
        f"{tmp_path}/set: 8 lines; 1 empty, skipped (line 2); 2 not utf-8, skipped (lines 3, 7); 1 without"
    )


def test_a_part_keeps_the_order_of_the_file_and_the_numbers(tmp_path):
    lines = read(tmp_path, b"0 a\n\n1 b\n0 c\n1 d\n", on_bad_line="skip")
    part = lines.part([3, 0, 1])
    assert (part.labels, part.texts, part.numbers) == (["0", "1", "1"], ["a", "b", "d"], [1, 3, 5])
    assert part.name == lines.name and part.report is lines.report


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(NotFound, match="expected a text file at .*absent, found nothing; check"):
        read_labelled(tmp_path / "absent")
    with pytest.raises(NotFound, match="found a folder; name a file in it"):
        read_labelled(tmp_path)


@pytest.mark.parametrize("name", CORPORA)
def test_corpora_have_the_lines_they_should(mirror, name):
    encoding, count, labels = CORPORA[name]
    lines = read_labelled(mirror / "classification" / name, encoding=encoding)
    assert len(lines) == count and not lines.report
    assert set(lines.labels) == set(map(str, range(labels)))


@pytest.mark.parametrize("name", [name for name in CORPORA if CORPORA[name][0] == "latin-1"])
def test_latin_1_is_an_error_and_never_guessed(mirror, name):
    with pytest.raises(
        Refused, match=r"expected utf-8 text at .*:\d+, found byte 0x[EF]\w .*; set data\.enc"
    ):
        read_labelled(mirror / "classification" / name)


def test_four_labels_of_a_corpus_have_no_text(mirror):
    path = mirror / "classification" / "custrev.all"
    with pytest.raises(Refused, match=r"custrev\.all:769, found only '\d'"):
        read_labelled(path)
    lines = read_labelled(path, on_bad_line="skip")
    assert (len(lines), lines.report.total) == (3_771, 3_775)
    assert lines.report.first == {"without a text, skipped": [769, 1_368, 3_691, 3_775]}
