"""Compare one SRU layer with an LSTM, a GRU and a convolution of width 3, forward and backward.

    python tools/bench_layers.py --device cpu --threads 2 --out layers.json
    python tools/bench_layers.py --layers qrnn,mgu,pru,gru      # any name in `CELLS`, and those above
    python tools/bench_layers.py --layers LSTM,lstm,GRU,gru --shortest 0.25

All layers map (T, B, D) to (T, B, D). A convolution of width 3 multiplies as much as the SRU's product does
(3·D² a step), so in equal precision it is the floor of an SRU layer, which adds its scan; it runs on (B, D,
T), the layout it likes best. *forward* runs without gradients; *training* is forward and backward, to the
input and every weight.

Only ratios inside one run mean anything on a shared machine. So the layers take turns: in each of the
repeats every layer is timed once, its time is divided by the SRU's of the same repeat, and the median of
those ratios is printed with its quartiles. All of them compute their products in the same precision, the
layers of cuDNN too. With --shortest rows have different lengths, evenly from that share of T to T: torch's
own layers get them packed, all others are told which steps are valid.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import quantiles

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seqsru.cells import CELLS, SRU, Stack
from seqsru.errors import Refused
from seqsru.evaluation.environment import environment
from seqsru.ops.precision import check_precision, float32_products

SIZES = ((32, 32, 256), (64, 32, 512), (35, 20, 650), (64, 64, 1024))
PASSES = ("forward", "training")
PRECISIONS = ("float32", "tf32", "bfloat16")


class Convolution(nn.Module):
    """A convolution over time of width 3, padded to keep the length, on (B, D, T)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(size, size, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.convolution(x),)


# What is compared by default; a name in lower case is a cell of seqsru in a `Stack` of one layer.
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "SRU": lambda size: SRU(size, size, 1),
    "LSTM": lambda size: nn.LSTM(size, size),
    "GRU": lambda size: nn.GRU(size, size),
    "conv k=3": Convolution,
}


class Elementwise(nn.Module):
    """An elementwise recurrence of the package flash-linear-attention (HGRN) behind its product."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.product = nn.Linear(size, 2 * size)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        from fla.ops.hgrn import fused_recurrent_hgrn

        value, gate = self.product(x.transpose(0, 1)).chunk(2, dim=-1)
        gate = functional.logsigmoid(gate)
        y, _ = fused_recurrent_hgrn((value * (1 - gate.exp())).contiguous(), gate.contiguous())
        return (y.transpose(0, 1),)


# Those of other packages, which are compared where these are installed.
OTHERS: dict[str, Callable[[int], nn.Module]] = {"fla hgrn": Elementwise}
KNOWN = {**LAYERS, **OTHERS}
CHOICES = [*LAYERS, *CELLS, *OTHERS]


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, print and perhaps write the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--sizes",
        default=",".join("x".join(map(str, size)) for size in SIZES),
        help="sizes TxBxD, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--layers",
        default=",".join(name for name in LAYERS if name != "SRU"),
        help=f"what to compare with the SRU, separated by commas, among {', '.join(CHOICES)} "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the products of every layer: float32 is IEEE's, tf32 is for GPUs, bfloat16 is autocast "
        "(default: float32)",
    )
    parser.add_argument(
        "--repeats", type=int, default=9, help="times each layer is measured (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.05, help="least time of one measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--shortest",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="length of the shortest row, as a share of T (default: all are as long)",
    )
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own)")
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    try:
        sizes = [size_of(text) for text in given.sizes.split(",")]
        layers = ["SRU", *map(layer_of, given.layers.split(","))]
        check_precision(given.precision, torch.device(given.device))
        check_shortest(given.shortest, layers)
    except (ValueError, Refused) as error:
        parser.error(str(error))
    rows = compare(
        sizes,
        torch.device(given.device),
        given.precision,
        given.repeats,
        given.seconds,
        layers,
        shortest=given.shortest,
    )
    report = {
        "environment": environment(torch.device(given.device)),
        "precision": given.precision,
        "repeats": given.repeats,
        "shortest": given.shortest,
        "rows": rows,
    }
    print(f"{report['environment']['device_name']}, {given.precision}, {given.repeats} repeats")
    print(table(rows))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def size_of(text: str) -> tuple[int, int, int]:
    """Read ``TxBxD``."""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"expected a size TxBxD of three numbers, as in 64x32x512, found {text!r}")
    return int(parts[0]), int(parts[1]), int(parts[2])


def layer_of(name: str) -> str:
    """Check the name of a layer."""
    if name not in CHOICES:
        raise ValueError(f"expected layers among {', '.join(CHOICES)}, found {name!r}")
    return name


def check_shortest(share: float, layers: Iterable[str]) -> None:
    """Refuse a share that is none, and layers that know no lengths."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"expected a share above 0 and up to 1 with --shortest, found {share}")
    without = [name for name in layers if name in KNOWN and name not in ("SRU", "LSTM", "GRU")]
    if share < 1.0 and without:
        raise ValueError(f"expected layers that take lengths with --shortest, found {without[0]!r}")


def compare(
    sizes: list[tuple[int, int, int]],
    device: torch.device,
    precision: str,
    repeats: int,
    seconds: float,
    layers: Iterable[str] = LAYERS,
    graph: bool = False,
    shortest: float = 1.0,
) -> list[dict]:
    """Measure every layer on every size: a row a size, pass and layer, in ms and as ratio to the SRU.

    With `graph` a call is the replay of a CUDA graph; a layer that cannot be captured is left out.
    """
    with float32_products("tf32" if precision == "tf32" else "ieee"):
        return _compared(sizes, device, precision, repeats, seconds, layers, graph, shortest)


def _compared(
    sizes: list[tuple[int, int, int]],
    device: torch.device,
    precision: str,
    repeats: int,
    seconds: float,
    layers: Iterable[str],
    graph: bool,
    shortest: float,
) -> list[dict]:
    rows = []
    for T, B, D in sizes:
        torch.manual_seed(0)
        both = {name: passes(made(name, D).to(device), T, B, D, precision, shortest) for name in layers}
        for what in PASSES:
            calls = {name: of_layer[what] for name, of_layer in both.items()}
            if graph:
                calls = {
                    name: replay for name, call in calls.items() if (replay := graphed(call)) is not None
                }
            times = take_turns(calls, device, repeats, seconds)
            for name, measured in times.items():
                ratios = [own / base for own, base in zip(measured, times["SRU"])]
                rows.append(
                    {
                        "T": T,
                        "B": B,
                        "D": D,
                        "pass": what,
                        "layer": name,
                        "ms": spread([1e3 * t for t in measured]),
                        "ratio": spread(ratios),
                    }
                )
    return rows


def made(name: str, size: int) -> nn.Module:
    """One layer that maps so many features to as many."""
    return KNOWN[name](size) if name in KNOWN else Stack(name, size, size, 1)


def run(layer: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """What a layer gives for x (T, B, D), of rows of these lengths where there are any."""
    if lengths is None:
        return layer(x)[0]
    if isinstance(layer, nn.RNNBase):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], total_length=len(x))[0]
    steps = torch.arange(len(x), device=x.device).unsqueeze(1)
    return layer(x, valid=steps < lengths.to(x.device))[0]


def passes(
    layer: nn.Module, T: int, B: int, D: int, precision: str, shortest: float = 1.0
) -> dict[str, Callable[[], object]]:
    """Two functions that run a layer on random data of its own: forward, and forward with backward."""
    lengths = None if shortest == 1.0 else torch.linspace(max(1.0, shortest * T), T, B).long()
    device = next(layer.parameters()).device
    shape = (B, D, T) if isinstance(layer, Convolution) else (T, B, D)
    x, gradient = torch.randn(shape, device=device), torch.randn(shape, device=device)
    leaf = x.clone().requires_grad_()
    wanted = [leaf, *layer.parameters()]

    def autocast() -> contextlib.AbstractContextManager:
        return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def forward() -> Tensor:
        with torch.no_grad(), autocast():
            return run(layer, x, lengths)

    def training() -> tuple[Tensor, ...]:
        with autocast():
            y = run(layer, leaf, lengths)
        return torch.autograd.grad(y, wanted, gradient.to(y.dtype))

    return {"forward": forward, "training": training}


def captured(call: Callable[[], object], times: int = 1) -> torch.cuda.CUDAGraph:
    """Capture a call, repeated, in a CUDA graph, after running it outside one to compile and load."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    return graph


def graphed(call: Callable[[], object]) -> Callable[[], object] | None:
    """Return the replay of a call, or None where it cannot be captured."""
    try:
        return captured(call).replay
    except RuntimeError as error:
        print(f"not captured: {error}", file=sys.stderr)
        return None


def take_turns(
    calls: dict[str, Callable[[], object]],
    device: torch.device,
    repeats: int,
    seconds: float,
) -> dict[str, list[float]]:
    """Seconds a call of each function, measured `repeats` times in turn, each over at least `seconds`."""
    counts = {}
    for name, call in calls.items():
        timed(call, device, 1)  # compiles, allocates, chooses algorithms
        timed(call, device, 1)
        counts[name] = max(1, round(seconds / timed(call, device, 1)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            found[name].append(timed(call, device, counts[name]))
    return found


def timed(call: Callable[[], object], device: torch.device, count: int) -> float:
    """Seconds a call, over `count` calls in a row, with the device idle at both ends."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / count


def on_gpu(device: torch.device) -> bool:
    """Say whether a device is a GPU, which works by itself and captures graphs."""
    return device.type == "cuda"


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all it was given."""
    if on_gpu(device):
        torch.cuda.synchronize(device)


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values
    return {"median": middle, "q1": low, "q3": high}


def table(rows: list[dict]) -> str:
    """One line a size and pass: the SRU's milliseconds, and the others' times as multiples of it."""
    others = [name for name in dict.fromkeys(row["layer"] for row in rows) if name != "SRU"]
    heads = "".join(f"  {name + ' / SRU':>20}" for name in others)
    lines = [f"{'T, B, D':>14}  {'pass':<8}  {'SRU ms':>22}{heads}"]
    for first in rows:
        if first["layer"] != "SRU":
            continue
        keys = ("T", "B", "D", "pass")
        same = {row["layer"]: row for row in rows if all(row[key] == first[key] for key in keys)}
        size = f"{first['T']}, {first['B']}, {first['D']}"
        lines.append(
            f"{size:>14}  {first['pass']:<8}  {shown(first['ms'], 3):>22}"
            + "".join(f"  {shown(same[name]['ratio'], 2):>20}" for name in others)
        )
    return "\n".join(lines)


def shown(value: dict[str, float], digits: int) -> str:
    """``median [q1–q3]``."""
    return f"{value['median']:.{digits}f} [{value['q1']:.{digits}f}–{value['q3']:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
