"""Put the numbers of results.json files into the READMEs, and say where they disagree.

python recipes/results.py                  # write README.md and the recipes' READMEs anew
python recipes/results.py --check          # change nothing; exit status 1 if a README says something else
python recipes/results.py --take ptb       # first take the numbers from the runs of a recipe that are there

recipes/NAME/results.json has

    numbers   by name: what it is, value, digits, spread (null, one number for ±, or the two ends of an
              interval), command, signature (or unsigned: why there is none), and where a run's file has it,
              file and key below recipes/NAME/runs, as expected.json has them, and ends: the keys of the
              interval's
    readme    the rows of the README's table: what was measured, and its result
    tables    by name: lines of recipes/NAME/README.md, between <!-- results NAME --> and <!-- end -->
    comparisons   by name: the command of one that writes recipes/NAME/runs/ITS-NAME/table.json, of which
              --take makes its numbers and its table

In rows and lines {test} is the number of that name; {test:3} with three digits, {test:spread} with its
spread, {test:+} with its sign, {test:@params} the field params of its signature. Text of readme and tables
has no number of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seqsru.comparing.forms import digits_of

Row = Mapping[str, Any]
ROOT = Path(__file__).resolve().parents[1]
# The README's rows, in its order; a recipe without rows there still has tables.
RECIPES = (
    "quickstart",
    "multi30k",
    "sentences",
    "ptb",
    "wikitext-2",
    "characters",
    "classification",
    "squad",
    "jaquad",
    "an4",
    "copying",
    "wmt14",
    "compare",
)
HEAD = "| recipe | result |\n|---|---|\n"
BLOCK = re.compile(r"(<!-- results ([\w-]+) -->\n).*?(<!-- end -->\n)", re.S)
KEYS = {"numbers", "readme", "tables", "comparisons"}
FIELDS = {"what", "value", "digits", "spread", "command", "signature"}
FURTHER = {"unsigned", "file", "key", "ends"}


class Disagreement(ValueError):
    """A results file is of another form, or says something that cannot be written."""


@dataclass(frozen=True)
class Number:
    """A number as it is written: ``{}``, ``{:3}``, ``{:spread}``, ``{:@field}``."""

    name: str
    value: float
    digits: int
    spread: float | list[float] | None
    signature: str | None

    def __format__(self, how: str) -> str:
        if how == "":
            return f"{self.value:,.{self.digits}f}"
        if how == "+":
            return f"{self.value:+,.{self.digits}f}"
        if how.isdecimal():
            return f"{self.value:,.{int(how)}f}"
        if how == "spread" and isinstance(self.spread, list):
            low, high = self.spread
            return f"{self} ({low:,.{self.digits}f} to {high:,.{self.digits}f})"
        if how == "spread" and self.spread is not None:
            return f"{self} ± {self.spread:,.{self.digits}f}"
        if how.startswith("@"):
            return self._field(how[1:])
        raise Disagreement(f"expected digits, a spread that is there or @field, found {how!r} of {self.name}")

    def _field(self, wanted: str) -> str:
        for part in (self.signature or "").split("|"):
            name, _, value = part.partition(":")
            if name == wanted:
                value = re.sub(r"(?<=\d)(?=[MK]$)", " ", value).replace("+", " + ")
                return f"{int(value):,}" if value.isdecimal() else value
        raise Disagreement(f"expected a field {wanted} in the signature of {self.name}, found none")


def load(path: Path) -> dict[str, Any]:
    """Read a results file, and refuse one of another form.

    Raises
    ------
    Disagreement
        An entry lacks a field, has another, or has neither a signature nor a reason for having none.
    """
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if set(found) - KEYS or "numbers" not in found:
        raise Disagreement(f"expected {', '.join(sorted(KEYS))} in {path}, found {', '.join(found)}")
    for name, entry in found["numbers"].items():
        keys = set(entry)
        if not FIELDS <= keys <= FIELDS | FURTHER or ("file" in keys) != ("key" in keys):
            raise Disagreement(
                f"expected {', '.join(sorted(FIELDS))} of {name} in {path}, found {', '.join(entry)}"
            )
        if (entry["signature"] is None) != bool(entry.get("unsigned")):
            raise Disagreement(f"expected a signature of {name} in {path}, or unsigned: why it has none")
    return found


def written(template: str, numbers: Mapping[str, Any]) -> str:
    """A row or line with its numbers.

    Raises
    ------
    Disagreement
        It names a number that is not there, or has one of its own.
    """
    bare = re.search(r"(?<![\w.-])\d", re.sub(r"`[^`]*`|\]\([^)]*\)|\{[^}]*\}", "", template))
    if bare:
        raise Disagreement(
            f"expected no number outside of braces, found one in {template!r}; make it an entry"
        )
    entries = {
        name: Number(name, one["value"], one["digits"], one["spread"], one["signature"])
        for name, one in numbers.items()
    }
    try:
        return template.format_map(entries)
    except (KeyError, ValueError) as error:
        raise Disagreement(f"expected {template!r} with the numbers that are there, found {error}") from error


def rendered(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Each README with blocks: its path, its text, and its text as the results files have it.

    Raises
    ------
    Disagreement
        A results file cannot be used, or a block is missing or of no file.
    """
    rows = ""
    results = {}
    for recipe in RECIPES:
        path = root / "recipes" / recipe / "results.json"
        if path.is_file():
            results[recipe] = load(path)
            for row in results[recipe].get("readme", []):
                what, result = (written(row[key], results[recipe]["numbers"]) for key in ("what", "result"))
                rows += f"| {what} | {result} |\n"
    yield _with(root / "README.md", {"all": HEAD + rows})
    for recipe, found in results.items():
        tables = {
            name: "".join(written(line, found["numbers"]) + "\n" for line in lines)
            for name, lines in found.get("tables", {}).items()
        }
        if tables:
            yield _with(root / "recipes" / recipe / "README.md", tables)


def _with(path: Path, blocks: dict[str, str]) -> tuple[Path, str, str]:
    text = path.read_text(encoding="utf-8")
    names = [found[1] for found in BLOCK.findall(text)]
    if sorted(names) != sorted(blocks):
        raise Disagreement(f"expected the blocks {sorted(blocks)} in {path}, found {sorted(names)}")
    return path, text, BLOCK.sub(lambda found: found[1] + blocks[found[2]] + found[3], text)


def take(recipe: Path) -> list[str]:
    """Take value, spread and signature of each number from the recipe's runs, where these are there.

    Returns
    -------
    list of str
        A line for each number that is another now, and one that names those which no file has.

    Raises
    ------
    Disagreement
        A file of a run has no such number.
    """
    path, told = recipe / "results.json", []
    results = load(path)
    for name, command in results.get("comparisons", {}).items():
        source = recipe / "runs" / name / "table.json"
        if not source.is_file():
            continue
        made = Compared(name, command, json.loads(source.read_text(encoding="utf-8")))
        lines = made.lines()
        own = {one: entry for one, entry in results["numbers"].items() if one.startswith(f"{name}_")}
        if own != made.numbers or lines != results.setdefault("tables", {}).get(name):
            told.append(f"{name}: {len(made.numbers)} numbers, of what runs/{name}/table.json has")
            kept = {one: entry for one, entry in results["numbers"].items() if one not in own}
            results["numbers"] = {**kept, **made.numbers}
            results["tables"][name] = lines
    compared = len(told)
    for name, entry in results["numbers"].items():
        if "file" not in entry or not (source := recipe / "runs" / entry["file"]).is_file():
            continue
        value, signature = _found(source, entry["key"], entry["digits"])
        ends = [_found(source, key, entry["digits"])[0] for key in entry.get("ends", [])]
        spread = ends or entry["spread"]
        if (value, spread) == (entry["value"], entry["spread"]) and signature in (None, entry["signature"]):
            continue
        told.append(f"{name}: {entry['value']} becomes {value}")
        entry["value"], entry["spread"], entry["signature"] = value, spread, signature
        entry.pop("unsigned", None)
        if signature is None:
            entry["unsigned"] = f"runs/{entry['file']} has none"
    firsts = tuple(f"{name}_" for name in results.get("comparisons", {}))
    others = [
        name
        for name, entry in results["numbers"].items()
        if "file" not in entry and not name.startswith(firsts)
    ]
    if told:
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if len(told) > compared:
        told.append("to be seen to by hand: commands, and a spread without ends")
    if told and others:
        told.append(f"from no file: {', '.join(others)}")
    return told


class Compared:
    """What a comparison found, as numbers by name and as the lines of a table, of the systems with a test.

    Parameters
    ----------
    name, command : str
    table : mapping
        What table.json of `seqsru compare` has.
    """

    def __init__(self, name: str, command: str, table: Mapping[str, Any]) -> None:
        self.numbers: dict[str, Any] = {}
        self._name, self._command, self._table = name, command, table
        self._rows = [row for row in table["systems"] if row["test"] is not None]

    def lines(self) -> list[str]:
        """The lines, whose numbers are then there."""
        columns = self._columns()
        rows = [[line(row) for _, line in columns] for row in self._rows]
        heads = [head for head, _ in columns]
        return [f"| {' | '.join(one)} |" for one in (heads, ["---"] * len(heads), *rows)]

    def _columns(self) -> list[tuple[str, Callable[[Row], str]]]:
        """The heads, and what stands below each."""
        table, baseline = self._table, self._table["baseline"]
        found: list[tuple[str, Callable[[Row], str]]] = [("", lambda row: row["system"])]
        for name in (table["measure"], *(name for name in table["further"] if name != table["measure"])):
            found.append((f"{table['split']} {name}".replace("_", " "), partial(self._tested, name=name)))
            if baseline is not None:
                found.append((f"to {baseline}", partial(self._against, name=name)))
        found += [
            ("parameters", lambda row: self._put(row, "parameters", row["parameters"], 0)),
            ("passes", lambda row: self._put(row, "passes", _mean(row["passes"]), 1)),
            ("processor ms an update, all in all", self._update),
        ]
        if table["goal"] is not None:
            found.append((f"{table.get('time', 'minutes')} to `{table['goal']:g}`", self._to_goal))
        units = {row["latency"]["unit"] for row in self._rows if row["latency"] is not None}
        found += [(f"ms a {unit}, `P50`", self._latency) for unit in units]
        return found

    def _tested(self, row: Row, name: str) -> str:
        further = row if name == self._table["measure"] else row["further"][name]
        spread = further["interval"][1] if further["interval"] is not None else None
        if further["test"]["n"] > 1:
            spread = further["test"]["deviation"]
        return self._put(row, name, further["test"]["mean"], digits_of(name), spread)

    def _against(self, row: Row, name: str) -> str:
        found = (row if name == self._table["measure"] else row["further"][name])["to_baseline"]
        if found is None:
            return ""
        difference = self._put(
            row, f"{name} less the baseline's", found["difference"], digits_of(name), how="+"
        )
        return f"{difference} (p = {self._put(row, f'p of {name}', found['p_value'], 3)})"

    def _update(self, row: Row) -> str:
        return self._put(row, "ms", 1000 * row["processor_seconds"]["mean"] / row["steps"]["mean"], 0)

    def _to_goal(self, row: Row) -> str:
        seconds = _mean(row["goal_seconds"])
        return self._put(row, "minutes to the goal", None if seconds is None else seconds / 60, 1)

    def _latency(self, row: Row) -> str:
        found = row["latency"]
        kind = "later_tokens" if found and found["unit"] == "token" else "sentences"
        return self._put(row, "latency", found[kind]["p50"] if found else None, 3)

    def _put(
        self,
        row: Row,
        what: str,
        value: float | None,
        digits: int,
        spread: float | None = None,
        how: str = "",
    ) -> str:
        """Make a number, and give what stands for it in a line."""
        if value is None:
            return ""
        runs = row["runs"]
        key = re.sub(r"[^\w-]+", "-", f"{self._name}_{row['system']}_{what}")
        if key in self.numbers:
            raise Disagreement(
                f"expected systems whose names differ in letters in {self._name}, found {key} twice"
            )
        self.numbers[key] = {
            "what": f"{what.replace('_', ' ')} of {row['system']}, {self._name}",
            "value": round(value, digits),
            "digits": digits,
            "spread": None if spread is None else round(spread, digits),
            "command": self._command,
            "signature": runs[0]["signature"] if len(runs) == 1 else None,
        }
        if len(runs) > 1:
            self.numbers[key]["unsigned"] = f"of {len(runs)} trainings, whose signatures the table has"
        how = how or ("spread" if spread is not None else "")
        return f"{{{key}:{how}}}" if how else f"{{{key}}}"


def _mean(spread: Mapping[str, float] | None) -> float | None:
    return None if spread is None else spread["mean"]


def _found(source: Path, place: str, digits: int) -> tuple[float, str | None]:
    """The number at a place in a run's file, and the signature that stands nearest above it."""
    value: Any = json.loads(source.read_text(encoding="utf-8"))
    signature = None
    for key in place.split("."):
        if isinstance(value, dict):
            signature = value.get("signature", signature)
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise Disagreement(
                f"expected {place} in {source}, found no {key}; run the recipe again"
            ) from None
    return round(value, digits), signature


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Do what the flags say; 0, 1 if a README disagrees, 2 if a results file cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, say which README disagrees")
    parser.add_argument("--take", metavar="RECIPE", choices=RECIPES, help="first take what its runs have")
    given = parser.parse_args(arguments)
    wrong = 0
    try:
        if given.take:
            for told in take(root / "recipes" / given.take):
                print(told)
        for path, is_now, should in list(rendered(root)):
            if is_now == should:
                continue
            wrong += 1
            if given.check:
                pairs = zip(is_now.splitlines(), should.splitlines())
                line, (old, new) = next((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1])
                print(f"{path}:{line}: expected {new!r}, found {old!r}; run: python recipes/results.py")
            else:
                path.write_text(should, encoding="utf-8")
                print(f"{path} is new")
    except (Disagreement, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if wrong and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
