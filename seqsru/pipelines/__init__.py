"""Text in, text out: a trained model with its tokenizers, immutable, so that threads may share it."""

from seqsru.pipelines.language import LanguagePipeline
from seqsru.pipelines.translation import Translation, TranslationPipeline

__all__ = ["LanguagePipeline", "Translation", "TranslationPipeline"]
