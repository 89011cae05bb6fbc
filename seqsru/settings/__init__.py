"""Settings: what may be set, read from signatures; strict files; and `Values`, which make what they set."""

from importlib import import_module
from typing import TYPE_CHECKING

from seqsru.settings.arguments import checked_arguments

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.settings.help import describe
    from seqsru.settings.kinds import kind_text, shown
    from seqsru.settings.places import MOST_BYTES, dump, parse
    from seqsru.settings.problems import Problem, SettingsError, refuse
    from seqsru.settings.reading import File, Override, check, filled, given, load, read_tree, resolve
    from seqsru.settings.schema import (
        REQUIRED,
        Choice,
        Maker,
        Schema,
        Section,
        Setting,
        from_signature,
        joined,
        paths,
        registry,
    )
    from seqsru.settings.values import Values

# Where what needs YAML is; what decodes and computes needs none.
_PLACES = {
    "Choice": "schema",
    "File": "reading",
    "MOST_BYTES": "places",
    "Maker": "schema",
    "Override": "reading",
    "Problem": "problems",
    "REQUIRED": "schema",
    "Schema": "schema",
    "Section": "schema",
    "Setting": "schema",
    "SettingsError": "problems",
    "Values": "values",
    "check": "reading",
    "describe": "help",
    "dump": "places",
    "filled": "reading",
    "from_signature": "schema",
    "given": "reading",
    "joined": "schema",
    "kind_text": "kinds",
    "load": "reading",
    "parse": "places",
    "paths": "schema",
    "read_tree": "reading",
    "refuse": "problems",
    "registry": "schema",
    "resolve": "reading",
    "shown": "kinds",
}

__all__ = [
    "MOST_BYTES",
    "REQUIRED",
    "Choice",
    "File",
    "Maker",
    "Override",
    "Problem",
    "Schema",
    "Section",
    "Setting",
    "SettingsError",
    "Values",
    "check",
    "checked_arguments",
    "describe",
    "dump",
    "filled",
    "from_signature",
    "given",
    "joined",
    "kind_text",
    "load",
    "parse",
    "paths",
    "read_tree",
    "refuse",
    "registry",
    "resolve",
    "shown",
]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.settings.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.settings' has no attribute {name!r}")
