"""Docstrings name the parameters that there are: all of them, and no others."""

import ast
import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import seqsru

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(seqsru.__path__, "seqsru.")
    if not module.name.endswith("__main__")
)


def documented(text):
    """Names in the section Parameters of a numpydoc docstring, None where it has no such section."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n?[^\n]+\n-{3,}\n|\Z)", text, re.M | re.S)
    if not found:
        return None
    lines = [line for line in found[1].splitlines() if line and not line.startswith(" ")]
    names = [name.strip(" *") for line in lines for name in line.split(" :")[0].split(",")]
    return [name for name in names if name]  # a list of names may go on in the next line


def taken(thing):
    """Names of the parameters of a function, or of what makes an object of a class."""
    names = [name for name in inspect.signature(thing).parameters if not name.startswith("_")]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def public(module):
    """Every public function, class and method that a module defines, by its name."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            yield name, thing
            for method, inner in vars(thing).items():
                inner = inner.__func__ if isinstance(inner, (staticmethod, classmethod)) else inner
                if not method.startswith("_") and inspect.isfunction(inner):
                    yield f"{name}.{method}", inner
        elif inspect.isfunction(thing):
            yield name, thing


def wrong(module):
    """What docstrings of a module name and signatures do not, or the other way round."""
    for name, thing in public(module):
        named = documented(inspect.cleandoc(thing.__doc__ or ""))
        if named is not None and sorted(named) != sorted(taken(thing)):
            yield f"{name}: the docstring has {', '.join(named)}; the signature {', '.join(taken(thing))}"


@pytest.mark.parametrize("name", MODULES)
def test_parameters_are_those_of_the_signature(name):
    assert list(wrong(importlib.import_module(name))) == []


@dataclass
class Example:
    """A class.

    Parameters
    ----------
    first, second : int
        Two.

        A second paragraph.
    third : str, optional
        One.

    Raises
    ------
    ValueError
        Never.
    """

    first: int
    second: int
    third: str = ""

    @classmethod
    def make(cls, first, *rest, **options):
        """Make.

        Parameters
        ----------
        first : int
            One.
        *rest, **options
            Others.
        """


EQUATION = re.compile(r" +(?:\((\d+)\)|(\d+)\.) +(.*)")


def disorder(text):
    """What is wrong with the numbered equations of a docstring, or nothing."""
    found = [EQUATION.fullmatch(line) for line in text.splitlines()]
    numbers = [int(line[1] or line[2]) for line in found if line]
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return f"they are numbered {numbers}"
    joined = [line[0] for line in found if line and re.search(r"\(\d+\) \S+ = ", line[3])]
    return f"two are on one line: {joined}" if joined else ""


@pytest.mark.parametrize(
    "path", sorted(Path(seqsru.__file__).parent.rglob("*.py")), ids=lambda path: path.stem
)
def test_numbered_equations_stand_in_order(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node, clean=False) or ""
            assert not disorder(text), getattr(node, "name", path.name)


def test_disorder_is_seen():
    text = "  (1) a = b\n  (2) c = d  with\n  it (3) e = f\n  (4) g = h"
    assert disorder(text) == "they are numbered [1, 2, 4]"
    assert disorder("  (1) a = b   (2) c = d").startswith("two are on one line")
    assert not disorder("  (5) a = b of (2)\n  (6) c = d")


def test_the_check_sees():
    def one(a, b):
        """Add.

        Parameters
        ----------
        a, c : int
            Two.
        """

    assert documented(inspect.cleandoc(Example.__doc__)) == taken(Example) == ["first", "second", "third"]
    assert documented(inspect.cleandoc(Example.make.__doc__)) == taken(Example.make)
    assert documented(inspect.cleandoc(one.__doc__)) == ["a", "c"] and taken(one) == ["a", "b"]
    assert documented("Add two numbers.") is None
