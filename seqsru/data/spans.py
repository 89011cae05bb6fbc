"""Tokens that know where they stand in their text, and the windows of a long text.

A reader's words are runs of letters, digits and marks; every other character but white space, and every
letter of a script without spaces, is a token of its own. Its characters are all but white space.
"""

# Annotations are read at run time: the fields of `Reading` are settings.
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from seqsru.data.tokenizers import Tokenizer
from seqsru.data.vocabulary import Characters, Words
from seqsru.errors import Refused, check_at_least, check_at_most

# Scripts that put no space between words: of Thailand to Cambodia, kana, ideographs and what belongs to them.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
MOST_MATCHED = 16
KINDS = (Words.kind, Characters.kind)


@dataclass(frozen=True)
class Reading:
    """How paragraphs and questions are read.

    Parameters
    ----------
    lowercase : bool
        Whether words are looked up in lower case; how they are written is then seen by the matches alone.
    matched_run : int
        Longest run of tokens for which it is told whether it stands in the question too: 1 for words; of
        characters one alone says little, and 4 are a word.
    max_paragraph : int
        Tokens that are read at once; a longer paragraph is read in windows of so many.
    stride : int or None
        Tokens from one window to the next; null is half a window, or less where answers of `max_answer`
        tokens need it.
    max_answer : int
        Longest answer that is searched for, in tokens.

    Raises
    ------
    Refused
        A number out of its range, or windows of which none would hold an answer whole.
    """

    lowercase: bool = False
    matched_run: int = 1
    max_paragraph: int = 400
    stride: int | None = None
    max_answer: int = 30

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_at_least(1, matched_run=self.matched_run, max_paragraph=self.max_paragraph)
        check_at_least(1, max_answer=self.max_answer)
        check_at_most(MOST_MATCHED, matched_run=self.matched_run)
        if self.max_answer > self.max_paragraph:
            expected = f"at most max_paragraph = {self.max_paragraph} tokens"
            raise Refused(expected, str(self.max_answer), "lower it, or raise max_paragraph", "max_answer")
        if self.stride is not None:
            check_at_least(1, stride=self.stride)
            most = self._most_stride()
            if self.stride > most:
                expected = f"at most {most} tokens, so that a window of max_paragraph holds max_answer whole"
                raise Refused(expected, str(self.stride), "lower it, or leave it out", "stride")

    def _most_stride(self) -> int:
        return self.max_paragraph - self.max_answer + 1

    def windows(self, length: int) -> list[int]:
        """Where the windows of a paragraph of so many tokens begin.

        All have ``min(length, max_paragraph)`` tokens, so the last one begins earlier than the stride says.
        """
        if length <= self.max_paragraph:
            return [0]
        step = self.stride or max(1, min(self.max_paragraph // 2, self._most_stride()))
        last = length - self.max_paragraph
        return [*range(0, last, step), last]


@dataclass(frozen=True)
class TextTokens:
    """A text and where its tokens stand in it.

    Parameters
    ----------
    text : str
    starts, ends : tuple of int
        First character of each token, and the one after its last.
    """

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.starts)

    def tokens(self) -> list[str]:
        """Return the tokens as they are written."""
        return [self.text[start:end] for start, end in zip(self.starts, self.ends)]

    def span(self, first: int, last: int) -> str:
        """Return the text from a token to another, both included, as it is written."""
        return self.text[self.starts[first] : self.ends[last]]

    def covering(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the first and last token that have a character of ``text[start:end]``; None for none."""
        inside = [i for i in range(len(self)) if self.ends[i] > start and self.starts[i] < end]
        return (inside[0], inside[-1]) if inside else None


def text_tokens(text: str, kind: str) -> TextTokens:
    """Find the tokens of a text.

    Parameters
    ----------
    text : str
        May hold line ends.
    kind : {"words", "characters"}
        Kind of the tokenizer that knows them.
    """
    found = [match.span() for match in _pattern(kind).finditer(text)]
    return TextTokens(text, tuple(start for start, _ in found), tuple(end for _, end in found))


def token_ids(tokens: Sequence[str], tokenizer: Tokenizer, lowercase: bool) -> list[int]:
    """The id of each token."""
    looked_up = lowered(tokens) if lowercase else tokens
    return tokenizer.encode((" " if tokenizer.kind == Words.kind else "").join(looked_up))


def lowered(tokens: Sequence[str]) -> list[str]:
    """Tokens in lower case; a character whose lower case is two stays what it is."""
    small = [token.lower() for token in tokens]
    return [low if len(token) > 1 or len(low) == 1 else token for token, low in zip(tokens, small)]


def trained_on(text: str, kind: str, lowercase: bool) -> str:
    """A text as the line that a tokenizer is trained on: its tokens, with spaces between words."""
    tokens = text_tokens(text, kind).tokens()
    return (" " if kind == Words.kind else "").join(lowered(tokens) if lowercase else tokens)


def check_kind(tokenizer: Tokenizer, setting: str) -> None:
    """Refuse a tokenizer whose tokens do not stand in the text."""
    if tokenizer.kind not in KINDS:
        do = "train one of these, whose tokens keep their places in the text"
        raise Refused(f"a tokenizer of {' or '.join(KINDS)}", tokenizer.kind, do, setting)


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    if kind == Characters.kind:
        return re.compile(r"\S")
    # Marks that combine with the letter before are no letters to Python, and belong to the word.
    places = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
    marks = "".join(chr(place) for place in places if unicodedata.category(chr(place))[0] == "M")
    own = f"[{UNSPACED}]"
    return re.compile(rf"{own}[{marks}]*|(?:(?!{own})\w)(?:(?!{own})[\w{marks}])*|\S")
