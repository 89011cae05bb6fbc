"""seqsru: language modelling and translation with recurrent layers that plug in by name."""

__version__ = "0.1.0"
__all__ = ["SRU", "load", "__version__"]


def __getattr__(name):
    """Import what the package exports when it is first asked for: importing seqsru itself does nothing."""
    if name == "SRU":
        from seqsru.cells import SRU

        return SRU
    if name == "load":
        from seqsru.build import load

        return load
    raise AttributeError(f"module 'seqsru' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
