"""Strict settings: what is read, what is refused, and the exact sentence of each refusal."""

import re
from pathlib import Path
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsru import config
from seqsru.config import ConfigError
from seqsru.places import parse
from seqsru.schema import (
    Choice,
    Mismatch,
    Section,
    Setting,
    checked,
    describe,
    from_signature,
    kind_text,
    paths,
    registry,
)


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
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout should be from 0 to below 1, not {dropout}")


def lstm(*, hidden: int = 8, bias: bool = True):
    """The classic cell."""


def data(
    train: Path,
    *,
    valid: Path | None = None,
    names: list[str] = ["a"],
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
    try:
        return config.load(path, schema, overrides)
    except ConfigError as error:
        raise ConfigError([problem.replace(f"{tmp_path}/", "") for problem in error.problems]) from None


def refused(tmp_path, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return caught.value.problems


def test_defaults_are_filled_in(tmp_path):
    settings = load(tmp_path, GOOD)
    assert settings.values == {
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
    ).values
    text = config.dump(values)
    again = load(tmp_path, text)
    assert again.values == {**values, "data": {**values["data"], "more": []}}
    assert config.dump(again.values) == text


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
def test_every_plain_value_survives_the_dump(value):
    back = parse(config.dump({"value": value}), str).plain()["value"]
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
    assert load(tmp_path, text).values["schedule"]["hidden"] == 8
    assert load(tmp_path, text, "schedule.hidden=9").values["schedule"] == {
        "name": "constant",
        "hidden": 9,
        "bias": True,
    }


def test_numbers_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/you")
    values = load(tmp_path, GOOD, "model.cell.dropout=0", "data.valid=../b", "data.more=[~/c]").values
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
        (GOOD + "seed: ten\n", "run.yaml:7: seed must be a whole number, found 'ten'"),
        (GOOD + "seed: 1e3\n", "run.yaml:7: seed must be a whole number, found 1000"),
        (GOOD + "seed: true\n", "run.yaml:7: seed must be a whole number, found true"),
        (GOOD + "seed:\n", "run.yaml:7: seed must be a whole number, found null"),
        (GOOD + "seed: {a: 1}\n", "run.yaml:7: seed must be a whole number, found a section"),
        (GOOD + "  tied: no\n", "run.yaml:7: model.tied must be true or false, found 'no'"),
        (
            GOOD + "    highway: nine\n",
            "run.yaml:7: model.cell.highway must be one of 'auto', 'none', found 'nine'; did you mean 'none'?",
        ),
        (GOOD + "    dropout: .nan\n", "run.yaml:7: model.cell.dropout must be a number, found '.nan'"),
        (
            "data: {train: a, names: x}\nmodel: {cell: lstm}",
            "run.yaml:1: data.names must be a list (each text), found 'x'",
        ),
        (
            "data: {train: a, names: [x, 1]}\nmodel: {cell: lstm}",
            "run.yaml:1: data.names must be a list (each text), found ['x', 1]",
        ),
        (
            "data: {train: a, limit: x}\nmodel: {cell: lstm}",
            "run.yaml:1: data.limit must be a whole number or null, found 'x'",
        ),
        ("data: {train: ''}\nmodel: {cell: lstm}", "run.yaml:1: data.train must be a path, found ''"),
        ("data: {train: 5}\nmodel: {cell: lstm}", "run.yaml:1: data.train must be a path, found 5"),
        ("data: {}\nmodel: {cell: lstm}", "run.yaml:1: data.train is missing; set it: Text to learn from."),
        ("model: {cell: lstm}", "run.yaml:1: data.train is missing; set it: Text to learn from."),
        (
            "model: {cell: sru}\ndata: {train: a}",
            "run.yaml:1: model.cell.hidden is missing; set it: Width of the state.",
        ),
        (
            "data: {train: a}\nmodel: {cell: sur}",
            "run.yaml:2: model.cell.name must be one of sru, lstm, found 'sur'; did you mean 'sru'?",
        ),
        (
            "data: {train: a}\nmodel: {cell: {name: 5}}",
            "run.yaml:2: model.cell.name must be one of sru, lstm, found 5",
        ),
        (
            "data: {train: a}\nmodel: {cell: {hidden: 5}}",
            "run.yaml:2: model.cell.name is missing; it is one of sru, lstm",
        ),
        (
            "data: {train: a}\nmodel: {cell: {name: lstm, version: 2}}",
            "run.yaml:2: model.cell.version is not a setting; there are hidden, bias",
        ),
        ("data: a\nmodel: {cell: lstm}", "run.yaml:1: data must be a section, found 'a'"),
        (
            "data: {train: a}\nmodel: {cell: [lstm]}",
            "run.yaml:2: model.cell must be a section, found ['lstm']",
        ),
        ("- a", "run.yaml:1: expected settings, found ['a']; write name: value"),
        ("a", "run.yaml:1: expected settings, found 'a'; write name: value"),
        (
            "seed: 1\ndata: {train: a}\nseed: 2",
            "run.yaml:3: seed is given twice, first at run.yaml:1; remove one",
        ),
        (
            "data:\n  train: a\n  train: b",
            "run.yaml:3: data.train is given twice, first at run.yaml:2; remove one",
        ),
        ("seed: &a [*a]", "run.yaml:1: seed contains itself; remove the alias"),
        (
            "seed: !!python/name:os.system x",
            "run.yaml:1: seed must be a plain value, found the tag tag:yaml.org,2002:python/name:os.system; remove "
            "it",
        ),
        (
            "seed: !!int x",
            "run.yaml:1: seed must be a plain value, found the tag tag:yaml.org,2002:int; remove it",
        ),
        (
            "!!set {a, b}",
            "run.yaml:1: the value must be a plain value, found the tag tag:yaml.org,2002:set; remove it",
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
        "run.yaml:1: seed must be a whole number, found 'x'",
        "run.yaml:1: data.train is missing; set it: Text to learn from.",
        "run.yaml:2: model.cell.dropuot is not a setting; did you mean 'dropout'?",
        "run.yaml:2: model.tied must be true or false, found 1",
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
    ).values
    assert values["seed"] == 3
    assert values["model"]["cell"] == {"name": "lstm", "hidden": 8, "bias": False}
    assert values["decoding"] == {"hidden": 8, "bias": True}
    assert values["data"]["limit"] is None and values["data"]["names"] == ["a b", "c=d"]
    assert load(tmp_path, "", "data.train=x", "model.cell=lstm").values["model"]["cell"]["name"] == "lstm"
    assert load(tmp_path, GOOD, "decoding={}").values["decoding"] == {"hidden": 8, "bias": True}
    assert load(tmp_path, GOOD + "decoding: {}\n", "decoding=null").values["decoding"] is None


@pytest.mark.parametrize(
    "override, problem",
    [
        ("model.cell.hiden=5", "command line: model.cell.hiden is not a setting; did you mean 'hidden'?"),
        ("model.cell.hidden=big", "command line: model.cell.hidden must be a whole number, found 'big'"),
        ("modle.cell=lstm", "command line: modle is not a setting; did you mean 'model'?"),
        ("seed", "command line: expected key.path=value, found 'seed'; write for example optimizer.lr=1e-3"),
        ("=5", "command line: expected key.path=value, found '=5'; write for example optimizer.lr=1e-3"),
        (
            "a..b=5",
            "command line: expected key.path=value, found 'a..b=5'; write for example optimizer.lr=1e-3",
        ),
        (
            "model.cell.hidden.more=1",
            "command line: model.cell.hidden.more: model.cell.hidden is 512, which has no settings of its own; set "
            "it whole",
        ),
        (
            "model.cell={name: lstm, name: sru}",
            "command line: name is given twice, first at command line; remove one",
        ),
        ("model.cell.name=lstm", None),
    ],
)
def test_overrides_are_checked_the_same_way(tmp_path, override, problem):
    if problem is None:
        assert load(tmp_path, GOOD, override).values["model"]["cell"]["name"] == "lstm"
    else:
        assert refused(tmp_path, GOOD, override) == [problem]


def test_an_override_given_twice(tmp_path):
    assert refused(tmp_path, GOOD, "seed=1", "seed=2") == ["command line: seed is given twice; remove one"]


def test_an_override_of_bad_yaml(tmp_path):
    (problem,) = refused(tmp_path, GOOD, "seed=[1")
    assert problem.startswith("command line: expected YAML, found a mistake (")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        config.load(tmp_path / "none.yaml", SCHEMA)


def test_what_an_object_refuses_has_its_line(tmp_path):
    settings = load(tmp_path, GOOD + "    dropout: 2\n", "seed=5")
    with pytest.raises(ValueError) as caught:
        Sru(1, hidden=1, dropout=2)
    found = settings.problem("model.cell", str(caught.value))
    assert str(found) == (
        f"{tmp_path}/run.yaml:7: model.cell.dropout: dropout should be from 0 to below 1, not 2"
    )
    assert str(settings.problem("model.cell", "no")) == f"{tmp_path}/run.yaml:4: model.cell: no"
    assert str(settings.problem("schedule.name", "no")) == f"{tmp_path}/run.yaml:1: schedule.name: no"
    assert str(settings.problem("seed", "no")) == "command line: seed: no"


def test_check_of_flags():
    section = from_signature(lstm)
    assert config.check(section, {"hidden": "5"}).values == {"hidden": 5, "bias": True}
    with pytest.raises(ConfigError, match="^command line: hidden must be a whole number, found 'x'$"):
        config.check(section, {"hidden": "x"})


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
        (Optional[str], "text or null"),
        (list[Path], "a list (each a path)"),
        (Literal["a"] | int, "'a' or a whole number"),
        (Literal["a", 2], "one of 'a', 2"),
        (str | Path, "text or a path"),
        (tuple[float, ...], "a list (each a number)"),
    ],
)
def test_types_in_words(kind, words):
    assert kind_text(kind) == words
    with pytest.raises(Mismatch, match=re.escape(f"must be {words}, found true")):
        checked(True, kind)


def test_a_choice_is_not_confused_by_equal_values_of_other_types():
    with pytest.raises(Mismatch):
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
    assert config.load(path, schema).values == {"task": "mt", "b": 2}
    path.write_text("task: mt\na: 1\n")
    with pytest.raises(ConfigError, match=r":2: a is not a setting; there are b$"):
        config.load(path, schema)
    assert config.resolve(schema, ["task=lm", "a=5"]).values == {"task": "lm", "a": 5}
