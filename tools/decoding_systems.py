"""The systems that tools/bench_decoding.py times, each made with random weights and asked over pipes.

    PYTHON tools/decoding_systems.py KIND FOLDER

runs in the environment of the system, so it imports what a kind needs only inside its class. The first line
of the standard input is JSON of the models and the sizes; each further one asks for some decoding and is
answered by a line with its seconds and tokens. What a library prints goes to the standard error.

Each class makes one model. It has ``prepare(sentences)``, which is not timed and gives what a call of the
decoder takes; ``decoder(threads, batch, beam)``, which gives a function from that to outputs; and
``lengths(outputs)``, the tokens of each.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decoding_marian import SEED, Decoder, MarianSystem, Sentences

FIRST_WORD = 5  # numbers below are special in one system or another
POOL = 96  # random sentences that the calls go through


class SeqsruSystem:
    """A translator of seqsru on its engine: the one place that knows the engine's calls."""

    def __init__(self, model: dict[str, Any], sizes: dict[str, int], folder: Path) -> None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        import torch

        from seqsru.cells import Stack
        from seqsru.models.decoder import Decoder
        from seqsru.models.translator import Translator
        from seqsru.pipelines.lowering import lower

        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        V, D, cell = sizes["vocabulary"], model["width"], model["cell"]
        encoder = Stack(cell, D, D, model["encoder"])
        decoder = Decoder(cell, D, D, D, model["decoder"])
        translator = Translator(V, V, encoder, decoder, D, tying="target").eval()
        self.model = lower(translator, int8=model["int8"])
        self.sizes, self.short = sizes, model["shortlist"]
        self.bos, self.eos = 1, 2

    def prepare(self, sentences: Sentences) -> tuple[Sentences, Any]:
        """End each sentence, and draw its shortlist if the system has one."""
        import numpy as np

        ended = [[*words, self.eos] for words in sentences]
        if not self.short:
            return ended, None
        draw = np.random.default_rng(SEED).choice
        words, count = np.arange(FIRST_WORD, self.sizes["vocabulary"]), self.sizes["shortlist"] - 1
        return ended, [np.sort(np.append(draw(words, count, replace=False), self.eos)) for _ in ended]

    def decoder(self, threads: int, batch: int, beam: int) -> Decoder:
        """Search with the engine, whose memory is made at the first call."""
        from seqsru.decoding import Decoding, MinimumLength
        from seqsru.engine.inference import Engine

        if threads != 1:
            raise ValueError(f"expected 1 thread of seqsru, found {threads}")
        length = self.sizes["target"]
        engine = Engine(self.model)
        decoding = Decoding(beam=beam, rules=(MinimumLength(length),))

        def decode(inputs: tuple[Sentences, Any]) -> Any:
            sources, columns = inputs
            starts, limits = [self.bos] * len(sources), [length] * len(sources)
            return engine.search(
                sources,
                starts,
                limits,
                eos=self.eos,
                decoding=decoding,
                columns=columns,
                slots=batch,
            )

        return decode

    def lengths(self, outputs: Any) -> list[int]:
        """Tokens of the best output of each sentence."""
        return [len(found[0].tokens) for found in outputs]


class CTranslate2System:
    """A Transformer with relu and the norms before its parts, its weights in int8."""

    def __init__(self, model: dict[str, Any], sizes: dict[str, int], folder: Path) -> None:
        import ctranslate2
        import numpy as np

        rng = np.random.default_rng(SEED)
        D = model["width"]
        words = ["<unk>", "<s>", "</s>", *(f"w{word}" for word in range(3, sizes["vocabulary"]))]

        def fill(linear: Any, inputs: int, outputs: int) -> None:
            linear.weight = (rng.standard_normal((outputs, inputs)) * inputs**-0.5).astype(np.float32)
            linear.bias = np.zeros(outputs, np.float32)

        def fill_norm(norm: Any) -> None:
            norm.gamma, norm.beta = np.ones(D, np.float32), np.zeros(D, np.float32)

        def fill_attention(attention: Any, products: tuple[int, ...]) -> None:
            fill_norm(attention.layer_norm)
            for linear, parts in zip(attention.linear, products):
                fill(linear, D, parts * D)

        spec = ctranslate2.specs.TransformerSpec.from_config(
            (model["encoder"], model["decoder"]), model["heads"], pre_norm=True
        )
        for embeddings in (spec.encoder.embeddings[0], spec.decoder.embeddings):
            embeddings.weight = (rng.standard_normal((len(words), D)) * D**-0.5).astype(np.float32)
        for half in (spec.encoder, spec.decoder):
            fill_norm(half.layer_norm)
            for layer in half.layer:
                fill_attention(layer.self_attention, (3, 1))
                if half is spec.decoder:
                    fill_attention(layer.attention, (1, 2, 1))
                fill_norm(layer.ffn.layer_norm)
                fill(layer.ffn.linear_0, D, 4 * D)
                fill(layer.ffn.linear_1, 4 * D, D)
        fill(spec.decoder.projection, D, len(words))
        spec.register_source_vocabulary(words)
        spec.register_target_vocabulary(words)
        spec.validate()
        spec.optimize(quantization="int8")
        folder.mkdir()
        spec.save(str(folder))
        self.folder, self.length = folder, sizes["target"]

    def prepare(self, sentences: Sentences) -> list[list[str]]:
        """Give the words by name."""
        return [[*(f"w{word}" for word in words), "</s>"] for words in sentences]

    def decoder(self, threads: int, batch: int, beam: int) -> Decoder:
        """Search with one worker of so many threads."""
        import ctranslate2

        translator = ctranslate2.Translator(
            str(self.folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )
        length = self.length

        def decode(inputs: list[list[str]]) -> Any:
            return translator.translate_batch(
                inputs,
                beam_size=beam,
                max_batch_size=batch,
                min_decoding_length=length,
                max_decoding_length=length,
            )

        return decode

    def lengths(self, outputs: Any) -> list[int]:
        """Tokens of the best output of each sentence."""
        return [len(found.hypotheses[0]) for found in outputs]


KINDS: dict[str, Callable[[dict[str, Any], dict[str, int], Path], Any]] = {
    "seqsru": SeqsruSystem,
    "ctranslate2": CTranslate2System,
    "marian": MarianSystem,
}


class Worker:
    """The systems of one kind, made and called when they are asked for."""

    def __init__(self, kind: str, models: dict[str, dict[str, Any]], sizes: dict[str, int], folder: Path):
        self.make, self.models, self.sizes, self.folder = KINDS[kind], models, sizes, folder
        self.systems: dict[str, Any] = {}
        self.inputs: dict[tuple[str, int], list[Any]] = {}
        self.decoders: dict[tuple[str, int, int, int], Decoder] = {}
        draw = random.Random(SEED).randrange
        words = sizes["source"] - 1
        self.pool = [[draw(FIRST_WORD, sizes["vocabulary"]) for _ in range(words)] for _ in range(POOL)]

    def ask(self, system: str, threads: int, batch: int, beam: int, count: int) -> dict[str, Any]:
        """Decode one batch before the clock runs and `count` under it."""
        if system not in self.systems:
            folder = self.folder / str(len(self.systems))
            self.systems[system] = self.make(self.models[system], self.sizes, folder)
        made = self.systems[system]
        if (system, batch) not in self.inputs:
            starts = range(0, POOL - batch + 1, batch)
            self.inputs[system, batch] = [made.prepare(self.pool[at : at + batch]) for at in starts]
        if (system, threads, batch, beam) not in self.decoders:
            self.decoders[system, threads, batch, beam] = made.decoder(threads, batch, beam)
        inputs, decode = self.inputs[system, batch], self.decoders[system, threads, batch, beam]
        decode(inputs[-1])
        outputs = []
        cpu, start = time.process_time(), time.perf_counter()
        for number in range(count):
            outputs.append(decode(inputs[number % len(inputs)]))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        lengths = [length for output in outputs for length in made.lengths(output)]
        return {"seconds": seconds, "cpu": cpu, "sentences": len(lengths), "lengths": sorted(set(lengths))}


def serve(kind: str, folder: str) -> None:
    """Answer each line of the standard input by one of the standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(kind, **json.loads(sys.stdin.readline()), folder=Path(folder))
    for line in sys.stdin:
        try:
            answer = worker.ask(**json.loads(line))
        except Exception as error:  # the other side says which system is left out, and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
