"""Questions in SQuAD's JSON: what is read, and every way in which a file can be wrong, named by its place."""

import json
import re

import pytest

from seqsru.data.json_files import load_json
from seqsru.data.squad import held_out, read_squad
from seqsru.errors import NotFound, Refused

CONTEXT = "Café 𝄞 Zoë sang in Łódź; Zoë left."


def asked(text="Zoë", start=7, context=CONTEXT, name="q", question="Who sang?", **more):
    answers = [{"text": text, "answer_start": start}]
    return {"context": context, "qas": [{"id": name, "question": question, "answers": answers, **more}]}


def write(folder, *paragraphs, name="set.json"):
    path = folder / name
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": list(paragraphs)}]}))
    return path


def says(sentence, *arguments, **options):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        read_squad(*arguments, **options)


def test_what_is_read(tmp_path):
    two = {"context": "It rained.", "qas": []}
    path = write(tmp_path, two, asked(), asked(start=25, name="r", is_impossible=False))
    found = read_squad([path])
    assert found.paragraphs == ["It rained.", CONTEXT, CONTEXT] and len(found) == 2
    first, second = found.questions
    assert (first.id, first.text, first.paragraph, second.paragraph) == ("q", "Who sang?", 1, 2)
    for one in found.questions:
        (answer,) = one.answers
        assert CONTEXT[answer.start : answer.start + len(answer.text)] == answer.text
    assert str(found.report) == f"{path}: 2 questions" and not found.report


def test_several_files_are_one_set_whose_ids_differ(tmp_path):
    paths = [write(tmp_path, asked(name=name), name=name) for name in "ab"]
    assert [one.id for one in read_squad(paths).questions] == ["a", "b"]
    says(
        f"expected each id once, in paragraph 1 of article 1 of {paths[0]}, found 'a' again; give "
        "each question "
        "an id of its own, and name no file twice",
        [paths[0], paths[0]],
    )


@pytest.mark.parametrize("text, start", [("Zoë", 7), ("Łódź", 19), ("Zoë", 25), ("left.", 29), ("Café", 0)])
@pytest.mark.parametrize("unit", ["characters", "bytes", "utf-16"])
def test_offsets_in_other_units_are_read_as_such_and_recognised(tmp_path, text, start, unit):
    before = CONTEXT[:start]
    there = {
        "characters": start,
        "bytes": len(before.encode()),
        "utf-16": len(before.encode("utf-16-le")) // 2,
    }
    path = write(tmp_path, asked(text, there[unit]))
    (answer,) = read_squad([path], offsets=unit).questions[0].answers
    assert (answer.text, answer.start) == (text, start)
    names = {"bytes": "in bytes of UTF-8", "utf-16": "in UTF-16 units", "characters": "in characters"}
    for other in {"characters", "bytes", "utf-16"} - {unit}:
        if there[other] == there[unit]:
            continue
        with pytest.raises(Refused) as refused:
            read_squad([path], offsets=other)
        assert refused.value.found == f"it there {names[unit]}" and refused.value.setting == "offsets"
        assert refused.value.do.startswith(f"set offsets to {unit}, if it is that in the whole file; or")


def test_an_offset_in_bytes_is_named(tmp_path):
    path = write(tmp_path, asked("sang", 16))
    says(
        f"offsets: expected the answer 'sang' at character 16 in question 'q' of paragraph 1 of "
        f"article 1 of {path}, "
        "found it there in bytes of UTF-8; set offsets to bytes, if it is that in the whole file; or set "
        "on_bad_question to skip",
        [path],
    )


WRONG = [
    (
        {"text": "Zoë", "start": 24},
        "the answer 'Zoë' at character 24",
        "' Zo' there",
        "correct the offset: the nearest place is character 25",
    ),
    (
        {"text": "Zoë", "start": -1},
        "the answer 'Zoë' at character -1",
        "a paragraph of 34 characters",
        "correct the offset: the nearest place is character 7",
    ),
    (
        {"text": "Zoë", "start": 10**30},
        f"the answer 'Zoë' at character {10**30:,}",
        "a paragraph of 34 characters",
        "correct the offset: the nearest place is character 25",
    ),
    (
        {"text": "zoë", "start": 7},
        "the answer 'zoë' at character 7",
        "it nowhere in the paragraph",
        "correct the answer, which is to be a span of the paragraph as it is written",
    ),
    (
        {"text": "left. Then", "start": 29},
        "the answer 'left. Then' at character 29",
        "it nowhere in the paragraph",
        "correct the answer, which is to be a span of the paragraph as it is written",
    ),
    ({"text": " "}, "an answer with text in it", "' '", "write it"),
    ({"question": " \n"}, "a question", "no text", "write it"),
    (
        {"answers": []},
        "at least one answer",
        "none",
        "give one, for a reader answers every question",
    ),
]


@pytest.mark.parametrize("changed, expected, found, do", WRONG)
def test_bad_questions_are_refused_or_skipped(tmp_path, changed, expected, found, do):
    path = write(tmp_path, asked(name="good"), asked(**{"name": "bad", **changed}))
    place = f"question 'bad' of paragraph 2 of article 1 of {path}"
    says(f"expected {expected} in {place}, found {found}; {do}; or set on_bad_question to skip", [path])
    kept = read_squad([path], on_bad_question="skip")
    assert [one.id for one in kept.questions] == ["good"]
    assert re.fullmatch(
        rf"{re.escape(str(path))}: 2 questions; 1 with(out)? [a-z ]+, skipped \(bad\)", str(kept.report)
    )


def test_a_report_names_the_first_and_counts_all(tmp_path):
    many = [asked(name=f"q{i}", answers=[]) for i in range(1234)]
    report = read_squad([write(tmp_path, *many)], on_bad_question="skip").report
    assert str(report).endswith("1,234 questions; 1,234 without an answer, skipped (q0, q1, q2, q3, q4, …)")


@pytest.mark.parametrize(
    "content, expected, found",
    [
        ([], "data, a list, in {0}", "no object, '[]'"),
        ({"version": "1.1", "rows": []}, "data, a list, in {0}", "an object with version, rows"),
        ({}, "data, a list, in {0}", "an object with nothing"),
        ({"data": {}}, "data, a list, in {0}", "'{{}}'"),
        ({"data": [1]}, "paragraphs, a list, in article 1 of {0}", "no object, '1'"),
        (
            {"data": [{"paragraphs": [{"context": None}]}]},
            "context, text, in paragraph 1 of article 1 of {0}",
            "'null'",
        ),
        (
            {"data": [{"paragraphs": [{"context": "a\ud800"}]}]},
            "whole characters in context of paragraph 1 of article 1 of {0}",
            r"half a character, '\ud800'",
        ),
        (
            {"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 5}]}]}]},
            "id, text, in question 1 of paragraph 1 of article 1 of {0}",
            "'5'",
        ),
        (
            {"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "x", "question": "b"}]}]}]},
            "answers, a list, in question 'x' of paragraph 1 of article 1 of {0}",
            "an object with id, question",
        ),
        *(
            (
                {"data": [{"paragraphs": [asked(start=start, name="x")]}]},
                "answer_start, a whole number, in an answer of question 'x' of paragraph 1 of "
                "article 1 of {0}",
                shown,
            )
            for start, shown in ((True, "'true'"), ("7", "'\"7\"'"), (7.0, "'7.0'"), (None, "'null'"))
        ),
    ],
)
def test_what_is_not_of_this_form_is_named(tmp_path, content, expected, found):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    says(f"expected {expected.format(path)}, found {found.format(path)}; check the file", [path])
    with pytest.raises(Refused):  # no question, so none to skip
        read_squad([path], on_bad_question="skip")


@pytest.mark.parametrize(
    "raw, found",
    [
        (b"", "Expecting value at line 1 column 1; check the file"),
        (b'{"data": [', "Expecting value at line 1 column 11; check the file"),
        (b'{"data": \xff}', "byte 0xFF at byte offset 9; convert it to UTF-8"),
        (b"\x1f\x8b\x08\x00", "byte 0x8B at byte offset 1; unpack it, it begins as gzip does"),
        ("{}".encode("utf-16"), "byte 0xFF at byte offset 0; convert it to UTF-8"),
    ],
)
def test_what_is_not_json_is_named(tmp_path, raw, found):
    path = tmp_path / "set.json"
    path.write_bytes(raw)
    with pytest.raises(Refused, match=re.escape(f"in {path}, found {found}") + "$"):
        read_squad([path])


@pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"data": ' + b"9" * 10_000 + b"}"])
def test_json_beyond_all_measure_is_refused(tmp_path, raw):
    path = tmp_path / "set.json"
    path.write_bytes(raw)
    with pytest.raises(Refused, match="as JSON in .*; check the file$"):
        load_json(path, "numbers")


def test_a_mark_of_byte_order_is_dropped_and_a_missing_file_refused(tmp_path):
    path = write(tmp_path, asked())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_squad([path])) == 1
    with pytest.raises(NotFound, match="expected a text file at .*none.json, found nothing"):
        read_squad([tmp_path / "none.json"])
    with pytest.raises(Refused, match="offsets: expected one of characters, bytes, utf-16, found 'chars'"):
        read_squad([path], offsets="chars")
    with pytest.raises(Refused, match="on_bad_question: expected one of error, skip, found 'replace'"):
        read_squad([path], on_bad_question="replace")


def test_held_out_paragraphs_are_in_one_part_alone(tmp_path):
    paragraphs = [asked("ten", 0, f"ten {i // 2}", f"q{i}") for i in range(40)]  # every text twice
    whole = read_squad([write(tmp_path, *paragraphs)])
    train, held = held_out(whole, 0.25, 3)
    assert len(held) == 10 and len(train) == 30
    texts = [{part.paragraphs[one.paragraph] for one in part.questions} for part in (train, held)]
    assert not texts[0] & texts[1] and len(texts[0] | texts[1]) == 20
    assert [one.id for one in train.questions] == [one.id for one in held_out(whole, 0.25, 3)[0].questions]
    assert [one.id for one in held.questions] != [one.id for one in held_out(whole, 0.25, 4)[1].questions]
    for part in (train, held):
        for one in part.questions:
            assert part.paragraphs[one.paragraph].startswith(one.answers[0].text)


def test_real_questions(mirror):
    squad = read_squad([mirror / "squad-v1.1" / "dev-v1.1.rebuilt.json"])
    assert (len(squad), len(squad.paragraphs)) == (10_570, 2_067)
    assert sum(len(one.answers) for one in squad.questions) == 34_726
    parts = read_squad([mirror / "squad-v1.1" / f"train-part.{kind}.json" for kind in ("cased", "lower")])
    assert len(parts) == 6_829 + 3_615 and not parts.report
