"""Settings: what may be set, read from signatures; strict files; and `Values`, which make what they set."""

from seqsru.settings.arguments import checked_arguments
from seqsru.settings.help import describe
from seqsru.settings.kinds import kind_text, shown
from seqsru.settings.places import dump
from seqsru.settings.problems import Problem, SettingsError, refuse
from seqsru.settings.reading import File, check, given, load, resolve
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
    "File",
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
    "given",
    "joined",
    "kind_text",
    "load",
    "paths",
    "refuse",
    "registry",
    "resolve",
    "shown",
]
