"""Sections of `gpu_check.py` about models: training, the output, decoding, translation, and other layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median, quantiles

import bench_layers
import gpu_predictions as predictions
import torch
from bench_layers import compare, graphed, passes, timed
from gpu_measures import Rows, beside, eager_seconds
from gpu_predictions import Work
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import CELLS, SRU, Stack
from seqsru.decoding import Decoding
from seqsru.decoding.beam import beam_search
from seqsru.models.decoder import Decoder
from seqsru.models.language_model import LanguageModel
from seqsru.models.translator import Translator
from seqsru.ops.cross_entropy import linear_cross_entropy
from seqsru.ops.precision import float32_products


def products(part: str) -> AbstractContextManager[None]:
    """The context in which float32 products are those of a precision."""
    return float32_products("tf32" if part == "tf32" else "ieee")


def autocast(device: torch.device, part: str) -> AbstractContextManager[object]:
    """The context in which products are in bfloat16, if the precision says so."""
    return torch.autocast(device.type, torch.bfloat16) if part == "bfloat16" else nullcontext()


def penn_treebank(tiny: bool) -> tuple[LanguageModel, int, int]:
    """The model of recipes/ptb/paper-6x910.yaml, and the steps and rows of its windows."""
    vocabulary, width, T, B = (50, 16, 5, 2) if tiny else (10_000, 910, 35, 32)
    options = {"version": 1, "activation": "identity", "highway_bias": -3.0, "rescale": False}
    options["input_dropout"] = 0.2
    stack = Stack("sru", width, width, 6, dropout=0.2, options=options)
    return LanguageModel(vocabulary, stack, width, embedding_dropout=0.7, output_dropout=0.7), T, B


def translator(tiny: bool) -> tuple[Translator, int, int]:
    """The model of recipes/wmt14/sru.yaml, and the length and number of the sentences of a batch."""
    vocabulary, E, hidden, T, B = (60, 16, 8, 5, 3) if tiny else (32_000, 512, 512, 32, 256)
    options = {"highway_bias": -1.0}
    encoder = Stack("sru", E, hidden, 6, dropout=0.1, bidirectional=True, options=options)
    decoder = Decoder(
        "sru",
        E,
        2 * hidden,
        2 * hidden,
        6,
        attend="all",
        dropout=0.1,
        context_dropout=0.1,
        attention_options={"heads": 8},
        options=options,
    )
    rates = {"embedding_dropout": 0.1, "output_dropout": 0.1}
    return Translator(vocabulary, vocabulary, encoder, decoder, E, tying="all", **rates), T, B


def training(device: torch.device, tiny: bool, part: str) -> Rows:
    """One update by `Trainer` of Penn Treebank's 6 x 910 and of the WMT recipe, and where its time goes.

    Kernel by kernel, and with each batch as a CUDA graph.
    """
    import gpu_training  # needs all that training needs

    rows: Rows = []
    with products(part):
        for name, make in (("ptb 6 x 910", penn_treebank), ("wmt14", translator)):
            torch.manual_seed(0)
            model, T, B = make(tiny)
            model = model.to(device)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            work = gpu_training.work(name, model, T, B, part)
            for graph in (False, True) if bench_layers.on_gpu(device) else (False,):
                found, said = gpu_training.update_seconds(model, T, B, part, device, 3 if tiny else 40, graph)
                row: dict[str, object] = {
                    "model": name,
                    "by": "graph" if graph else "python",
                    "parameters": parameters,
                    "tokens/s": round(T * B / found),
                }
                row["hoped us"] = 1e6 * predictions.PTB_STEP if name.startswith("ptb") else None
                more = predictions.collected(parameters) if graph else Work(0, launches=0)
                row |= beside(found, work + more, device, tiny, part, graph)
                rows.append(row | ({"log": said} if graph else {}))
            for kernel, seconds, count in gpu_training.profiled(model, T, B, part, device, 2 if tiny else 5):
                rows.append(
                    {"model": name, "kernel": kernel[:80], "us": round(1e6 * seconds, 1), "calls": count}
                )
    return rows


def cross_entropy(device: torch.device, tiny: bool, part: str) -> Rows:
    """The output product and its loss, forward and backward, beside torch's operators one after the other."""
    rows: Rows = []
    sizes = [(6, 8, 20)] if tiny else [(1120, 910, 10_000), (4096, 512, 32_000)]
    for N, E, V in sizes:
        torch.manual_seed(0)
        leaves = [
            torch.randn(shape, device=device).div_(8).requires_grad_() for shape in ((N, E), (V, E), (V,))
        ]
        targets = torch.randint(V, (N,), device=device)

        def own(leaves: list[Tensor] = leaves, targets: Tensor = targets) -> object:
            with autocast(device, part):
                loss, _ = linear_cross_entropy(*leaves, targets)
            return torch.autograd.grad(loss, leaves)

        def separately(leaves: list[Tensor] = leaves, targets: Tensor = targets) -> object:
            with autocast(device, part):
                loss = functional.cross_entropy(functional.linear(*leaves), targets, reduction="sum")
            return torch.autograd.grad(loss, leaves)

        work = predictions.cross_entropy(N, E, V, 2 if part == "bfloat16" else 4)
        with products(part):
            for name, call in (("seqsru", own), ("torch", separately)):
                figures = beside(eager_seconds(call, device), work, device, tiny, part, graph=False)
                rows.append(
                    {"by": name, "N,E,V": f"{N},{E},{V}", **figures, "launches": launches(call, device)}
                )
    return rows


def launches(call: Callable[[], object], device: torch.device) -> int | None:
    """How many kernels a call starts; None on a CPU."""
    if not bench_layers.on_gpu(device):
        return None
    with torch.profiler.profile() as profile:
        call()
        torch.cuda.synchronize(device)
    return sum(event.count for event in profile.key_averages() if event.device_type.name == "CUDA")


@torch.no_grad()
def decoding(device: torch.device, tiny: bool, part: str) -> Rows:
    """Microseconds of one step of a language model, from Python and as a captured graph.

    A step is what decoding calls: one token a row in, log probabilities out. The device is idle at both ends.
    """
    vocabulary, width, steps = (50, 16, 3) if tiny else (8_000, 512, 200)
    rows: Rows = []
    for cell, depth in (("sru", 4), ("lstm", 2)):
        for count in (1, 5, 32):
            torch.manual_seed(0)
            model = LanguageModel(vocabulary, Stack(cell, width, width, depth), width).to(device).eval()
            tokens = torch.randint(vocabulary, (count,), device=device)
            step = step_in_place(model, tokens, model.initial_state(count))
            weights = 4 * sum(parameter.numel() for parameter in model.parameters())
            figures = beside(
                eager_seconds(step, device), Work(weights, launches=12 * depth), device, tiny, graph=False
            )
            row: dict[str, object] = {"model": f"{cell} {depth} x {width}", "rows": count, **figures}
            row |= microseconds("eager", step, device, steps)
            if bench_layers.on_gpu(device):
                try:
                    row |= microseconds("graph", bench_layers.captured(step).replay, device, steps)
                except RuntimeError as error:  # some version of cuDNN may not let itself be captured
                    row["graph"] = str(error)[:200]
            rows.append(row)
    return rows


def step_in_place(model: LanguageModel, tokens: Tensor, state: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """Return one decoding step as a call that keeps its state where it is, as a captured graph must."""

    def step() -> Tensor:
        log_probs, _, after = model.step(tokens, (), state)
        for old, new in zip(state, after):
            old.copy_(new)
        return log_probs

    return step


def microseconds(
    name: str,
    call: Callable[[], object],
    device: torch.device,
    steps: int,
) -> dict[str, object]:
    """P50 and P90 of single calls."""
    for _ in range(3):
        call()
    times = [1e6 * timed(call, device, 1) for _ in range(steps)]
    return {
        f"{name} P50 us": round(median(times), 1),
        f"{name} P90 us": round(quantiles(times, n=10, method="inclusive")[-1], 1),
    }


@torch.no_grad()
def translation(device: torch.device, tiny: bool, part: str) -> Rows:
    """Greedy and beam search of the WMT recipe's model with random weights: a token, and tokens a second."""
    torch.manual_seed(0)
    model, T, _ = translator(tiny)
    model, rows = model.to(device).eval(), []
    length = 4 if tiny else 32
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    for count in (1, 2) if tiny else (1, 32):
        source = torch.randint(4, model.source_vocabulary, (T, count), device=device)
        for beam in (1, 2) if tiny else (1, 5):

            def search(source: Tensor = source, count: int = count, beam: int = beam) -> object:
                memory, state = model.begin(source, None)
                return beam_search(
                    model.step,
                    memory,
                    state,
                    torch.ones(count, dtype=torch.int64, device=device),
                    eos=2,
                    max_length=torch.full((count,), length),
                    decoding=Decoding(beam=beam),
                )

            search()
            found = timed(search, device, 1 if tiny else 3) / length
            figures = beside(found, Work(weights, launches=120), device, tiny, graph=False)
            rows.append({"rows": count, "beam": beam, **figures, "tokens/s": round(count / found)})
    return rows


def padded(device: torch.device, tiny: bool, part: str) -> Rows:
    """Two directions of padded rows, forward and backward: an SRU, and cuDNN's LSTM of packed rows."""
    T, B, D = (6, 3, 8) if tiny else (64, 64, 512)
    lengths = torch.linspace(1, T, B).long()
    valid = (torch.arange(T)[:, None] < lengths).to(device)
    rows: Rows = []
    for name in ("sru", "lstm"):
        torch.manual_seed(0)
        stack = Stack(name, D, D, 1, bidirectional=True).to(device)
        x = torch.randn(T, B, D, device=device, requires_grad=True)

        def call(stack: Stack = stack, x: Tensor = x) -> object:
            with autocast(device, part):
                y, _ = stack(x, valid=valid)
            return torch.autograd.grad(y.float().square().sum(), [x, *stack.parameters()])

        one = predictions.layer("SRU" if name == "sru" else "LSTM", T, B, D, part, True)
        assert one is not None
        with products(part):
            figures = beside(eager_seconds(call, device), one + one, device, tiny, part, graph=False)
        rows.append({"layer": f"{name}, two directions", "T,B,D": f"{T},{B},{D}", **figures})
    return rows


def cells(device: torch.device, tiny: bool, part: str) -> Rows:
    """Every cell of `CELLS`, as ratios to the SRU."""
    rows: Rows = []
    sizes = [(4, 2, 8)] if tiny else [(64, 32, 512)]
    names = ["SRU", *(name for name in CELLS if name != "sru")]
    for row in compare(sizes, device, part, 3, 0.001 if tiny else 0.02, names):
        ratio = row["ratio"]
        figures = {"us": round(1e3 * row["ms"]["median"], 2), "to SRU": round(ratio["median"], 3)}
        rows.append({"cell": row["layer"], "pass": row["pass"], **figures})
    return rows


def compiled(device: torch.device, tiny: bool, part: str) -> Rows:
    """An SRU under `torch.compile`, as one graph, beside the same from Python and in a CUDA graph."""
    T, B, D = (4, 2, 8) if tiny else (64, 32, 512)
    torch.manual_seed(0)
    layer = SRU(D, D, 1).to(device)
    work = predictions.layer("SRU", T, B, D, part, True)
    assert work is not None
    backend = (
        "inductor" if bench_layers.on_gpu(device) else "aot_eager"
    )  # the first needs a compiler of C++ on a CPU
    whole: nn.Module = torch.compile(layer, fullgraph=True, backend=backend)  # type: ignore[assignment]
    rows: Rows = []
    with products(part):
        for name, module in (("python", layer), ("torch.compile", whole)):
            call = passes(module, T, B, D, part)["training"]
            rows.append(
                {"by": name, **beside(eager_seconds(call, device), work, device, tiny, part, graph=False)}
            )
        replay = graphed(passes(layer, T, B, D, part)["training"]) if bench_layers.on_gpu(device) else None
        if replay is not None:
            rows.append({"by": "graph", **beside(eager_seconds(replay, device), work, device, tiny, part)})
    return rows
