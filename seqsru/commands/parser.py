"""The parser of a command's flags: a flag is written whole and given once, and a mistake is one sentence."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqsru.errors import Refused, did_you_mean

_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\Z|-\.inf\Z")


class Parser(argparse.ArgumentParser):
    """argparse's parser without its abbreviations, its last of several, and its usage before each mistake.

    Attributes
    ----------
    end : callable or None
        Gives the end of the help, where that takes longer than anything else: asked when help is.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **options)
        self.end: Callable[[], str] | None = None
        # argparse's own pattern takes -1e-3, and YAML's -.inf, for flags.
        self._negative_number_matcher = _NUMBER

    def format_help(self) -> str:
        """The help, with its end."""
        if self.end is not None:
            self.epilog = self.end()
        return super().format_help()

    def check_flags(self, arguments: Sequence[str]) -> None:
        """Refuse a flag that is not known, and one that is given twice though it takes a single value."""
        known = {name: action for action in self._actions for name in action.option_strings}
        seen: set[str] = set()
        for text in arguments:
            if text == "--":
                return
            if len(text) < 2 or text[0] != "-" or " " in text or _NUMBER.match(text):
                continue
            name = text.partition("=")[0]
            if name not in known:
                do = did_you_mean(name, known) or f"see `{self.prog} --help`"
                raise Refused(f"a flag of {self.prog}", repr(name), do)
            action = known[name]
            if action.dest in seen and not isinstance(action, argparse._AppendAction):
                raise Refused(f"{name} once", "it twice", "remove one")
            seen.add(action.dest)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        from seqsru import settings as strict  # not before it is needed: --help is to answer at once

        if action.type not in (int, Path):
            return super()._get_value(action, arg_string)
        name = action.option_strings[0] if action.option_strings else str(action.metavar)
        if action.type is Path:
            if not arg_string:
                raise Refused("a path", "an empty text", "name a file or folder", name)
            return Path(arg_string)
        named = name.removeprefix("--")
        return strict.check(strict.Section({named: strict.Setting(int)}), {named: arg_string})[named]
