"""What the table says of numbers that are none, of missing runs, and of a machine that was shared."""

import csv
import io
import json
import math
import statistics

import pytest

from seqsru.comparing import plots, table
from seqsru.comparing.forms import as_csv, markdown
from seqsru.comparing.plots import _one_at_a_depth, plot_all
from seqsru.data.json_files import finite

ROW = {
    "system": "A",
    "depth": None,
    "label": "sru",
    "parameters": 10,
    "width": None,
    "test": {"mean": math.inf, "deviation": math.nan, "n": 2},
    "validation": None,
    "tokens_per_second": None,
    "update_milliseconds": None,
    "goal_seconds": None,
    "seconds": {"mean": 60.0, "deviation": 0.0, "n": 1},
    "processor_seconds": {"mean": 30.0, "deviation": 0.0, "n": 1},
    "busy": None,
    "peak_bytes": 3_000_000,
    "steps": None,
    "passes": {"mean": 1.25, "deviation": 0.0, "n": 1},
    "interval": None,
    "further": {
        "chrf": {
            "test": {"mean": 50.0, "deviation": 0.0, "n": 1},
            "interval": [50.1, 1.5],
            "to_baseline": {"difference": -0.5, "p_value": 0.25, "seeds": [1]},
        }
    },
    "latency": None,
    "to_baseline": None,
    "runs": [{"test": math.inf, "curve": [(1.0, None)], "signature": None, "numbers": None}],
}
TABLE = {
    "budget": "1 minutes",
    "seeds": [1],
    "jobs": 1,
    "split": "test",
    "baseline": None,
    "goal": None,
    "time": "minutes",
    "depth": None,
    "measure": "perplexity",
    "further": {"chrf": {"higher_is_better": True}},
    "higher_is_better": False,
    "validation_metric": "perplexity",
    "validation_higher_is_better": False,
    "made": None,
    "systems": [ROW],
    "search": {},
    "warnings": ["told"],
}


def test_numbers_beyond_all_numbers_are_null_and_drawn_nowhere(tmp_path):
    assert json.loads(json.dumps(finite(TABLE), allow_nan=False))["systems"][0]["test"]["mean"] is None
    plot_all(TABLE, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert markdown(TABLE).splitlines()[2] == (
        "| A | inf ± nan (2) | 50.00 (95 % ± 1.50) |  | 10 |  |  | 1.0 | 1.2 | 0.5 | 3 |"
    )
    assert as_csv(TABLE).splitlines()[1].startswith("A,,10,,inf,nan,2,")


def test_bits_have_a_digit_more_than_percent_and_perplexities():
    one = {"mean": 1.50049, "deviation": 0.0, "n": 1}
    compared = {"difference": -0.01951, "p_value": 0.25, "seeds": [1]}
    row = {**ROW, "test": one, "interval": [1.5, 0.00449], "to_baseline": compared, "validation": one}
    named = {"measure": "bits_per_token", "validation_metric": "bits_per_token", "baseline": "A"}
    search = {"A": {"settings": {"optimizer.lr": 0.1}, "trial": 1, "trials": {"1": {}}, "value": 1.60049}}
    shown = markdown({**TABLE, **named, "systems": [row], "search": search})
    assert shown.splitlines()[2].startswith(
        "| A | 1.500 (95 % ± 0.004) | -0.020 (p = 0.250) | 50.00 (95 % ± 1.50) | -0.50 (p = 0.250) | 1.500 | "
    )
    assert "trial 1 of 1, optimizer.lr 0.1; validation 1.600 at the end of the search.\n" in shown


def test_a_further_measure_has_its_columns():
    head = markdown({**TABLE, "baseline": "B"}).splitlines()[0]
    assert head.startswith("| system | test perplexity | to B | test chrf | to B | validation perplexity | ")
    assert "| -0.50 (p = 0.250) |" in markdown({**TABLE, "baseline": "B"}).splitlines()[2]
    (row,) = csv.DictReader(as_csv(TABLE).splitlines())
    found = {name: value for name, value in row.items() if name.startswith("chrf_")}
    assert found == {
        "chrf_mean": "50.0",
        "chrf_deviation": "0.0",
        "chrf_n": "1",
        "chrf_middle": "50.1",
        "chrf_half": "1.5",
        "chrf_difference": "-0.5",
        "chrf_compared_n": "1",
        "chrf_p_value": "0.25",
    }
    assert (row["difference"], row["interval_half"], row["passes_mean"]) == ("", "", "1.25")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The axes of what is drawn, by the name of the file."""
    found = {}

    def keep(figure, path):
        found[path.name] = figure.axes[0]

    monkeypatch.setattr(plots, "save", keep)

    def draw(**changed):
        plot_all({**TABLE, **changed}, tmp_path)
        return found

    return draw


def of(*tests, interval=None, curve=((90.0, 5.0), (180.0, 4.0))):
    mean, deviation = statistics.mean(tests), statistics.pstdev(tests)
    return {
        **ROW,
        "test": {"mean": mean, "deviation": deviation, "n": len(tests)},
        "interval": interval,
        "runs": [{"test": one, "curve": curve} for one in tests],
    }


ONE, NONE, TWO = of(4.0, interval=[4.1, 0.5]), of(4.0), of(3.0, 5.0)


@pytest.mark.parametrize(
    "rows, told",
    [
        ([ONE], ", bars 95 % of the resamples of one test"),
        ([TWO], ", bars one standard deviation"),
        ([NONE], ""),
        ([TWO, ONE, NONE], ", bars one standard deviation or 95 % of the resamples of one test"),
    ],
)
def test_bars_are_what_the_title_says(drawn, rows, told):
    """A deviation of one training is none."""
    axes = drawn(systems=rows)["quality.png"]
    assert axes.get_title() == f"1 minutes each; dots are seeds{told}"
    ends = {id(NONE): None, id(ONE): [3.6, 4.6], id(TWO): [3.0, 5.0]}
    bars = [one.lines[2][0].get_segments()[0][:, 0].tolist() for one in axes.containers if one.has_xerr]
    assert bars == [pytest.approx(ends[id(row)]) for row in rows if ends[id(row)]]


@pytest.mark.parametrize("time", ["minutes", "processor minutes"])
@pytest.mark.parametrize("last, unit", [(119.0, "seconds"), (180.0, "minutes")])
def test_curves_go_over_the_time_of_the_budget(drawn, time, last, unit):
    axes = drawn(systems=[of(4.0, curve=((90.0, 5.0), (last, 4.0)))], time=time)["curves.png"]
    assert axes.get_xlabel() == f"{time.replace('minutes', unit)} of training"
    assert axes.lines[0].get_xdata()[1] == pytest.approx(last / (60 if unit == "minutes" else 1))


@pytest.mark.parametrize(
    "tests, higher, scale",
    [((100.0, 640.0), False, "log"), ((100.0, 399.0), False, "linear"), ((10.0, 90.0), True, "linear")],
)
def test_a_perplexity_far_from_the_others_leaves_them_apart(drawn, tests, higher, scale):
    rows = [{**of(one, curve=((90.0, one),)), "depth": depth} for depth, one in enumerate(tests, 1)]
    found = drawn(
        systems=rows,
        depth="model.stack.num_layers",
        higher_is_better=higher,
        validation_higher_is_better=higher,
    )
    assert found["depth.png"].get_yscale() == found["curves.png"].get_yscale() == scale


def test_without_matplotlib_one_line_says_so(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    known = {**ROW, "runs": [{"test": 1.0, "curve": [(1.0, 2.0)], "signature": None}]}
    monkeypatch.setattr(table, "summary", lambda *given: {**TABLE, "systems": [known]})
    told = []

    class Spec:
        class options:
            output = tmp_path

    table.write_tables(Spec, {}, {}, None, told.append)
    assert told == [
        f"no plots: plot: expected matplotlib to draw {tmp_path}/curves.png, found it not installed; "
        'run: pip install "seqsru[plot]"'
    ]
    assert (tmp_path / "table.md").exists()


def test_a_difference_of_some_seeds_and_a_goal_that_some_reached_say_so():
    chrf = {**ROW["further"]["chrf"], "to_baseline": {"difference": 0.5, "p_value": 0.25, "seeds": [2, 3]}}
    runs = ROW["runs"] * 3
    row = {**ROW, "runs": runs, "goal_seconds": {"mean": 90.0, "deviation": 0.0, "n": 1}}
    table = {**TABLE, "seeds": [1, 2, 3], "baseline": "LSTM", "goal": 7.0}
    shown = markdown({**table, "systems": [{**row, "further": {"chrf": chrf}}]})
    assert "| +0.50 (p = 0.250, seed 2, 3) |" in shown and "| 1.5 (1 of 3) |" in shown
    (found,) = csv.DictReader(io.StringIO(as_csv({**table, "systems": [{**row, "further": {"chrf": chrf}}]})))
    assert found["chrf_compared_n"] == "2" and found["compared_n"] == ""


def test_variants_of_a_cell_are_lines_of_their_own_over_depth():
    rows = [("a-1", "sru", 1.0), ("b-1", "sru", 1.0), ("a-2", "sru", 2.0), ("c-1", "gru", 1.0)]
    found = _one_at_a_depth([{"system": s, "label": label, "depth": d} for s, label, d in rows])
    assert [row["label"] for row in found] == ["a-1", "b-1", "a-2", "gru"]
