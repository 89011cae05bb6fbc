"""A recording that arrives in pieces, and what was said in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
import torch

from seqsru.cells import State
from seqsru.data.features import FilterbankStream
from seqsru.data.frontend import FrontendStream
from seqsru.data.speech_batches import padded_inputs
from seqsru.data.utterances import Frames
from seqsru.decoding.ctc import BestPath, PrefixBeam
from seqsru.errors import Refused

if TYPE_CHECKING:
    from seqsru.pipelines.recognition import RecognitionPipeline


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    Attributes
    ----------
    text : str
        The best text.
    score, log_prob : float
        As those of `CtcHypothesis`.
    alternatives : tuple of Transcript
        Further texts, best first, where they were asked for.
    """

    text: str
    score: float
    log_prob: float
    alternatives: tuple[Transcript, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        own: dict[str, object] = {"text": self.text, "score": self.score, "log_prob": self.log_prob}
        further = [one.as_dict() for one in self.alternatives]
        return {**own, "alternatives": further} if further else own


class RecognitionStream:
    """One recording, which `RecognitionPipeline.stream` begins.

    On a CPU in float32 the text is that of the whole.

    Parameters
    ----------
    pipeline : RecognitionPipeline
    audio : FilterbankStream or None
        Where what arrives is audio.
    steps : FrontendStream
    search : BestPath or PrefixBeam
    n_best : int
        Texts that `finish` gives.
    """

    def __init__(
        self,
        pipeline: RecognitionPipeline,
        audio: FilterbankStream | None,
        steps: FrontendStream,
        search: BestPath | PrefixBeam,
        n_best: int,
    ) -> None:
        self._pipeline, self._audio, self._steps, self._search = pipeline, audio, steps, search
        self._n_best = n_best
        self._state: State | None = None
        self._finished = False

    def feed(self, piece: Frames) -> str:
        """Take what has arrived, and give the text so far, which later pieces may still change.

        Parameters
        ----------
        piece : float32 ndarray
            Samples (n,) of a model of audio, as soundfile reads them; frames (T, F) of one of feature files.
        """
        self._check(piece)
        self._read(self._audio.feed(piece) if self._audio is not None else piece, end=False)
        return self._pipeline.transcript(self._search.best()).text

    def finish(self) -> Transcript:
        """The text of the whole; nothing can be fed after it."""
        if self._finished:
            raise Refused("a recording that goes on", "one that is finished", "begin another")
        self._finished = True
        none = numpy.empty((0, self._pipeline.source.size), dtype=numpy.float32)
        self._read(self._audio.finish() if self._audio is not None else none, end=True)
        return self._pipeline.transcript(self._search.best(self._n_best))

    def _check(self, piece: Frames) -> None:
        if self._finished:
            raise Refused("a recording that goes on", "one that is finished", "begin another")
        size = self._pipeline.source.size
        expected = "samples of shape (n,)" if self._audio is not None else f"frames of shape (T, {size})"
        shape = piece.shape if isinstance(piece, numpy.ndarray) else type(piece).__name__
        fits = isinstance(piece, numpy.ndarray) and (
            piece.ndim == 1 if self._audio is not None else piece.shape[1:] == (size,)
        )
        if not fits or piece.dtype != numpy.float32:
            found = f"{shape} of {piece.dtype}" if isinstance(piece, numpy.ndarray) else f"a {shape}"
            raise Refused(f"float32 {expected}", found, "convert it", "piece")

    @torch.no_grad()
    def _read(self, frames: Frames, *, end: bool) -> None:
        """Let the model read the steps that are whole."""
        steps = self._steps.feed(frames, end=end)
        if not len(steps):
            return
        model = self._pipeline.model
        # Padded as the whole is: a product over another number of rows would round another way.
        x, valid = padded_inputs([steps])
        log_probs, self._state = model(x.to(model.device), valid.to(model.device), self._state)
        self._search.advance(log_probs[: len(steps), 0].cpu().numpy())
