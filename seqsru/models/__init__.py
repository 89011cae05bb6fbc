"""Models: what a recurrent stack is put into."""

from seqsru.models.attention import ATTENTIONS, Attention
from seqsru.models.decoder import Decoder
from seqsru.models.ensemble import Ensemble
from seqsru.models.language_model import LanguageModel
from seqsru.models.translator import Translator

__all__ = ["ATTENTIONS", "Attention", "Decoder", "Ensemble", "LanguageModel", "Translator"]
