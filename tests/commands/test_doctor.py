"""``seqsru doctor``."""

import configparser
import re
from pathlib import Path

import seqsru
from seqsru.commands import doctor

ROOT = Path(seqsru.__file__).parent.parent


def test_doctor(run):
    status, out, err = run("doctor")
    assert err == "" and out.startswith(f"seqsru {seqsru.__version__} at ")
    assert re.search(r"^  torch +\d", out, re.M) and re.search(r"^  reference +ok$", out, re.M)
    assert status == (0 if re.search(r"^  cpu +ok$", out, re.M) else 1)
    assert re.search(r"^  cuda +(ok|no: .+)$", out, re.M) and re.search(r"torch uses \d+ threads", out)


def test_doctor_says_what_the_engine_decodes(run):
    out = run("doctor")[1]
    assert "compiled engine: dot products by " in out and "portable\n" in out
    assert "it decodes sru, " in out and "; torch alone decodes srupp, mgu, pru\n" in out


def test_doctor_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    status = {"reference": "ok", "cpu": "no: numba", "cuda": "no: x"}
    monkeypatch.setattr("seqsru.ops.backend_status", lambda: status)
    status, out, _ = run("doctor")
    assert status == 1 and re.search(r"^  cpu +no: numba$", out, re.M)
    assert "not installed: pip install sentencepiece\n" in out
    assert 'not installed (optional): pip install "seqsru[cuda]", cu12 for a torch of CUDA 12\n' in out
    assert 'not installed (optional): pip install "seqsru[ja]"\n' in out


def test_doctor_knows_what_setup_asks_for():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")

    def names(text):
        return tuple(re.match(r"[\w-]+", line)[0] for line in text.strip().split("\n"))

    assert names(setup["options"]["install_requires"]) == doctor.REQUIRED
    for extra, packages in doctor.EXTRAS.items():
        assert names(setup["options.extras_require"][extra]) == packages
