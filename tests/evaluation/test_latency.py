"""The meter over a fake model whose begin and step take a known time on a fake clock."""

import json
import sys

import pytest
import torch
from torch import nn

from seqsru.errors import NotInstalled, Refused
from seqsru.evaluation import clock as clocks
from seqsru.evaluation import latency, latency_report, plots
from seqsru.evaluation.environment import weights_hash

EOS = 2
MILLISECOND = 1_000_000


class Clock:
    """A perf_counter_ns that moves only when it is told to."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def work(self, milliseconds):
        self.now += round(milliseconds * MILLISECOND)


class FakeModel(nn.Module):
    """Takes `begin_ms`, then a listed time a step; wants to end after `natural` tokens."""

    def __init__(self, clock, begin_ms, steps_ms, natural):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))
        self.clock, self.begin_ms, self.steps_ms, self.natural = clock, begin_ms, steps_ms, natural
        self.steps = 0

    def begin(self, source, valid=None):
        self.clock.work(self.begin_ms)
        self.steps = 0
        return (), ()

    def step(self, tokens, memory, state):
        self.clock.work(self.steps_ms[self.steps % len(self.steps_ms)])
        self.steps += 1
        log_probs = torch.full((1, 4), -10.0)
        log_probs[0, EOS] = -0.1 if self.steps >= self.natural else -20.0
        log_probs[0, 3] = -1.0
        return log_probs, None, state


def target(
    clock, name="fake", begin_ms=5.0, steps_ms=(2.0, 1.0, 3.0), natural=3, search_ms=0.25, text_ms=10.0
):
    """A greedy decoder over the fake model: `search_ms` of its own work after each step, `text_ms` a line."""
    model = FakeModel(clock, begin_ms, steps_ms, natural)

    def decode(line, length):
        clock.work(text_ms)
        memory, state = model.begin(torch.zeros(1, 1))
        tokens = []
        while not tokens or (tokens[-1] != EOS and len(tokens) != length):
            log_probs, _, state = model.step(torch.zeros(1), memory, state)
            tokens.append(int(log_probs[0].argmax()))
            clock.work(search_ms)
        return tokens

    return clocks.TimedDecoder(name, model, EOS, "greedy", decode)


class FakeClassifier(nn.Module):
    """Has no steps: a line is one call, which takes `forward_ms`."""

    def __init__(self, clock, forward_ms):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))
        self.clock, self.forward_ms = clock, forward_ms

    def forward(self, tokens):
        self.clock.work(self.forward_ms)
        return tokens


def stepless(clock, name="classes", forward_ms=2.0):
    """A classifier over the fake model, with 0.5 ms of work on the text."""
    model = FakeClassifier(clock, forward_ms)

    def decode(line, length):
        clock.work(0.5)
        return model(torch.zeros(1, 1))

    return clocks.TimedDecoder(name, model, None, "one call", decode)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(clocks, "perf_counter_ns", clock)
    return clock


def test_each_time_is_kept_apart(clock):
    report = latency.measure([target(clock)], ["a line", "", "another"], repeats=2, warmup=1)
    system = report["systems"][0]
    assert report["protocol"]["lines"] == 2
    assert (system["first_token"]["n"], system["first_token"]["mean"]) == (4, 7.0)  # begin 5, step 2
    assert (system["encoding"]["n"], system["encoding"]["max"]) == (4, 5.0)
    assert (system["later_tokens"]["n"], system["later_tokens"]["mean"]) == (8, 2.25)  # 1 and 3, search 0.25
    assert (system["model_steps"]["n"], system["model_steps"]["mean"]) == (8, 2.0)
    assert system["model_steps"]["max"] == 3.0
    assert (system["sentences"]["n"], system["sentences"]["p50"]) == (4, 21.75)  # and text 10
    assert system["steps"] == 12


def test_warm_up_is_excluded_and_counted(clock):
    slow_at_first = target(clock, text_ms=0.0)
    decode, calls = slow_at_first.decode, []

    def cold(line, length):
        calls.append(line)
        if len(calls) <= 3:
            clock.work(1000.0)
        return decode(line, length)

    slow_at_first = clocks.TimedDecoder("fake", slow_at_first.model, EOS, "greedy", cold)
    report = latency.measure([slow_at_first], ["one", "two"], repeats=1, warmup=3)
    assert calls[:3] == ["one", "two", "one"]
    assert report["protocol"]["warmup_lines"] == 3
    assert report["systems"][0]["warmup_steps"] == 9
    assert report["systems"][0]["sentences"]["max"] < 20.0


@pytest.mark.parametrize("length", [2, 7])
def test_forced_length(clock, length):
    """The model wants three tokens; it gives as many as it is told, in every line, bare or timed."""
    fake = target(clock, steps_ms=(1.0,), text_ms=0.0)
    report = latency.measure([fake], ["a", "b"], length=length, repeats=1)
    system = report["systems"][0]
    assert system["steps"] == 2 * length
    assert system["later_tokens"]["n"] == 2 * (length - 1)
    assert system["sentences"]["mean"] == 5.0 + 1.25 * length
    assert report["protocol"]["mode"] == "forced"


def test_the_time_the_meter_takes_is_left_out():
    readings = clocks.Readings((0, 10), [(12, 20, 3), (25, 33, 100), (140, 150, 0)])
    assert readings.first_token() == 20
    assert readings.later_tokens() == [10, 17]
    assert readings.model_steps() == [8, 10]


def test_a_decoder_with_a_clock_of_its_own():
    """It sees to a forced length itself, and its steps have no time of the model alone."""
    asked = []

    def clocked(line, length):
        asked.append((line, length))
        return [clocks.Readings.inside([t * MILLISECOND for t in (100, 105, 107, 108, 111)])]

    fake = clocks.TimedDecoder(
        "own", None, EOS, "beam 2", lambda *line: asked.append(line), engine="compiled int8", clocked=clocked
    )
    report = latency.measure([fake], ["a"], length=3, repeats=2, warmup=2)
    assert asked == [("a", 3)] * 6  # two of the warm-up, then each bare and timed
    (system,) = report["systems"]
    assert system["decoder"] == "beam 2, compiled int8"
    assert (system["steps"], system["warmup_steps"]) == (6, 6)
    assert (system["encoding"]["mean"], system["first_token"]["mean"]) == (5.0, 7.0)
    assert (system["later_tokens"]["n"], system["later_tokens"]["mean"]) == (4, 2.0)
    assert "model_steps" not in system and (system["weights"], system["parameters"]) == (None, None)
    assert "own (beam 2, compiled int8)\n" in latency_report.table(json.loads(json.dumps(report)))
    with pytest.raises(Refused, match="threads: expected 1 for own, whose engine decodes a line on one thr"):
        latency.measure([fake], ["a"], threads=2)


def test_percentiles():
    summary = latency_report.summary([n * MILLISECOND for n in range(100, -1, -1)])
    assert (summary["n"], summary["mean"], summary["max"]) == (101, 50.0, 100.0)
    assert (summary["p50"], summary["p90"], summary["p99"]) == (50.0, 90.0, 99.0)
    assert summary["percentiles"] == [float(n) for n in range(101)]
    assert latency_report.summary([MILLISECOND, 2 * MILLISECOND])["p90"] == pytest.approx(1.9)


def test_two_systems_take_turns_and_give_a_ratio_with_its_spread(clock):
    order = []
    targets = []
    for name, step_ms in (("quick", 1.0), ("slow", 4.0)):
        fake = target(clock, name=name, steps_ms=(step_ms,), search_ms=0.0)

        def decode(line, length, inner=fake.decode, name=name):
            order.append((name, line))
            return inner(line, length)

        targets.append(clocks.TimedDecoder(name, fake.model, EOS, "greedy", decode))
    report = latency.measure(targets, ["a", "b"], repeats=2, warmup=1)
    order = order[2::2]  # without the warm-up; each line is decoded twice in a row
    assert order == [
        ("quick", "a"),
        ("slow", "a"),
        ("slow", "b"),
        ("quick", "b"),
        ("slow", "a"),
        ("quick", "a"),
        ("quick", "b"),
        ("slow", "b"),
    ]
    ratio = report["ratio"]
    assert (ratio["of"], ratio["to"]) == ("slow", "quick")
    assert ratio["p50"]["later_tokens"] == {"median": 4.0, "min": 4.0, "max": 4.0, "repeats": [4.0, 4.0]}
    assert ratio["p50"]["first_token"]["median"] == 1.5
    assert "slow / quick, P50 of later tokens: 4.000 (4.000 to 4.000 in 2 repeats)" in latency_report.table(
        report
    )


def test_a_decoder_without_steps_has_its_call_and_its_lines(clock):
    fake = stepless(clock)
    report = json.loads(json.dumps(latency.measure([fake], ["a", "b"], repeats=2, warmup=1)))
    (system,) = report["systems"]
    assert list(system)[4:] == ["steps", "warmup_steps", "encoding", "sentences"]
    assert (system["steps"], system["warmup_steps"]) == (0, 0)
    assert (system["encoding"]["n"], system["encoding"]["mean"]) == (4, 2.0)
    assert (system["sentences"]["n"], system["sentences"]["mean"]) == (4, 2.5)
    assert fake.model.forward.__func__ is FakeClassifier.forward
    table = latency_report.table(report)
    assert "no steps, 2 lines x 2 repeats after 1 warm-up lines\n" in table and "token" not in table


def test_two_decoders_without_steps(clock, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    pair = [stepless(clock), stepless(clock, "slower", 4.5)]
    report = latency.measure(pair, ["a", "b"], repeats=2)
    assert list(report["ratio"]["p50"]) == ["sentences"]
    assert report["ratio"]["p50"]["sentences"]["median"] == 2.0
    plots.plot_latency(report, tmp_path / "latency.svg")
    drawn = (tmp_path / "latency.svg").read_text()
    assert "milliseconds a line" in drawn and "slower, sentences" in drawn and "natural" not in drawn


def test_what_a_decoder_without_steps_cannot_be_asked(clock):
    with pytest.raises(Refused, match="length: expected none for classes, which gives no tokens, found 5"):
        latency.measure([stepless(clock)], ["a"], length=5)
    with pytest.raises(
        Refused, match="decoders: expected two with steps or two without, found classes alone"
    ):
        latency.measure([target(clock), stepless(clock)], ["a"])


def test_the_model_is_left_as_it_was(clock):
    fake = target(clock)
    latency.measure([fake], ["a"], repeats=1)
    assert fake.model.begin.__func__ is FakeModel.begin
    assert fake.model.step.__func__ is FakeModel.step
    with pytest.raises(RuntimeError, match="out of memory"):
        with clocks.watched(fake, None):
            raise RuntimeError("out of memory")
    assert fake.model.step.__func__ is FakeModel.step


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_report_names_its_environment_and_can_be_written_as_json(clock, threads):
    report = json.loads(json.dumps(latency.measure([target(clock)], ["a"], repeats=1)))
    surroundings = report["environment"]
    assert surroundings["threads"] == 1 and torch.get_num_threads() == threads
    assert surroundings["device"] == "cpu" and surroundings["device_name"] == surroundings["cpu"] != ""
    assert surroundings["versions"]["torch"] == torch.__version__
    assert set(surroundings) >= {"affinity", "load_average", "cores", "python", "system"}
    assert report["systems"][0]["parameters"] == 12
    table = latency_report.table(report)
    assert "later tokens" in table and surroundings["device_name"] in table and "3 warm-up lines" in table


def test_hash_tells_models_apart():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.load_state_dict(first.state_dict())
    assert weights_hash(first) == weights_hash(second)
    assert weights_hash(first) != weights_hash(second.double())
    with torch.no_grad():
        first.bias[1] += 1e-6
        second.float()
    assert weights_hash(first) != weights_hash(second)
    assert len(weights_hash(first.bfloat16())) == 16


@pytest.mark.parametrize(
    "lines, options, message",
    [
        (["", " "], {}, "lines: expected a line with text in it, found none"),
        (["a"], {"repeats": 0}, "repeats: expected at least 1, found 0; raise it"),
        (["a"], {"warmup": 0}, "warmup: expected at least 1, found 0"),
        (["a"], {"length": 1}, "length: expected at least 2, found 1; the first token is kept apart"),
        (["a"], {"threads": 0}, "threads: expected at least 1, found 0"),
    ],
)
def test_bad_options(clock, lines, options, message):
    with pytest.raises(Refused, match=message):
        latency.measure([target(clock)], lines, **options)


def test_bad_comparisons(clock):
    with pytest.raises(Refused, match="decoders: expected one or two systems, found 3"):
        latency.measure([target(clock)] * 3, ["a"])
    with pytest.raises(Refused, match="repeats: expected at least 2, found 1; a ratio of two"):
        latency.measure([target(clock)] * 2, ["a"], repeats=1)
    with pytest.raises(Refused, match="lines: expected a line of two tokens or more from fake, found none"):
        latency.measure([target(clock, natural=1)], ["a"])


@pytest.mark.parametrize("suffix", plots.SUFFIXES)
def test_plot(clock, tmp_path, suffix):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    targets = [target(clock), target(clock, name="other", steps_ms=(4.0, 5.0))]
    path = tmp_path / f"latency{suffix}"
    plots.plot_latency(latency.measure(targets, ["a", "b"], repeats=2), path)
    assert path.stat().st_size > 1000


def test_plot_refuses_another_suffix(clock, tmp_path):
    with pytest.raises(
        Refused, match=r"plot: expected a file ending in .png, .svg, .pdf, found .*latency.txt"
    ):
        plots.plot_latency(latency.measure([target(clock)], ["a"]), tmp_path / "latency.txt")


def test_plot_without_matplotlib_names_the_pip_command(clock, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NotInstalled, match=r'run: pip install "seqsru\[plot\]"'):
        plots.plot_latency(latency.measure([target(clock)], ["a"]), tmp_path / "latency.png")
