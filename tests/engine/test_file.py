"""The file of a model: what is written is read, and what is damaged, or meant to harm, is refused."""

import json
import pickle
import re
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save
from safetensors.torch import save as save_torch

from seqsru.decoding import Decoding
from seqsru.engine import file, tensor_file
from seqsru.engine import layout as a
from seqsru.engine import program as p
from seqsru.engine.checks import check_model
from seqsru.engine.inference import Engine
from seqsru.engine.workspace import Size, Workspace
from seqsru.errors import NotFound, Refused
from tests.engine.tiny_models import EOS, language_model, lowered, same_outputs, translator

FILES = {"source.model": b"\0\1\2", "empty": b"", "name with spaces/ü": bytes(range(256))}
RECORD = {"task": "translation", "settings": {"ä": [1, 2.5, None, True]}, "empty": {}}
DO = "copy it again, or make it with `seqsru quantize`"
DECODING = Decoding(beam=2, n_best=2)


def package(model, int8=True, **changes):
    tensors = {
        "offsets": np.arange(5),
        "targets": np.arange(3, dtype=np.int32),
        "common": np.zeros(0, np.int32),
    }
    return file.Package(
        **{"model": lowered(model, int8), "files": FILES, "tensors": tensors, "record": RECORD, **changes}
    )


def written(tmp_path, content, name="a.seqsru"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def content():
    return file.dumps(package(translator(source=9, target=11, embedding=5, hidden=8, layers=1)))


def parts(content, tmp_path):
    """Return a file's tensors and record."""
    path = written(tmp_path, content, "parts")
    with safe_open(path, framework="numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, json.loads(
            opened.metadata()["seqsru"]
        )


def forged(tensors, record):
    """Return a file with a right checksum."""
    record = {name: value for name, value in record.items() if name != "sha256"}
    record["sha256"] = file.checksum(tensors, record)
    return save(tensors, {"seqsru": json.dumps(record)})


def refused(path, expected, found):
    """A file is refused with this sentence; `found` is a pattern."""
    with pytest.raises(Refused) as refusal:
        file.load(path)
    pattern = f"expected {re.escape(expected)} at {re.escape(str(path))}, found {found}; {re.escape(DO)}"
    assert re.fullmatch(pattern, str(refusal.value), re.DOTALL), str(refusal.value)


WHOLE, UNREADABLE = "a whole file of `seqsru quantize`", r"one that cannot be read \(.*\)"


# ---- round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("make", [translator, language_model])
def test_what_is_written_is_read(make, int8, tmp_path):
    before = package(make("lstm"), int8)
    path = written(tmp_path, file.dumps(before))
    after = file.load(path)
    assert file.is_package(path) and not file.is_package(tmp_path) and not file.is_package(tmp_path / "none")
    assert after.files == FILES and after.record == RECORD
    assert after.tensors.keys() == before.tensors.keys()
    for name, tensor in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], tensor)
        assert after.tensors[name].dtype == tensor.dtype
    assert after.model.numbers.ctypes.data % 64 == 0 and after.model.precision == before.model.precision
    np.testing.assert_array_equal(after.model.numbers.view(np.int32), before.model.numbers.view(np.int32))
    call = {"eos": EOS, "decoding": DECODING}
    found, expected = (
        Engine(one.model).search([[3, 4], [5]], [1, 1], [6, 7], **call) for one in (after, before)
    )
    same_outputs(found, expected)
    assert file.dumps(after) == file.dumps(before)  # and nothing depends on when or where


def test_a_file_may_hold_nothing_but_a_model(tmp_path):
    after = file.load(
        written(tmp_path, file.dumps(package(language_model(), files={}, tensors={}, record={})))
    )
    assert (after.files, after.tensors, after.record) == ({}, {}, {})


# ---- what is no file, or damaged -------------------------------------------------------------------


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("none", "folder", "link", "circle", "a\nb"):
        with pytest.raises(NotFound) as refusal:
            file.load(tmp_path / name)
        assert str(refusal.value) == (
            f"expected a file of `seqsru quantize` at {tmp_path / name}, found none; check the path"
        )


def test_files_of_other_kinds(tmp_path, content):
    others = {
        "empty": b"",
        "zeros": bytes(1000),
        "text": b"what is this?\n" * 99,
        "pickle": pickle.dumps({"weights": list(range(1000))}),
        "header": (2**63).to_bytes(8, "little") + content[8:],
    }
    for name, other in others.items():
        refused(written(tmp_path, other, name), WHOLE, UNREADABLE)
    for name, metadata in (("other", None), ("named", {"format": "pt"})):
        other = save({"weight": np.zeros(3, np.float32)}, metadata)
        refused(written(tmp_path, other, name), "a file of `seqsru quantize`", "another safetensors file")


def test_a_file_that_cannot_be_opened(tmp_path, content, monkeypatch):
    def closed(*arguments, **options):
        raise PermissionError("Permission denied")

    monkeypatch.setattr(tensor_file, "open", closed, raising=False)
    refused(written(tmp_path, content), WHOLE, r"one that cannot be read \(Permission denied\)")


def test_a_file_that_is_too_large(tmp_path, content, monkeypatch):
    monkeypatch.setattr(file, "MOST_BYTES", 100)
    refused(written(tmp_path, content), "at most 100 bytes", str(len(content)))


def test_truncated_files(tmp_path, content):
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, *range(len(content) - 70, len(content))]:
        refused(written(tmp_path, content[:length]), WHOLE, UNREADABLE)
    refused(written(tmp_path, content + b"\0"), WHOLE, UNREADABLE)


def flips(content, tmp_path, places):
    expected = file.dumps(file.load(written(tmp_path, content)))
    for place in places:
        for bit in (0, 3, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path = written(tmp_path, bytes(damaged), "damaged")
            try:
                found = file.load(path)
            except Refused as refusal:
                assert str(path) in str(refusal) and "\n" not in str(refusal)
            else:  # a blank of the header, which says nothing
                assert file.dumps(found) == expected


def test_a_bit_that_was_flipped(tmp_path, content):
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    flips(
        content,
        tmp_path,
        [*range(40), *rng.integers(0, header, 150), *rng.integers(header, len(content), 60)],
    )


@pytest.mark.slow
def test_any_bit_that_was_flipped(tmp_path, content):
    flips(content, tmp_path, range(8 + int.from_bytes(content[:8], "little") + 200))


def test_another_content_than_the_checksum_says(tmp_path, content):
    tensors, record = parts(content, tmp_path)
    for name in tensors:
        if not tensors[name].size:
            continue
        changed = {key: tensor.copy() for key, tensor in tensors.items()}
        changed[name].reshape(-1).view(np.uint8)[0] ^= 1
        other = save(changed, {"seqsru": json.dumps(record)})
        refused(written(tmp_path, other), "the content that its checksum was made of", "another")
    other = save(tensors, {"seqsru": json.dumps(record | {"record": {}})})
    refused(written(tmp_path, other), "the content that its checksum was made of", "another")


@pytest.mark.parametrize("form", [0, 2, "1", None, [1], 1.5])
def test_another_format(tmp_path, content, form):
    tensors, record = parts(content, tmp_path)
    path = written(tmp_path, forged(tensors, record | {"format": form}))
    with pytest.raises(Refused) as refusal:
        file.load(path)
    assert str(refusal.value) == (
        f"expected format 1 in {path}, found {form!r}; quantise the run again with this version of seqsru"
    )


@pytest.mark.parametrize("record", ["", "{", "[]", "1", "null", '"x"', "{}", '{"format": 1}', "[" * 100000])
def test_a_record_that_is_none(tmp_path, content, record):
    tensors, _ = parts(content, tmp_path)
    refused(written(tmp_path, save(tensors, {"seqsru": record})), WHOLE, UNREADABLE)


def test_a_record_of_broken_text(tmp_path, content):
    tensors, record = parts(content, tmp_path)
    other = json.dumps(record).replace("translation", "\\ud800")
    refused(written(tmp_path, save(tensors, {"seqsru": other})), WHOLE, UNREADABLE)


# ---- what is meant to harm: the checksum is right ---------------------------------------------------

RUNS, NONE = "a model that the engine can run", r"none \(.*\)"


def test_missing_tensors(tmp_path, content):
    tensors, record = parts(content, tmp_path)
    for name in tensors:
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        path = written(tmp_path, forged(rest, record))
        if name.startswith(("file.", "shortlist.")):
            file.load(path)  # whose whole they are has to ask for them
        else:
            refused(path, RUNS, NONE)


def test_tensors_of_another_kind(tmp_path, content):
    tensors, record = parts(content, tmp_path)
    for name in ("numbers", "output", "encoder.table", "decoder.table", "encoder.widths", "decoder.widths"):
        for kind in (np.float64, np.int32, np.uint64, np.bool_, np.float16):
            other = tensors | {name: np.zeros(tensors[name].shape, kind)}
            refused(written(tmp_path, forged(other, record)), RUNS, NONE)
        for shape in ((-1, 1), (1, 1, -1)):
            other = tensors | {name: tensors[name].reshape(shape)}
            refused(written(tmp_path, forged(other, record)), RUNS, NONE)
        if name != "encoder.table":  # without one it is a language model
            other = tensors | {name: tensors[name][:0]}
            refused(written(tmp_path, forged(other, record)), RUNS, NONE)
    other = save_torch({"numbers": torch.zeros(3, dtype=torch.bfloat16)}, {"seqsru": json.dumps(record)})
    refused(written(tmp_path, other), WHOLE, UNREADABLE)


def test_sizes_of_another_kind(tmp_path, content):
    tensors, record = parts(content, tmp_path)
    nan = float("nan")
    for name in record["sizes"]:
        rest = {key: size for key, size in record["sizes"].items() if key != name}
        refused(written(tmp_path, forged(tensors, record | {"sizes": rest})), RUNS, NONE)
        for wrong in (
            None,
            "x",
            [],
            {},
            [None] * 5,
            1e400,
            -1e400,
            nan,
            -1,
            2**70,
            [1] * 4,
            [1] * 6,
            [2**70] * 5,
        ):
            if name == "int8":
                continue
            other = record | {"sizes": record["sizes"] | {name: wrong}}
            refused(written(tmp_path, forged(tensors, other)), RUNS, NONE)
    for wrong in (None, [], 3, "x"):
        refused(written(tmp_path, forged(tensors, record | {"sizes": wrong})), RUNS, NONE)
    refused(written(tmp_path, forged(tensors, {"format": 1, "sizes": record["sizes"]})), RUNS, NONE)
    # The other precision reads other places: there are not enough, or no bias is where one is looked for.
    other = record | {"sizes": record["sizes"] | {"int8": False}}
    refused(written(tmp_path, forged(tensors, other)), RUNS, NONE)


MARGIN = 1 << 16


def run_within_bounds(model):
    """Search, score and follow with canaries around the memory that a program writes to."""
    widest = 1 << 18
    counts = [
        *model.encoder.widths,
        *model.decoder.widths,
        model.encoder.state,
        model.decoder.state,
        model.memory,
    ]
    if max(counts, default=0) > widest or model.widest > widest:
        return False
    language = not len(model.encoder.table)
    engine = Engine(model)
    sizes = (
        Size(slots=2, beam=2, room=1 if language else 17, longest=3, steps=17 if language else 1, n_best=2),
        Size(room=17, steps=20),
    )
    guarded = []
    for size in sizes:
        space = Workspace(model, size)
        room = np.full(len(space._floats) + 2 * MARGIN, 123.0, np.float32)
        inside = room[MARGIN : MARGIN + len(space._floats)]
        inside[:] = 0.0
        moved = inside.ctypes.data - space._floats.ctypes.data
        moved += -(space.g[a.FLOATS] + moved) % 64
        for name in (a.FLOATS, a.COMPACT):
            space.g[name] += moved
        space._floats = inside
        guarded.append((space, room, inside))
    engine._workspaces = [space for space, _, _ in guarded]
    sources = [[0] * 17, [0]]
    calls = (
        lambda: engine.search(sources, [0, 0], [3, 2], eos=min(EOS, model.vocabulary - 1), decoding=DECODING),
        lambda: engine.score([[] if language else sources[0]], [[0] * 20], [[0] * 20]),
        lambda: engine.follow([[] if language else sources[0]], [[0] * 20]),
    )
    for call in calls:
        try:
            call()
        except Refused as refusal:
            assert "NaN" in str(refusal)
    assert len(engine._workspaces) == 2, "another workspace was made"
    for _, room, inside in guarded:
        for margin in (room[: MARGIN - 32], room[MARGIN + len(inside) + 32 :]):
            assert (margin == 123.0).all(), "something was written outside"
    return True


def near(value):
    """Other values of a field: beside it, of the other sign, and far away."""
    found = [
        -1,
        0,
        1,
        2,
        3,
        7,
        17,
        2**20,
        2**31,
        2**40,
        2**62,
        -(2**40),
        -(2**62),
        -value,
        2 * value,
        value // 2,
    ]
    found += [value + step for step in (-64, -16, -1, 1, 15, 16, 64)]
    return sorted({one for one in found if -(2**63) <= one < 2**63} - {value})


def other_models(model):
    """Yield a model with one number of its programs changed, for every number and many values."""
    for name in ("encoder", "decoder"):
        part = getattr(model, name)
        for row, field in np.ndindex(part.table.shape):
            for value in near(int(part.table[row, field])):
                table = part.table.copy()
                table[row, field] = value
                yield (name, row, field, value), replace(model, **{name: replace(part, table=table)})
        for place in range(len(part.widths)):
            for value in near(int(part.widths[place])):
                widths = part.widths.copy()
                widths[place] = value
                yield (name, "widths", place, value), replace(model, **{name: replace(part, widths=widths)})
        for value in near(part.state):
            yield (name, "state", value), replace(model, **{name: replace(part, state=value)})
        for end in ("x", "y"):
            place = getattr(part, end)
            for value in near(0):
                for other in (p.Place(value, place.column), p.Place(place.buffer, value)):
                    yield (name, end, other), replace(model, **{name: replace(part, **{end: other})})
    for place in range(6):
        for value in near(int(model.output[place])):
            output = model.output.copy()
            output[place] = value
            yield ("output", place, value), replace(model, output=output)
    for name in file._SIZES:
        for value in near(getattr(model, name)):
            yield (name, value), replace(model, **{name: value})


def attack(model, every):
    """Change every number, one change in so many: what is not refused runs without leaving its memory."""
    count, ran = 0, 0
    assert run_within_bounds(model)
    for what, other in islice(other_models(model), 0, None, every):
        try:
            check_model(other)
        except ValueError:
            count += 1
            continue
        try:
            ran += run_within_bounds(other)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None
    assert count > 1000 // every and ran > 100 // every


SIZES = {"embedding": 5, "hidden": 8, "layers": 1}
ATTACKED = {
    "sru": {"options": {"layer_norm": True, "projection_size": 3}},
    "lstm": {},
    "gru": {},
    "qrnn": {"options": {"pooling": "ifo", "window": 3}},
    "conv": {},
    "ssru": {},
    "mingru": {},
    "minlstm": {},
}


def attacked(cell, kind, int8):
    settings = SIZES | ATTACKED[cell]
    if kind == "language model":
        return lowered(
            language_model(cell, vocabulary=9, stack={"residual": True}, **(settings | {"layers": 2})), int8
        )
    decoder = {"attention": "additive" if cell in ("gru", "conv", "ssru") else "dot"}
    return lowered(translator(cell, source=7, target=9, decoder=decoder, **settings), int8)


def test_every_operation_is_attacked():
    models = [attacked(cell, kind, True) for cell in ATTACKED for kind in ("translator", "language model")]
    tables = [part.table for model in models for part in (model.encoder, model.decoder)]
    assert set(np.concatenate(tables)[:, p.CODE]) == set(range(18))


def test_a_program_that_is_changed_is_refused_or_stays_in_its_memory():
    attack(attacked("sru", "translator", True), every=17)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["translator", "language model"])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("cell", ATTACKED)
def test_programs_of_every_cell_that_are_changed(cell, int8, kind):
    attack(attacked(cell, kind, int8), every=29)


def test_operations_in_places_where_they_may_not_be():
    model = attacked("sru", "translator", True)
    kept = [row for row in model.encoder.table if row[p.CODE] == p.PRODUCT and row[p.H]]
    begun = [row for row in model.encoder.table if row[p.CODE] in (p.START, p.MEAN)]
    assert kept and begun
    decoder = model.decoder
    for row in kept + begun:
        row = row.copy()
        row[p.X] = decoder.x.buffer
        row[p.Y] = max(row[p.Y], -1) and decoder.y.buffer
        other = replace(model, decoder=replace(decoder, table=np.vstack([decoder.table, row])))
        with pytest.raises(ValueError, match="^what is done once a sentence, in a step$"):
            check_model(other)
    with pytest.raises(ValueError, match="^memory of no source$"):
        check_model(replace(attacked("sru", "language model", True), memory=64))
    with pytest.raises(ValueError, match="^operation 18$"):
        table = decoder.table.copy()
        table[0, p.CODE] = 18
        check_model(replace(model, decoder=replace(decoder, table=table)))


def test_a_token_beyond_the_vocabulary_cannot_be_made_likely():
    model = attacked("sru", "translator", True)
    numbers = model.numbers.copy()
    numbers[model.output[5] + model.vocabulary] = 100.0
    with pytest.raises(ValueError, match="^an output that is no token can be chosen$"):
        check_model(replace(model, numbers=numbers))


def test_layers_wider_than_what_they_read_are_no_harm():
    for highway in ("project", "none"):
        lowered(language_model(embedding=5, hidden=200, options={"highway": highway}))
