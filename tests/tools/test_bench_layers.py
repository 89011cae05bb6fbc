"""tools/bench_layers.py at tiny sizes."""

import json

import bench_layers
import pytest
import torch

from seqsru.ops.precision import products

CPU = torch.device("cpu")


def test_compares_every_layer_and_writes_json(tmp_path, capsys):
    out = tmp_path / "folder" / "layers.json"
    arguments = ["--sizes", "3x2x8", "--repeats", "3", "--seconds", "0.001", "--out", str(out)]
    assert bench_layers.main(arguments) == 0
    report = json.loads(out.read_text())
    assert report["environment"]["versions"]["torch"] == torch.__version__
    assert [(row["pass"], row["layer"]) for row in report["rows"]] == [
        (what, layer) for what in ("forward", "training") for layer in ("SRU", "LSTM", "GRU", "conv k=3")
    ]
    for row in report["rows"]:
        assert 0 < row["ms"]["q1"] <= row["ms"]["median"] <= row["ms"]["q3"]
        assert row["ratio"]["q1"] <= row["ratio"]["median"] <= row["ratio"]["q3"]
        assert row["layer"] != "SRU" or row["ratio"]["median"] == 1
    printed = capsys.readouterr().out
    assert "LSTM / SRU" in printed and printed.count("3, 2, 8") == 2


def test_every_cell_can_be_compared(capsys):
    from seqsru.cells import CELLS

    arguments = ["--sizes", "3x2x8", "--repeats", "1", "--seconds", "0.001", "--layers", ",".join(CELLS)]
    assert bench_layers.main(arguments) == 0
    head = capsys.readouterr().out.splitlines()[1]
    assert all(f"{name} / SRU" in head for name in CELLS)


def test_an_unknown_layer_is_one_sentence(capsys):
    with pytest.raises(SystemExit):
        bench_layers.main(["--layers", "gru,grue"])
    assert "expected layers among SRU, LSTM, GRU, conv k=3, sru" in capsys.readouterr().err


def test_rows_of_different_lengths(capsys):
    small = ["--sizes", "4x3x8", "--repeats", "1", "--seconds", "0.001"]
    assert bench_layers.main([*small, "--layers", "LSTM,lstm,GRU,gru", "--shortest", "0.25"]) == 0
    assert "lstm / SRU" in capsys.readouterr().out
    lengths, x = torch.tensor([1, 2, 4]), torch.randn(4, 3, 8)
    for name in ("LSTM", "lstm", "GRU", "gru", "SRU"):
        y = bench_layers.run(bench_layers.made(name, 8), x, lengths)
        assert [int((row != 0).any(1).sum()) for row in y.transpose(0, 1)] == [1, 2, 4], name
    for wrong, told in (
        (["--shortest", "0"], "expected a share above 0 and up to 1 with --shortest, found 0.0"),
        (["--shortest", "0.5"], "expected layers that take lengths with --shortest, found 'conv k=3'"),
    ):
        with pytest.raises(SystemExit):
            bench_layers.main(wrong)
        assert told in capsys.readouterr().err


def test_both_passes_compute_what_they_are_named():
    layer = bench_layers.LAYERS["SRU"](8)
    calls = bench_layers.passes(layer, 3, 2, 8, "float32")
    assert calls["forward"]().shape == (3, 2, 8) and not calls["forward"]().requires_grad
    grads = calls["training"]()
    assert [grad.shape for grad in grads] == [(3, 2, 8), *(p.shape for p in layer.parameters())]


def test_half_products_run_under_autocast():
    calls = bench_layers.passes(bench_layers.LAYERS["conv k=3"](8), 3, 2, 8, "bfloat16")
    assert calls["forward"]().dtype == torch.bfloat16


def test_layers_take_turns(monkeypatch):
    clock = iter(range(100))
    order = []
    monkeypatch.setattr(bench_layers, "timed", lambda call, device, count: call() or float(next(clock)))
    calls = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    found = bench_layers.take_turns(calls, CPU, 2, 0.0)
    assert order == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * 2
    assert found == {"a": [6.0, 8.0], "b": [7.0, 9.0]}


def test_the_spread_is_median_and_quartiles():
    assert bench_layers.spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert bench_layers.spread([7.0]) == {"median": 7.0, "q1": 7.0, "q3": 7.0}
    assert bench_layers.shown({"median": 1.234, "q1": 1.0, "q3": 2.0}, 2) == "1.23 [1.00–2.00]"


@pytest.mark.parametrize("text", ["64x32", "64x32x0", "a,b"])
def test_a_wrong_size_is_one_sentence(text, capsys):
    with pytest.raises(SystemExit):
        bench_layers.main(["--sizes", text])
    assert "expected a size TxBxD of three numbers, as in 64x32x512, found" in capsys.readouterr().err


@pytest.mark.parametrize("name, kind", [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_all_layers_compute_in_one_precision(name, kind, monkeypatch):
    """cuDNN's too, whose own choice is TF32; see `seqsru.ops.precision`."""
    seen = []

    def turns(calls, device, repeats, seconds):
        seen.append(
            (products(), torch.backends.cudnn.rnn.fp32_precision, torch.backends.cudnn.conv.fp32_precision)
        )
        return {layer: [1.0] for layer in calls}

    monkeypatch.setattr(bench_layers, "take_turns", turns)
    before = torch.backends.cudnn.rnn.fp32_precision
    bench_layers.compare([(3, 2, 8)], CPU, name, 1, 0.0)
    assert seen == [(kind, kind, kind)] * 2 and torch.backends.cudnn.rnn.fp32_precision == before


def test_tf32_is_for_gpus(capsys):
    with pytest.raises(SystemExit):
        bench_layers.main(["--precision", "tf32"])
    assert (
        "precision: expected float32 or bfloat16 on a CPU, found tf32; take one of" in capsys.readouterr().err
    )
