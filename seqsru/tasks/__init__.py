"""The tasks: one file each, by name."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.tasks.registry import TASKS as TASKS
    from seqsru.tasks.task import Task as Task

# Where what needs torch is: importing it takes a second.
_PLACES = {
    "TASKS": "registry",
    "Task": "task",
}

__all__ = [
    "TASKS",
    "Task",
]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.tasks.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.tasks' has no attribute {name!r}")
