"""``seqsru latency`` with the compiled engine, which reads the clock itself."""

import json

import pytest

import seqsru
from seqsru.commands.main import main
from seqsru.evaluation.latency import measure
from seqsru.evaluation.latency_report import table
from seqsru.pipelines.guard import Guarded

INT8 = ("--engine", "compiled", "--precision", "int8")
INSIDE = ["first_token", "later_tokens", "encoding", "sentences"]


@pytest.fixture(scope="module")
def translation_file(translation_run, tmp_path_factory):
    """The translation model in one file, with a shortlist."""
    path = tmp_path_factory.mktemp("files") / "mt.seqsru"
    assert main(["quantize", str(translation_run), "--output", str(path), "--frequent", "4"]) == 0
    return path


@pytest.fixture(scope="module")
def language_file(language_run, tmp_path_factory):
    """The language model in one file."""
    path = tmp_path_factory.mktemp("files") / "lm.seqsru"
    assert main(["quantize", str(language_run), "--output", str(path)]) == 0
    return path


@pytest.fixture
def measured(run, texts, tmp_path):
    """Measure two lines twice; gives the report and what was printed."""

    def call(*arguments, lines="test.src", length=4):
        forced = [] if length is None else ["--length", length]
        protocol = ["--first", 2, "--repeats", 2, "--warmup", 1, *forced]
        path = tmp_path / "l.json"
        head, *rest = arguments
        status, out, err = run("latency", head, texts / lines, *rest, *protocol, "--json", path)
        assert (status, err) == (0, "")
        return json.loads(path.read_text()), out

    return call


def check(system, length):
    """Two lines, two repeats, so many tokens each; every time is positive."""
    assert [name for name in system if name in (*INSIDE, "model_steps")] == INSIDE
    assert system["steps"] == 4 * length and system["warmup_steps"] == length
    counts = {name: system[name]["n"] for name in INSIDE}
    assert counts == {"first_token": 4, "later_tokens": 4 * (length - 1), "encoding": 4, "sentences": 4}
    assert all(0 < time for name in INSIDE for time in system[name]["percentiles"])
    assert system["encoding"]["max"] < system["first_token"]["max"] < system["sentences"]["max"] * 100


@pytest.mark.parametrize("length", [3, 40])
def test_a_translation_model_in_int8(measured, translation_run, length):
    report, out = measured(translation_run, *INT8, length=length)
    (system,) = report["systems"]
    check(system, length)
    assert system["name"] == "mt" and system["decoder"] == "beam 2, compiled int8"
    assert "model steps" not in out and "\n  later tokens " in out
    (signature,) = report["signatures"]
    assert f"|decoder:beam 2|batch:1|length:{length}|threads:1|" in signature
    assert "|rules:none|" in signature and "|engine:compiled|precision:int8|" in signature


def test_a_file_says_its_shortlist_weights_and_size(measured, translation_file, translation_run):
    report, out = measured(translation_file, "--beam", 1)
    check(report["systems"][0], 4)
    assert report["systems"][0]["decoder"] == "beam 1, compiled int8, shortlist 200+4"
    plain, _ = measured(translation_run, "--beam", 1)
    assert report["systems"][0]["parameters"] == plain["systems"][0]["parameters"]
    assert plain["systems"][0]["weights"].startswith(report["systems"][0]["weights"])
    assert "|precision:int8|shortlist:200+4|" in report["signatures"][0]
    assert "|engine:" not in plain["signatures"][0]


def test_a_language_model(measured, language_run, language_file):
    for arguments in ((language_run, *INT8), (language_file,)):
        report, _ = measured(*arguments, lines="test.txt", length=5)
        check(report["systems"][0], 5)
        assert report["systems"][0]["decoder"] == "sampling, compiled int8"


def test_the_natural_length_is_that_of_the_model(measured, texts, translation_run):
    report, _ = measured(translation_run, *INT8, length=None)
    lines = (texts / "test.src").read_text().splitlines()[:2]
    pipeline = seqsru.load(translation_run, engine="compiled", precision="int8")
    decoding = pipeline.decoding
    longest = sum(decoding.longest(len(pipeline.source_tokenizer.encode(line)) + 1) for line in lines)
    assert 4 < report["systems"][0]["steps"] <= 2 * longest


def test_two_engines_of_one_run(measured, translation_run):
    report, out = measured(translation_run, *INT8, "--against-engine", "torch")
    first, second = report["systems"]
    assert (first["name"], second["name"]) == ("mt compiled int8", "mt torch")
    check(first, 4)
    assert second["decoder"] == "beam 2" and second["steps"] == 16 and second["model_steps"]["n"] == 12
    ratio = report["ratio"]
    assert (ratio["of"], ratio["to"]) == ("mt torch", "mt compiled int8")
    assert list(ratio["p50"]) == ["first_token", "later_tokens", "sentences"]
    assert all(spread["median"] > 0 for spread in ratio["p50"].values())
    assert "mt torch / mt compiled int8, P50 of later tokens: " in out
    assert "|engine:compiled|precision:int8|" in report["signatures"][0]
    assert "|engine:" not in report["signatures"][1]


def test_two_precisions_of_one_run(measured, translation_run):
    report, _ = measured(translation_run, "--engine", "compiled", "--against-precision", "int8")
    assert [system["name"] for system in report["systems"]] == ["mt compiled float32", "mt compiled int8"]
    for system in report["systems"]:
        check(system, 4)
    assert "|precision:float32|" in report["signatures"][0] and "|precision:int8|" in report["signatures"][1]


def test_a_file_against_its_run(measured, translation_file, translation_run):
    against = ("--against", translation_run)
    report, _ = measured(translation_file, *against)
    assert [system["name"] for system in report["systems"]] == ["mt.seqsru", "mt"]
    assert [system["decoder"] for system in report["systems"]][1] == "beam 2"
    compiled = ("--against-engine", "compiled", "--against-precision", "float32")
    report, _ = measured(translation_file, *against, *compiled)
    assert report["systems"][1]["decoder"] == "beam 2, compiled float32"
    report, _ = measured(translation_run, "--against", translation_file, "--engine", "compiled")
    decoders = [system["decoder"] for system in report["systems"]]
    assert decoders == ["beam 2, compiled float32", "beam 2, compiled int8, shortlist 200+4"]


def test_the_engine_decodes_the_same_under_the_clock(translation_run):
    pipeline = seqsru.load(translation_run, engine="compiled")
    timed = pipeline.timed("mt", beam=2)
    line = "one two three"
    (bare,), (plain,) = timed.decode(line, None), pipeline.translate([line], beam=2)
    assert bare.tokens == plain.tokens and bare.score == plain.score
    (reading,) = timed.clocked(line, None)
    assert len(reading.steps) == len(plain.tokens) + 1
    ends = [reading.begin, *((start, end) for start, end, _ in reading.steps)]
    assert all(start <= end for start, end in ends)
    assert all(end == start for (_, end), (start, _) in zip(ends, ends[1:]))
    (forced,) = timed.decode(line, 30)
    assert len(forced.tokens) == 29


def test_a_model_that_nobody_describes(translation_file):
    report = measure([seqsru.load(translation_file).timed("alone")], ["one two"], length=2, repeats=1)
    assert (report["systems"][0]["weights"], report["systems"][0]["parameters"]) == (None, None)
    assert "alone (beam 2, compiled int8)\n" in table(report)


def test_guards_are_part_of_the_time_but_not_of_a_forced_length(
    measured, run, refused, texts, translation_run, tmp_path, monkeypatch
):
    asked = []
    guard = Guarded.__call__
    monkeypatch.setattr(Guarded, "__call__", lambda self, *rest: asked.append(self) or guard(self, *rest))
    report, _ = measured(translation_run, *INT8, "--guard", "repeats,numbers", "--alpha", 0.5, length=None)
    (signature,) = report["signatures"]
    assert "|guard:repeats+numbers|" in signature and "|alpha:0.5|" in signature
    assert len(asked) == 2 * 2 * 2 + 1  # each line bare and with the clock, twice, and a line before
    assert {one.decoding.guard for one in asked} == {"repeats,numbers"}
    guarded = tmp_path / "guarded"
    run("train", translation_run / "config.yaml", "decoding.guard=tidy", f"output={guarded}")
    report, _ = measured(guarded, *INT8, length=None)
    assert "|guard:tidy|" in report["signatures"][0]
    before = len(asked)
    report, _ = measured(guarded, *INT8, length=4)  # what the run has, a forced length leaves out
    assert "|guard:none|" in report["signatures"][0] and len(asked) == before
    forced = "latency", translation_run, texts / "test.src", "--length", "4", "--guard", "tidy"
    assert refused(*forced) == (
        "seqsru: length: expected no guard beside a forced length, which it would mend, found tidy; "
        "take --guard none, or leave the length out"
    )


def test_what_is_refused(refused, translation_run, translation_file):
    assert refused("latency", translation_file, "--threads", "2") == (
        "seqsru: threads: expected 1 for mt.seqsru, whose engine decodes a line on one thread, found 2; "
        "leave it out, or measure torch alone"
    )
    assert refused("latency", translation_file, "--against-engine", "torch") == (
        f"command line: against_engine: expected auto for the file {translation_file}, which holds one "
        "model, found torch; leave it out, or name the run directory"
    )
    assert refused("latency", translation_run, "--against-precision", "int8") == (
        "command line: engine: expected engine compiled with a precision, found auto; take it, or leave "
        "precision out"
    )
