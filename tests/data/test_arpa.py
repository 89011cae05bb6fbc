"""N-grams in the ARPA format: backoff by hand, and files that are none."""

import math
import re

import pytest

from seqsru.data.arpa import NONE, read_arpa
from seqsru.errors import NotFound, Refused

TEXT = """\
a comment, with \\1-grams: in it

\\data\\
ngram 1=4
ngram 2=3
ngram 3 = 1

\\1-grams:
-1.0\t<s>\t-0.5
-0.8\t</s>
-0.3\tGO\t-0.2
-0.6\tNO\t-0.1

\\2-grams:
-0.4\t<s> GO\t-0.7
-0.9\tGO GO
-0.2 NO </s>

\\3-grams:
-0.05\t<s> GO GO

\\end\\
"""


def model(tmp_path, text=TEXT):
    (tmp_path / "lm.arpa").write_text(text)
    return read_arpa(tmp_path / "lm.arpa")


def test_backoff_by_hand(tmp_path):
    lm = model(tmp_path)
    begin = lm.begin()
    go = lm.advance(begin, "GO")
    cases = [
        (begin, "GO", -0.4),
        (begin, "NO", -0.5 - 0.6),
        (go, "GO", -0.05),
        (go, "NO", -0.7 - 0.2 - 0.6),
        (lm.advance(go, "GO"), "GO", -0.9),  # the bigram GO GO has no backoff, and there is no trigram
        (lm.advance(lm.advance(go, "GO"), "NO"), "</s>", -0.2),
        (go, "YES", NONE),
        (lm.advance(go, "YES"), "GO", -0.3),  # nothing is known of what came before
    ]
    for context, word, expected in cases:
        assert lm.score(context, word) == pytest.approx(expected * math.log(10)), (context, word)
    assert lm.order == 3 and re.fullmatch("[0-9a-f]{12}", lm.digest)


def test_an_unknown_word_is_unk_where_there_is_one(tmp_path):
    lm = model(
        tmp_path, TEXT.replace("ngram 1=4", "ngram 1=5").replace("-0.6\tNO", "-2.0\t<unk>\t-0.3\n-0.6\tNO")
    )
    assert lm.score(lm.begin(), "YES") == pytest.approx((-0.5 - 2.0) * math.log(10))
    assert lm.score(lm.advance(lm.begin(), "YES"), "GO") == pytest.approx((-0.3 - 0.3) * math.log(10))


def test_unigrams_have_no_context(tmp_path):
    lm = model(tmp_path, "\\data\\\nngram 1=2\n\\1-grams:\n-1 </s>\n-0.3 GO\n\\end\\\n")
    assert lm.begin() == () == lm.advance((), "GO")
    assert lm.score((), "GO") == pytest.approx(-0.3 * math.log(10))


@pytest.mark.parametrize(
    "old, new, sentence",
    [
        ("\\data\\", "\\date\\", r"\data\ at {path}:24, found the end of the file"),
        ("ngram 2=3", "ngram 3=3", "the count of 2-grams at {path}:5, found ngram 3=3"),
        ("ngram 2=3", "ngram 2=x", "ngram ORDER=COUNT at {path}:5, found ngram 2=x"),
        ("ngram 2=3", "ngram 2=4", "4 2-grams, as counted above at {path}:19, found 3"),
        (
            "-0.6\tNO\t-0.1",
            "-0.6\tNO\tx",
            "a number, 1 words and perhaps a backoff at {path}:12, found -0.6\tNO\tx",
        ),
        ("-0.6\tNO\t-0.1", "NO", "a number, 1 words and perhaps a backoff at {path}:12, found NO"),
        ("-0.6\tNO", "0.6\tNO", "the logarithm of a probability at {path}:12, found 0.6\tNO\t-0.1"),
        ("-0.6\tNO", "nan\tNO", "the logarithm of a probability at {path}:12, found nan\tNO\t-0.1"),
        ("-0.6\tNO", "-0.6\tGO", "each n-gram once at {path}:12, found GO again"),
        ("\\2-grams:", "\\4-grams:", "\\2-grams: at {path}:14, found \\4-grams:"),
        ("\\end\\", "", "3-grams at {path}:22, found the end of the file"),
        ("-0.8\t</s>", "-0.8\t<x>", "the word </s> among the 1-grams at {path}:22, found none"),
    ],
)
def test_what_is_no_such_file(tmp_path, old, new, sentence):
    assert old in TEXT
    path = tmp_path / "lm.arpa"
    told = f"expected {sentence.format(path=path)}; give a language model in the ARPA format"
    with pytest.raises(Refused) as error:
        model(tmp_path, TEXT.replace(old, new, 1))
    assert re.sub(r":\d+", ":N", str(error.value)) == re.sub(r":\d+", ":N", told)
    line = int(re.search(r"lm.arpa:(\d+)", str(error.value))[1])
    assert 1 <= line <= len(TEXT.splitlines()) + 1


def test_no_file(tmp_path):
    with pytest.raises(NotFound, match="^expected a text file at nowhere, found nothing"):
        read_arpa("nowhere")
    (tmp_path / "bytes").write_bytes(b"\\data\\\n\xff\n")
    with pytest.raises(Refused, match=r"^expected UTF-8 text in \S+bytes:2, found byte 0xFF"):
        read_arpa(tmp_path / "bytes")
