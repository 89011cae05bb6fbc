"""tools/bench_parts.py at tiny sizes: what is timed is the layer, and its parts are its parts."""

import json

import bench_parts
import pytest
import torch

from seqsru.cells import SRU
from seqsru.ops import sru_scan


def test_product_and_scan_together_are_the_layer():
    layer, product, scan = SRU(8, 8, 1), bench_parts.Product(8), bench_parts.Scan(8)
    (cell,) = layer.stack.layers[0]
    with torch.no_grad():
        product.weight.copy_(cell.weight)
        scan.v.copy_(cell.v)
        scan.b.copy_(cell.bias)
    x = torch.randn(5, 3, 8)
    (u,) = product(x)
    c = torch.zeros(3, 8)
    expected, _ = layer(x)
    h, _ = sru_scan(u.unflatten(-1, (3, 8)), x, c, scan.v, scan.b)
    torch.testing.assert_close(h, expected)
    assert scan(u)[0].shape == expected.shape


def test_measures_every_size_and_writes_json(tmp_path, capsys):
    out = tmp_path / "folder" / "parts.json"
    small = ["--steps", "1,3", "--rows", "2", "--width", "8", "--repeats", "1", "--seconds", "0.0001"]
    assert bench_parts.main([*small, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert {(row["T"], row["B"], row["pass"]) for row in report["rows"]} == {
        (T, 2, what) for T in (1, 3) for what in ("forward", "training")
    }
    for row in report["rows"]:
        assert set(row["microseconds"]) == {"SRU", "product", "scan", "LSTM"}
        assert 0 < row["scan_share"]["q1"] <= row["scan_share"]["median"] <= row["scan_share"]["q3"] < 1
        speed, time = row["tokens_per_second"]["SRU"]["median"], row["microseconds"]["SRU"]["median"]
        assert speed == pytest.approx(1e6 * row["T"] * row["B"] / time)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| pass | B | T | SRU tokens/s |") and len(lines) == 2 + 4


def test_draws_what_it_measured(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    small = ["--steps", "1,2", "--rows", "1,2", "--width", "4", "--repeats", "1", "--seconds", "0.0001"]
    assert bench_parts.main([*small, "--plot", str(tmp_path / "parts.svg")]) == 0
    assert "scan / (product + scan), time" in (tmp_path / "parts.svg").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "1,x"], "expected steps above 0, separated by commas, found '1,x'"),
        (["--rows", "0"], "expected rows above 0, separated by commas, found '0'"),
        (["--plot", "a.txt"], "expected a file ending in .png, .svg, .pdf, found a.txt"),
    ],
)
def test_refusals(arguments, message, capsys):
    with pytest.raises(SystemExit):
        bench_parts.main(arguments)
    assert message in capsys.readouterr().err
