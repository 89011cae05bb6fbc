"""Every setting of every task, far out of its range: accepted by the rehearsal, or blamed by its own name."""

import re
from importlib.util import find_spec

import pytest
from tiny_runs import (
    CLASSIFICATION,
    LANGUAGE_MODEL,
    QUESTIONS,
    RECOGNITION,
    TRANSLATION,
    write_config,
    write_texts,
)

from seqsru import runs
from seqsru import settings as strict
from seqsru.data import Pieces
from seqsru.settings import Section, Setting, SettingsError
from seqsru.settings.kinds import alternatives, element

SCHEMA = runs.schema()
TEXTS = {
    "language_model": LANGUAGE_MODEL,
    "translation": TRANSLATION,
    "classification": CLASSIFICATION,
    "question_answering": QUESTIONS,
    "speech_recognition": RECOGNITION,
}
AUDIO = all(map(find_spec, ("soundfile", "kaldi_native_fbank", "soxr")))  # the extra speech
WHOLE = ["0", "-1", "1e3", "1.5", "1000000000", "18446744073709551616"]
NUMBER = ["0", "-1", ".inf", "nan", "1e9", "1e300"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with the texts, tokenizers of another run, and a sentencepiece model."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    lines = (folder / "train.txt").read_text().split("\n")
    pieces = Pieces.train(lines, vocabulary_size=20, algorithm="bpe")
    for name in ("tokenizer", "source", "target"):
        pieces.save(folder, name)
    return folder


def leaves(schema, path="", chosen=()):
    """Every setting with its path and the choices and optional sections on the way to it."""
    if isinstance(schema, Setting):
        yield path, schema, chosen
    elif isinstance(schema, Section):
        for name, below in schema.entries.items():
            yield from leaves(below, f"{path}.{name}".lstrip("."), chosen)
    else:
        for name, below in schema.entries.items():
            yield from leaves(below, path, (*chosen, f"{path}={{{schema.key}: {name}}}"))


def extremes(kind):
    """Values that a careless hand writes."""
    found = ["null", "[]", "{}"]
    for member in alternatives(kind):
        found += {int: WHOLE, float: NUMBER, bool: ["0", "no"]}.get(member, ['""', '"a\\0b"', "wrong"])
        if element(member) is not None:
            found += ["[0]", "[-1]", '[""]']
    return dict.fromkeys(found)


def around(path, value):
    """What has to be set beside a value for it alone to be to blame."""
    if path in ("training.epochs", "training.steps"):
        return [f"training.{'steps' if path.endswith('epochs') else 'epochs'}={int(value == '0')}"]
    if path == "reading.max_paragraph":
        return ["reading.max_answer=1"]
    if path in ("data.folds", "data.fold"):
        return ["data.test=null", *(["data.folds=5"] if path.endswith("fold") else [])]
    return []


def neighbours(task, path, chosen, folder):
    """What a chosen section, or one that may be absent, asks for besides."""
    if chosen and "sentencepiece_model" in chosen[-1] and not path.endswith(".model"):
        return [f"tokenizer.model={folder}/source.model"]
    if chosen and "saved" in chosen[-1] and not path.endswith(".run"):
        return [f"tokenizer.run={folder}"]
    if path.startswith("data.test."):
        last = path.rpartition(".")[2]
        return [f"data.test.{other}={folder}/test.src" for other in ("source", "target") if other != last]
    optional = task == "speech_recognition" and path.startswith("model.decoder.")
    if optional or "model.encoder={name: stack}" in chosen:
        stack = "model.decoder" if optional else "model.encoder"
        needed = {f"{stack}.hidden_size": "8", f"{stack}.cell": "sru"}
        given = {path, *(text.partition("=")[0] for text in chosen)}
        return [f"{name}={value}" for name, value in needed.items() if name not in given]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("task", SCHEMA.entries)
def test_the_setting_to_blame_is_the_very_one(texts, task):
    text, wrong, tried = TEXTS[task], [], 0
    path_of = write_config(texts, text)
    for path, setting, chosen in leaves(SCHEMA.entries[task]):
        if path == "output" or path.startswith("start_from."):  # of another run, which is needed first
            continue
        if not AUDIO and "features={name: filterbank}" in chosen:
            continue
        for value in extremes(setting.kind):
            given = [*chosen, *neighbours(task, path, chosen, texts), f"{path}={value}", *around(path, value)]
            tried += 1
            try:
                runs.rehearse(strict.load(path_of, SCHEMA, given))
            except SettingsError as error:
                blamed = [problem.refusal.setting for problem in error.problems]
                if blamed != [path]:
                    wrong.append(f"{given}: {error}")
            except Exception as error:  # whatever it is, it belongs into the list
                wrong.append(f"{given}: {error!r}")
    assert tried > 300 and not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text, override, sentence",
    [
        (LANGUAGE_MODEL, "batches.window=0", "batches.window: expected at least 1, found 0; raise it"),
        (
            TRANSLATION,
            "training.valid_beam=0",
            "training.validation_beam: expected at least 1, found 0; 1 is the fastest",
        ),
        (
            LANGUAGE_MODEL,
            "optimizer.beta1=2",
            "optimizer.beta1: expected a probability from 0 to below 1, found 2.0; 0 switches it off",
        ),
        (
            LANGUAGE_MODEL,
            "tokenizer={name: words, vocabulary_size: 1}",
            "tokenizer.vocabulary_size: expected at least 3, found 1; <unk> and <eos> are two of the types",
        ),
        (
            TRANSLATION,
            "tokenizer={name: sentencepiece, character_coverage: 0.5}",
            "tokenizer.character_coverage: expected from 0.98 to 1, found 0.5; 1.0 covers every character",
        ),
        (
            TRANSLATION,
            "tokenizer={name: sentencepiece, byte_fallback: true, vocabulary_size: 200}",
            "tokenizer.vocabulary_size: expected at least 259, found 200; raise it",
        ),
        (
            CLASSIFICATION,
            "batches.batch_size=1.5",
            "batches.batch_size: expected a whole number, found 1.5; ",
        ),
        (
            LANGUAGE_MODEL,
            "model.stack.num_layers=1000000000",
            "model.stack.num_layers: expected at most 10,000, found 1000000000; lower it",
        ),
    ],
)
def test_blamed(texts, text, override, sentence):
    with pytest.raises(SettingsError, match=f"^command line: {re.escape(sentence)}"):
        runs.rehearse(strict.load(write_config(texts, text), SCHEMA, [override]))


def test_a_model_that_no_memory_holds(texts):
    chosen = strict.load(write_config(texts, LANGUAGE_MODEL), SCHEMA, ["model.stack.hidden_size=1e9"])
    with pytest.raises(
        SettingsError, match=r"^command line: model\.stack\.hidden_size: expected a model that "
    ):
        runs.rehearse(chosen)


def test_a_whole_number_as_a_power_of_ten(texts):
    chosen = strict.load(write_config(texts, LANGUAGE_MODEL), SCHEMA, ["batches.window=1e3"])
    assert chosen["batches"]["window"] == 1000 and isinstance(chosen["batches"]["window"], int)
