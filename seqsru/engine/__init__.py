"""Decoding in compiled calls, on one core of a CPU: packed weights, a whole search in one call, no torch."""
