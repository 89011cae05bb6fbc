"""Measuring models: perplexity, BLEU and its comparison, latency, and the signature beside every number."""
