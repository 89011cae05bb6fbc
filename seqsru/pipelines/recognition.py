"""A trained recogniser with what it reads and writes: recordings in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqsru.data.arpa import Ngrams
from seqsru.data.features import FeatureFiles, Filterbank
from seqsru.data.frontend import FeatureSpace, Frontend, FrontendStream
from seqsru.data.speech_batches import inputs_of, padded_inputs
from seqsru.data.tokenizers import Tokenizer
from seqsru.data.utterances import BadUtterance, Frames, Recordings
from seqsru.decoding.ctc import BestPath, CtcHypothesis, Fusion, PrefixBeam
from seqsru.decoding.fusion import CtcDecoding
from seqsru.errors import Refused
from seqsru.evaluation.clock import TimedDecoder
from seqsru.models.recognizer import Recognizer
from seqsru.pipelines.batches import alike
from seqsru.pipelines.fusion import fused
from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.recognition_attention import attended, rescored
from seqsru.pipelines.recognition_stream import RecognitionStream, Transcript
from seqsru.settings import checked_arguments

READ_AT_ONCE = 4096  # padded steps; it bounds memory, and the results do not depend on it
FILES_AT_ONCE = 64
BEST_PATH = CtcDecoding()


class Heard(NamedTuple):
    """What a model makes of some recordings.

    Attributes
    ----------
    members : list of int
        Which ones.
    encoded : Tensor of shape (T, B, O)
        The encoder's output.
    valid : Tensor of shape (T, B), bool
    log_probs : Tensor of shape (T, B, V + 1)
        Of the outputs of each step.
    """

    members: list[int]
    encoded: Tensor
    valid: Tensor
    log_probs: Tensor


@torch.no_grad()
def heard(model: Recognizer, inputs: Sequence[Frames]) -> Iterator[Heard]:
    """What a model makes of recordings, some at a time.

    On a CPU in float32 the bits of a recording do not depend on the others.

    Parameters
    ----------
    model : Recognizer
        In evaluation mode.
    inputs : sequence of ndarray of shape (T, I)
        At least one step each.

    Yields
    ------
    Heard
    """
    for members in alike([range(len(one)) for one in inputs], READ_AT_ONCE, "tokens"):
        x, valid = padded_inputs([inputs[index] for index in members])
        valid = valid.to(model.device)
        encoded, _ = model.encode(x.to(model.device), valid)
        yield Heard(members, encoded, valid, model.outputs(encoded))


@checked_arguments
@dataclass(frozen=True, eq=False, repr=False)
class RecognitionPipeline:
    """Write down recordings. Nothing in it changes, so that threads may share it.

    Output is in input order, a result for each recording. On a CPU in float32 a text does not depend on the
    other recordings, but for normalisation by speaker.

    Parameters
    ----------
    model : Recognizer
        Put in evaluation mode.
    tokenizer : Tokenizer
    space : FeatureSpace
        The ones it was trained with.
    source : FeatureFiles or Filterbank
        How recordings are read.
    frontend : Frontend
        What their frames go through.

    Raises
    ------
    Refused
        A tokenizer or features of another size than the model's.
    """

    model: Recognizer
    tokenizer: Tokenizer
    space: FeatureSpace
    source: FeatureFiles | Filterbank
    frontend: Frontend

    def __post_init__(self) -> None:
        do = "use what the model was trained with"
        if self.tokenizer.size != self.model.vocabulary_size:
            expected = f"a tokenizer of {self.model.vocabulary_size} types"
            raise Refused(expected, str(self.tokenizer.size), do, "tokenizer")
        size = self.frontend.input_size(self.space.size)
        if size != self.model.input_size:
            expected = f"features that make {self.model.input_size} a step"
            raise Refused(expected, str(size), do, "space")
        if self.source.size != self.space.size:
            raise Refused(f"{self.space.size} features a frame", str(self.source.size), do, "source")
        self.model.eval()

    def transcribe(
        self,
        files: Sequence[str | PathLike[str]],
        *,
        decoding: CtcDecoding = BEST_PATH,
        language_model: LanguagePipeline | Ngrams | None = None,
    ) -> list[Transcript]:
        """Write down files, each as if its speaker were heard in it alone.

        Parameters
        ----------
        files : sequence of path
            Audio, or files of features, as the model was trained with.
        decoding : CtcDecoding
        language_model : LanguagePipeline or Ngrams, optional

        Raises
        ------
        Refused
            A file that cannot be read, or settings that do not go together.
        """
        if isinstance(files, (str, bytes, PathLike)):
            raise Refused("a list of files", f"one, {files!r}", "put it into a list", "files")
        fusion = self.fusion(decoding, language_model)
        statistics = self.space.statistics if self.frontend.normalize == "training" else None
        found: list[Transcript] = []
        paths = [Path(file) for file in files]
        for first in range(0, len(paths), FILES_AT_ONCE):
            frames = [self.read(path) for path in paths[first : first + FILES_AT_ONCE]]
            found += self.recognize(
                [self.frontend.inputs(one, statistics) for one in frames], decoding, fusion
            )
        return found

    def recognize(
        self, inputs: Sequence[Frames], decoding: CtcDecoding, fusion: Fusion | None
    ) -> list[Transcript]:
        """Write down what went through the frontend: arrays (T, I)."""
        found: list[Transcript] = [Transcript("", 0.0, 0.0)] * len(inputs)
        for some in heard(self.model, inputs):
            sizes = [len(inputs[index]) for index in some.members]
            for index, texts in zip(some.members, self._searched(some, sizes, decoding, fusion)):
                found[index] = self.transcript(texts[: decoding.n_best])
        return found

    def inputs(self, recordings: Recordings) -> list[Frames]:
        """The model's input of each recording of a manifest, at the recorded speed."""
        return inputs_of(recordings, self.frontend, self.space)

    def read(self, path: Path) -> Frames:
        """The frames of a file; refuse one that has none."""
        try:
            return self.source.read(path)
        except BadUtterance as bad:
            raise bad.refusal() from None

    def fusion(
        self, decoding: CtcDecoding, language_model: LanguagePipeline | Ngrams | None
    ) -> Fusion | None:
        """What a language model adds to a search; refuse what the model or the search cannot do."""
        if decoding.decoder != "ctc" and self.model.decoder is None:
            do = "train one with it, or search with the decoder ctc"
            raise Refused("a recogniser with model.decoder", "one of CTC alone", do, "decoder")
        if language_model is None:
            return None
        if decoding.beam == 1:
            expected = "a beam of at least 2 with a language model"
            raise Refused(expected, "1, which takes the likeliest path", "raise it", "beam")
        return fused(language_model, self.tokenizer, decoding)

    def stream(
        self,
        *,
        decoding: CtcDecoding = BEST_PATH,
        language_model: LanguagePipeline | Ngrams | None = None,
    ) -> RecognitionStream:
        """Begin a recording that arrives in pieces; the text is that of the whole.

        Parameters
        ----------
        decoding : CtcDecoding
        language_model : LanguagePipeline or Ngrams, optional

        Raises
        ------
        Refused
            The model, its normalisation or the decoder waits for the end.
        """
        if decoding.decoder != "ctc":
            do = "leave it out, or give the recording whole"
            raise Refused(
                "the decoder ctc for a stream", f"{decoding.decoder}, which hears all first", do, "decoder"
            )
        if not self.model.streams:
            do = "train one with model.encoder.bidirectional false"
            raise Refused("a recogniser that streams", "one that reads from the end too", do)
        if not self.frontend.streams:
            found = f"frontend.normalize {self.frontend.normalize}"
            raise Refused("features that stream", found, "train with normalize training or none")
        search = self._search(decoding, self.fusion(decoding, language_model))
        audio = self.source.stream() if isinstance(self.source, Filterbank) else None
        steps = FrontendStream(self.frontend, self.space.statistics)
        return RecognitionStream(self, audio, steps, search, decoding.n_best)

    def pieces(self, path: Path, seconds: float) -> Iterator[Frames]:
        """A file as `RecognitionStream.feed` takes it, in pieces of so many seconds."""
        if isinstance(self.source, Filterbank):
            try:
                whole = self.source.samples(path)
            except BadUtterance as bad:
                raise bad.refusal() from None
            size = max(1, round(seconds * self.source.sample_rate))
        else:
            whole, size = self.read(path), max(1, round(seconds / self.source.seconds))
        for first in range(0, len(whole), size):
            yield whole[first : first + size]

    def timed(
        self,
        name: str,
        decoding: CtcDecoding,
        language_model: LanguagePipeline | Ngrams | None,
        piece: float | None,
    ) -> TimedDecoder:
        """The recogniser as the latency meter takes it: a line is the name of a file.

        Parameters
        ----------
        name : str
        decoding : CtcDecoding
        language_model : LanguagePipeline or Ngrams, optional
        piece : float, optional
            Seconds of the pieces in which the file arrives; None gives it whole.
        """
        if piece is not None:
            self.stream(decoding=decoding, language_model=language_model)  # can it?

        def decode(line: str, length: int | None) -> Transcript:
            if piece is not None:
                stream = self.stream(decoding=decoding, language_model=language_model)
                for part in self.pieces(Path(line), piece):
                    stream.feed(part)
                return stream.finish()
            return self.transcribe([line], decoding=decoding, language_model=language_model)[0]

        def seconds(line: str) -> float:
            return len(self.read(Path(line))) * self.source.seconds

        what = "recogniser" if piece is None else f"recogniser, {piece:g} s at a time"
        settings: dict[str, object] = {
            **decoding.signature_fields(language_model is not None),
            **({} if piece is None else {"piece": piece}),
        }
        return TimedDecoder(name, self.model, None, what, decode, settings, seconds=seconds, reading="encode")

    def transcript(self, hypotheses: Sequence[CtcHypothesis]) -> Transcript:
        """Hypotheses, best first, as text."""
        best, *others = (
            Transcript(self.tokenizer.decode(one.tokens), one.score, one.log_prob) for one in hypotheses
        )
        return Transcript(best.text, best.score, best.log_prob, tuple(others))

    def _searched(
        self, some: Heard, sizes: Sequence[int], decoding: CtcDecoding, fusion: Fusion | None
    ) -> list[list[CtcHypothesis]]:
        """The texts of recordings of so many steps, best first."""
        given = self.model, some.encoded, some.valid, self.tokenizer
        if decoding.decoder == "attention":
            return attended(*given, decoding, fusion)
        found = []
        for row, size in zip(some.log_probs.transpose(0, 1).cpu().numpy(), sizes):  # (T, V + 1)
            search = self._search(decoding, fusion)
            search.advance(row[:size])
            found.append(search.best(decoding.beam))
        return found if decoding.decoder == "ctc" else rescored(*given, decoding.ctc_weight, found)

    def _search(self, decoding: CtcDecoding, fusion: Fusion | None) -> BestPath | PrefixBeam:
        if decoding.beam == 1:
            return BestPath(self.model.blank)
        return PrefixBeam(self.model.blank, beam=decoding.beam, candidates=decoding.candidates, fusion=fusion)
