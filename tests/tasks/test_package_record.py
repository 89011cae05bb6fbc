"""Files with a right checksum that were not made by us: each is used, or refused in one sentence."""

import copy
import json
import os
import random
import re
import socket
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, write_config, write_texts

from seqsru import runs
from seqsru.commands.main import main
from seqsru.data import Words
from seqsru.engine import file
from seqsru.engine.shortlist import Shortlist
from seqsru.errors import NotFound, Refused
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer
from seqsru.tasks import packages
from seqsru.tasks.package_record import LATER

GONE = object()
DO = "make the file again with `seqsru quantize`"


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = [
    None, True, -1, 0, 3, 2**40, 2**70, -(2**70), 1.5, float("nan"), float("inf"), "", "x", "a\0b", "a\nb",
    "/", "..", [], [1], ["x"], [[]], {}, {"a": 1}, {"": None}, deep(200), GONE,
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A language model and a translation model, as files."""
    folder = tmp_path_factory.mktemp("made")
    write_texts(folder)
    found = {}
    for name, text in (("language", LANGUAGE_MODEL), ("translation", TRANSLATION)):
        config = write_config(folder, text)
        assert main(["train", str(config), f"output={folder / name}", "optimizer.lr=0.001"]) == 0
        shortlist = Shortlist(best=3, frequent=2, iterations=1) if name == "translation" else None
        found[name] = runs.quantize(folder / name, folder / f"{name}.seqsru", shortlist=shortlist)
    return found


def parts(path):
    """Tensors and record of a file."""
    with safe_open(path, framework="numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        return tensors, json.loads(opened.metadata()["seqsru"])


def forge(path, tensors, record):
    """Write a file with a right checksum."""
    record = {name: value for name, value in record.items() if name != "sha256"}
    record["sha256"] = file.checksum(tensors, record)
    path.write_bytes(save(tensors, {"seqsru": json.dumps(record, ensure_ascii=False, sort_keys=True)}))
    return path


def places(value, at=()):
    """The place of everything in a JSON value."""
    if at:
        yield at
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in below:
        yield from places(inside, (*at, key))


def changed(record, at, value):
    """A record with another value at a place, or none."""
    record = copy.deepcopy(record)
    *outer, last = at
    inside = record
    for key in outer:
        inside = inside[key]
    if value is GONE:
        del inside[last]
    else:
        inside[last] = value
    return record


def used(path):
    """Use all that is read of a record; gives the refusal, if it is one."""
    try:
        trained = packages.opened(path)
        assert "\n" not in trained.signed({"data": "x"})
        task = trained.task
        assert all(isinstance(one, str) for one in (*task.tokenizer_files().values(), task.noun))
        runs.files_of(path, task)
        for split in packages.SPLITS:
            if task.files(split):
                task.data_name(split)
        task.settings["data"]["on_bad_line"], task.settings["training"]
    except Refused as refusal:
        assert not isinstance(refusal, NotFound)
        return str(refusal)
    return None


def check_changes(made, path, chosen):
    """Try changes of the record, and return which are refused; each is used, or refused in one sentence."""
    tensors, record = parts(made)
    assert used(forge(path, tensors, record)) is None
    refused = set()
    for at, number in chosen:
        told = used(forge(path, tensors, changed(record, ("record", *at), VALUES[number])))
        if told is not None:
            assert re.fullmatch(rf"expected [^\n]*{re.escape(str(path))}[^\n]*, found [^\n]*; [^\n]*", told)
            refused.add((at, number))
    return refused


def places_of(made):
    """The place of everything in the record of a file."""
    return list(places(parts(made)[1]["record"]))


@pytest.mark.parametrize("name", ["language", "translation"])
def test_values_of_the_record_are_changed(name, made, tmp_path):
    every = [(at, number) for at in places_of(made[name]) for number in range(len(VALUES))]
    check_changes(made[name], tmp_path / "forged", random.Random(0).sample(every, 200))
    # What is read has to be there.
    last = VALUES.index(GONE)
    needed = [(at, last) for at, number in every if number == last and at[0] not in ("settings", "fields")]
    needed = [(at, last) for at, _ in needed if not isinstance(at[-1], int) and at[:-1] != ("files",)]
    needed = [(at, last) for at, _ in needed if at[-1] not in LATER]
    assert check_changes(made[name], tmp_path / "forged", needed) == set(needed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["language", "translation"])
def test_every_value_of_the_record_is_changed(name, made, tmp_path):
    """Every place, and every value: with a third of the values each, another third at the next place."""
    every = [
        (at, number) for i, at in enumerate(places_of(made[name])) for number in range(i % 3, len(VALUES), 3)
    ]
    assert len(check_changes(made[name], tmp_path / "forged", every)) > 100


OBJECT, LIST = "an object of 1", "a list of 1"
SENTENCES = [
    ("language", "task", "poetry", "language_model or translation", "'poetry'"),
    ("language", "task", GONE, "language_model or translation", "nothing"),
    ("language", "settings.seed", "1", "a whole number", "'1'"),
    ("language", "settings", deep(200), "an object at most 30 levels deep", LIST),
    ("language", "settings.data.on_bad_line", "ignore", "one of error, skip, replace", "'ignore'"),
    ("language", "settings.training.validation_state", 1, "one of carried, separate", "1"),
    ("language", "weights", "a\nb", "one line of text", r"'a\nb'"),
    ("language", "start", 1, "one line of text or null", "1"),
    ("language", "parameters", True, "a whole number", "True"),
    ("language", "fields", {"cell": []}, "an object of lines of text and numbers", OBJECT),
    ("language", "files", {"test": ["a", "b"]}, "lists of one path or none", OBJECT),
    ("language", "tokenizers", {"tokenizer": "x"}, "the name of a file beside it for each tokenizer", OBJECT),
    ("language", "decoding", {}, "null", "an object of 0"),
    ("language", "shortlist", "200+500", "null", "'200+500'"),
    ("translation", "files", {"test": ["a"]}, "lists of no path or at least 2", OBJECT),
    ("translation", "decoding.rules", [["forbid", {}]], "a list of rules and their settings", LIST),
    ("translation", "settings.training.validation_tokenize", "x" * 99, None, "'" + "x" * 56 + "..."),
]  # fmt: skip


@pytest.mark.parametrize("name, at, value, expected, found", SENTENCES)
def test_a_record_is_refused_in_one_sentence(name, at, value, expected, found, made, tmp_path):
    tensors, record = parts(made[name])
    path = forge(tmp_path / "forged", tensors, changed(record, ("record", *at.split(".")), value))
    if expected is None:
        expected = f"one of {', '.join(get_args(BleuTokenizer))}"
    end = "copy it again, or make it with `seqsru quantize`"
    assert used(path) == f"expected {expected} as {at} in {path}, found {found}; {end}"


RULES = [
    None, "x", [1], [[]], [["forbid"]], [["forbid", {}]], [["none", {"size": 1}]], [[["forbid"], {}]],
    [["forbid", {"tokens": []}]], [["forbid", {"tokens": [1.5]}]], [["forbid", {"tokens": 3}]],
    [["min_length", {"length": [1]}]], [["min_length", {"length": 0}]], [["min_length", {"length": True}]],
    [["no_repeat_ngram", {"size": "2"}]], [["no_repeat_ngram", {"size": 2, "more": 1}]],
    [["no_repeat_ngram", {"size": 2**70}]],
]  # fmt: skip


def test_rules_of_another_kind(made, tmp_path):
    tensors, record = parts(made["translation"])
    for rules in RULES:
        path = forge(tmp_path / "forged", tensors, changed(record, ("record", "decoding", "rules"), rules))
        assert str(path) in used(path), rules


def test_a_decoding_that_cannot_be_meant(made, tmp_path):
    tensors, record = parts(made["translation"])
    path = forge(tmp_path / "forged", tensors, changed(record, ("record", "decoding", "beam"), 0))
    assert used(path) == f"expected at least 1 as decoding.beam in {path}, found 0; {DO}"
    path = forge(tmp_path / "forged", tensors, changed(record, ("record", "decoding", "alpha"), "1"))
    assert used(path) == f"expected a number as decoding.alpha in {path}, found '1'; {DO}"


def test_a_file_of_an_earlier_version_lacks_what_came_later(made, tmp_path):
    tensors, record = parts(made["translation"])
    for name in LATER:
        record = changed(record, ("record", "decoding", name), GONE)
    path = forge(tmp_path / "forged", tensors, record)
    assert used(path) is None
    assert packages.opened(path).pipeline.decoding.guard == "none"


def test_what_does_not_belong_together(made, tmp_path):
    path = tmp_path / "forged"
    (ours, record), (others, other) = parts(made["translation"]), parts(made["language"])
    pieces = {name: tensor for name, tensor in others.items() if name.startswith("file.")}
    forge(path, {**ours, **pieces}, {**other, "sizes": record["sizes"]})
    assert used(path) == f"expected a language model in {path}, found a translation model; {DO}"
    forge(path, {name: one for name, one in ours.items() if "shortlist" not in name}, record)
    assert used(path) == f"expected a shortlist in {path}, as its record says, found none; {DO}"
    forge(path, ours, changed(record, ("record", "shortlist"), None))
    assert used(path) == f"expected no shortlist in {path}, as its record says, found one; {DO}"
    Words.train(["one two"], minimum_count=1).save(tmp_path, "source")
    small = (tmp_path / "source.json").read_bytes()
    forge(path, {**ours, "file.source.json": np.frombuffer(small, np.uint8)}, record)
    told = rf"expected a source tokenizer of the model's 9 types in {re.escape(str(path))}, found \d; {DO}"
    assert re.fullmatch(told, used(path))


@pytest.mark.parametrize("name", ["language", "translation"])
def test_tokenizers_of_another_kind(name, made, tmp_path):
    tensors, record = parts(made[name])
    path = tmp_path / "forged"
    key = next(key for key in tensors if key.startswith("file."))
    content = json.loads(tensors[key].tobytes())
    others = [json.dumps(changed(content, at, value)) for at in places(content) for value in VALUES[::3]]
    others += ["", "[]", "{}", "null", "[" * 99999, "\xff", "9" * 5000, json.dumps(deep(900))]
    for other in others:
        told = used(forge(path, {**tensors, key: np.frombuffer(other.encode("latin-1"), np.uint8)}, record))
        assert told is None or "\n" not in told and f"in {path}, found" in told
    # A name that leads elsewhere, or nowhere, writes nothing outside.
    for bad in ("file.", "file...", "file..", "file.a\0b", "file.../../up", "file." + "x" * 300):
        told = used(forge(path, {**tensors, bad: np.zeros(3, np.uint8)}, record))
        assert told is None or "\n" not in told
    assert sorted(one.name for one in tmp_path.iterdir()) == ["forged"]


SPECIAL = (
    "expected a file of `seqsru quantize` at {}, found a pipe, a device or a socket; save it to a file, and "
    "name that"
)


@pytest.mark.parametrize("kind", ["a pipe", "zero", "link to zero", "link to a pipe", "socket"])
@pytest.mark.parametrize("command", ["translate", "score", "generate", "evaluate", "latency"])
def test_what_is_no_regular_file_is_not_read(kind, command, tmp_path, capsys, monkeypatch):
    """Reading it might never end."""
    monkeypatch.chdir(tmp_path)
    path, special = tmp_path / "a.seqsru", tmp_path / "special"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("a.seqsru")
    elif kind.endswith("pipe"):
        os.mkfifo(special)
    if kind.startswith("link"):
        path.symlink_to(special if kind.endswith("pipe") else "/dev/zero")
    elif kind != "socket":
        path = special if kind == "a pipe" else Path("/dev/zero")
    assert main([command, str(path)]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"seqsru: {SPECIAL.format(path)}\n")


def test_headers_that_harm(made, tmp_path):
    content = made["language"].read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    fields = json.loads(header)

    def told(header, size=None):
        path = tmp_path / "a.seqsru"
        size = len(header) if size is None else size
        path.write_bytes(size.to_bytes(8, "little") + header + rest)
        with pytest.raises(Refused) as refusal:
            packages.opened(path)
        sentence = str(refusal.value)
        assert sentence.startswith(
            f"expected a whole file of `seqsru quantize` at {path}, found one that cannot"
        ) or (
            sentence.startswith(
                f"expected the content that its checksum was made of at {path}, found another"
            )
        ), sentence
        assert "\n" not in sentence
        assert len(sentence) < 500

    for size in (0, 1, 2**63, 2**64 - 1, 2**31, len(content), length - 1, length + 1):
        told(header, size)
    for bad in (
        b"[" * 99999,
        b'{"a":' * 9999,
        b"9" * 9999,
        b"\xff" * 99,
        b"[]",
        b"null",
        b"{} {}",
        b"{" + b" " * 2**22,
    ):
        told(bad)
    for name, entry in fields.items():
        if name == "__metadata__":
            continue
        for at in places(entry):
            for value in [*VALUES[:-1], "F8", "BF16", [0, 2**63], [-1, 0], [2**70], [2**32, 2**32], GONE]:
                other = changed(fields, (name, *at), value)
                if other != fields and json.dumps(other) != json.dumps(fields):
                    told(json.dumps(other).encode())
        if 0 not in entry["shape"]:
            told(json.dumps({**fields, "twice": entry}).encode())
    for value in (None, [], "x", 3, {"seqsru": 1}, {"seqsru": None}, {"seqsru": {}}):
        told(json.dumps({**fields, "__metadata__": value}).encode())
