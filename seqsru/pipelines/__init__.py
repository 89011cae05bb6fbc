"""Text in, text out: a trained model with its tokenizers, immutable, so that threads may share it."""

from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.translation import Translation, TranslationPipeline

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.pipelines.answering import AnsweringPipeline as AnsweringPipeline
    from seqsru.pipelines.answering import Answers as Answers
    from seqsru.pipelines.classification import Classification as Classification
    from seqsru.pipelines.classification import ClassificationPipeline as ClassificationPipeline
    from seqsru.pipelines.recognition import RecognitionPipeline as RecognitionPipeline
    from seqsru.pipelines.recognition_stream import Transcript as Transcript

    AnyPipeline: TypeAlias = (
        AnsweringPipeline
        | ClassificationPipeline
        | LanguagePipeline
        | RecognitionPipeline
        | TranslationPipeline
    )

# Where what needs torch is: importing it takes a second.
_PLACES = {
    "Answers": "answering",
    "AnsweringPipeline": "answering",
    "Classification": "classification",
    "ClassificationPipeline": "classification",
    "RecognitionPipeline": "recognition",
    "Transcript": "recognition_stream",
}

__all__ = [
    "Answers",
    "AnsweringPipeline",
    "AnyPipeline",
    "Classification",
    "ClassificationPipeline",
    "LanguagePipeline",
    "RecognitionPipeline",
    "Transcript",
    "Translation",
    "TranslationPipeline",
]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.pipelines.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.pipelines' has no attribute {name!r}")
