"""What the table says of numbers that are none, of missing runs, and of a machine that was shared."""

import csv
import json
import math

from seqsru.comparing import table
from seqsru.comparing.forms import as_csv, markdown
from seqsru.comparing.plots import plot_all

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
            "to_baseline": {"difference": -0.5, "p_value": 0.25},
        }
    },
    "latency": None,
    "to_baseline": None,
    "runs": [{"test": math.inf, "curve": [(1.0, None)], "signature": None}],
}
TABLE = {
    "budget": "1 minutes",
    "seeds": [1],
    "split": "test",
    "baseline": None,
    "goal": None,
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
    assert json.loads(json.dumps(table._finite(TABLE), allow_nan=False))["systems"][0]["test"]["mean"] is None
    plot_all(TABLE, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert markdown(TABLE).splitlines()[2] == (
        "| A | inf ± nan (2) | 50.00 (95 % ± 1.50) |  | 10 |  |  | 1.0 | 1.2 | 0.5 | 3 |"
    )
    assert as_csv(TABLE).splitlines()[1].startswith("A,,10,,inf,nan,2,")


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
        "chrf_p_value": "0.25",
    }
    assert (row["difference"], row["interval_half"], row["passes_mean"]) == ("", "", "1.25")


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
