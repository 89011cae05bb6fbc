"""Plain text from the tokenised, lower-cased WMT sample, as far as that is possible.

Each token of the sample is ``word￨CASE`` with XML entities in the word: ``the￨C &quot;￨N eu￨U &quot;￨N``.
The marks were made by a program that knew ASCII letters only.
"""

import html
import re

MARK = "￨"
_CLOSING = re.compile(r"[.,;:!?%)\]}…]+[\"']?[.,;:!?)]*")
_OPENING = re.compile(r"[(\[{¿¡$£]+")
_CLITIC = re.compile(r"['’](s|t|d|m|ll|re|ve)", re.IGNORECASE)


def restore(line: str, *, language: str) -> str:
    """Return a line of the sample as plain, cased, detokenised text.

    Mixed case (M) is a guess: every run of letters begins with a capital. Spaces are put as a writer would,
    after the tokens alone; which way a lone quotation mark faces is a guess too.

    Parameters
    ----------
    line : str
        Tokens separated by spaces.
    language : {"en", "de"}
        English joins ``'s`` and its like to the word before.
    """
    text = ""
    quoted = False
    glue = True  # nothing between the last token and the next
    words = [_cased(token) for token in line.split(" ") if token]
    for word, after in zip(words, words[1:] + ["."]):
        if word == '"':
            opens = not quoted and not _CLOSING.fullmatch(after)
            text += word if glue or not opens else " " + word
            quoted, glue = opens, opens
        elif _CLOSING.fullmatch(word) or language == "en" and _CLITIC.fullmatch(word):
            text += word
            glue = word == ":" and text[-2:-1].isdigit() and after[:1].isdigit()  # 19:45
        else:
            joined = glue or word.startswith("-") and len(word) > 1 and text.endswith('"')
            text += word if joined else " " + word
            glue = _OPENING.fullmatch(word) is not None
    return text


def _cased(token: str) -> str:
    word, _, case = token.rpartition(MARK)
    word = html.unescape(word)
    if case == "C":
        return re.sub(r"[^\W\d_]", lambda letter: letter[0].upper(), word, count=1)
    if case == "U":
        return word.upper()
    if case == "M":
        return re.sub(r"[^\W\d_]+", lambda run: run[0][:1].upper() + run[0][1:], word)
    return word
