"""Speech recognition: recordings and what was said in them, an encoder, one tokenizer and the features."""

# Annotations are read at run time: the fields of `RecognitionData` are the `data` section of a config.
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
from torch import nn

from seqsru.data import LineReport, load_tokenizer
from seqsru.data.features import FEATURES, FeatureFiles, Filterbank
from seqsru.data.files import CHUNK, text_digest
from seqsru.data.frontend import FeatureSpace, Frontend
from seqsru.data.speech_batches import (
    Augmentation,
    SpeechBatches,
    SpeechExamples,
    inputs_of,
)
from seqsru.data.utterances import (
    MANIFEST,
    Frames,
    OnBadUtterance,
    Recordings,
    Utterances,
    read_manifest,
    read_recordings,
)
from seqsru.errors import Refused, check_at_least
from seqsru.evaluation.signature import parameters
from seqsru.models.recognizer import Recognizer
from seqsru.pipelines.recognition import RecognitionPipeline
from seqsru.settings import Schema, Section, from_signature, registry
from seqsru.tasks.answers import chosen_files
from seqsru.tasks.recognition_answers import RECOGNITION
from seqsru.tasks.recognition_objective import RecognitionObjective
from seqsru.tasks.sections import cell_name, decoder_section, stack_section, tokenizer_section
from seqsru.tasks.task import Split, Task, Tell, Tokenizers


@dataclass(frozen=True)
class RecognitionData:
    """Manifests: an utterance a line, its id, file, transcript and speaker between tabs.

    Parameters
    ----------
    train : Path
        Utterances to learn from.
    validation : Path
        Utterances that tell when the model was best.
    test : Path or None
        Utterances that `seqsru evaluate` reads.
    on_bad_line : {"error", "skip"}
        What to do with an utterance that cannot be used, such as one whose file is not there, or has fewer
        frames than its transcript needs: stop, or leave it out and count it in the report.
    """

    train: Path
    validation: Path
    test: Path | None = field(default=None, metadata={"may_change": True})
    on_bad_line: OnBadUtterance = "error"


class RecognitionTask(Task):
    """Write down what is said, learning from recordings and their transcripts."""

    text = "Write down what is said, learning from recordings and their transcripts."
    noun = RECOGNITION.noun
    reads = RECOGNITION.reads
    answers = RECOGNITION.answers

    @classmethod
    def sections(cls) -> dict[str, Schema]:
        return {
            "data": from_signature(RecognitionData),
            "features": registry(FEATURES),
            "frontend": from_signature(Frontend),
            "augmentation": from_signature(Augmentation),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                Recognizer,
                skip=["input_size", "vocabulary_size"],
                sections={
                    "encoder": stack_section(),
                    "decoder": replace(decoder_section(), optional=True),
                },
            ),
            "batches": from_signature(SpeechBatches, skip=["examples", "frontend", "augmentation", "seed"]),
        }

    @classmethod
    def objective_section(cls) -> Section:
        given = ["utterances", "inputs", "transcripts", "tokenizer", "fingerprints", "audio"]
        return from_signature(RecognitionObjective, skip=given)

    # ---- data --------------------------------------------------------------------------------------

    def files(self, split: Split) -> list[Path]:
        path = self.settings["data"][split]
        return [] if path is None else [path]

    def recordings(
        self, files: list[Path], split: Split, on_bad_line: OnBadUtterance | None = None
    ) -> tuple[Recordings, str]:
        """The utterances of a manifest, or of a split where none is given, and their name in a signature."""
        path, *_ = chosen_files(self, files, split)
        bad = on_bad_line or self.settings["data"]["on_bad_line"]
        recordings = read_recordings(path, self._source(), on_bad_line=bad)
        _check_some(recordings)
        return recordings, path.name

    def read_manifest(self, path: Path) -> Recordings:
        """The utterances of a manifest that may lack transcripts."""
        return read_recordings(path, self._source(), transcribed=False)

    def read(self, tell: Tell) -> dict[str, Recordings]:
        data: RecognitionData = self.settings["data"].make()
        speeds = self._augmentation().speeds
        texts = {}
        for split, path, wanted in (
            ("train", data.train, speeds),
            ("validation", data.validation, (1.0,)),
        ):
            texts[split] = read_recordings(path, self._source(), speeds=wanted, on_bad_line=data.on_bad_line)
            tell(str(texts[split].utterances.report))
            _check_some(texts[split])
        return texts

    def stand_in(self) -> dict[str, Recordings]:
        with self.settings["features"].blamed():
            source = self._source()
            source.check_installed()
        speeds = self._augmentation().speeds
        utterances = Utterances(
            "stand-in", ["a"], [Path("a")], ["tokenizer"], ["a"], [1], LineReport("stand-in")
        )
        frame = numpy.zeros((1, source.size), dtype=numpy.float32)
        return {
            "train": Recordings(utterances, [dict.fromkeys(speeds, frame)]),
            "validation": Recordings(utterances, [{1.0: frame}]),
        }

    def sample(self) -> tuple[str, list[str]]:
        split: Split = "test" if self.files("test") else "validation"
        path, *_ = self.files(split)
        return path.name, self.lines(path)

    def lines(self, path: Path) -> list[str]:
        if path.suffix == MANIFEST:
            return [str(file) for file in read_manifest(path, transcribed=False).files]
        return super().lines(path)

    def sums(self) -> dict[str, str]:
        found = {}
        for split in ("train", "validation"):
            path = self.settings["data"][split]
            try:
                files = read_manifest(path, on_bad_line="skip").files
            except (Refused, OSError):
                continue  # `read` says what is wrong with it
            digest = hashlib.sha256()
            for file in files:
                if file.is_file():
                    with open(file, "rb") as stream:
                        while chunk := stream.read(CHUNK):
                            digest.update(chunk)
            found[f"data.{split}.recordings"] = digest.hexdigest()
        return found

    @staticmethod
    def digest(inputs: Iterable[Frames]) -> str:
        """First 12 hexadecimal digits of the sha256 of what a model reads."""
        digest = hashlib.sha256()
        for one in inputs:
            digest.update(str(one.shape).encode() + numpy.ascontiguousarray(one).tobytes())
        return digest.hexdigest()[:12]

    # ---- tokenizer, model and objective ------------------------------------------------------------

    def tokenizer_files(self) -> dict[str, str]:
        return {"tokenizer": "tokenizer", "features": "features"}

    def tokenizer_lines(self, texts: dict[str, Recordings], file: str) -> Iterable[str]:
        return texts["train"].utterances.transcripts

    def new_tokenizer(self, texts: dict[str, Recordings], file: str, tell: Tell) -> Any:
        if file != "features":
            return super().new_tokenizer(texts, file, tell)
        return FeatureSpace.train(
            frames for by_speed in texts["train"].frames for frames in by_speed.values()
        )

    def check_tokenizer(self, file: str) -> None:
        if file != "features":
            super().check_tokenizer(file)

    def load_tokenizers(self, folder: Path) -> dict[str, Any]:
        return {
            "tokenizer": load_tokenizer(folder, "tokenizer"),
            "features": FeatureSpace.load(folder, "features"),
        }

    def stand_in_tokenizers(self) -> dict[str, Any]:
        size = self._source().size
        space = FeatureSpace([0.0] * size, [1.0] * size)
        return {**super().stand_in_tokenizers(), "features": space}

    def model(self, tokenizers: Tokenizers) -> Recognizer:
        size = self._frontend().input_size(tokenizers["features"].size)
        model = self.settings["model"]
        encoder = model["encoder"].make(input_size=size)
        decoder = model["decoder"]
        if decoder is not None:
            with decoder.blamed():
                check_at_least(1, hidden_size=decoder["hidden_size"])
            decoder = decoder.make(input_size=decoder["hidden_size"], memory_size=encoder.output_size)
        made: Recognizer = model.make(size, tokenizers["tokenizer"].size, encoder=encoder, decoder=decoder)
        return made

    def objective(self, texts: dict[str, Recordings], tokenizers: Tokenizers) -> RecognitionObjective:
        tokenizer, space = tokenizers["tokenizer"], tokenizers["features"]
        frontend, source = self._frontend(), self._source()
        if space.size != source.size:
            expected = f"{space.size} features a frame, as the run that it starts from has"
            found = Refused(expected, str(source.size), "put it back", "size")
            raise self.settings["features"].error(found)
        bad = self.settings["data"]["on_bad_line"]
        examples = SpeechExamples.made(texts["train"], tokenizer, frontend, space, bad)
        batches = self.settings["batches"].make(
            examples, frontend, seed=self.settings["seed"], augmentation=self._augmentation()
        )
        pipeline_inputs = inputs_of(texts["validation"], frontend, space)
        transcripts = texts["validation"].utterances.transcripts
        fingerprints = {role: made.fingerprint for role, made in tokenizers.items()}
        options = self.settings["training"].of(RecognitionObjective)
        if self.settings["model"]["decoder"] is None:
            for name, unset in (("ctc_weight", None), ("label_smoothing", 0.0)):
                if options[name] != unset:
                    do = "leave it out, or add the decoder"
                    raise options.error(Refused("model.decoder with it", "none", do, name))
        made: RecognitionObjective = options.make(
            batches, pipeline_inputs, transcripts, tokenizer, fingerprints, self.digest(pipeline_inputs)
        )
        made.text = text_digest(transcripts)
        return made

    def omissions(self, objective: RecognitionObjective) -> list[str]:
        report = objective.utterances.report
        return [str(report)] if report else []

    # ---- the trained model -------------------------------------------------------------------------

    def pipeline(self, model: Recognizer, tokenizers: Tokenizers) -> RecognitionPipeline:
        return RecognitionPipeline(
            model, tokenizers["tokenizer"], tokenizers["features"], self._source(), self._frontend()
        )

    def fields(self, model: nn.Module) -> dict[str, object]:
        encoder, decoder = self.settings["model"]["encoder"], self.settings["model"]["decoder"]
        second: dict[str, object] = {}
        if decoder is not None:
            second = {"second": f"{cell_name(decoder)},{decoder['num_layers']}"}
            second["attention"] = decoder["attention"].chosen
        return {
            "cell": cell_name(encoder),
            "layers": encoder["num_layers"],
            "directions": 2 if encoder["bidirectional"] else 1,
            **second,
            "units": self.settings["tokenizer"].chosen,
            "params": parameters(model),
        }

    # ---- what the settings make --------------------------------------------------------------------

    def _source(self) -> FeatureFiles | Filterbank:
        source: FeatureFiles | Filterbank = self.settings["features"].make()
        return source

    def _frontend(self) -> Frontend:
        frontend: Frontend = self.settings["frontend"].make()
        return frontend

    def _augmentation(self) -> Augmentation:
        augmentation: Augmentation = self.settings["augmentation"].make()
        return augmentation


def _check_some(recordings: Recordings) -> None:
    if not len(recordings):
        found = str(recordings.utterances.report)
        raise Refused("utterances to read", f"none ({found})", "check the manifest")
