"""Run directories that somebody made hostile, each from a number: the same number gives the same one."""

import hashlib
import json
import os
import pickle
import random
import socket
import struct
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DEEP = 100_000
VALUES = (
    None, [], {}, "x", -1, True, 0.5, 1e308, 2**70, 10**18, float("nan"), [[1]], {"a": {}}, "\ud800", "a\nb",
)  # fmt: skip
SIZES = (
    "embedding_size",
    "hidden_size",
    "num_layers",
    "batch_size",
    "window",
    "beam",
    "max_source",
    "tokens",
    "heads",
)


def hostile(run, elsewhere, number):
    """Make a run directory hostile, and say how.

    Parameters
    ----------
    run : Path
        A copy of a good run.
    elsewhere : Path
        A folder outside, where links lead.
    number : int
        Which of the ways, in order, and the seed of what they draw.
    """
    draw = random.Random(number)
    way = WAYS[number % len(WAYS)]
    return f"{way.__name__}: {way(run, elsewhere, draw)}"


def newest(run):
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def sign(path):
    """Write the sums that a checkpoint would have, had a training written it."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    for name in ("model.safetensors", "training.safetensors", "state.json"):
        if (path / name).is_file():
            manifest[name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def files(run):
    """Every file that a run reads."""
    path = newest(run)
    inside = [
        path / name for name in ("model.safetensors", "training.safetensors", "state.json", "manifest.json")
    ]
    return [*inside, run / "config.yaml", *sorted(run.glob("*.json"))]


def other_kind(run, elsewhere, draw):
    """A file that is no file: a pipe, a device, a folder, a link, a socket."""
    path = draw.choice([*files(run), run / "metrics.jsonl", run / "log", run / "lock", run / "signature.txt"])
    if path.is_dir():
        return "nothing"
    content = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    kind = draw.choice(
        ["pipe", "folder", "endless", "elsewhere", "dangling", "round", "socket", "unreadable"]
    )
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "elsewhere":
        (elsewhere / "file").write_bytes(content)
        path.symlink_to(elsewhere / "file")
    elif kind == "dangling":
        path.symlink_to(elsewhere / "new")
    elif kind == "round":
        path.symlink_to(path.name)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
        os.chdir(here)
    else:
        path.write_bytes(content)
        path.chmod(0)
    return f"{path.name} {kind}"


def content(run, elsewhere, draw):
    """A file with other bytes, as they are or with the sums that they have."""
    path = draw.choice(files(run))
    old = path.read_bytes()
    place = draw.randrange(len(old))
    (elsewhere / "zip").unlink(missing_ok=True)
    with zipfile.ZipFile(elsewhere / "zip", "w") as packed:
        packed.writestr("data.pkl", pickle.dumps([1, 2]))
    made = {
        "bit": old[:place] + bytes([old[place] ^ (1 << draw.randrange(8))]) + old[place + 1 :],
        "cut": old[:place],
        "more": old + b"\0" * draw.randrange(1, 99),
        "empty": b"",
        "pickle": pickle.dumps({"weights": torch.zeros(3)}),
        "zip": (elsewhere / "zip").read_bytes(),
        "noise": draw.randbytes(draw.randrange(1, 5000)),
        "deep": b"[" * DEEP,
        "deep object": b'{"a":' * DEEP,
        "long number": b'{"step": ' + b"9" * 9000 + b"}",
        "utf-16": '{"step": 1}'.encode("utf-16"),
        "text": b"{}",
        "list": b"[]",
        "nan": b'{"a": NaN}',
    }
    name = draw.choice([*made, "bit", "bit"])
    path.write_bytes(made[name])
    signed = draw.random() < 0.5 and path.name != "manifest.json"
    if signed:
        sign(newest(run))
    return f"{path.name} {name}{' signed' if signed else ''}"


def header(run, elsewhere, draw):
    """Tensors whose header lies."""
    path = newest(run) / draw.choice(["model.safetensors", "training.safetensors"])
    old = path.read_bytes()
    size = struct.unpack("<Q", old[:8])[0]
    table = json.loads(old[8 : 8 + size])
    names = [name for name in table if name != "__metadata__"]
    name, kind = (
        draw.choice(names),
        draw.choice(
            [
                "2^63",
                "2^40",
                "deep",
                "huge",
                "overlap",
                "negative",
                "dtype",
                "shape",
                "hole",
                "sparse",
                "beyond",
            ]
        ),
    )
    data = old[8 + size :]
    entry = table[name]
    if kind in ("2^63", "2^40"):
        path.write_bytes(struct.pack("<Q", 2 ** int(kind[2:])) + old[8:])
    elif kind == "sparse":
        with open(path, "r+b") as stream:
            stream.truncate(2**42)
    else:
        if kind == "overlap":
            entry["data_offsets"] = table[names[0]]["data_offsets"]
        elif kind == "negative":
            entry["data_offsets"] = [-8, 8]
        elif kind == "beyond":
            entry["data_offsets"] = [0, 2**62]
        elif kind == "dtype":
            entry["dtype"] = draw.choice(["I64", "BOOL", "F8_E4M3", "X", 7, None])
        elif kind == "shape":
            entry["shape"] = draw.choice([[2**40, 2**40], [-1], [], "x", [0], [2**63]])
        elif kind == "hole":
            del table[name]
        text = json.dumps(table).encode()
        if kind == "deep":
            text = b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}"
        elif kind == "huge":
            text += b" " * 20_000_000
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    if kind != "sparse":
        sign(newest(run))
    return f"{path.name} {kind}"


def record(run, elsewhere, draw):
    """JSON with a value of another type somewhere, or without it, signed."""
    path = draw.choice(
        [newest(run) / "state.json", newest(run) / "manifest.json", *sorted(run.glob("*.json"))]
    )
    content = json.loads(path.read_bytes())
    node, trail = content, []
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw.choice(keys[:50])
        trail.append(str(key))
        if isinstance(node[key], (dict, list)) and node[key] and draw.random() < 0.8:
            node = node[key]
            continue
        value = draw.choice(VALUES)
        if draw.random() < 0.2:
            del node[key]
            value = "gone"
        else:
            node[key] = value
        break
    path.write_text(json.dumps(content))
    if path.name == "state.json":
        sign(path.parent)
    return f"{path.name} {'.'.join(trail)} {str(value)[:20]!r}"


def tensors(run, elsewhere, draw):
    """Tensors of another shape, type or name, more or fewer of them, signed."""
    path = newest(run) / draw.choice(["model.safetensors", "training.safetensors", "training.safetensors"])
    found = {name: t.clone() for name, t in load_file(path).items()}
    name = draw.choice(sorted(found))
    kind = draw.choice(["rows", "flat", "type", "gone", "more", "name", "scalar", "empty"])
    t = found[name]
    found[name] = {
        "rows": lambda: torch.cat([t, t]) if t.ndim else t.reshape(1, 1),
        "flat": lambda: t.reshape(-1, 1),
        "type": lambda: t.to(draw.choice([torch.int64, torch.float64, torch.bool, torch.complex64])),
        "scalar": lambda: torch.tensor(1.0),
        "empty": lambda: torch.zeros(0),
    }.get(kind, lambda: t)()
    if kind in ("gone", "name"):
        del found[name]
    if kind in ("more", "name"):
        new = draw.choice(
            ["carried.0", "carried.99", "optimizer.999.exp_avg", "optimizer.0.x", "generator.cuda", "a.b"]
        )
        found[new] = t
        name = f"{name} {new}"
    save_file({name: t.clone() for name, t in found.items()}, path)
    sign(newest(run))
    return f"{path.name} {name} {kind}"


def settings(run, elsewhere, draw):
    """Settings that ask for too much, or are no settings."""
    path = run / "config.yaml"
    text = path.read_text()
    kind = draw.choice(["size", "size", "bomb", "deep", "large", "digits", "tag", "bit", "escape"])
    if kind == "size":
        lines = text.split("\n")
        places = [n for n, line in enumerate(lines) if line.strip().partition(":")[0] in SIZES]
        place, value = (
            draw.choice(places),
            draw.choice(["1000000000", "2147483648", "9223372036854775807", "-1", "1e308"]),
        )
        kind += f" {lines[place].strip()} {value}"
        lines[place] = f"{lines[place].partition(':')[0]}: {value}"
        path.write_text("\n".join(lines))
    elif kind == "bit":
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(7)
        path.write_bytes(data)
    else:
        path.write_text(
            {
                "bomb": "a0: &a0 [x, x]\n"
                + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
                + text,
                "deep": text + "extra: " + "[" * 5000,
                "large": text + "# " + "x" * 9_000_000,
                "digits": text + "extra: " + "9" * 5000,
                "tag": text + "extra: !!python/object/apply:os.system [ls]",
                "escape": text + 'extra: "\\UFFFFFFFF"',
            }[kind]
        )
    if draw.random() < 0.5:
        for manifest in run.glob("checkpoints/*/manifest.json"):  # as an earlier version wrote it
            content = json.loads(manifest.read_bytes())
            content.pop("run", None)
            manifest.write_text(json.dumps(content))
    return kind


def folders(run, elsewhere, draw):
    """Folders that are links, files or pipes, and links where something is about to be written."""
    inside = run / "checkpoints"
    path = draw.choice(
        [newest(run), inside, inside / ".partial-step-00000009", inside / ".replaced-step-00000009",
         inside / ".gone-step-00000001", inside / "step-00000009", run / ".config.yaml.seqsru-unfinished",
         run / ".signature.txt.seqsru-unfinished", run / "tensorboard", run / "config.yaml.tmp"]
    )  # fmt: skip
    kind = draw.choice(["link", "dangling", "file", "pipe"])
    if path.exists():
        path.rename(elsewhere / "moved")
    if kind == "link":
        (elsewhere / "moved").mkdir(exist_ok=True)
        path.symlink_to(elsewhere / "moved")
    elif kind == "dangling":
        path.symlink_to(elsewhere / "new")
    elif kind == "file":
        path.write_text("mine")
    else:
        os.mkfifo(path)
    return f"{path.relative_to(run)} {kind}"


def metrics(run, elsewhere, draw):
    """Lines of metrics that are damaged, or a counter of them that is."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    kind = draw.choice(["line", "deep", "fewer", "counter"])
    place = draw.randrange(len(lines) - 1)
    if kind == "line":
        lines[place] = lines[place][: len(lines[place]) // 2]
    elif kind == "deep":
        lines[place] = b"[" * DEEP
    elif kind == "fewer":
        lines = lines[-1:]
    else:
        state = newest(run) / "state.json"
        content = json.loads(state.read_bytes())
        content["progress"]["records"] = draw.choice([2**62, 10**9, 0])
        state.write_text(json.dumps(content))
        sign(newest(run))
    path.write_bytes(b"\n".join(lines))
    return kind


WAYS = (other_kind, content, header, record, tensors, settings, folders, metrics)


def state_of(folder: Path):
    """What is in a folder, to be compared: names, kinds and bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = path.read_bytes() if path.is_file() and not path.is_symlink() else path.lstat().st_mode
    return found
