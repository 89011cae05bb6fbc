"""A clock on both sides of each step of a decoder, put there for the time of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch takes a second to import, and the engine is timed without it
    import torch


@dataclass(frozen=True)
class TimedDecoder:
    """A decoder to measure.

    Attributes
    ----------
    name : str
        What the report calls it.
    model : Module
        Has ``begin`` and ``step``; both are looked up on this object each time `decode` needs them. Without
        steps, a line is one call of the model.
    eos : int or None
        Output that ends a sentence; a forced length forbids it until the last token. None: there are no
        steps, as in a classifier.
    decoder : str
        How it decodes, for people: ``beam 5``.
    decode : callable
        ``decode(line, length)`` decodes one line of text to text. `length` is None, or the number of tokens,
        the end included, that the search may give at most.
    settings : mapping of str to object
        What a signature says of how it decodes.
    engine : str or None
        What decodes, for people, if not torch: ``compiled int8``.
    clocked : callable or None
        Of a decoder with a clock of its own inside: ``clocked(line, length)`` decodes a line and gives the
        readings. It and `decode` then see to a forced length themselves, and `model` may be None.
    weights, parameters : str and int, or None
        What a report says of the model where `model` is None.
    seconds : callable or None
        Of a decoder of audio: ``seconds(line)`` is how long the recording of a line lasts.
    reading : str
        Method of a model without steps that reads a line.
    forced : TimedDecoder or None
        The decoder to measure in its place where a length is forced, if not itself.
    """

    name: str
    model: Any
    eos: int | None
    decoder: str
    decode: Callable[[str, int | None], object]
    settings: Mapping[str, object] = field(default_factory=dict)
    engine: str | None = None
    clocked: Callable[[str, int | None], list[Readings]] | None = None
    weights: str | None = None
    parameters: int | None = None
    seconds: Callable[[str], float] | None = None
    reading: str = "forward"
    forced: TimedDecoder | None = None

    @property
    def device(self) -> torch.device | None:
        """Where the model's parameters are; None for an engine, which is on the CPU."""
        if self.clocked is not None:
            return None
        device: torch.device = next(self.model.parameters()).device
        return device


@dataclass
class Readings:
    """Clock readings of one decoded line, in nanoseconds.

    Attributes
    ----------
    begin : tuple of int
        Start and end of ``begin``, or of the call of a model without steps.
    steps : list of tuple of int
        Start and end of each step, and how long the meter itself kept the search waiting after it.
    """

    begin: tuple[int, int]
    steps: list[tuple[int, int, int]] = field(default_factory=list)

    @classmethod
    def inside(cls, readings: Sequence[int]) -> Readings:
        """Of a decoder's own clock: before it reads the source, before each step, and at the end."""
        begin, *steps = zip(readings, readings[1:])
        return cls(begin, [(start, end, 0) for start, end in steps])

    def first_token(self) -> int:
        """Nanoseconds from the start of ``begin`` to the end of the first step."""
        return self.steps[0][1] - self.begin[0]

    def later_tokens(self) -> list[int]:
        """Nanoseconds from the end of each step to the end of the next, without the meter's own time."""
        return [end - last - pause for (_, last, pause), (_, end, _) in zip(self.steps, self.steps[1:])]

    def model_steps(self) -> list[int]:
        """Nanoseconds inside each step but the first."""
        return [end - start for start, end, _ in self.steps[1:]]


@contextmanager
def watched(decoder: TimedDecoder, length: int | None, timed: bool = True) -> Iterator[list[Readings]]:
    """Put a clock around ``begin`` and ``step`` of a decoder's model until the context ends.

    Of a model without steps, what reads a line takes the place of ``begin``.

    Parameters
    ----------
    decoder : TimedDecoder
        Decoder whose model is watched.
    length : int or None
        Forced number of tokens: the end is forbidden before it. None: the model ends where it wants.
    timed : bool
        False leaves the clock and the synchronisation out; a forced length still holds.

    Yields
    ------
    list of Readings
        One entry a call of ``begin``, filled as the decoder runs; zeros where `timed` is False.
    """
    model, device = decoder.model, decoder.device
    calls: list[Readings] = []
    tokens = 0

    def read() -> int:
        return now(device) if timed else 0

    def timed_reading(read_source: Callable[..., Any]) -> Callable[..., Any]:
        def timed_begin(*arguments: object, **options: object) -> Any:
            nonlocal tokens
            tokens = 0
            start = read()
            result = read_source(*arguments, **options)
            calls.append(Readings((start, read())))
            return result

        return timed_begin

    def timed_stepping(step: Callable[..., Any], eos: int) -> Callable[..., Any]:
        import torch

        end_token = torch.tensor([eos], device=device)

        def timed_step(*arguments: object, **options: object) -> Any:
            nonlocal tokens
            tokens += 1
            start = read()
            log_probs, attention, state = step(*arguments, **options)
            end = read()
            if length is not None and tokens < length:
                log_probs = log_probs.index_fill(1, end_token, float("-inf"))
            calls[-1].steps.append((start, end, read() - end))
            return log_probs, attention, state

        return timed_step

    if decoder.eos is None:
        clocks = {decoder.reading: timed_reading(getattr(model, decoder.reading))}
    else:
        from seqsru.models.replay import stepper

        # On a GPU the step that users wait for is a CUDA graph: the clock stands around that.
        step, attending = stepper(model), stepper(model, with_attention=True)

        def stepping(
            tokens: Any, memory: Any, state: Any, with_attention: bool = False
        ) -> tuple[Any, Any, Any]:
            return (attending if with_attention else step)(tokens, memory, state)

        clocks = {"begin": timed_reading(model.begin), "step": timed_stepping(stepping, decoder.eos)}
    for name, clock in clocks.items():
        setattr(model, name, clock)  # found on the object before the methods of its class
    try:
        yield calls
    finally:
        for name in clocks:
            delattr(model, name)


def now(device: torch.device | None) -> int:
    """Nanoseconds on the clock once the device has done all it was given."""
    if device is not None and device.type != "cpu":
        import torch

        torch.accelerator.synchronize(device)
    return perf_counter_ns()
