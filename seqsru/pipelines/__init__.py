"""Trained models with what they need of text: what users call."""
