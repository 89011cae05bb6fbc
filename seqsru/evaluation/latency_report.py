"""The report of a latency measurement: what it holds, and how it is laid out for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from seqsru.evaluation.environment import Environment

TimeName = Literal["first_token", "later_tokens", "model_steps", "encoding", "sentences"]
TIMES: tuple[TimeName, ...] = ("first_token", "later_tokens", "model_steps", "encoding", "sentences")


class Summary(TypedDict):
    """A list of times in short, in milliseconds but for their number `n`."""

    n: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    percentiles: list[float]


class Times(TypedDict, total=False):
    """The times of :mod:`seqsru.evaluation.latency`; a decoder without steps has the last two alone.

    One that is timed from inside has no `model_steps`.
    """

    first_token: Summary
    later_tokens: Summary
    model_steps: Summary
    encoding: Summary
    sentences: Summary


class Audio(TypedDict, total=False):
    """Of a decoder of audio: seconds of the recordings, and the time that their text took over that."""

    audio_seconds: float
    real_time_factor: float


class SystemReport(Times, Audio):
    """What was measured of one decoder; `steps` counts its tokens, in the repeats and in the warm-up.

    A file that does not say which weights it was made of, or how many, leaves None.
    """

    name: str
    decoder: str
    weights: str | None
    parameters: int | None
    steps: int
    warmup_steps: int


class Conditions(TypedDict):
    """How it was measured: `mode` is natural or forced (to `length` tokens), `turns` None for one decoder."""

    mode: str
    length: int | None
    batch: int
    unit: str
    lines: int
    repeats: int
    warmup_lines: int
    threads: int
    clock: str
    turns: str | None


class Spread(TypedDict):
    """The ratios of the repeats, and their median, least and greatest."""

    median: float
    min: float
    max: float
    repeats: list[float]


class Ratio(TypedDict):
    """The P50 of the second decoder, `of`, over that of the first, `to`, by the name of the time."""

    of: str
    to: str
    p50: dict[TimeName, Spread]


class LatencyReport(TypedDict):
    """What `measure` gives: plain values that JSON can write; `ratio` is None for one decoder."""

    protocol: Conditions
    environment: Environment
    systems: list[SystemReport]
    ratio: Ratio | None


def summary(nanoseconds: Sequence[int]) -> Summary:
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


def table(report: LatencyReport) -> str:
    """Lay a report out for people: one row a time, one block a system, the environment below."""
    protocol, surroundings = report["protocol"], report["environment"]
    rows = [f"{'milliseconds, batch 1':<36}{'n':>7}{'mean':>9}{'P50':>9}{'P90':>9}{'P99':>9}{'max':>9}"]
    for system in report["systems"]:
        about = [system["decoder"]]
        if system["parameters"] is not None:
            about.append(f"{system['parameters'] / 1e6:.2f} M parameters")
        if system["weights"] is not None:
            about.append(f"weights {system['weights']}")
        rows.append(f"{system['name']} ({', '.join(about)})")
        for name in TIMES:
            if name in system:
                times = system[name]
                values = (times["mean"], times["p50"], times["p90"], times["p99"], times["max"])
                rows.append(
                    f"  {name.replace('_', ' '):<34}{times['n']:>7}"
                    + "".join(f"{value:>9.3f}" for value in values)
                )
        if "real_time_factor" in system:
            rows.append(
                f"  real-time factor {system['real_time_factor']:.4f}: "
                f"{1000.0 * system['real_time_factor']:.2f} ms a second of audio, of which there are "
                f"{system['audio_seconds']:.1f}"
            )
    if report["ratio"] is not None:
        for compared, ratio in report["ratio"]["p50"].items():
            rows.append(
                f"{report['ratio']['of']} / {report['ratio']['to']}, P50 of {compared.replace('_', ' ')}: "
                f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f} in "
                f"{len(ratio['repeats'])} repeats)"
            )
    mode = "natural length" if protocol["length"] is None else f"forced length {protocol['length']}"
    steps = f" ({', '.join(str(system['warmup_steps']) for system in report['systems'])} steps)"
    if "first_token" not in report["systems"][0]:
        mode, steps = "no steps", ""
    rows.append(
        f"{mode}, {protocol['lines']} lines x {protocol['repeats']} repeats after "
        f"{protocol['warmup_lines']} warm-up lines{steps}"
    )
    rows.append(
        f"{surroundings['device_name']}, {protocol['threads']} thread(s) of {surroundings['cores']} "
        f"cores, load {surroundings['load_average']}, torch {surroundings['versions'].get('torch')}"
    )
    return "\n".join(rows) + "\n"
