"""Strict settings: what is read, what is refused, and the exact sentence of each refusal."""

import pickle
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru import settings as strict
from seqsru.errors import Refused, check_probability
from seqsru.settings import (
    Choice,
    Section,
    Setting,
    SettingsError,
    describe,
    from_signature,
    joined,
    kind_text,
    paths,
    registry,
)
from seqsru.settings.kinds import checked
from seqsru.settings.places import parse


class Sru:
    """The fast cell.

    Parameters
    ----------
    hidden : int
        Width of
        the state.
    version, highway : int
        Two things at once.
    dropout : float
        Share of zeros.
    **rest : object
        What is no setting.

    Raises
    ------
    ValueError
        dropout : never
    """

    def __init__(
        self,
        size: int,
        *,
        hidden: int,
        version: int = 2,
        highway: Literal["auto", "none"] = "auto",
        dropout: float = 0.0,
    ):
        check_probability(dropout=dropout)
        self.size, self.hidden, self.version = size, hidden, version


def lstm(*, hidden: int = 8, bias: bool = True):
    """The classic cell."""


def data(
    train: Path,
    *,
    valid: Path | None = None,
    names: list[str] = ["a"],  # noqa: B006
    limit: "int | None" = None,
    more: tuple[Path, ...] = (),
):
    """Files.

    Parameters
    ----------
    train : Path
        Text to learn from.
    """


def model(cell, *, width: int | float = 1, tied: bool = True):
    """A model."""


CELLS = {"sru": Sru, "lstm": lstm}
SCHEMA = Section(
    {
        "seed": Setting(int, 1, "Seed."),
        "data": from_signature(data),
        "model": from_signature(model, sections={"cell": registry(CELLS, skip=["size"])}),
        "decoding": from_signature(lstm, optional=True),
        "schedule": registry({"constant": lstm}, default="constant", optional=False),
    }
)
GOOD = """\
data:
  train: a.txt
model:
  cell:
    name: sru
    hidden: 512
"""


def load(tmp_path, text, *overrides, schema=SCHEMA):
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return strict.load(path, schema, overrides)


def refused(tmp_path, text, *overrides):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value).replace(f"{tmp_path}/", "").split("\n")


def test_defaults_are_filled_in(tmp_path):
    settings = load(tmp_path, GOOD)
    assert settings.plain() == {
        "seed": 1,
        "data": {"train": Path.cwd() / "a.txt", "valid": None, "names": ["a"], "limit": None, "more": ()},
        "model": {
            "cell": {"name": "sru", "hidden": 512, "version": 2, "highway": "auto", "dropout": 0.0},
            "width": 1,
            "tied": True,
        },
        "decoding": None,
        "schedule": {"name": "constant", "hidden": 8, "bias": True},
    }
    assert settings.places["model.cell.hidden"] == f"{tmp_path}/run.yaml:6"
    assert settings.places["model"] == f"{tmp_path}/run.yaml:3"


def test_the_dump_alone_gives_the_same_settings(tmp_path):
    values = load(
        tmp_path,
        GOOD,
        "data.names=['1e-4', 'no', '', 'null', '1', 'true', 'ä: #']",
        "decoding={}",
        "model.width=1e-4",
        "model.cell.dropout=1e-30",
    ).plain()
    text = strict.dump(values)
    again = load(tmp_path, text)
    assert again.plain() == {**values, "data": {**values["data"], "more": []}}
    assert strict.dump(again.plain()) == text


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
def test_every_plain_value_survives_the_dump(value):
    back = parse(strict.dump({"value": value}), str).plain()["value"]
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("10", 10),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("true", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("12:30:45", "12:30:45"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        (".nan", ".nan"),
        ("[1, [a]]", [1, ["a"]]),
    ],
)
def test_scalars(text, value):
    found = parse(f"key: {text}", str).plain()["key"]
    assert found == value and type(found) is type(value)


def test_short_form_of_a_choice(tmp_path):
    text = GOOD + "schedule: constant\n"
    assert load(tmp_path, text).plain()["schedule"]["hidden"] == 8
    assert load(tmp_path, text, "schedule.hidden=9").plain()["schedule"] == {
        "name": "constant",
        "hidden": 9,
        "bias": True,
    }


def test_numbers_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/you")
    values = load(tmp_path, GOOD, "model.cell.dropout=0", "data.valid=../b", "data.more=[~/c]").plain()
    assert values["model"]["cell"]["dropout"] == 0.0 and isinstance(values["model"]["cell"]["dropout"], float)
    assert values["data"]["valid"] == tmp_path.parent / "b"
    assert values["data"]["more"] == [Path("/home/you/c")]
    assert values["model"]["width"] == 1 and isinstance(values["model"]["width"], int)


@pytest.mark.parametrize(
    "text, problem",
    [
        (
            "model:\n  cell: {name: sru, hiden: 5, hidden: 5}\ndata: {train: a}",
            "run.yaml:2: model.cell.hiden is not a setting; did you mean 'hidden'?",
        ),
        (
            GOOD + "hidden: 3\n",
            "run.yaml:7: hidden is not a setting there; did you mean 'model.cell.hidden'?",
        ),
        (
            GOOD + "zzz: 3\n",
            "run.yaml:7: zzz is not a setting; there are seed, data, model, decoding, schedule",
        ),
        (
            GOOD + "<<: {seed: 3}\n",
            "run.yaml:7: << is not a setting; there are seed, data, model, decoding, schedule",
        ),
        (GOOD + "seed: ten\n", "run.yaml:7: seed: expected a whole number, found 'ten'; change it"),
        (GOOD + "seed: 1.5\n", "run.yaml:7: seed: expected a whole number, found 1.5; change it"),
        (GOOD + "seed: true\n", "run.yaml:7: seed: expected a whole number, found true; change it"),
        (GOOD + "seed:\n", "run.yaml:7: seed: expected a whole number, found null; change it"),
        (GOOD + "seed: {a: 1}\n", "run.yaml:7: seed: expected a whole number, found a section; change it"),
        (GOOD + "  tied: no\n", "run.yaml:7: model.tied: expected true or false, found 'no'; change it"),
        (
            GOOD + "    highway: nine\n",
            "run.yaml:7: model.cell.highway: expected one of 'auto', 'none', found 'nine'; did you mean "
            "'none'?",
        ),
        (
            GOOD + "    dropout: .nan\n",
            "run.yaml:7: model.cell.dropout: expected a number, found '.nan'; change it",
        ),
        (
            "data: {train: a, names: x}\nmodel: {cell: lstm}",
            "run.yaml:1: data.names: expected a list (each text), found 'x'; change it",
        ),
        (
            "data: {train: a, names: [x, 1]}\nmodel: {cell: lstm}",
            "run.yaml:1: data.names: expected a list (each text), found ['x', 1]; change it",
        ),
        (
            "data: {train: a, limit: x}\nmodel: {cell: lstm}",
            "run.yaml:1: data.limit: expected a whole number or null, found 'x'; change it",
        ),
        (
            "data: {train: ''}\nmodel: {cell: lstm}",
            "run.yaml:1: data.train: expected a path, found ''; change it",
        ),
        (
            "data: {train: 5}\nmodel: {cell: lstm}",
            "run.yaml:1: data.train: expected a path, found 5; change it",
        ),
        (
            "data: {}\nmodel: {cell: lstm}",
            "run.yaml:1: data.train: expected a path, found nothing; set it: Text to learn from",
        ),
        (
            "model: {cell: lstm}",
            "run.yaml:1: data.train: expected a path, found nothing; set it: Text to learn from",
        ),
        (
            "model: {cell: sru}\ndata: {train: a}",
            "run.yaml:1: model.cell.hidden: expected a whole number, found nothing; "
            "set it: Width of the state",
        ),
        (
            "data: {train: a}\nmodel: {cell: sur}",
            "run.yaml:2: model.cell.name: expected one of sru, lstm, found 'sur'; did you mean 'sru'?",
        ),
        (
            "data: {train: a}\nmodel: {cell: {name: 5}}",
            "run.yaml:2: model.cell.name: expected one of sru, lstm, found 5; choose one",
        ),
        (
            "data: {train: a}\nmodel: {cell: {hidden: 5}}",
            "run.yaml:2: model.cell.name: expected one of sru, lstm, found nothing; choose one",
        ),
        (
            "data: {train: a}\nmodel: {cell: {name: lstm, version: 2}}",
            "run.yaml:2: model.cell.version is not a setting; there are hidden, bias",
        ),
        (
            "data: a\nmodel: {cell: lstm}",
            "run.yaml:1: data: expected a section, found 'a'; write its settings below it",
        ),
        (
            "data: {train: a}\nmodel: {cell: [lstm]}",
            "run.yaml:2: model.cell: expected a section, found ['lstm']; write its settings below it",
        ),
        ("- a", "run.yaml:1: expected settings, found ['a']; write name: value"),
        ("a", "run.yaml:1: expected settings, found 'a'; write name: value"),
        (
            "seed: 1\ndata: {train: a}\nseed: 2",
            "run.yaml:3: seed: expected it once, found it twice, first at run.yaml:1; remove one",
        ),
        (
            "data:\n  train: a\n  train: b",
            "run.yaml:3: data.train: expected it once, found it twice, first at run.yaml:2; remove one",
        ),
        (
            "seed: &a [*a]",
            "run.yaml:1: seed: expected a value that ends, found one that contains itself; remove the alias",
        ),
        (
            "seed: !!python/name:os.system x",
            "run.yaml:1: seed: expected a plain value, found the tag "
            "tag:yaml.org,2002:python/name:os.system; remove it",
        ),
        (
            "seed: !!int x",
            "run.yaml:1: seed: expected a plain value, found the tag tag:yaml.org,2002:int; remove it",
        ),
        (
            "!!set {a, b}",
            "run.yaml:1: expected a plain value, found the tag tag:yaml.org,2002:set; remove it",
        ),
        (
            "[1, 2]: 3",
            "run.yaml:1: expected the name of a setting, found a list or a section; write name: value",
        ),
        ("a.b: 3", "run.yaml:1: expected the name of a setting, found 'a.b'; write name: value"),
        (
            b"seed: 1\ndata: \xff",
            "run.yaml:2: expected UTF-8, found the byte 0xff at offset 14; save the file as UTF-8",
        ),
        ("seed: 1\ndata: \x07", "run.yaml:2: expected text, found the control character #x0007; remove it"),
    ],
)
def test_one_line_a_problem(tmp_path, text, problem):
    assert refused(tmp_path, text) == [problem]


@pytest.mark.parametrize(
    "text, where",
    [
        ("seed: [1,\nmodel: 2", "run.yaml:2"),
        ("seed: 1\n\tdata: 3", "run.yaml:2"),
        ("a: b: c", "run.yaml:1"),
        ("seed: 1\n---\nseed: 2", "run.yaml:2"),
        ("seed: *nowhere", "run.yaml:1"),
        ("seed: 'x", "run.yaml:1"),
    ],
)
def test_broken_yaml(tmp_path, text, where):
    (problem,) = refused(tmp_path, text)
    assert re.fullmatch(
        rf"{where}: expected YAML, found a mistake \(.*\); check indentation, colons, "
        "brackets and quotes there",
        problem,
    )


def test_all_problems_are_found_at_once(tmp_path):
    assert refused(tmp_path, "seed: x\nmodel: {cell: {name: sru, hidden: 1, dropuot: 1}, tied: 1}") == [
        "run.yaml:1: seed: expected a whole number, found 'x'; change it",
        "run.yaml:1: data.train: expected a path, found nothing; set it: Text to learn from",
        "run.yaml:2: model.cell.dropuot is not a setting; did you mean 'dropout'?",
        "run.yaml:2: model.tied: expected true or false, found 1; change it",
    ]


def test_overrides(tmp_path):
    values = load(
        tmp_path,
        GOOD,
        "seed=3",
        "model.cell={name: lstm, bias: false}",
        "decoding.bias=true",
        "data.limit=",
        "data.names=[a b, c=d]",
    ).plain()
    assert values["seed"] == 3
    assert values["model"]["cell"] == {"name": "lstm", "hidden": 8, "bias": False}
    assert values["decoding"] == {"hidden": 8, "bias": True}
    assert values["data"]["limit"] is None and values["data"]["names"] == ["a b", "c=d"]
    assert load(tmp_path, "", "data.train=x", "model.cell=lstm").plain()["model"]["cell"]["name"] == "lstm"
    assert load(tmp_path, GOOD, "decoding={}").plain()["decoding"] == {"hidden": 8, "bias": True}
    assert load(tmp_path, GOOD + "decoding: {}\n", "decoding=null").plain()["decoding"] is None


@pytest.mark.parametrize(
    "override, problem",
    [
        ("model.cell.hiden=5", "command line: model.cell.hiden is not a setting; did you mean 'hidden'?"),
        (
            "model.cell.hidden=big",
            "command line: model.cell.hidden: expected a whole number, found 'big'; change it",
        ),
        ("modle.cell=lstm", "command line: modle is not a setting; did you mean 'model'?"),
        ("seed", "command line: expected key.path=value, found 'seed'; write for example optimizer.lr=1e-3"),
        ("=5", "command line: expected key.path=value, found '=5'; write for example optimizer.lr=1e-3"),
        (
            "a..b=5",
            "command line: expected key.path=value, found 'a..b=5'; write for example optimizer.lr=1e-3",
        ),
        (
            "model.cell.hidden.more=1",
            "command line: model.cell.hidden.more: expected a section around it, found model.cell.hidden = "
            "512, which has no settings of its own; set it whole",
        ),
        (
            "model.cell={name: lstm, name: sru}",
            "command line: model.cell.name: expected it once, found it twice, first at command line; remove "
            "one",
        ),
        ("model.cell.name=lstm", None),
    ],
)
def test_overrides_are_checked_the_same_way(tmp_path, override, problem):
    if problem is None:
        assert load(tmp_path, GOOD, override).plain()["model"]["cell"]["name"] == "lstm"
    else:
        assert refused(tmp_path, GOOD, override) == [problem]


def test_an_override_given_twice(tmp_path):
    assert refused(tmp_path, GOOD, "seed=1", "seed=2") == [
        "command line: seed: expected it once, found it twice; remove one"
    ]


def test_an_override_of_bad_yaml(tmp_path):
    (problem,) = refused(tmp_path, GOOD, "seed=[1")
    assert problem.startswith("command line: seed: expected YAML, found a mistake (")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        strict.load(tmp_path / "none.yaml", SCHEMA)


def test_what_an_object_refuses_has_its_line(tmp_path):
    values = load(tmp_path, GOOD + "    dropout: 2\n", "seed=5")
    with pytest.raises(SettingsError) as caught:
        values["model"]["cell"].make(1)
    assert str(caught.value) == (
        f"{tmp_path}/run.yaml:7: model.cell.dropout: expected a probability from 0 to below 1, found 2.0; 0 "
        "switches it off"
    )
    (problem,) = caught.value.problems
    assert (problem.refusal.setting, problem.refusal.found) == ("model.cell.dropout", "2.0")

    def told(section, setting):
        return str(section.error(Refused("a", "b", "c", setting)))

    assert told(values["model"]["cell"], None) == f"{tmp_path}/run.yaml:4: model.cell: expected a, found b; c"
    # Named in a section inside, by a dotted path, a default, and something that is no setting.
    assert told(values, "dropout").startswith(f"{tmp_path}/run.yaml:7: model.cell.dropout: ")
    assert told(values, "cell.hidden").startswith(f"{tmp_path}/run.yaml:6: cell.hidden: ") is False
    assert told(values["model"], "cell.hidden").startswith(f"{tmp_path}/run.yaml:6: model.cell.hidden: ")
    assert told(values, "schedule.bias").startswith(f"{tmp_path}/run.yaml:1: schedule.bias: ")
    assert told(values, "seed") == "command line: seed: expected a, found b; c"
    # An argument that no setting gives is named, but never as a setting that does not exist.
    said = "expected a for weather, found b; c"
    assert told(values["model"], "weather") == f"{tmp_path}/run.yaml:3: model: {said}"
    assert told(values, "weather").endswith(f"run.yaml:1: {said}")


def test_a_section_makes_what_it_was_read_from(tmp_path):
    cell = load(tmp_path, GOOD).get("model")["cell"].make(7)
    assert isinstance(cell, Sru) and (cell.size, cell.hidden, cell.version) == (7, 512, 2)
    assert load(tmp_path, GOOD, "model.cell.hidden=3")["model"]["cell"].make(size=7, hidden=4).hidden == 4


def outer(*, cell: str, options: dict[str, object], inner: object, more: object = None):
    """Takes a name and options apart, and an object."""
    return cell, options, inner, more


def test_sections_inside_are_made_first_and_names_given_beside_options(tmp_path):
    chosen = replace(registry(CELLS, skip=["size"]), options="options")
    inner = from_signature(inner_of)
    schema = Section(
        {
            "outer": from_signature(
                outer,
                sections={"cell": chosen, "inner": inner, "more": from_signature(inner_of, optional=True)},
            )
        }
    )
    values = load(tmp_path, "outer: {cell: {name: lstm, hidden: 2}, inner: {x: 3}}", schema=schema)["outer"]
    assert values.make() == ("lstm", {"hidden": 2, "bias": True}, ("made", 3), None)
    assert values.make(inner=None, more=5) == ("lstm", {"hidden": 2, "bias": True}, None, 5)


def inner_of(*, x: int = 0):
    """An object."""
    return "made", x


def test_a_joined_section_makes_one_thing_at_a_time(tmp_path):
    schema = Section({"both": joined(from_signature(inner_of), from_signature(lstm))})
    values = load(tmp_path, "both: {x: 3, hidden: 5}", schema=schema)["both"]
    assert values.of(inner_of).make() == ("made", 3)
    assert dict(values.of(lstm)) == {"hidden": 5, "bias": True}
    with pytest.raises(TypeError, match="the setting x would mean two things"):
        joined(from_signature(inner_of), from_signature(inner_of))


@dataclass(frozen=True)
class Renamed:
    """Settings that had other names."""

    validation: int = field(default=1, metadata={"formerly": "valid"})
    epochs: int = field(default=2, metadata={"may_change": True})


def test_earlier_names_are_read_and_the_present_ones_written(tmp_path):
    schema = Section(
        {"data": from_signature(Renamed), "section": replace(from_signature(lstm), formerly="old")}
    )
    values = load(tmp_path, "data:\n  valid: 3\nold: {hidden: 1}", schema=schema)
    assert values.plain() == {"data": {"validation": 3, "epochs": 2}, "section": {"hidden": 1, "bias": True}}
    assert values.places["data.validation"] == f"{tmp_path}/run.yaml:2"
    assert values.lasting() == {"data.validation": 3, "section.hidden": 1, "section.bias": True}
    over = load(tmp_path, "data: {validation: 3}", "data.valid=4", "old.hidden=9", schema=schema)
    assert over["data"]["validation"] == 4 and over["section"]["hidden"] == 9
    with pytest.raises(SettingsError, match="data.validation: expected it once, found it twice, as valid at"):
        load(tmp_path, "data: {validation: 3, valid: 4}", schema=schema)
    with pytest.raises(SettingsError, match="data.valdation is not a setting; did you mean 'validation'"):
        load(tmp_path, "data: {valdation: 3}", schema=schema)


def plain_valid(valid: int = 5):
    """A setting that has the name which another entry's had."""


def test_an_earlier_name_is_that_of_its_own_section(tmp_path):
    data = {"old": from_signature(Renamed), "new": from_signature(plain_valid)}
    schema = Choice({name: Section({"data": section}) for name, section in data.items()}, key="task")
    for text in ("task: new\ndata: {valid: 3}", "data: {valid: 3}\ntask: old"):
        values = load(tmp_path, text, "task=new", schema=schema)
        assert values.plain() == {"task": "new", "data": {"valid": 3}}
    assert load(tmp_path, "task: old\ndata: {valid: 3}", schema=schema)["data"]["validation"] == 3
    # The same one level deeper, where nothing has been chosen yet.
    nested = Section({"data": Choice(data)})
    assert load(tmp_path, "data: {name: new, valid: 3}", schema=nested)["data"]["valid"] == 3


def test_an_unknown_name_as_an_object(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, GOOD + "hidden: 3\n")
    assert caught.value.setting == "hidden" and caught.value.do == "did you mean 'model.cell.hidden'?"


def test_the_error_survives_a_process_boundary(tmp_path):
    with pytest.raises(SettingsError) as caught:
        strict.resolve(SCHEMA, ["seed=x"])
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.setting == "seed"


def test_check_of_flags():
    section = from_signature(lstm)
    assert strict.check(section, {"hidden": "5"}).plain() == {"hidden": 5, "bias": True}
    with pytest.raises(
        SettingsError, match="^command line: hidden: expected a whole number, found 'x'; change it$"
    ):
        strict.check(section, {"hidden": "x"})
    with pytest.raises(SettingsError, match=r"^command line: hidden: expected YAML, found a mistake \("):
        strict.check(section, {"hidden": "[1"})


def test_a_flag_is_left_out_and_never_null():
    section = Section({"limit": Setting(int | None, None), "name": Setting(Literal["a", "b"] | None, None)})
    assert strict.check(section, {}).plain() == {"limit": None, "name": None}
    assert strict.check(section, {"limit": "3", "name": "a"}).plain() == {"limit": 3, "name": "a"}
    for name, expected in (
        ("limit", "a whole number, found null; change it"),
        ("name", "one of 'a', 'b', found 'null'; change it"),
    ):
        with pytest.raises(SettingsError, match=f"^command line: {name}: expected {expected}$"):
            strict.check(section, {name: "null"})


def test_texts_and_types_come_from_the_signature():
    section = from_signature(Sru, skip=["size"])
    assert section.text == "The fast cell."
    assert section.entries["hidden"] == Setting(int, section.entries["hidden"].default, "Width of the state.")
    assert section.entries["highway"] == Setting(Literal["auto", "none"], "auto", "Two things at once.")
    assert section.entries["dropout"].text == "Share of zeros."
    assert list(paths(registry(CELLS, skip=["size"]))) == [
        "name",
        "hidden",
        "version",
        "highway",
        "dropout",
        "hidden",
        "bias",
    ]


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        (lambda x: None, {}, "parameter x is not one named, annotated setting"),
        (lambda **x: None, {}, "parameter x is not one named, annotated setting"),
        (lstm, {"skip": ["hiden"]}, "lstm has no parameter hiden"),
        (lstm, {"sections": {"hiden": Section({})}}, "lstm has no parameter hiden"),
    ],
)
def test_a_signature_that_is_no_schema_is_a_bug(function, arguments, message):
    with pytest.raises(TypeError, match=message):
        from_signature(function, **arguments)


def test_a_type_no_setting_can_have():
    def odd(values: dict[str, int]):
        """Odd."""

    with pytest.raises(TypeError, match=r"odd: parameter values: no setting can be of type dict\[str, int\]"):
        from_signature(odd)
    for kind in (tuple[int, str], object, list):
        with pytest.raises(TypeError, match="no setting can be of type"):
            kind_text(kind)


@pytest.mark.parametrize(
    "kind, words",
    [
        (int | None, "a whole number or null"),
        (Optional[str], "text or null"),  # noqa: UP045 -- as some write it
        (list[Path], "a list (each a path)"),
        (Literal["a"] | int, "'a' or a whole number"),
        (Literal["a", 2], "one of 'a', 2"),
        (str | Path, "text or a path"),
        (tuple[float, ...], "a list (each a number)"),
    ],
)
def test_types_in_words(kind, words):
    assert kind_text(kind) == words
    with pytest.raises(Refused, match=re.escape(f"expected {words}, found true; change it")):
        checked(True, kind)


def test_a_choice_is_not_confused_by_equal_values_of_other_types():
    with pytest.raises(Refused):
        checked(True, Literal[1, 2])
    assert checked(2, Literal[1, 2]) == 2


def test_describe_shows_every_setting_with_default_and_text():
    text = describe(SCHEMA)
    assert text.splitlines()[:4] == [
        "seed: 1  # a whole number. Seed.",
        "data:  # Files.",
        "  train:  # a path (required). Text to learn from.",
        "  valid: null  # a path or null",
    ]
    assert "    name: sru  # The fast cell." in text
    assert "      hidden:  # a whole number (required). Width of the state." in text
    assert "decoding:  # (may be left out) The classic cell." in text
    assert "  name: constant  # The classic cell. (default)" in text
    assert max(map(len, describe(SCHEMA, width=60).splitlines())) <= 60


def test_the_choice_key_may_have_another_name(tmp_path):
    schema = Choice(
        {"lm": Section({"a": Setting(int, 1)}), "mt": Section({"b": Setting(int, 2)})}, key="task"
    )
    path = tmp_path / "x.yaml"
    path.write_text("task: mt\n")
    assert strict.load(path, schema).plain() == {"task": "mt", "b": 2}
    path.write_text("task: mt\na: 1\n")
    with pytest.raises(SettingsError, match=r":2: a is not a setting; there are b$"):
        strict.load(path, schema)
    assert strict.resolve(schema, ["task=lm", "a=5"]).plain() == {"task": "lm", "a": 5}
