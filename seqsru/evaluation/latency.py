"""How long one token takes: a clock on both sides of every step of the decoder that users call.

Nothing here decodes. For the time of a measurement, a model's ``begin`` and ``step`` are replaced by
themselves with a clock around them, and the pipeline's own ``translate`` or ``generate`` is called, one line
at a time. So the search, the reordering of beams and the text handling are those of every user.

Five times are kept apart, in milliseconds:

``first_token``   from the start of ``begin`` (reading the source or the prompt) to the end of the first step
``later_tokens``  from the end of one step to the end of the next: the search's own work and the model's step
``model_steps``   the step of the model alone, without the first
``encoding``      ``begin`` alone
``sentences``     text in to text out, in calls of their own, without any clock inside
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch

from seqsru.evaluation.clock import Target, now, watched
from seqsru.evaluation.environment import environment, weights_hash
from seqsru.evaluation.language import LanguagePipeline
from seqsru.evaluation.translation import Translation, TranslationPipeline

TIMES = ("first_token", "later_tokens", "model_steps", "encoding", "sentences")


def measure(
    targets: Sequence[Target],
    lines: Sequence[str],
    *,
    length: int | None = None,
    repeats: int = 3,
    warmup: int = 3,
    threads: int = 1,
) -> dict[str, Any]:
    """Measure one decoder, or two by turns, at batch 1.

    Parameters
    ----------
    targets : sequence of Target
        One decoder, or two that are compared. Two take turns line by line, and the first to go changes.
    lines : sequence of str
        Lines to decode, one at a time; empty lines are left out.
    length : int or None
        Forced-length mode: every line gives exactly this many tokens, its end included. None: natural mode.
    repeats : int
        Passes over the lines that count; two or more to compare.
    warmup : int
        Lines decoded before that, which do not count; the report says how many lines and steps they were.
    threads : int
        Threads of torch (and of the kernels, which follow it) during the measurement. At batch 1 one thread
        is as fast as several, and steadier.

    Returns
    -------
    dict
        JSON-able report: ``protocol``, ``environment``, ``systems`` (for each the times named at the top of
        this module: n, mean, p50, p90, p99, max and the percentiles 0 to 100, in milliseconds) and ``ratio``
        (None for one decoder).

    Raises
    ------
    ValueError
        No line to decode, a count below its least value, or no line that gave a second token.
    """
    lines = [line for line in lines if line.strip()]
    _check(len(targets) in (1, 2), "one or two systems", len(targets), "compare two at a time")
    _check(len(lines) > 0, "a line with text in it", "none", "give it the sentences that it shall decode")
    _check(repeats >= len(targets), f"{len(targets)} or more repeats", repeats, "raise repeats")
    _check(warmup >= 1, "1 or more warm-up lines", warmup, "the first call compiles and allocates")
    _check(length is None or length >= 2, "a forced length of 2 or more", length, "the first is kept apart")
    _check(threads >= 1, "1 or more threads", threads, "raise threads")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        surroundings = environment(next(targets[0].model.parameters()).device)
        warmups = [_warm_up(target, lines, length, warmup) for target in targets]
        passes: list[list[dict[str, list[int]]]] = [[] for _ in targets]
        for repeat in range(repeats):
            for gathered in passes:
                gathered.append({name: [] for name in TIMES})
            for i, line in enumerate(lines):
                turns = list(enumerate(targets))
                for which, target in turns[::-1] if (repeat + i) % 2 else turns:
                    _time_line(target, line, length, passes[which][-1])
    finally:
        torch.set_num_threads(threads_before)
    return {
        "protocol": {
            "mode": "natural" if length is None else "forced",
            "length": length,
            "batch": 1,
            "unit": "ms",
            "lines": len(lines),
            "repeats": repeats,
            "warmup_lines": warmup,
            "threads": threads,
            "clock": "perf_counter_ns",
            "turns": "line by line" if len(targets) == 2 else None,
        },
        "environment": surroundings,
        "systems": [
            _system(target, steps, gathered) for target, steps, gathered in zip(targets, warmups, passes)
        ],
        "ratio": _ratio(targets, passes) if len(targets) == 2 else None,
    }


def language_target(name: str, pipeline: LanguagePipeline) -> Target:
    """Measure ``generate``: each line is a prompt, and the same draw continues it every time."""

    def decode(line: str, length: int | None) -> list[str]:
        return pipeline.generate(line) if length is None else pipeline.generate(line, max_length=length)

    return Target(name, pipeline.model, pipeline.tokenizer.eos, "sampling", decode)


def translation_target(name: str, pipeline: TranslationPipeline, beam: int | None = None) -> Target:
    """Measure ``translate`` with the pipeline's own settings, or another beam."""
    width = pipeline.decoding.beam if beam is None else beam

    def decode(line: str, length: int | None) -> list[Translation]:
        if length is None:
            return pipeline.translate([line], beam=width, n_best=1)
        return pipeline.translate([line], beam=width, n_best=1, length_factor=0.0, length_offset=length)

    return Target(name, pipeline.model, pipeline.target_tokenizer.eos, f"beam {width}", decode)


def summary(nanoseconds: Sequence[int]) -> dict[str, Any]:
    """n, mean, P50, P90, P99, max and all percentiles of a list of times, in milliseconds.

    Percentiles interpolate linearly between the two nearest of the sorted times, as numpy's do by default.
    """
    times = sorted(nanoseconds)

    def at(percent: float) -> float:
        place = (len(times) - 1) * percent / 100
        low = int(place)
        high = min(low + 1, len(times) - 1)
        return (times[low] + (times[high] - times[low]) * (place - low)) / 1e6

    return {
        "n": len(times),
        "mean": sum(times) / len(times) / 1e6,
        "p50": at(50),
        "p90": at(90),
        "p99": at(99),
        "max": times[-1] / 1e6,
        "percentiles": [at(percent) for percent in range(101)],
    }


def table(report: dict[str, Any]) -> str:
    """Lay a report out for people: one row a time, one block a system, the environment below."""
    protocol, surroundings = report["protocol"], report["environment"]
    rows = [f"{'milliseconds, batch 1':<36}{'n':>7}{'mean':>9}{'P50':>9}{'P90':>9}{'P99':>9}{'max':>9}"]
    for system in report["systems"]:
        rows.append(
            f"{system['name']} ({system['decoder']}, {system['parameters'] / 1e6:.2f} M parameters, "
            f"weights {system['weights']})"
        )
        for name in TIMES:
            times = system[name]
            rows.append(
                f"  {name.replace('_', ' '):<34}{times['n']:>7}"
                + "".join(f"{times[key]:>9.3f}" for key in ("mean", "p50", "p90", "p99", "max"))
            )
    if report["ratio"] is not None:
        for name, ratio in report["ratio"]["p50"].items():
            rows.append(
                f"{report['ratio']['of']} / {report['ratio']['to']}, P50 of {name.replace('_', ' ')}: "
                f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f} in "
                f"{len(ratio['repeats'])} repeats)"
            )
    mode = "natural length" if protocol["length"] is None else f"forced length {protocol['length']}"
    rows.append(
        f"{mode}, {protocol['lines']} lines x {protocol['repeats']} repeats after "
        f"{protocol['warmup_lines']} warm-up lines "
        f"({', '.join(str(system['warmup_steps']) for system in report['systems'])} steps)"
    )
    rows.append(
        f"{surroundings['device_name']}, {protocol['threads']} thread(s) of {surroundings['cores']} "
        f"cores, load {surroundings['load_average']}, torch {surroundings['versions'].get('torch')}"
    )
    return "\n".join(rows) + "\n"


def _check(holds: bool, expected: str, found: object, hint: str) -> None:
    if not holds:
        raise ValueError(f"latency: expected {expected}, found {found}; {hint}.")


def _warm_up(target: Target, lines: Sequence[str], length: int | None, warmup: int) -> int:
    """Decode the first lines, around again where there are too few, and count the steps."""
    with watched(target, length) as calls:
        for i in range(warmup):
            target.decode(lines[i % len(lines)], length)
    return sum(len(call.steps) for call in calls)


def _time_line(target: Target, line: str, length: int | None, gathered: dict[str, list[int]]) -> None:
    """Decode a line twice, bare and then with the clock inside, and add its times to the lists."""
    device = next(target.model.parameters()).device
    with nullcontext() if length is None else watched(target, length, timed=False):
        start = now(device)
        target.decode(line, length)
        gathered["sentences"].append(now(device) - start)
    with watched(target, length) as calls:
        target.decode(line, length)
    for call in calls:
        gathered["first_token"].append(call.first_token())
        gathered["later_tokens"] += call.later_tokens()
        gathered["model_steps"] += call.model_steps()
        gathered["encoding"].append(call.begin[1] - call.begin[0])


def _system(target: Target, warmup_steps: int, passes: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    times = {name: [ns for gathered in passes for ns in gathered[name]] for name in TIMES}
    _check(
        len(times["later_tokens"]) > 0,
        f"a line of two tokens or more from {target.name}",
        "none",
        "choose other lines or a forced length",
    )
    return {
        "name": target.name,
        "decoder": target.decoder,
        "weights": weights_hash(target.model),
        "parameters": sum(parameter.numel() for parameter in target.model.parameters()),
        "steps": len(times["first_token"]) + len(times["later_tokens"]),
        "warmup_steps": warmup_steps,
        **{name: summary(times[name]) for name in TIMES},
    }


def _ratio(targets: Sequence[Target], passes: Sequence[list[dict[str, list[int]]]]) -> dict[str, Any]:
    """Second system's P50 over the first's, repeat by repeat, and its spread."""
    medians = {}
    for name in ("first_token", "later_tokens", "sentences"):
        ratios = [summary(new[name])["p50"] / summary(base[name])["p50"] for base, new in zip(*passes)]
        ordered = sorted(ratios)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        medians[name] = {"median": middle, "min": ordered[0], "max": ordered[-1], "repeats": ratios}
    return {"of": targets[1].name, "to": targets[0].name, "p50": medians}
