"""The settings as text: every name with its default, type and meaning, indented as a file would be."""

from __future__ import annotations

import textwrap

from seqsru.settings.kinds import kind_text, shown
from seqsru.settings.schema import REQUIRED, Schema, Section, Setting


def describe(schema: Schema, *, width: int = 110) -> str:
    """All settings with types, defaults and texts, indented as the file would be."""
    lines: list[str] = []

    def put(depth: int, head: str, text: str) -> None:
        indent, text = "  " * depth, text.replace("``", "`")
        lines.extend(
            textwrap.wrap(
                f"{head}  # {text}" if text else head,
                width,
                initial_indent=indent,
                subsequent_indent=indent + "      # ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )

    def visit(name: str, below: Schema, depth: int) -> None:
        if isinstance(below, Setting):
            required = below.default is REQUIRED
            default = "" if required else " " + shown(below.default).strip("'")
            kind = kind_text(below.kind) + (" (required)" if required else "")
            put(depth, f"{name}:{default}", f"{kind}. {below.text}" if below.text else kind)
            visit_several(below.several, depth)
            return
        optional = ["(may be left out)"] if below.optional else []
        put(depth, f"{name}:", " ".join([*optional, *filter(None, [below.text])]))
        visit_inside(below, depth + 1)
        visit_several(below.several if isinstance(below, Section) else None, depth)

    def visit_several(item: Section | None, depth: int) -> None:
        if item is not None:
            put(depth + 1, "-", f"or a list of several, each with: {', '.join(item.entries)}. {item.text}")

    def visit_inside(below: Schema, depth: int) -> None:
        if isinstance(below, Section):
            for name, entry in below.entries.items():
                visit(name, entry, depth)
        elif not isinstance(below, Setting):
            for choice, section in below.entries.items():
                mark = " (default)" if choice == below.default else ""
                put(depth, f"{below.key}: {choice}", f"{section.text}{mark}".strip())
                visit_inside(section, depth + 1)

    visit_inside(schema, 0)
    return "\n".join(lines)
