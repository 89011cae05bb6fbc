"""Large texts and several corpora in whole runs: the same bits from the cache, exact resuming, the log."""

import json
import re
import shutil

import pytest
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, sentences, settings, write_texts

from seqsru import runs
from seqsru import settings as strict
from seqsru.commands.main import main
from seqsru.data import facts, text_cache, texts
from seqsru.engine.file import load
from seqsru.engine.shortlist import Shortlist
from seqsru.settings import SettingsError
from seqsru.tasks.run_settings import task_of as runs_task
from seqsru.training import checkpoints

TEXTS = {"lm": LANGUAGE_MODEL, "mt": TRANSLATION}
MORE = {"lm": [], "mt": ["training.validation_metric=perplexity"]}
DO = "1 takes each part of it once an epoch, 0.5 every second time"
PIECES = "tokenizer={{name: sentencepiece, vocabulary_size: {}, sample: 40}}"


@pytest.fixture
def place(tmp_path):
    write_texts(tmp_path)
    for kind in ("src", "tgt", "txt"):
        lines = sentences(25, 7)
        if kind == "tgt":
            lines = [" ".join(line.upper().split()[::-1]) for line in lines]
        (tmp_path / f"more.{kind}").write_text("".join(line + "\n" for line in lines))
    return tmp_path


@pytest.fixture
def kept(monkeypatch):
    """Keep what is small, and trust it at once."""
    monkeypatch.setattr(facts, "LARGE", 0)
    monkeypatch.setattr(facts, "SETTLED", -10.0)
    monkeypatch.setattr(text_cache, "KEPT", 0)


def several(folder, task, *weights):
    """The setting of two corpora."""
    names = ["train", "more"]
    if task == "mt":
        one = [f"source: {folder}/{name}.src, target: {folder}/{name}.tgt" for name in names]
    else:
        one = [f"file: {folder}/{name}.txt" for name in names]
    return f"data.train=[{', '.join(f'{{{c}, weight: {w}}}' for c, w in zip(one, weights))}]"


def train(folder, task, name, *overrides, told=None):
    told = [] if told is None else told
    given = [f"output={folder}/{name}", "training.epochs=0", "training.steps=9", *MORE[task], *overrides]
    names = [override.partition("=")[0] for override in overrides]
    given = [
        one
        for n, one in enumerate(given)
        if one.partition("=")[0] not in names or n >= len(given) - len(names)
    ]
    outcome = runs.train(settings(folder, TEXTS[task], *given), told.append)
    newest = checkpoints.paths(folder / name / "checkpoints")[-1]
    return outcome, (newest / "model.safetensors").read_bytes()


@pytest.mark.parametrize("task", TEXTS)
@pytest.mark.parametrize("pieces", [True, False])
def test_the_cache_changes_no_bit(place, task, pieces, monkeypatch, request):
    more = [PIECES.format(20 if task == "lm" else 30)] if pieces else []
    _, without = train(place, task, "without", *more)
    request.getfixturevalue("kept")
    read, told = [], []
    monkeypatch.setattr(
        facts, "_read", lambda path, read_it=facts._read: read.append(path.name) or read_it(path)
    )
    cache = f"cache={place}/cache"
    assert train(place, task, "cold", *more, cache, told=told)[1] == without
    cold = list(read)
    monkeypatch.setattr("seqsru.data.texts.encode_all", lambda *given: pytest.fail("encoded again"))
    shutil.copytree(place / "cold", place / "warm")
    shutil.rmtree(place / "warm" / "checkpoints")
    for path in (place / "warm").glob("*.jsonl"):
        path.unlink()
    (place / "warm" / "log").unlink()
    assert train(place, task, "warm", *more, cache, told=told)[1] == without
    name = f"{place}/train.txt" if task == "lm" else f"{place}/train.src + {place}/train.tgt"
    lines = [line for line in told if line.startswith(f"{name}: ") and "of the text" in line]
    assert re.fullmatch(
        f"{re.escape(name)}: encoded now, and kept in {place}/cache/\\w+; of the text, .*", lines[0]
    )
    assert re.fullmatch(
        f"{re.escape(name)}: the encoded text in {place}/cache/\\w+, its sums checked now; of the text, no "
        "file of it changed since its sum was taken",
        lines[1],
    )
    assert sorted(set(cold)) == sorted(cold) == sorted(read)  # each file once, in both starts


@pytest.mark.parametrize("task", TEXTS)
def test_other_content_and_other_tokenizers_are_encoded_anew(place, task, kept):
    cache = place / "cache"

    def entries():
        return {path.name for path in cache.iterdir()} - {"facts"}

    train(place, task, "one", f"cache={cache}")
    first = entries()
    train(place, task, "two", f"cache={cache}", "seed=2")
    assert entries() == first and len(first) == 1
    with open(place / ("train.txt" if task == "lm" else "train.tgt"), "a") as file:
        file.write("one\n")
    if task == "mt":
        with open(place / "train.src", "a") as file:
            file.write("ONE\n")
    train(place, task, "three", f"cache={cache}")
    assert len(entries()) == 2
    more = ", joint: false" if task == "mt" else ""
    train(place, task, "four", f"cache={cache}", f"tokenizer={{name: words, minimum_count: 20{more}}}")
    assert len(entries()) == 3


@pytest.mark.parametrize("task", TEXTS)
@pytest.mark.parametrize("bad", ["skip", "replace"])
def test_bad_and_empty_lines_are_told_with_their_numbers(place, task, bad, request):
    side = place / ("train.txt" if task == "lm" else "train.src")
    lines = side.read_bytes().split(b"\n")
    lines[3], lines[7], lines[10] = b"one \xff", b"", b"t\0o"
    side.write_bytes(b"\n".join(lines))
    found = []
    for name in ("memory", "kept", "again"):
        if name == "kept":
            request.getfixturevalue("kept")
        told = []
        weights = train(place, task, name, f"data.on_bad_line={bad}", f"cache={place}/cache", told=told)[1]
        what = {"skip": "skipped", "replace": "replaced"}[bad]
        bads = f"1 not UTF-8, {what} (line 4); 1 NUL, {what} (line 11)"
        empty = "; 1 empty, skipped (line 8)" if task == "mt" else ""
        assert any(line.endswith(f": 60 lines; {bads}{empty}") for line in told), told
        found.append(weights)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("task", TEXTS)
def test_a_bad_line_is_refused_before_a_tokenizer_is_made(place, task, capsys):
    side = place / ("train.txt" if task == "lm" else "train.tgt")
    side.write_bytes(side.read_bytes().replace(b"\n", b"\xc3\n", 2))
    override = [f"output={place}/run", *MORE[task]]
    settings(place, TEXTS[task])
    assert main(["train", str(place / "run.yaml"), *override]) == 2
    assert re.fullmatch(
        rf"seqsru: expected UTF-8 text in {side}:1, found byte 0xC3 at byte offset (\d+) of the line \(\1 of "
        r"the file\); convert the file to UTF-8, or set on_bad_line to skip or replace\n",
        capsys.readouterr().err.splitlines(keepends=True)[-1],
    )
    assert not list((place / "run").glob("*.json"))


def test_files_of_different_lengths(place, capsys):
    (place / "more.src").write_text("one\n")
    settings(place, TRANSLATION)
    assert main(["train", str(place / "run.yaml"), several(place, "mt", 1, 1)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"seqsru: expected as many lines in {place}/more.src as in {place}/more.tgt, found 1 and 25; align "
        "the files line by line, nothing is cut to the shorter one"
    )


def test_a_text_that_changes_while_it_is_read(place, kept, monkeypatch):
    (place / "late.txt").write_text("one two\n" * 30)

    def meddle(tokenizer, lines):
        with open(place / "late.txt", "a") as file:
            file.write("one\n")
        return texts.encode_all(tokenizer, lines)

    monkeypatch.setattr("seqsru.data.stream.encode_all", meddle)
    with pytest.raises(ValueError) as caught:
        train(place, "lm", "run", f"data.train={place}/late.txt", f"cache={place}/cache")
    assert str(caught.value) == (
        f"expected the files {place}/late.txt to stay as they are while they are read, found that they "
        "changed; start again when nothing writes to them"
    )


# ---- several corpora -------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TEXTS)
def test_several_corpora_are_named_in_the_log(place, task):
    told = []
    train(place, task, "run", several(place, task, 1, 2.4), told=told)
    log = (place / "run" / "log").read_text()
    if task == "mt":
        names = [f"{place}/{name}.src + {place}/{name}.tgt" for name in ("train", "more")]
        counts = [
            "60 pairs, weight 1, 60 in an epoch (50.0 %",
            "25 pairs, weight 2.4, 60 in an epoch (50.0 %",
        ]
    else:
        names, counts = (
            [f"{place}/train.txt", f"{place}/more.txt"],
            ["tokens, weight 1, ", "tokens, weight 2.4, "],
        )
    for number, (name, count) in enumerate(zip(names, counts), 1):
        (line,) = (one for one in told if one.startswith(f"corpus {number} of 2, {name}: "))
        assert count in line and line in log
    assert [line for line in told if line in (f"{names[0]}: 60 lines", f"{names[1]}: 25 lines")]
    config = strict.load(place / "run" / "config.yaml", runs.schema())
    assert [one["weight"] for one in config["data"]["train"].plain().values()] == [1.0, 2.4]
    state = json.loads((checkpoints.paths(place / "run" / "checkpoints")[-1] / "state.json").read_text())
    assert {"data.train.0.source", "data.train.1.target"} <= state["files"].keys() or task == "lm"
    assert len(json.dumps(state)) < 20_000


@pytest.mark.parametrize("task", TEXTS)
def test_several_corpora_go_on_to_the_same_bits(place, task):
    more = [
        several(place, task, 0.7, 1.5),
        "training.save_every=3",
        *(["batches.tokens=128"] if task == "mt" else []),
    ]
    more += ["batches.window=7"] if task == "lm" else []
    _, whole = train(place, task, "whole", *more, "training.steps=16")
    train(place, task, "parts", *more, "training.steps=4")
    train(place, task, "parts", *more, "training.steps=11")
    assert train(place, task, "parts", *more, "training.steps=16")[1] == whole
    _, other = train(place, task, "other", several(place, task, 0.7, 1), *more[1:], "training.steps=16")
    assert other != whole


def test_a_weight_may_not_change_and_files_may_move(place):
    train(place, "mt", "run", several(place, "mt", 1, 2))
    with pytest.raises(SettingsError, match=r"data.train.1.weight 3 instead of 2; choose another output"):
        train(place, "mt", "run", several(place, "mt", 1, 3), "training.steps=12")
    shutil.copy(place / "more.src", place / "moved.src")
    (place / "more.src").unlink()
    override = f"data.train.1.source={place}/moved.src"
    assert main(["train", str(place / "run"), override, "training.steps=12"]) == 0
    (place / "moved.src").write_text((place / "moved.src").read_text().replace("one", "two", 1))
    with pytest.raises(SettingsError, match=r"data.train.1.source: expected the file that the run in"):
        runs.train(runs.load_settings(place / "run" / "config.yaml", ["training.steps=15"]), print)


@pytest.mark.parametrize(
    "task, override, sentence",
    [
        (
            "mt",
            "data.train=[]",
            "data.train: expected at least one section in the list, found none; write - and its settings",
        ),
        (
            "lm",
            "data.train=[]",
            "data.train: expected at least one section in the list, found none; write - and its settings",
        ),
        (
            "lm",
            "data.train=[{folder}/train.txt]",
            "data.train.0: expected a section, found '{folder}/train.txt'; write its settings below it",
        ),
        (
            "lm",
            "data.train=[{file: {folder}/train.txt, wieght: 2}]",
            "data.train.0.wieght is not a setting; did you mean 'weight'?",
        ),
        (
            "mt",
            "data.train=[{source: {folder}/train.src}]",
            "data.train.0.target: expected a path, found nothing; set it: Its translation, line by line",
        ),
        (
            "lm",
            "data.train=[{file: {folder}/train.txt, weight: 0}]",
            "data.train.0.weight: expected a weight above 0 and up to 1,000, found 0.0; {DO}",
        ),
        (
            "mt",
            "data.train.weight=-2",
            "data.train.weight: expected a weight above 0 and up to 1,000, found -2.0; {DO}",
        ),
        (
            "lm",
            "data.train=[{file: {folder}/none.txt}]",
            "data.train.0.file: expected a file at {folder}/none.txt, found none; check the path",
        ),
        (
            "lm",
            "cache={folder}/train.txt",
            "cache: expected a folder, found the file {folder}/train.txt; name another",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_read(place, task, override, sentence, capsys):
    settings(place, TEXTS[task])
    override, sentence = (
        text.replace("{folder}", str(place)).replace("{DO}", DO) for text in (override, sentence)
    )
    assert main(["train", "--check", str(place / "run.yaml"), override]) == 2
    assert capsys.readouterr().err == f"command line: {sentence}\n"


def test_a_file_of_settings_has_the_line_of_each_corpus(place, capsys):
    text = TRANSLATION.replace(
        "  train: {{source: {folder}/train.src, target: {folder}/train.tgt}}\n",
        "  train:\n    - {{source: {folder}/train.src, target: {folder}/train.tgt}}\n"
        "    - source: {folder}/more.src\n      target: {folder}/more.tgt\n      weight: -1\n",
    )
    settings(place, text)
    assert main(["train", "--check", str(place / "run.yaml")]) == 2
    assert capsys.readouterr().err.startswith(
        f"{place}/run.yaml:8: data.train.1.weight: expected a weight above 0"
    )
    assert main(["train", "--check", str(place / "run.yaml"), "data.train.1.weight=0.5"]) == 0
    out = capsys.readouterr().out
    assert "  train:\n  - source:" in out and "    weight: 0.5\n" in out


def test_help_tells_of_the_list():
    out = " ".join(strict.describe(runs.schema(), width=1000).split())
    assert "# or a list of several, each with: source, target, weight." in out
    assert "# or a list of several, each with: file, weight." in out


def test_the_files_of_several_corpora(place):
    for task, names in (
        ("lm", ["train.txt", "more.txt"]),
        ("mt", "train.src train.tgt more.src more.tgt".split()),
    ):
        made = runs_task(settings(place, TEXTS[task], several(place, task, 1, 1)))
        assert [path.name for path in made.files("train")] == names
        assert len(made.files("validation")) == len(names) // 2
        made = runs_task(settings(place, TEXTS[task]))
        assert [path.name for path in made.files("train")] == names[: len(names) // 2]


def test_a_shortlist_learns_from_all_corpora(place):
    several_runs = (
        [several(place, "mt", 1, 1)],
        [f"data.train={{source: {place}/all.src, target: {place}/all.tgt}}"],
    )
    for side in ("src", "tgt"):
        parts = [(place / f"{name}.{side}").read_text() for name in ("train", "more")]
        (place / f"all.{side}").write_text("".join(parts))
    found = []
    for name, given in zip(("several", "all"), several_runs):
        train(place, "mt", name, *given)
        found.append(
            load(
                runs.quantize(
                    place / name, place / f"{name}.seqsru", precision="float32", shortlist=Shortlist()
                )
            )
        )
    first, second = (package.tensors for package in found)
    assert first and first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
