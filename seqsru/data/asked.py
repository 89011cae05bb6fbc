"""Questions with their paragraphs: as lines, with tabs between them or as JSON objects, and as lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple

from seqsru.errors import Refused, unknown

LineForm = Literal["tabs", "json"]
_NAMES = ("id", "question", "paragraphs")


class AskedLine(NamedTuple):
    """A question, the paragraphs that may hold its answer, and what it is called."""

    question: str
    paragraphs: tuple[str, ...]
    id: str | None = None


def split_line(line: str, place: str, form: LineForm = "tabs") -> AskedLine:
    """Read a line.

    Parameters
    ----------
    line : str
    place : str
        Where it stands, for a refusal: ``FILE:12``.
    form : {"tabs", "json"}
        tabs: a question and its paragraphs, with a tab before each. json: an object with ``question``,
        ``paragraphs``, a list of texts or one text, and if wanted an ``id``.

    Raises
    ------
    Refused
        It is none of that, or has no question or no paragraph.
    """
    asked = _from_json(line, place) if form == "json" else _from_tabs(line, place)
    if not asked.question.strip():
        raise Refused(f"a question at {place}", "none", "write one")
    if not any(paragraph.strip() for paragraph in asked.paragraphs):
        raise Refused(f"a paragraph for the question at {place}", "none", "write one")
    return asked


def _from_tabs(line: str, place: str) -> AskedLine:
    question, *paragraphs = line.split("\t")
    if not paragraphs:
        expected = f"a question, a tab and a paragraph at {place}"
        raise Refused(expected, f"no tab in {line[:40]!r}", "put one behind the question")
    return AskedLine(question, tuple(paragraphs))


def _from_json(line: str, place: str) -> AskedLine:
    expected = f"a JSON object with question and paragraphs at {place}"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused(expected, repr(line[:40]), "check the line, or read it with --form tabs") from None
    if not isinstance(found, dict):
        raise Refused(expected, f"a {type(found).__name__}", "check the line")
    strange = next((name for name in found if name not in _NAMES), None)
    if strange is not None:
        refusal = unknown(strange, _NAMES)
        raise Refused(f"{refusal.expected} at {place}", refusal.found, refusal.do)
    question: Any = found.get("question")
    paragraphs, name = found.get("paragraphs"), found.get("id")
    texts: Any = [paragraphs] if isinstance(paragraphs, str) else paragraphs
    for what, value, fits in (
        ("question, a text,", question, isinstance(question, str)),
        ("paragraphs, a list of texts,", paragraphs, _are_texts(texts)),
        ("id, a text,", name, name is None or isinstance(name, str)),
    ):
        if not fits:
            raise Refused(
                f"{what} at {place}", "none" if value is None else repr(value)[:40], "check the line"
            )
    for text in (question, *texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = f"half a character, {text[error.start]!r}"
            raise Refused(f"whole characters at {place}", found, "check the line") from None
    return AskedLine(" ".join(question.split("\n")), tuple(texts), name)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def paragraph_lists(paragraphs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The paragraphs of each question as lists; what is no text is refused."""
    expected, do = "a list of paragraphs for each question", "put the paragraphs of each question into a list"
    if isinstance(paragraphs, (str, bytes, Mapping, Set)) or not isinstance(paragraphs, Iterable):
        raise Refused(expected, repr(paragraphs)[:40], do, "paragraphs")
    given = []
    for number, texts in enumerate(paragraphs, 1):
        if isinstance(texts, (str, bytes, Mapping, Set)) or not isinstance(texts, Iterable):
            raise Refused(expected, f"{repr(texts)[:40]} for question {number}", do, "paragraphs")
        given.append(list(texts))
        for text in given[-1]:
            if not isinstance(text, str):
                found, each = repr(text)[:40], "give text for each paragraph"
                raise Refused(f"text in the paragraphs of question {number}", found, each, "paragraphs")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                found, each = f"half a character, {text[error.start]!r}", "read the text as UTF-8"
                raise Refused(
                    f"whole characters in the paragraphs of question {number}", found, each, "paragraphs"
                ) from None
    return given
