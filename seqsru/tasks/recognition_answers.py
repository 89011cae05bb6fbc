"""What a recogniser answers to the commands; nothing here needs torch."""

# Annotations are read at run time: the arguments of the functions are flags.
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from seqsru.data.arpa import Ngrams, read_arpa
from seqsru.data.files import text_digest
from seqsru.data.outputs import write_output
from seqsru.data.utterances import OnBadUtterance
from seqsru.decoding.fusion import CtcDecoding, Writer
from seqsru.engine.file import SUFFIX
from seqsru.errors import NotFound, Refused, check_at_least, check_at_most
from seqsru.evaluation.clock import TimedDecoder, now
from seqsru.evaluation.error_rate import error_items, error_rates
from seqsru.evaluation.signature import DIGITS
from seqsru.pipelines.language import LanguagePipeline
from seqsru.settings import from_signature, joined
from seqsru.tasks.answers import Answer, Evaluation, Kind, Split, Tell, Trained, headed
from seqsru.tasks.sharing import leads, shared

MEASURES = ("wer", "cer")
SHORTEST = 0.001  # seconds of a piece


class Fused(NamedTuple):
    """A language model for the search, and what a signature calls it."""

    model: LanguagePipeline | Ngrams | None
    name: str | None


def language_model_at(path: Path | None) -> Fused:
    """The language model in a run directory or in an ARPA file; none where none is named."""
    if path is None:
        return Fused(None, None)
    if path.suffix == SUFFIX:
        found, do = "a file of `seqsru quantize`", "name its run directory"
        raise Refused(f"a language model at {path} that torch decodes", found, do, "language_model")
    if not path.exists():
        expected = f"a run directory, or n-grams in the ARPA format, at {path}"
        raise NotFound(expected, "nothing", "check the path", "language_model")
    if not path.is_dir():
        ngrams = read_arpa(path)
        return Fused(ngrams, f"{path.name},{ngrams.digest}")
    import torch

    from seqsru.evaluation.environment import weights_hash
    from seqsru.tasks.opening import open_trained

    trained = open_trained(path, "best", 1, torch.device("cpu"))
    if not isinstance(trained.pipeline, LanguagePipeline):
        found = f"one of {trained.task.noun}"
        raise Refused(f"a run of a language model at {path}", found, "name another", "language_model")
    return Fused(trained.pipeline, f"{path.name},{weights_hash(trained.pipeline.model)[:DIGITS]}")


def evaluate(
    trained: Trained,
    files: list[Path],
    split: Split,
    tell: Tell,
    *,
    language_model: Path | None = None,
    transcripts: Path | None = None,
    on_bad_line: OnBadUtterance | None = None,
    **search: Any,
) -> Evaluation:
    """Word and character error rate.

    Parameters
    ----------
    trained : Trained
    files : list of Path
        A manifest, if not that of the split.
    split : str
    tell : callable
    language_model : Path or None
        Run directory of a language model, or n-grams in the ARPA format, to search with.
    transcripts : Path or None
        Write what was recognised to this file, a line an utterance.
    on_bad_line : {"error", "skip"} or None
        What to do with an utterance that cannot be used; the run's data.on_bad_line where not given.
    **search : object
        Fields of `CtcDecoding`.
    """
    task, pipeline = trained.task, trained.pipeline
    decoding, fused = _searched(search, language_model)
    fusion = pipeline.fusion(decoding, fused.model)
    recordings, data = task.recordings(files, split, on_bad_line)
    utterances = recordings.utterances
    if utterances.report:
        tell(str(utterances.report))
    inputs = pipeline.inputs(recordings)
    recognized = shared(lambda share: pipeline.recognize(share, decoding, fusion), inputs)
    texts = [found.text for found in recognized]
    if transcripts is not None and leads():
        write_output(transcripts, "".join(text + "\n" for text in texts).encode())
    rates = error_rates(utterances.transcripts, texts)
    signature = trained.signed(
        {
            "data": data,
            "utterances": len(texts),
            **decoding.signature_fields(fusion is not None),
            "lm": fused.name,
            "text": text_digest(utterances.transcripts),
            "audio": task.digest(inputs),
        }
    )
    values: dict[str, Any] = {rate.name.lower(): rate.counts.rate for rate in rates}
    values |= {"rates": {rate.name.lower(): rate.as_dict() for rate in rates}}
    values |= {"utterances": len(texts), "data": data, "signature": signature}
    digest = f"{text_digest(utterances.transcripts)},{task.digest(inputs)}"
    measures = headed(MEASURES, task.settings["training"]["validation_metric"])
    return Evaluation(
        [*(rate.line for rate in rates), signature],
        values,
        {name: partial(error_items, name, utterances.transcripts, texts, digest) for name in measures},
    )


class Transcriber(NamedTuple):
    """How recordings are written down: each of the results has ``text`` and ``as_dict()``.

    Attributes
    ----------
    outputs : int
        Texts a recording.
    files : callable
        Files to a result a file.
    manifest : callable
        A manifest to its files and their results.
    told : callable
        What a person should know at the end; empty for nothing.
    """

    outputs: int
    files: Callable[[Sequence[Path]], Sequence[Any]]
    manifest: Callable[[Path], tuple[Sequence[Path], Sequence[Any]]]
    told: Callable[[], str]


class Streamed(NamedTuple):
    """What was said in a recording that came in pieces, and how long that took."""

    transcript: Any
    audio_seconds: float
    seconds: float
    slowest: float
    pieces: int

    @property
    def text(self) -> str:
        """The text."""
        text: str = self.transcript.text
        return text

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            **self.transcript.as_dict(),
            "audio_seconds": self.audio_seconds,
            "pieces": self.pieces,
            "milliseconds_per_second": 1000.0 * self.seconds / self.audio_seconds,
            "slowest_piece_milliseconds": 1000.0 * self.slowest,
        }


def transcribe(
    trained: Trained, *, language_model: Path | None = None, piece: float | None = None, **search: Any
) -> Transcriber:
    """What was said in recordings.

    Parameters
    ----------
    trained : Trained
    language_model : Path or None
        Run directory of a language model, or n-grams in the ARPA format, to search with.
    piece : float or None
        Read each recording in pieces of so many seconds, as a stream: the text is the same, and what a second
        of audio took is told.
    **search : object
        Fields of `CtcDecoding`.
    """
    pipeline = trained.pipeline
    decoding, fused = _searched(search, language_model)
    fusion = pipeline.fusion(decoding, fused.model)
    _check_piece(piece)
    done: list[Streamed] = []

    def streamed(path: Path) -> Streamed:
        assert piece is not None
        taken: list[int] = []
        stream = pipeline.stream(decoding=decoding, language_model=fused.model)
        for part in pipeline.pieces(path, piece):
            start = now(None)
            stream.feed(part)
            taken.append(now(None) - start)
        start = now(None)
        found = stream.finish()
        taken[-1] += now(None) - start
        audio = len(pipeline.read(path)) * pipeline.source.seconds
        return Streamed(found, audio, sum(taken) / 1e9, max(taken) / 1e9, len(taken))

    def files(paths: Sequence[Path]) -> Sequence[Any]:
        if piece is not None:
            done.extend(shared(lambda share: [streamed(path) for path in share], paths))
            return done[len(done) - len(paths) :]
        return shared(
            lambda share: pipeline.transcribe(share, decoding=decoding, language_model=fused.model), paths
        )

    def manifest(path: Path) -> tuple[Sequence[Path], Sequence[Any]]:
        recordings = trained.task.read_manifest(path)
        paths = recordings.utterances.files
        if piece is not None:
            return paths, files(paths)
        inputs = pipeline.inputs(recordings)
        return paths, shared(lambda share: pipeline.recognize(share, decoding, fusion), inputs)

    def told() -> str:
        if not done:
            return ""
        audio = sum(one.audio_seconds for one in done)
        milliseconds = 1000.0 * sum(one.seconds for one in done) / audio
        slowest = 1000.0 * max(one.slowest for one in done)
        return (
            f"{audio:.1f} seconds of audio in {sum(one.pieces for one in done):,} pieces of {piece:g} s: "
            f"{milliseconds:.2f} ms a second of audio, {slowest:.2f} ms the slowest piece"
        )

    if piece is not None:
        pipeline.stream(decoding=decoding, language_model=fused.model)  # can it? asked before the work
    return Transcriber(decoding.n_best, files, manifest, told)


def latency(
    trained: Trained,
    name: str,
    *,
    beam: int = 1,
    language_model: Path | None = None,
    piece: float | None = None,
    decoder: Writer = "ctc",
) -> TimedDecoder:
    """One recording, from its file to its text.

    Parameters
    ----------
    trained : Trained
    name : str
    beam : int
        Texts that are kept at each step.
    language_model : Path or None
        Run directory of a language model, or n-grams in the ARPA format, to search with.
    piece : float or None
        Read each recording in pieces of so many seconds, as a stream.
    decoder : {"ctc", "attention", "joint"}
        What writes the text: the outputs of the steps, the decoder with attention, or both.
    """
    _check_piece(piece)
    fused = language_model_at(language_model)
    decoding = CtcDecoding(beam=beam, decoder=decoder)
    timed: TimedDecoder = trained.pipeline.timed(name, decoding, fused.model, piece)
    return timed


def _searched(search: dict[str, Any], language_model: Path | None) -> tuple[CtcDecoding, Fused]:
    """The search that flags ask for; refuse one that another makes idle."""
    decoding = CtcDecoding(**search)
    if decoding.beam == 1 and decoding.decoder == "ctc" and "candidates" in search:
        expected = "a beam of at least 2 with candidates"
        raise Refused(expected, "1, which takes the likeliest path", "widen the beam", "candidates")
    if decoding.decoder == "attention" and "candidates" in search:
        expected = "the decoder ctc or joint with candidates"
        raise Refused(expected, "attention", "leave them out", "candidates")
    if decoding.decoder != "joint" and "ctc_weight" in search:
        raise Refused("the decoder joint with a ctc_weight", decoding.decoder, "leave it out", "ctc_weight")
    for name in ("lm_weight", "lm_bonus", "lm_unknown"):
        if language_model is None and name in search:
            raise Refused("a language model with it", "none", "name one with --language-model", name)
    return decoding, language_model_at(language_model)


def _check_piece(piece: float | None) -> None:
    if piece is not None:
        check_at_least(SHORTEST, piece=piece)
        check_at_most(86_400, piece=piece)


_SEARCH = from_signature(CtcDecoding)
_BEST = from_signature(CtcDecoding, skip=["n_best"])  # the best alone is scored

RECOGNITION = Kind(
    noun="a recogniser",
    reads=("MANIFEST",),
    answers={
        "evaluate": Answer(
            evaluate,
            joined(from_signature(evaluate, skip=["trained", "files", "split", "tell", "search"]), _BEST),
            writes=("transcripts",),
            measures=MEASURES,
        ),
        "transcribe": Answer(
            transcribe, joined(from_signature(transcribe, skip=["trained", "search"]), _SEARCH)
        ),
        "latency": Answer(latency, from_signature(latency, skip=["trained", "name"])),
    },
)
