"""tools/bench_depth.py at tiny sizes, and what it makes of given times."""

import json

import bench_depth
import pytest
from bench_depth import PARAMETERS, WIDTH, System


def test_measures_every_depth_and_writes_json(tmp_path, capsys):
    out = tmp_path / "folder" / "depth.json"
    arguments = ["--cells", "sru,lstm", "--depths", "2,1", "--width", "16", "--tokens", "4", "--repeats", "2"]
    assert bench_depth.main([*arguments, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    rows = report["rows"]
    found = {(row["precision"], row["sizing"], row["cell"], row["layers"]) for row in rows}
    assert found == {
        *(
            (precision, sizing, cell, layers)
            for precision in ("int8", "float32")
            for sizing in (WIDTH, PARAMETERS)
            for cell in ("sru", "lstm")
            for layers in (1, 2)
        ),
        *((precision, "output", "sru", 1) for precision in ("int8", "float32")),
        *((precision, "projection", "sru", 10) for precision in ("int8", "float32")),
    }
    assert all(0 < row["us"]["q1"] <= row["us"]["median"] <= row["us"]["q3"] for row in rows)
    assert {(row["precision"], row["layers"], row["projection"]) for row in report["ratios"]} == {
        (precision, *stack) for precision in ("int8", "float32") for stack in ((1, 0), (2, 0), (10, 4))
    }
    printed = capsys.readouterr().out
    assert "int8, equal width\nlayers" in printed and "int8: an output of 8,000 types adds " in printed
    assert "float32, width 16: 10 x sru with a projection to 4 / 2 x lstm, a step: " in printed


def test_draws_what_it_measured(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = tmp_path / "depth.svg"
    rows = [
        {"cell": cell, "layers": layers, "precision": "int8", "sizing": sizing, "us": dict(spread)}
        for cell in ("sru", "gru")
        for layers in (1, 2)
        for sizing in (WIDTH, PARAMETERS)
        for spread in [{"median": 2.0, "q1": 1.0, "q3": 3.0}]
    ]
    report = {"environment": {"cpu": "a processor"}, "load_averages": [1.0, 2.0], "repeats": 3, "width": 16}
    bench_depth.draw({**report, "rows": rows}, path)
    assert "int8, equal parameters" in path.read_text()


@pytest.mark.parametrize("cell", ["sru", "qrnn", "lstm", "gru"])
def test_equal_parameters_are_as_near_as_widths_allow(cell):
    budget = bench_depth.count(System("lstm", 2, 64, "int8", PARAMETERS))
    assert budget == 2 * (2 * 4 * 64 * 64 + 2 * 4 * 64)
    for layers in (1, 2, 7):
        width = bench_depth.width_for(cell, layers, budget)

        def off(width, layers=layers):
            return abs(bench_depth.count(System(cell, layers, width, "int8", PARAMETERS)) - budget)

        assert width % 16 == 0
        assert all(off(width) <= off(other) for other in (width - 16, width + 16) if other)
    assert bench_depth.width_for("lstm", 2, budget) == 64


def test_systems_take_turns_forwards_and_backwards(monkeypatch):
    clock, order = iter(range(100)), []
    monkeypatch.setattr(bench_depth, "made", lambda system, tokens: system.cell)
    monkeypatch.setattr(
        bench_depth, "decode", lambda model, tokens: order.append(model) or [float(next(clock))] * 3
    )
    first, second = (System(cell, 1, 16, "int8", WIDTH) for cell in ("sru", "lstm"))
    times = bench_depth.take_turns([first, second], 4, 2)
    assert order == ["sru", "lstm"] + ["sru", "lstm"] + ["lstm", "sru"]
    assert times == {first: [2.0, 5.0], second: [3.0, 4.0]}


def test_a_ratio_divides_numbers_of_one_repeat():
    two = System("lstm", 2, 16, "int8", WIDTH)
    stacks = {System("sru", layers, 16, "int8", WIDTH): layers for layers in (5, 6, 10)}
    times = {two: [10.0, 20.0], **{system: [2.0 * n, 4.0 * n] for system, n in stacks.items()}}
    lines = bench_depth.comparison(bench_depth.ratios(times, 16), 16)
    assert lines == [
        "int8, width 16: 10 x sru / 2 x lstm, a step: 2.00 [2.00–2.00]",
        "int8, width 16: no slower than 2 x lstm: up to 5 x sru",
    ]
    assert bench_depth.ratios({system: [1.0] for system in stacks}, 16) == []


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--cells", "sru,srupp"], "expected cells among sru, "),
        (["--cells", "sru,srupp"], "found 'srupp'"),
        (["--precisions", "int4"], "expected precisions among int8, float32, found 'int4'"),
        (["--depths", "1,0"], "expected at least 1 layers, found '0'"),
        (["--width", "8"], "expected at least 16 width, found '8'"),
        (["--tokens", "2"], "expected at least 3 tokens, found '2'"),
        (["--plot", "a.txt"], "plot: expected a file ending in .png, .svg, .pdf, found a.txt; rename it"),
    ],
)
def test_a_wrong_flag_is_one_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        bench_depth.main(arguments)
    assert sentence in " ".join(capsys.readouterr().err.split())
