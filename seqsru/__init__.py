"""seqsru: recurrent models of text, with layers that plug in by name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.cells import SRU as SRU
    from seqsru.runs import load as load

__version__ = "0.1.0"
__all__ = ["SRU", "load", "__version__"]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for: importing seqsru itself does nothing."""
    if name == "SRU":
        from seqsru.cells import SRU

        return SRU
    if name == "load":
        from seqsru.runs import load

        return load
    raise AttributeError(f"module 'seqsru' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
