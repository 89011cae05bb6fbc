"""Settings: what may be set, read from signatures; strict files; and `Values`, which make what they set."""

from seqsru.settings.arguments import checked_arguments
from seqsru.settings.help import describe
from seqsru.settings.kinds import kind_text, shown
from seqsru.settings.places import dump
from seqsru.settings.problems import Problem, SettingsError
from seqsru.settings.reading import check, load, resolve
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

__all__ = [
    "REQUIRED",
    "Choice",
    "Maker",
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
    "from_signature",
    "joined",
    "kind_text",
    "load",
    "paths",
    "registry",
    "resolve",
    "shown",
]
