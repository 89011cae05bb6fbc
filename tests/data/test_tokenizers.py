"""What holds for every tokenizer, and loading one by its file."""

import subprocess
import sys

import pytest

from seqsru.data import TOKENIZERS, load_tokenizer
from seqsru.data.subwords import Pieces
from seqsru.errors import NotFound, Refused

TEXT = ["the quick brown fox", "jumps over the lazy dog", "", "Größe zählt nicht immer"] * 5
OPTIONS = {"words": {}, "characters": {}, "sentencepiece": {"vocabulary_size": 34}}


@pytest.fixture(scope="module", params=TOKENIZERS)
def trained(request):
    return TOKENIZERS[request.param].train(TEXT, **OPTIONS[request.param])


def test_contract(trained):
    assert trained.kind in TOKENIZERS and type(trained) is TOKENIZERS[trained.kind]
    assert {trained.unk, trained.eos, trained.bos, trained.pad} <= set(range(trained.size))
    assert trained.unk != trained.eos
    assert len(trained.fingerprint) == 64
    for line in TEXT:
        ids = trained.encode(line)
        assert isinstance(ids, list) and all(type(i) is int and 0 <= i < trained.size for i in ids)
        assert trained.eos not in ids and trained.bos not in ids
        assert trained.decode(ids) == line == trained.decode([*ids, trained.eos])
        assert len(trained.labels([*ids, trained.eos])) == len(ids) + 1
    assert trained.encode("") == [] and trained.decode([]) == ""
    assert trained.unk in trained.encode("☃")


def test_saved_and_loaded_by_name(trained, tmp_path):
    trained.save(tmp_path, "source")
    loaded = load_tokenizer(tmp_path, "source")
    assert type(loaded) is type(trained) and loaded.fingerprint == trained.fingerprint
    assert [loaded.encode(line) for line in TEXT] == [trained.encode(line) for line in TEXT]
    with pytest.raises(NotFound, match="expected a tokenizer at .*target.json, found no such file"):
        load_tokenizer(tmp_path, "target")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"expected the JSON record of a tokenizer in .*source\.json, found a damaged file"),
        (b'{"kind": "wor', r"in .*source\.json, found a damaged file \(Unterminated string"),
        (b"\xff\xff", r"in .*source\.json, found a damaged file"),
        (b"[1]", r"in .*source\.json, found something else"),
        (b'{"kind": 3, "fingerprint": ""}', r"in .*source\.json, found something else"),
        (b'{"kind": "words"}', r"in .*source\.json, found something else"),
        (
            b'{"kind": "word", "fingerprint": ""}',
            r"a tokenizer of kind words, characters, sentencepiece in .*source\.json, found 'word'; "
            r"restore the file or train again; did you mean 'words'\?",
        ),
        (b'{"kind": "xyz", "fingerprint": ""}', r"found 'xyz'; restore the file or train again"),
        (
            b'{"kind": "words", "fingerprint": "abc"}',
            r"a tokenizer with fingerprint abc in .*source\.json, found no list of words; .* damaged",
        ),
    ],
)
def test_damaged_record_is_named(tmp_path, content, message):
    (tmp_path / "source.json").write_bytes(content)
    with pytest.raises(Refused, match=message):
        load_tokenizer(tmp_path, "source")


def test_damaged_or_missing_model_is_named(tmp_path):
    Pieces.train(TEXT, vocabulary_size=34).save(tmp_path, "joint")
    path = tmp_path / "joint.model"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(
        Refused, match=r"a tokenizer with fingerprint .* in .*joint\.model, found .*; .* damaged"
    ):
        load_tokenizer(tmp_path, "joint")
    path.unlink()
    with pytest.raises(NotFound, match=r"sentencepiece model at .*joint\.model, found no such file"):
        load_tokenizer(tmp_path, "joint")


def test_importing_loads_no_heavy_package():
    names = ("sentencepiece", "numba", "sacrebleu")
    code = f"import sys, seqsru.data; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
