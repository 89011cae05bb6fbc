"""Translate odd lines with a trained model, and count what is wrong with the answers.

    python tools/odd_lines.py runs/m30.seqsru test.en --other test.de
    python tools/odd_lines.py runs/m30.seqsru test.en --reference test.de --guard numbers,repeats,tidy

The lines are made from the sentences of a file, each from a generator of its own: one word, no final dot,
capitals, small letters, double spaces, numbers, addresses of pages, emoji, another language, a thousand
characters, punctuation alone, one word many times. Counted are, of each kind, in per cent:

*long*: answers of more than 2 · S + 10 tokens, S being the tokens of the source, no ``</s>`` on either side.

*repeats*: answers in which a sequence of words occurs more often than any does in the source, and two times
more; the same of tokens in the next column.

*numbers*: numbers of the source that are not in the answer as they stand; in per cent of the numbers.

*own*: answers that are the line itself, which is what is left where no remedy helps.

*changed*: lines whose answer differs from that of the sentence that they were made from, for lines without a
final dot, with double spaces, and in another case; case, white space and a final dot do not count. Beside it
stands chrF of the two.

With `--reference` BLEU and chrF of the sentences themselves are printed, without the guards and with them.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sacrebleu

import seqsru
from seqsru.data import read_lines

Maker = Callable[[str, random.Random], str]
EMOJI = "😀 🎉 🐈 👩‍👩‍👧 🇩🇪 ❤️ 🚀 👍🏽".split()
SITES = (
    "https://example.org/a?b={} www.example.com/{}/index.html mail{}@example.org ftp://10.0.0.{}/x_y".split()
)


def words(line: str, draw: random.Random) -> str:
    """Take one word."""
    return draw.choice(line.split())


def dotless(line: str, draw: random.Random) -> str:
    """Leave out the full stop."""
    return line.rstrip(" .")


def number(draw: random.Random) -> str:
    """Draw a number in one of many forms."""
    shape = draw.choice(
        ["{0}", "{0}", "{1}", "{2}", "{0},{1}", "{0}.{1}", "{2},{3}", "{4}:{5}", "{0}%", "{2}-{3}", "{6}"]
    )
    values = (draw.randint(0, 9), draw.randint(10, 99), draw.randint(100, 2100), draw.randint(100, 999))
    return shape.format(*values, draw.randint(0, 23), draw.randint(10, 59), draw.randint(10**5, 10**9))


def with_numbers(line: str, draw: random.Random) -> str:
    """Put one to three numbers between the words."""
    parts = line.split()
    for _ in range(draw.randint(1, 3)):
        parts.insert(draw.randrange(len(parts)), number(draw))
    return " ".join(parts)


def with_emoji(line: str, draw: random.Random) -> str:
    """Put some emoji between the words."""
    parts = line.split()
    parts.insert(draw.randint(0, len(parts)), " ".join(draw.choices(EMOJI, k=draw.randint(1, 4))))
    return " ".join(parts)


def with_site(line: str, draw: random.Random) -> str:
    """Put an address between the words."""
    parts = line.split()
    parts.insert(draw.randrange(len(parts)), draw.choice(SITES).format(draw.randint(1, 250)))
    return " ".join(parts)


def long(line: str, draw: random.Random) -> str:
    """Repeat the words in other orders, to a thousand characters."""
    parts = line.split()
    text = line
    while len(text) < 1000:
        draw.shuffle(parts)
        text += " " + " ".join(parts)
    return text[:1000]


def symbols(line: str, draw: random.Random) -> str:
    """Draw punctuation, digits and spaces."""
    return "".join(draw.choices("!?.,;:-–()[]{}\"'…/\\#+*~ 0123456789", k=draw.randint(1, 30)))


def letters(line: str, draw: random.Random) -> str:
    """Draw letters that are no words."""
    return " ".join(
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyzäöüß", k=draw.randint(1, 14)))
        for _ in range(draw.randint(1, 6))
    )


KINDS: dict[str, Maker] = {
    "one word": words,
    "no final dot": dotless,
    "capitals": lambda line, draw: line.upper(),
    "small letters": lambda line, draw: line.lower(),
    "double spaces": lambda line, draw: line.replace(" ", "  "),
    "numbers": with_numbers,
    "addresses": with_site,
    "emoji": with_emoji,
    "1,000 characters": long,
    "symbols": symbols,
    "random letters": letters,
    "one word often": lambda line, draw: " ".join([words(line, draw)] * draw.randint(2, 12)),
}
SAME = ("no final dot", "capitals", "small letters", "double spaces")


def suite(
    lines: Sequence[str], other: Sequence[str], count: int, seed: int = 1
) -> dict[str, list[tuple[str, str]]]:
    """Make about `count` lines: by kind, pairs of the sentence that a line was made from and the line."""
    makers = {**KINDS, **({"another language": lambda line, draw: draw.choice(other)} if other else {})}
    share = -(-count // len(makers))
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, make in makers.items():
        draw = random.Random(f"{kind}:{seed}")
        sentences = [draw.choice(lines) for _ in range(share)]
        found[kind] = [(sentence, make(sentence, draw)) for sentence in sentences]
    return found


def numbers(text: str) -> list[str]:
    """Return the numbers of a text as they stand."""
    return re.findall(r"\d+(?:[.,:/'’-]\d+)*", text)


def most_repeated(units: Sequence[object]) -> int:
    """Return how often the most frequent unit occurs; a sequence of several never occurs more often."""
    return max(Counter(units).values(), default=0)


def plain(text: str) -> str:
    """Return what is left without case, white space and a final dot."""
    return " ".join(text.lower().rstrip(" .").split())


def measured(pipeline: Any, pairs: list[tuple[str, str]], same: bool, **changes: Any) -> dict[str, float]:
    """Translate the lines of one kind; return the rates in per cent."""
    sources = [line for _, line in pairs]
    answers = pipeline.translate(sources, **changes)
    encode, known = pipeline.source_tokenizer.encode, pipeline.target_tokenizer.encode
    long_, by_words, by_tokens, lost, asked, own = 0, 0, 0, 0, 0, 0
    for source, answer in zip(sources, answers):
        own += answer.text == source.strip()
        long_ += len(answer.tokens) > 2 * len(encode(source)) + 10
        by_words += most_repeated(answer.text.split()) > most_repeated(source.split()) + 2
        by_tokens += most_repeated(known(answer.text)) > most_repeated(encode(source)) + 2
        wanted, there = Counter(numbers(source)), Counter(numbers(answer.text))
        asked += wanted.total()
        lost += (wanted - there).total()
    n = len(pairs)
    rates = {"long": 100 * long_ / n, "repeats": 100 * by_words / n, "tokens": 100 * by_tokens / n}
    rates["own"] = 100 * own / n
    if asked:
        rates["numbers"] = 100 * lost / asked
    if same:
        base = [plain(one.text) for one in pipeline.translate([sentence for sentence, _ in pairs], **changes)]
        here = [plain(one.text) for one in answers]
        rates["changed"] = 100 * sum(a != b for a, b in zip(base, here)) / n
        rates["chrF"] = sacrebleu.corpus_chrf(here, [base]).score
    return rates


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, and print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=Path, help="a run directory or a file of `seqsru quantize`")
    parser.add_argument("sentences", type=Path, help="ordinary sentences of the source language")
    parser.add_argument("--reference", type=Path, help="their translations, for BLEU and chrF")
    parser.add_argument("--other", type=Path, help="sentences of another language")
    parser.add_argument("--count", type=int, default=10_000, help="odd lines (default: %(default)s)")
    parser.add_argument("--beam", type=int, help="(default: the run's)")
    parser.add_argument(
        "--guard", default="numbers,repeats,tidy", help="compared with none (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    pipeline = seqsru.load(given.run)
    lines = [line for line in read_lines(given.sentences).lines if line.strip()]
    other = [] if given.other is None else [line for line in read_lines(given.other).lines if line.strip()]
    guards = "none", given.guard
    if given.reference is not None:
        reference = read_lines(given.reference).lines
        for guard in guards:
            begun = perf_counter()
            texts = [
                one.text
                for one in pipeline.translate(read_lines(given.sentences).lines, beam=given.beam, guard=guard)
            ]
            took = perf_counter() - begun
            bleu, chrf = sacrebleu.corpus_bleu(texts, [reference]), sacrebleu.corpus_chrf(texts, [reference])
            print(f"{guard}: BLEU {bleu.score:.2f}, chrF {chrf.score:.2f}, {took:.2f} s")
    columns = ("long", "repeats", "tokens", "numbers", "own", "changed", "chrF")
    print(f"{'':18}" + "".join(f"{column:>18}" for column in columns))
    for kind, pairs in suite(lines, other, given.count).items():
        before, after = (
            measured(pipeline, pairs, kind in SAME, beam=given.beam, guard=guard) for guard in guards
        )
        cells = (f"{before[c]:.2f} → {after[c]:.2f}" if c in before else "" for c in columns)
        print(f"{kind:18}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
