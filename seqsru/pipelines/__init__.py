"""Text in, text out: a trained model with its tokenizers, immutable, so that threads may share it."""

from seqsru.pipelines.classification import Classification, ClassificationPipeline
from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.translation import Translation, TranslationPipeline

AnyPipeline = ClassificationPipeline | LanguagePipeline | TranslationPipeline

__all__ = [
    "AnyPipeline",
    "Classification",
    "ClassificationPipeline",
    "LanguagePipeline",
    "Translation",
    "TranslationPipeline",
]
