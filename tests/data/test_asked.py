"""Lines of questions, with tabs or as JSON."""

import re

import pytest

from seqsru.data.asked import split_line
from seqsru.errors import Refused


def test_lines():
    assert split_line("who?\tone\ttwo", "x:1") == ("who?", ("one", "two"), None)
    asked = split_line('{"id": "7", "question": "who\\nis?", "paragraphs": ["one\\ttwo", ""]}', "x:1", "json")
    assert asked == ("who is?", ("one\ttwo", ""), "7")
    assert split_line('{"question": "who", "paragraphs": "one"}', "x:1", "json").paragraphs == ("one",)


@pytest.mark.parametrize(
    "line, form, sentence",
    [
        ("who won", "tabs", "a question, a tab and a paragraph at x:3, found no tab in 'who won'; put"),
        (" \tThey won", "tabs", "a question at x:3, found none; write"),
        ("who\t \t", "tabs", "a paragraph for the question at x:3, found none; write"),
        ("who\tthey", "json", "a JSON object with question and paragraphs at x:3, found 'who\\tthey'; "),
        ("[" * 100_000, "json", "a JSON object with question and paragraphs at x:3, found '[[["),
        ("[]", "json", "a JSON object with question and paragraphs at x:3, found a list; check"),
        ('{"question": "a"}', "json", "paragraphs, a list of texts, at x:3, found none; check"),
        ('{"question": 1, "paragraphs": ["a"]}', "json", "question, a text, at x:3, found 1; check"),
        ('{"question": "a", "paragraphs": [1]}', "json", "paragraphs, a list of texts, at x:3, found [1]"),
        ('{"question": "a", "paragraphs": ["a"], "id": 5}', "json", "id, a text, at x:3, found 5"),
        ('{"question": "a", "paragraphs": []}', "json", "a paragraph for the question at x:3, found none"),
        ('{"question": "a", "paragraph": "b"}', "json",
         "one of id, question, paragraphs at x:3, found 'paragraph'; did you mean 'paragraphs'?"),
        ('{"question": "a", "paragraphs": "\\ud800"}', "json", "whole characters at x:3, found half a"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(line, form, sentence):
    with pytest.raises(Refused, match=f"^expected {re.escape(sentence)}"):
        split_line(line, "x:3", form)
