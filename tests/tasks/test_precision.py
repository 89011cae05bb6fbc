"""The setting `training.precision`: what products use while a run trains, and what its signature says."""

from types import SimpleNamespace

import pytest
import tiny_runs
import torch

from seqsru import runs
from seqsru import settings as strict
from seqsru.models.language_model import LanguageModel
from seqsru.ops import precision
from seqsru.tasks import making
from seqsru.tasks.opening import open_trained
from seqsru.training.trainer import Trainer

ON_GPU = SimpleNamespace(device=torch.device("cuda"))


def settings(folder, *overrides):
    tiny_runs.write_texts(folder)
    few = ("training.epochs=0", "training.steps=2")
    return tiny_runs.settings(folder, tiny_runs.LANGUAGE_MODEL, *few, *overrides)


@pytest.mark.parametrize("cell", ["sru", "lstm"])
@pytest.mark.parametrize("name, kind", [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_the_switches_hold_in_training_and_validation_and_the_signature_says_so(
    name, kind, cell, tmp_path, monkeypatch
):
    monkeypatch.setattr(making, "check_precision", lambda precision, device: None)  # as on a GPU
    seen = set()
    forward, backward = LanguageModel.forward, torch.Tensor.backward

    def watched(*given):
        kind = "training" if torch.is_grad_enabled() else "validation"
        seen.add((kind, precision.products(), torch.is_autocast_enabled("cpu")))
        return forward(*given)

    def back(*given):
        seen.add(("backward", precision.products(), False))
        return backward(*given)

    monkeypatch.setattr(LanguageModel, "forward", watched)
    monkeypatch.setattr(torch.Tensor, "backward", back)
    overrides = [f"training.precision={name}", f"model.stack.cell={cell}"]
    before = [switch.fp32_precision for switch in precision._switches()]
    outcome = runs.train(settings(tmp_path, *overrides), lambda line: None)
    assert outcome.finished and [switch.fp32_precision for switch in precision._switches()] == before
    low = name == "bfloat16"
    assert seen == {("training", kind, low), ("validation", kind, low), ("backward", kind, False)}
    assert f"|precision:{name}|" in (tmp_path / "run" / "signature.txt").read_text()


def test_tf32_on_a_cpu_is_refused_with_its_line_before_anything_is_read(tmp_path):
    values = settings(tmp_path, "training.precision=tf32", "device=cpu")
    for refuse in (runs.rehearse, lambda values: runs.train(values, print)):
        with pytest.raises(strict.SettingsError) as caught:
            refuse(values)
        assert str(caught.value).endswith(
            "training.precision: expected float32 or bfloat16 on a CPU, found tf32; take one of these, or "
            "device cuda: TF32 is a type of an NVIDIA GPU's products"
        )
    assert not (tmp_path / "run").exists()


def test_another_process_s_switches_come_back_after_an_error(tmp_path, monkeypatch):
    def fit(trainer):
        assert precision.products() == "ieee"
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "fit", fit)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with pytest.raises(RuntimeError, match="^out of memory$"):
            runs.train(settings(tmp_path), lambda line: None)
        assert precision.products() == "tf32"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_a_number_measured_on_a_gpu_says_what_its_products_were(tmp_path, monkeypatch):
    runs.train(settings(tmp_path), lambda line: None)
    trained = open_trained(tmp_path / "run", "last", 1, torch.device("cpu"))
    assert "precision" not in trained.signed({})
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "parameters", lambda module: iter([ON_GPU]))
        patch.setattr("seqsru.evaluation.environment.weights_hash", lambda model: "0" * 64)
        patch.setattr(trained.task, "fields", lambda model: {})
        assert "|precision:float32" in trained.signed({})
        with precision.float32_products("tf32"):
            assert "|precision:tf32" in trained.signed({})
