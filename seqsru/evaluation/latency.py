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

A decoder without steps, such as a classifier, has the last two; its ``encoding`` is the call of its model.
Of one that reads audio the report has the real-time factor too: ``sentences`` over the length of the audio.

The compiled engine reads the clock itself, inside the one call that decodes a line: before it reads the
source, before each step and at the end. A token then ends with the search's work on it, and ``model_steps``
is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from seqsru.errors import Refused, check_at_least, check_threads
from seqsru.evaluation.clock import Readings, TimedDecoder, now, watched
from seqsru.evaluation.environment import environment, weights_hash
from seqsru.evaluation.latency_report import (
    TIMES,
    Audio,
    LatencyReport,
    Ratio,
    Spread,
    SystemReport,
    TimeName,
    Times,
    summary,
)

STEPLESS: tuple[TimeName, ...] = ("encoding", "sentences")  # the times of a decoder without steps
INSIDE: tuple[TimeName, ...] = ("first_token", "later_tokens", "encoding", "sentences")  # of an engine
COMPARED: tuple[TimeName, ...] = ("first_token", "later_tokens", "sentences")

Gathered = dict[TimeName, list[int]]  # nanoseconds


def measure(
    decoders: Sequence[TimedDecoder],
    lines: Sequence[str],
    *,
    length: int | None = None,
    repeats: int = 3,
    warmup: int = 3,
    threads: int = 1,
) -> LatencyReport:
    """Measure one decoder, or two by turns, at batch 1.

    Parameters
    ----------
    decoders : sequence of TimedDecoder
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
        is as fast as several, and steadier; the compiled engine decodes a line on one.

    Returns
    -------
    LatencyReport
        JSON-able.

    Raises
    ------
    Refused
        No line to decode, a count below its least value, no line that gave a second token, a forced length
        for a decoder without steps or with guards, or several threads for the compiled engine.
    """
    lines = [line for line in lines if line.strip()]
    _check(decoders, lines, length, repeats)
    check_at_least(1, warmup=warmup, threads=threads)
    check_threads(threads=threads)
    if threads > 1 and (inside := [decoder.name for decoder in decoders if decoder.clocked is not None]):
        why = "leave it out, or measure torch alone"
        raise Refused(
            f"1 for {inside[0]}, whose engine decodes a line on one thread", threads, why, "threads"
        )
    with _threads(threads, any(decoder.clocked is None for decoder in decoders)):
        surroundings = environment(decoders[0].device)
        warmups = [_warm_up(decoder, lines, length, warmup) for decoder in decoders]
        passes: list[list[Gathered]] = [[] for _ in decoders]
        for repeat in range(repeats):
            for decoder, gathered in zip(decoders, passes):
                gathered.append({name: [] for name in _times(decoder)})
            for i, line in enumerate(lines):
                turns = list(enumerate(decoders))
                for which, decoder in turns[::-1] if (repeat + i) % 2 else turns:
                    _time_line(decoder, line, length, passes[which][-1])
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
            "turns": "line by line" if len(decoders) == 2 else None,
        },
        "environment": surroundings,
        "systems": [
            _system(decoder, steps, gathered, lines)
            for decoder, steps, gathered in zip(decoders, warmups, passes)
        ],
        "ratio": _ratio(decoders, passes) if len(decoders) == 2 else None,
    }


@contextmanager
def _threads(threads: int, torchs: bool) -> Iterator[None]:
    """Give torch so many threads until the context ends, if it is to decode."""
    if not torchs:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(decoders: Sequence[TimedDecoder], lines: Sequence[str], length: int | None, repeats: int) -> None:
    """Refuse what cannot be measured or compared."""
    stepless = [decoder.name for decoder in decoders if decoder.eos is None]
    if len(decoders) not in (1, 2):
        raise Refused("one or two systems", len(decoders), "compare two at a time", "decoders")
    if len(stepless) == 1 and len(decoders) == 2:
        raise Refused(
            "two with steps or two without",
            f"{stepless[0]} alone without any",
            "compare like with like",
            "decoders",
        )
    if not lines:
        raise Refused("a line with text in it", "none", "give the sentences that shall be decoded", "lines")
    if repeats < len(decoders):
        why = "raise it" if len(decoders) == 1 else "a ratio of two systems needs a spread"
        raise Refused(f"at least {len(decoders)}", repeats, why, "repeats")
    if length is not None and stepless:
        raise Refused(f"none for {stepless[0]}, which gives no tokens", length, "leave it out", "length")
    if length is not None and length < 2:
        raise Refused("at least 2", length, "the first token is kept apart from the later ones", "length")
    guards = [str(decoder.settings.get("guard", "none")) for decoder in decoders]
    if length is not None and (guard := next((one for one in guards if one != "none"), None)):
        why = "take --guard none, or leave the length out"
        raise Refused("no guard beside a forced length, which it would mend", guard, why, "length")


def _times(decoder: TimedDecoder) -> tuple[TimeName, ...]:
    """The names of the times that a decoder has."""
    if decoder.clocked is not None:
        return INSIDE
    return STEPLESS if decoder.eos is None else TIMES


def _warm_up(decoder: TimedDecoder, lines: Sequence[str], length: int | None, warmup: int) -> int:
    """Decode the first lines, around again where there are too few, and count the steps."""
    calls = [call for i in range(warmup) for call in _clocked(decoder, lines[i % len(lines)], length)]
    return sum(len(call.steps) for call in calls)


def _clocked(decoder: TimedDecoder, line: str, length: int | None) -> list[Readings]:
    """Decode a line with the clock inside."""
    if decoder.clocked is not None:
        return decoder.clocked(line, length)
    with watched(decoder, length) as calls:
        decoder.decode(line, length)
    return calls


def _time_line(decoder: TimedDecoder, line: str, length: int | None, gathered: Gathered) -> None:
    """Decode a line twice, bare and then with the clock inside, and add its times to the lists."""
    device = decoder.device
    free = length is None or decoder.clocked is not None
    with nullcontext() if free else watched(decoder, length, timed=False):
        start = now(device)
        decoder.decode(line, length)
        gathered["sentences"].append(now(device) - start)
    for call in _clocked(decoder, line, length):
        gathered["encoding"].append(call.begin[1] - call.begin[0])
        if call.steps:
            gathered["first_token"].append(call.first_token())
            gathered["later_tokens"] += call.later_tokens()
            if "model_steps" in gathered:
                gathered["model_steps"] += call.model_steps()


def _system(
    decoder: TimedDecoder, warmup_steps: int, passes: Sequence[Gathered], lines: Sequence[str]
) -> SystemReport:
    times = {name: [ns for gathered in passes for ns in gathered[name]] for name in _times(decoder)}
    steps = 0
    if decoder.eos is not None:
        if not times["later_tokens"]:
            raise Refused(
                f"a line of two tokens or more from {decoder.name}",
                "none",
                "choose other lines or a forced length",
                "lines",
            )
        steps = len(times["first_token"]) + len(times["later_tokens"])
    summaries: Times = {}
    for name, nanoseconds in times.items():
        summaries[name] = summary(nanoseconds)
    weights, count = decoder.weights, decoder.parameters
    if decoder.model is not None:
        weights = weights_hash(decoder.model)
        count = sum(parameter.numel() for parameter in decoder.model.parameters())
    audio: Audio = {}
    if decoder.seconds is not None:
        seconds = math.fsum(map(decoder.seconds, lines))
        taken = sum(times["sentences"]) / 1e9 / len(passes)
        audio = {"audio_seconds": seconds, "real_time_factor": taken / seconds}
    return {
        "name": decoder.name,
        "decoder": ", ".join(filter(None, [decoder.decoder, decoder.engine])),
        "weights": weights,
        "parameters": count,
        "steps": steps,
        "warmup_steps": warmup_steps,
        **summaries,
        **audio,
    }


def _ratio(decoders: Sequence[TimedDecoder], passes: Sequence[list[Gathered]]) -> Ratio:
    """Second system's P50 over the first's, repeat by repeat, and its spread."""
    medians: dict[TimeName, Spread] = {}
    for name in (name for name in COMPARED if name in _times(decoders[0])):
        ratios = [summary(new[name])["p50"] / summary(base[name])["p50"] for base, new in zip(*passes)]
        ordered = sorted(ratios)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        medians[name] = {"median": middle, "min": ordered[0], "max": ordered[-1], "repeats": ratios}
    return {"of": decoders[1].name, "to": decoders[0].name, "p50": medians}
