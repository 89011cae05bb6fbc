"""Guards of a translation: what is done to an odd line before it, and after it to what cannot be right.

A model trained on ordinary sentences answers a line unlike them with endless repetition, without the line's
numbers, or as if it were quite another line. A guard is a check of the translation and remedies, tried in
order until what they give passes. A line whose translation passes keeps it to the last bit. By name:

`tidy`
    Before: white space becomes one space. A line all in capitals, or without one, is written as a sentence:
    each word in the form that is fewest tokens, the first with a capital. A line that ends in a letter or
    digit gets a full stop, which its translation loses again.
`repeats`
    No translation has more than ``length_factor * S + length_offset`` tokens, ``</s>`` counted on neither
    side, or had to be ended at its longest; no sequence of words or of tokens occurs in it more than twice
    more often than one does in the source. Remedies: the next best translations; a search in which no three
    tokens repeat, no two, no one.
`numbers`
    Every number and address (``https://…``, ``…@…``) of the source is in the translation as it stands.
    Remedies: the next best translations; the line with numbers in their place that are one token, which are
    then put back; each at the word where attention to it was greatest, in place of a number that is not the
    source's or else in front.

A line that no remedy helps, and a line without letters, is its own translation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding, NoRepeatedNgram

if TYPE_CHECKING:
    from seqsru.pipelines.translation import Translation

Translate = Callable[[Sequence[str], Decoding, bool], "list[Translation]"]

_ADDRESS = r"(?:\w+://|www\.)\S*\w|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_NUMBER = r"\d+(?:[.,:/'’-]\d+)*"
_COPIED = re.compile(f"{_ADDRESS}|{_NUMBER}")
# A number stands in for another where it is one token on both sides: then the model has seen it often.
_STAND_INS = ("3", "10", "20", "100", "2", "5", "4", "12", "50", "2000", "30", "1000")
_SIZES = (3, 2, 1)  # of the sequences that may not repeat, one search after the other
_MORE = 2  # times that a sequence may occur more often than one does in the source


def copied(text: str) -> list[str]:
    """Return what a translation keeps as it stands: numbers, ``1,000`` and ``12:30`` being one, addresses."""
    return _COPIED.findall(text)


@dataclass(frozen=True)
class _Line:
    """A line as it is translated, and what its translation may be and has to have."""

    text: str
    stopped: bool  # whether the full stop at its end was put there
    longest: int  # tokens
    words: int  # times that a sequence of words may occur
    tokens: int  # the same of tokens
    copied: Counter[str]


Check = Callable[[_Line, "Translation"], bool]
Remedy = Callable[[list[_Line], "list[Translation]"], "Iterable[Sequence[Translation]]"]


@dataclass(frozen=True)
class Guarded:
    """Translate with the guards that ``decoding.guard`` names.

    Parameters
    ----------
    translate : callable
        ``translate(lines, decoding, attention)`` without guards.
    source, target : Tokenizer
    decoding : Decoding
    """

    translate: Translate
    source: Tokenizer
    target: Tokenizer
    decoding: Decoding

    def __call__(self, lines: Sequence[str], attention: bool) -> list[Translation]:
        """Return the translations of lines, in order; none depends on another line.

        Alternatives are not mended: those that fail a check are left out.
        """
        remedies: dict[Check, list[Remedy]] = {}
        if "repeats" in self.decoding.guards:
            remedies[self._ends] = [self._next_best, *(partial(self._unrepeated, size) for size in _SIZES)]
        if "numbers" in self.decoding.guards:
            remedies[self._copies] = [self._next_best, self._standing_in, self._placed]
        read = [self._read(line) for line in lines]
        found = self._search(read, attention)
        checks: list[Check] = []
        bad: list[int] = []  # lines whose translation fails a check
        for check, ways in remedies.items():
            checks.append(check)
            bad = [n for n, line in enumerate(read) if not _passes(checks, line, found[n])]
            for remedy in ways:
                tried = remedy([read[n] for n in bad], [found[n] for n in bad]) if bad else ()
                for n, others in zip(bad, tried):
                    better = next((one for one in others if _passes(checks, read[n], one)), found[n])
                    found[n] = replace(better, alternatives=found[n].alternatives)
                bad = [n for n in bad if not _passes(checks, read[n], found[n])]
        for n, line in enumerate(read):
            sound = tuple(one for one in found[n].alternatives if _passes(checks, line, one))
            found[n] = replace(found[n], alternatives=sound)
        failed = set(bad)
        for n, (line, raw) in enumerate(zip(read, lines)):
            if n in failed or (raw.strip() and not line.text):
                found[n] = self._rewritten(found[n], raw.strip())
            elif line.stopped:
                others = tuple(map(self._unstopped, found[n].alternatives))
                found[n] = replace(self._unstopped(found[n]), alternatives=others)
        return found if attention else [_unexplained(one) for one in found]

    # ---- before --------------------------------------------------------------------------------------

    def _read(self, raw: str) -> _Line:
        """Return what is translated for a line; nothing where there is no letter."""
        text, stopped = raw if any(map(str.isalpha, raw)) else "", False
        if text and "tidy" in self.decoding.guards:
            text = self._sentence(" ".join(text.split()))
            stopped = text[-1].isalnum() and self.source.unk not in self.source.encode(".")
            text += "." if stopped else ""
        ids, tidied = self.source.encode(raw), self.source.encode(text)
        # The search ends what has come to its longest, so what is as long did not end by itself.
        longest = min(
            int(self.decoding.length_factor * len(ids) + self.decoding.length_offset),
            self.decoding.longest(len(tidied) + 1) - 2,
        )
        words, tokens = _most(raw.split()) + _MORE, _most(ids) + _MORE
        return _Line(text, stopped, longest, words, tokens, Counter(copied(text)))

    def _sentence(self, text: str) -> str:
        """Write a line that is all in capitals, or without one, as a sentence."""
        if text not in (text.upper(), text.lower()):
            return text
        first, *others = text.split(" ")
        return " ".join(
            [self._shortest(first.capitalize(), first.lower(), first)]
            + [self._shortest(word.lower(), word.capitalize(), word) for word in others]
        )

    def _shortest(self, *forms: str) -> str:
        """Return the form that is fewest tokens, the first of equals; an unknown token counts as many."""

        def cost(form: str) -> int:
            ids = self.source.encode(form)
            return len(ids) + 10 * ids.count(self.source.unk)

        return min(forms, key=cost)

    # ---- checks --------------------------------------------------------------------------------------

    def _ends(self, line: _Line, translation: Translation) -> bool:
        """Say whether a translation came to its end, without repeating itself."""
        # The same text may be other tokens where the search did not take the longest ones.
        for ids in (translation.tokens, self.target.encode(translation.text)):
            if len(ids) > max(line.longest, 0) or _most(ids) > line.tokens:
                return False
        return _most(translation.text.split()) <= line.words

    def _copies(self, line: _Line, translation: Translation) -> bool:
        """Say whether a translation has the numbers and addresses of its line."""
        return line.copied <= Counter(copied(translation.text))

    # ---- remedies: for each line, translations that may be better, best first --------------------------

    def _next_best(self, lines: list[_Line], found: list[Translation]) -> list[list[Translation]]:
        """The other translations of the same search."""
        return self._several(lines, self.decoding) if self.decoding.beam > 1 else [[] for _ in lines]

    def _unrepeated(self, size: int, lines: list[_Line], found: list[Translation]) -> list[list[Translation]]:
        """Translations in which no `size` tokens repeat."""
        rules = (*self.decoding.rules, NoRepeatedNgram(size))
        return self._several(lines, replace(self.decoding, rules=rules))

    def _standing_in(self, lines: list[_Line], before: list[Translation]) -> list[list[Translation]]:
        """Translations with other numbers in place of those that were lost, which are then put back."""
        asked: list[str] = []
        wanted: list[dict[str, str]] = []
        owners: list[int] = []
        for n, (line, translation) in enumerate(zip(lines, before)):
            lost = line.copied - Counter(copied(translation.text))
            here = set(copied(line.text))
            free = [one for one in _STAND_INS if one not in here and self._one_token(one)]
            places = [match for match in _COPIED.finditer(line.text) if match[0] in lost]
            for first in range(0, len(free), 4):
                chosen = [*free[first:], *free[:first]][: len(places)]
                if not places or len(chosen) < len(places):
                    break
                text, end = "", 0
                exchanged: dict[str, str] = {}
                for match, other in zip(places, chosen):
                    text += line.text[end : match.start()] + other
                    end, exchanged[other] = match.end(), match[0]
                asked.append(text + line.text[end:])
                wanted.append(exchanged)
                owners.append(n)
        others: list[list[Translation]] = [[] for _ in lines]
        found = self.translate(asked, replace(self.decoding, guard="none"), False)
        for n, exchanged, translation in zip(owners, wanted, found):
            if all(copied(translation.text).count(other) == 1 for other in exchanged):
                others[n].append(self._rewritten(translation, _exchange(translation.text, exchanged)))
        return others

    def _placed(self, lines: list[_Line], found: list[Translation]) -> list[list[Translation]]:
        """The translations with what they lost put where attention to it was greatest."""
        return [[self._with_lost(line, one)] for line, one in zip(lines, found)]

    def _with_lost(self, line: _Line, translation: Translation) -> Translation:
        lost = line.copied - Counter(copied(translation.text))
        words = translation.text.split()
        placed: list[tuple[int, str]] = []
        for match in _COPIED.finditer(line.text):
            if lost[match[0]] > 0:
                lost[match[0]] -= 1
                placed.append((self._word(line, translation, match.start(), match.end()), match[0]))
        for place, text in sorted(placed, reverse=True):
            word = words[place] if place < len(words) else ""
            wrong = next((one for one in copied(word) if one not in line.copied), None)
            if wrong is not None:
                words[place] = word.replace(wrong, text)
            else:
                words.insert(place, text)
        return self._rewritten(translation, " ".join(words))

    def _word(self, line: _Line, translation: Translation, start: int, end: int) -> int:
        """Return the number of the word that looks most at a part of a line, or beyond the last one."""
        weights = translation.attention
        if weights is None or not translation.tokens:
            return len(translation.text.split())
        first = len(self.source.encode(line.text[:start]))
        last = max(first + 1, len(self.source.encode(line.text[:end])))
        seen = [float(row[first:last].sum()) for row in weights[: len(translation.tokens)]]
        best = seen.index(max(seen))
        return max(len(self.target.decode(translation.tokens[: best + 1]).split()) - 1, 0)

    def _one_token(self, number: str) -> bool:
        sides = (self.source.encode(number), self.source.unk), (self.target.encode(number), self.target.unk)
        return all(len(ids) == 1 and unk not in ids for ids, unk in sides)

    # ---- searches ------------------------------------------------------------------------------------

    def _search(self, lines: Sequence[_Line], attention: bool) -> list[Translation]:
        """Translate lines, with attention where it is wanted or may be needed to place a number."""
        plain = replace(self.decoding, guard="none")
        found: dict[int, Translation] = {}
        for explained in (False, True):
            group = [
                n
                for n, line in enumerate(lines)
                if explained is (attention or "numbers" in self.decoding.guards and bool(line.copied))
            ]
            found |= zip(group, self.translate([lines[n].text for n in group], plain, explained))
        return [found[n] for n in range(len(lines))]

    def _several(self, lines: list[_Line], decoding: Decoding) -> list[list[Translation]]:
        """Translate lines; return as many translations of each as the beam has."""
        found = replace(self, decoding=replace(decoding, n_best=decoding.beam))._search(lines, False)
        return [[one, *one.alternatives] for one in found]

    def _unstopped(self, translation: Translation) -> Translation:
        """Return a translation without the full stop at its end; what the search saw stays with it."""
        if not translation.text.endswith("."):
            return translation
        text = translation.text.removesuffix(".").rstrip()
        return replace(translation, text=text, tokens=self.target.encode(text))

    def _rewritten(self, translation: Translation, text: str) -> Translation:
        """Return a translation with another text; what the search saw is not of it."""
        return _unexplained(replace(translation, text=text, tokens=self.target.encode(text)))


def _passes(checks: Sequence[Check], line: _Line, translation: Translation) -> bool:
    return all(check(line, translation) for check in checks)


def _exchange(text: str, exchanged: dict[str, str]) -> str:
    return _COPIED.sub(lambda match: exchanged.get(match[0], match[0]), text)


def _most(units: Sequence[object]) -> int:
    """Return how often the most frequent unit occurs; a sequence of several never occurs more often."""
    return max(Counter(units).values(), default=0)


def _unexplained(translation: Translation) -> Translation:
    return replace(translation, attention=None, source_labels=[], target_labels=[])
