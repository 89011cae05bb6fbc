"""A model of Marian with random weights, for tools/decoding_systems.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 1
Sentences = list[list[int]]
Decoder = Callable[[Any], Any]


class MarianSystem:
    """A student of Marian: a Transformer's encoder, a decoder of SSRU layers, one embedding, in int8."""

    FFN, HEADS = 1536, 8

    def __init__(self, model: dict[str, Any], sizes: dict[str, int], folder: Path) -> None:
        import _pymarian
        import numpy as np

        folder.mkdir()
        V = sizes["vocabulary"]
        arrays = self._arrays(V, model["width"], model["encoder"], model["decoder"])
        settings = {
            "version": "v1.12.0",
            "type": "transformer",
            "dim-vocabs": [V, V],
            "dim-emb": model["width"],
            "enc-depth": model["encoder"],
            "dec-depth": model["decoder"],
            "dec-cell": "ssru",
            "transformer-decoder-autoreg": "rnn",
            "transformer-dim-ffn": self.FFN,
            "transformer-ffn-depth": 2,
            "transformer-ffn-activation": "relu",
            "transformer-heads": self.HEADS,
            "transformer-no-projection": False,
            "transformer-preprocess": "",
            "transformer-postprocess": "dan",
            "transformer-postprocess-emb": "d",
            "transformer-train-positions": False,
            "transformer-tied-layers": [],
            "transformer-guided-alignment-layer": "last",
            "layer-normalization": False,
            "tied-embeddings-all": True,
            "tied-embeddings": False,
            "tied-embeddings-src": False,
            "input-types": [],
            "ulr": False,
            "lemma-dim-emb": 0,
        }
        # Marian reads YAML, of which JSON is a part, up to a zero.
        arrays["special:model.yml"] = np.frombuffer(json.dumps(settings).encode() + b"\0", np.int8)
        full, packed, vocabulary = (folder / name for name in ("full.npz", "packed.bin", "words.yml"))
        np.savez(full, **arrays)
        words = ["</s>", "<unk>", *(f"w{word}" for word in range(2, V))]
        vocabulary.write_text("".join(f'"{word}": {number}\n' for number, word in enumerate(words)))
        code = _pymarian.main(["convert", "-f", str(full), "-t", str(packed), "-g", instructions()])
        if code:
            raise RuntimeError(f"marian convert ended with {code}")
        full.unlink()
        files = f"--models {packed} --vocabs {vocabulary} {vocabulary}"
        # The end cannot win, so an output ends where its length reaches the source's times the factor.
        factor = (sizes["target"] - 0.5) / sizes["source"]
        self.options = f"{files} --maxi-batch 1 --max-length-factor {factor:.6f} --quiet --quiet-translation"

    def _arrays(self, V: int, D: int, encoder: int, decoder: int) -> dict[str, Any]:
        """Random weights under Marian's names."""
        import numpy as np

        rng, arrays = np.random.default_rng(SEED), {}

        def product(name: str, suffix: str, inputs: int, outputs: int) -> None:
            weight = rng.standard_normal((inputs, outputs)) * inputs**-0.5
            arrays[f"{name}_W{suffix}"] = weight.astype(np.float32)
            arrays[f"{name}_b{suffix}"] = np.zeros((1, outputs), np.float32)

        def norm(name: str) -> None:
            arrays[f"{name}_ln_scale"] = np.ones((1, D), np.float32)
            arrays[f"{name}_ln_bias"] = np.zeros((1, D), np.float32)

        def attention(name: str) -> None:
            for suffix in "qkvo":
                product(name, suffix, D, D)
            norm(f"{name}_Wo")

        def feed_forward(name: str) -> None:
            product(name, "1", D, self.FFN)
            product(name, "2", self.FFN, D)
            norm(f"{name}_ffn")

        for layer in range(1, encoder + 1):
            attention(f"encoder_l{layer}_self")
            feed_forward(f"encoder_l{layer}_ffn")
        for layer in range(1, decoder + 1):
            name = f"decoder_l{layer}_rnn"
            product(name, "", D, D)
            del arrays[f"{name}_b"]
            product(name, "f", D, D)
            norm(f"{name}_ffn")
            attention(f"decoder_l{layer}_context")
            feed_forward(f"decoder_l{layer}_ffn")
        arrays["Wemb"] = (rng.standard_normal((V, D)) * D**-0.5).astype(np.float32)
        bias = np.zeros((1, V), np.float32)
        bias[0, 0] = -1e4  # the end
        arrays["decoder_ff_logit_out_b"] = bias
        return arrays

    def prepare(self, sentences: Sentences) -> str:
        """Give the words by name, a line a sentence; Marian adds the end."""
        return "\n".join(" ".join(f"w{word}" for word in words) for words in sentences)

    def decoder(self, threads: int, batch: int, beam: int) -> Decoder:
        """Search; a thread of Marian is one more batch at once, and none makes one batch faster."""
        import _pymarian

        cost = " --skip-cost" if beam == 1 else ""
        return _pymarian.Translator(
            f"{self.options} --cpu-threads {threads} --mini-batch {batch} --beam-size {beam}{cost}"
        ).translate

    def lengths(self, outputs: str) -> list[int]:
        """Tokens of each line."""
        return [len(line.split()) for line in outputs.split("\n")]


def instructions() -> str:
    """Name the fastest of Marian's int8 products that this processor has."""
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    for flag, name in (("avx512_vnni", "avx512vnni"), ("avx512bw", "avx512"), ("avx2", "avx2")):
        if flag in flags:
            return f"intgemm8{name}"
    return "intgemm8ssse3"
