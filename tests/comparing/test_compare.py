"""Whole comparisons of tiny systems: what the table says, what is done again, and what is refused."""

import csv
import json
import math
import statistics
from dataclasses import replace

import numpy
import pytest
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, QUESTIONS, TRANSLATION

import seqsru
from seqsru.comparing import outcomes, steps, work
from seqsru.comparing.children import Ended
from seqsru.comparing.spec import read
from seqsru.data.squad import read_squad
from seqsru.errors import Refused
from seqsru.evaluation.answer_score import Asked, answer_score, paired_answers
from seqsru.evaluation.bleu import paired_bootstrap
from seqsru.training.finite import STOPPED

SMALL = "latency: false\nbudget: {epochs: 2}\n"
MODELS = """\
set: {training.log_every: 2, training.validate_every: 4}
systems:
  SRU: {}
  LSTM: {model.stack.cell: lstm, model.stack.num_layers: 1}
parameters: {as: SRU, by: [model.stack.hidden_size], within: 0.1, multiple: 1}
budget: {updates: 10}
seeds: [3, 1]
baseline: LSTM
goal: 8.9
depth: model.stack.num_layers
measures: [bits_per_byte]
latency: {count: 2, rounds: 2, length: 4, engine: torch}
"""
CHANGED = MODELS.replace("LSTM: {model", "LSTM: {optimizer.lr: 2e-2, model")
COUNT = 2 * (2 + 2) + 2 * 2  # a training and a test of each system and seed, and two rounds of each system


def records(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def progress(run):
    newest = max((run / "checkpoints").iterdir())
    return json.loads((newest / "state.json").read_text())["progress"]


@pytest.mark.slow
def test_the_table_of_language_models_has_what_the_runs_have(compared, calls, texts):
    folder, told, good = compared(LANGUAGE_MODEL, MODELS)
    assert good and len(calls) == COUNT
    # Seed by seed and round by round, another system first each time.
    assert [call[-1].rpartition("/")[2] for call in calls if call[0] == "train"] == [
        "SRU-3.yaml",
        "LSTM-3.yaml",
        "LSTM-1.yaml",
        "SRU-1.yaml",
    ]
    assert [call[1].rpartition("/")[2] for call in calls if call[0] == "latency"] == [
        "SRU-3",
        "LSTM-3",
        "LSTM-3",
        "SRU-3",
    ]
    table = json.loads((folder / "table.json").read_text())
    assert table["measure"] == table["validation_metric"] == "perplexity" and not table["higher_is_better"]
    lines = (texts / "test.txt").read_text().splitlines()
    units = [len(line.split()) + 1 for line in lines]
    values, shares = {}, {}
    for row in table["systems"]:
        runs = [folder / "runs" / f"{row['system']}-{seed}" for seed in (3, 1)]
        models = [seqsru.load(run) for run in runs]
        values[row["system"]] = [model.perplexity(lines).perplexity for model in models]
        shares[row["system"]] = [model.line_nlls(lines) for model in models]
        assert row["test"]["mean"] == pytest.approx(statistics.mean(values[row["system"]]))
        assert row["test"]["deviation"] == pytest.approx(statistics.stdev(values[row["system"]]))
        bits = [model.perplexity(lines).bits_per_byte for model in models]
        assert row["further"]["bits_per_byte"]["test"]["mean"] == pytest.approx(statistics.mean(bits))
        assert row["further"]["bits_per_byte"]["test"]["deviation"] == pytest.approx(statistics.stdev(bits))
        assert {sum(p.numel() for p in model.model.parameters()) for model in models} == {row["parameters"]}
        for run, one in zip(runs, row["runs"]):
            metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            valid = [(line["seconds"], line["perplexity"]) for line in metrics if line["kind"] == "valid"]
            assert one["validation"] == min(value for _, value in valid)
            assert one["goal_seconds"] == next((when for when, value in valid if value <= 8.9), None)
            speeds = [line["tokens_per_second"] for line in metrics if line["kind"] == "train"]
            assert one["tokens_per_second"] == statistics.median(speeds[1:])
            # Lines at 2, 4, 6, 8 and 10, and validations after 4 and 8: 2 to 4 and 6 to 8 are updates alone.
            when = {line["step"]: line["seconds"] for line in metrics if line["kind"] == "train"}
            both = [1e3 * (when[n + 2] - when[n]) / 2 for n in (2, 6)]
            assert one["update_milliseconds"] == pytest.approx(statistics.mean(both))
            ended = progress(run)
            # As many updates a pass as there are lines before the first of the next epoch.
            config = seqsru.runs.load_settings(run / "config.yaml")
            length = seqsru.runs.prepare(config, lambda line: None).objective.epoch_length()
            assert one["passes"] == pytest.approx(10 / length)
            assert (one["seconds"], one["processor_seconds"]) == (
                ended["seconds"],
                ended["processor_seconds"],
            )
            assert one["busy"] == pytest.approx(ended["processor_seconds"] / ended["seconds"])
            assert one["steps"] == ended["step"] == 10
            assert 5e7 < one["peak_bytes"] == ended["peak_bytes"] < 1e10
        reports = [
            one["result"]["times"]
            for one in records(folder)
            if one["job"] == f"runs/{row['system']}-3"
            and one["step"].startswith("time")
            and one["state"] == "done"
        ]
        found = row["latency"]
        assert found["later_tokens"]["p50"] == statistics.median(
            one["later_tokens"]["p50"] for one in reports
        )
        assert found["later_tokens"]["p90"] == statistics.median(
            one["later_tokens"]["p90"] for one in reports
        )
        assert found["encoding"]["p50"] == statistics.median(one["encoding"]["p50"] for one in reports)
        assert (found["rounds"], found["engine"], found["unit"]) == (2, "torch", "token")
    # The bootstrap, once more by hand.
    sru = next(row for row in table["systems"] if row["system"] == "SRU")
    difference = statistics.mean(values["SRU"]) - statistics.mean(values["LSTM"])
    assert sru["to_baseline"]["difference"] == pytest.approx(difference)
    chosen = numpy.random.default_rng(12345).choice(len(lines), size=(1000, len(lines)), replace=True)
    means = [
        numpy.mean(
            [
                [math.exp(sum(nll[i] for i in rows) / sum(units[i] for i in rows)) for rows in chosen]
                for nll in own
            ],
            0,
        )
        for own in (shares["LSTM"], shares["SRU"])
    ]
    between = numpy.abs(means[1] - means[0])
    more = int((between - between.mean() >= abs(difference) - 1e-9).sum())
    assert sru["to_baseline"]["p_value"] == (more + 1) / 1001
    with open(folder / "table.csv") as stream:
        for row, one in zip(csv.DictReader(stream), table["systems"]):
            assert float(row["test_mean"]) == one["test"]["mean"] and row["system"] == one["system"]
            assert float(row["later_tokens_p90"]) == one["latency"]["later_tokens"]["p90"]
    shown = (folder / "table.md").read_text()
    assert f"| SRU | {sru['test']['mean']:.2f} ± {sru['test']['deviation']:.2f} (2) | " in shown
    assert f"{difference:+.2f} (p = {sru['to_baseline']['p_value']:.3f})" in shown
    for name in ("quality.png", "curves.png", "depth.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert (
        told[0].startswith("train runs/SRU-3; to train, this one included: 4 trainings") or "lines" in told[0]
    )
    check_nothing_is_done_again(compared, calls, folder)
    check_changes_are_refused(compared, calls, folder)
    check_a_system_is_done_again(compared, calls, folder)


@pytest.mark.slow
def test_a_budget_of_processors_counts_their_time(compared):
    """Also until the goal and in the curves, but where an earlier version trained."""
    asked = (
        "set: {training.validate_every: 4}\nsystems: {SRU: {}}\nbudget: {processor_minutes: 0.02}\n"
        "seeds: [3]\ngoal: 1e6\nlatency: false\n"
    )
    folder, _, good = compared(LANGUAGE_MODEL, asked)
    assert good
    metrics = (folder / "runs" / "SRU-3" / "metrics.jsonl").read_text().splitlines()
    valid = [line for line in map(json.loads, metrics) if line["kind"] == "valid"]
    file = folder / "results.jsonl"
    for time, key in (("processor minutes", "processor_seconds"), ("minutes", "seconds")):
        compared(LANGUAGE_MODEL, asked)
        table = json.loads((folder / "table.json").read_text())
        (run,) = table["systems"][0]["runs"]
        assert run["curve"] == [[line[key], line["perplexity"]] for line in valid]
        assert run["goal_seconds"] == valid[0][key] and table["time"] == time
        assert f"| {time} to 1e+06 |" in (folder / "table.md").read_text()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line["result"].pop("processor_curve", None)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def check_nothing_is_done_again(compared, calls, folder):
    before, done = (folder / "results.jsonl").read_bytes(), len(calls)
    assert compared(LANGUAGE_MODEL, MODELS)[2]
    assert len(calls) == done and (folder / "results.jsonl").read_bytes() == before
    # Another goal is asked of what there is, and further seeds and rounds are added.
    compared(LANGUAGE_MODEL, MODELS.replace("goal: 8.9", "goal: 0.5"))
    table = json.loads((folder / "table.json").read_text())
    assert len(calls) == done and table["systems"][0]["goal_seconds"] is None
    assert "SRU: 2 of 2 trainings did not reach the goal" in table["warnings"]


def check_changes_are_refused(compared, calls, folder):
    done = len(calls)
    with pytest.raises(Refused) as refused:
        compared(LANGUAGE_MODEL, CHANGED)
    why = "optimizer.lr 0.02 instead of 0.01"
    assert str(refused.value) == (
        f"expected results of what the file asks for now in {folder}/results.jsonl, found "
        f"train runs/LSTM-3 ({why}); train runs/LSTM-1 ({why}); "
        "put it back, choose another output, or do these anew with --anew"
    )
    assert len(calls) == done
    _, told, _ = compared(LANGUAGE_MODEL, CHANGED, anew=True)
    # Timed side by side, so all of that is timed anew.
    again = [call[0] for call in calls[done:]]
    assert again.count("train") == again.count("evaluate") == 2 and again.count("latency") == 4
    assert any(line.startswith(f"put aside in {folder}/earlier/1: ") for line in told)
    assert (folder / "earlier" / "1" / "runs" / "LSTM-3" / "config.yaml").is_file()
    kept = [json.loads(line)["job"] for line in (folder / "earlier/1/results.jsonl").read_text().splitlines()]
    assert "runs/LSTM-1" in kept and "runs/SRU-1" not in kept


def check_a_system_is_done_again(compared, calls, folder):
    done, file = len(calls), folder / "results.jsonl"
    before = file.read_bytes()
    with pytest.raises(Refused, match="^again: expected one of SRU, LSTM, found 'LSMT'; did you mean 'LSTM'"):
        compared(LANGUAGE_MODEL, CHANGED, again=["SRU", "LSMT"])
    assert len(calls) == done and file.read_bytes() == before
    _, told, good = compared(LANGUAGE_MODEL, CHANGED, again=["SRU"])
    again = [call[0] for call in calls[done:]]
    assert good and again.count("train") == again.count("evaluate") == 2 and again.count("latency") == 4
    assert any(line.startswith(f"put aside in {folder}/earlier/2: ") for line in told)
    assert (folder / "earlier" / "2" / "runs" / "SRU-1" / "checkpoints").is_dir()
    old = [json.loads(line) for line in (folder / "earlier/2/results.jsonl").read_text().splitlines()]
    assert {one["job"] for one in old if one["step"] in ("train", "test")} == {"runs/SRU-1", "runs/SRU-3"}
    # So many updates from one seed give the same weights, and the same signature of the test.
    tests = [
        {one["job"]: one["result"]["signature"] for one in lines if one["step"] == "test" and one["result"]}
        for lines in (old, records(folder))
    ]
    assert tests[0].items() <= tests[1].items()


@pytest.mark.slow
def test_folds_are_a_setting_that_goes_with_the_seed(compared, calls, texts):
    """A cross-validation: each seed has a fold of its own, whose lines are compared in pairs."""
    base = CLASSIFICATION.replace(", validation: {folder}/valid.labelled, test: {folder}/test.labelled", "")
    spec = SMALL + (
        "systems:\n  SRU: {}\n  GRU: {model.encoder.cell: gru}\nmeasures: [macro_f1]\n"
        "seeds: [1, 2, 3]\nby_seed: {data.fold: [0, 1, 2]}\nset: {data.folds: 3}\nbaseline: GRU\n"
    )
    folder, _, good = compared(base, spec)
    table = json.loads((folder / "table.json").read_text())
    assert good and table["measure"] == "accuracy" and table["higher_is_better"]
    sru = table["systems"][0]
    assert [run["numbers"]["lines"] for run in sru["runs"]] == [20, 20, 20]
    tests = [json.loads((folder / "runs" / f"SRU-{seed}.test.json").read_text()) for seed in (1, 2, 3)]
    assert [run["test"] for run in sru["runs"]] == pytest.approx([one["accuracy"] for one in tests])
    spread = sru["further"]["macro_f1"]["test"]
    assert spread["mean"] == pytest.approx(statistics.mean(one["macro_f1"] for one in tests))
    assert spread["deviation"] == pytest.approx(statistics.stdev(one["macro_f1"] for one in tests))
    assert [run["passes"] for run in sru["runs"]] == [2.0, 2.0, 2.0]
    texts_of = {one["result"]["text"] for one in records(folder) if one["step"] == "test" and one["result"]}
    assert len(texts_of) == 3 and sru["to_baseline"]["seeds"] == [1, 2, 3]


@pytest.mark.slow
def test_translations_are_compared_as_evaluate_compares_them(compared, texts):
    base = TRANSLATION.replace(
        "tokenizer:", "  test: {{source: {folder}/test.src, target: {folder}/test.tgt}}\ntokenizer:"
    )
    spec = "budget: {updates: 30}\nseeds: [1]\nbaseline: GRU\nevaluate: {beam: 3}\n"
    spec += "latency: {count: 2, rounds: 1, length: 4, engine: torch}\nset: {decoding.guard: repeats}\n"
    spec += "measures: [ter, chrf]\nsystems:\n"
    spec += "  SRU: {model.decoder.cell: sru}\n  GRU: {}\n"
    folder, _, good = compared(base, spec)
    table = json.loads((folder / "table.json").read_text())
    assert good and table["measure"] == "bleu"
    source, target = ((texts / f"test.{side}").read_text().splitlines() for side in ("src", "tgt"))
    outputs = {}
    for row in table["systems"]:
        pipeline = seqsru.load(folder / "runs" / f"{row['system']}-1")
        found = pipeline.translate(source, replace(pipeline.decoding, beam=3, n_best=1))
        outputs[row["system"]] = [one.text for one in found]
    row = table["systems"][0]
    assert table["further"] == {"ter": {"higher_is_better": False}, "chrf": {"higher_is_better": True}}
    names = ["bleu", "chrf", "ter"]
    for name, expected in zip(names, paired_bootstrap(outputs["GRU"], outputs["SRU"], target, names)):
        own = row if name == "bleu" else row["further"][name]
        found = own["to_baseline"]
        assert (found["baseline"], found["system"]) == pytest.approx(
            (expected.baseline, expected.system), abs=1e-9
        )
        assert found["p_value"] == expected.p_value and own["test"]["mean"] == found["system"]
    # Guards are part of what is tested; lines of a forced length are timed without.
    signed = {
        one["step"]: one["result"]["signature"]
        for one in records(folder)
        if one["state"] == "done" and one["step"] in ("test", "time 1")
    }
    assert "|guard:repeats|" in signed["test"] and "|guard:none|" in signed["time 1"]


@pytest.mark.slow
def test_answers_have_exact_match_beside_f1(compared, texts):
    """With intervals, as SQuAD's numbers are told, and the bootstrap of `seqsru evaluate --baseline`."""
    spec = SMALL + "seeds: [4]\nbaseline: GRU\nmeasures: [f1, exact_match]\nsystems:\n  SRU: {}\n"
    spec += "  GRU: {model.paragraph.cell: gru, model.question.cell: gru}\n"
    folder, _, good = compared(QUESTIONS, spec)
    table = json.loads((folder / "table.json").read_text())
    assert good and table["measure"] == "f1" and list(table["further"]) == ["exact_match"]
    asked = read_squad([texts / "test.json"])
    scores = {}
    for row in table["systems"]:
        pipeline = seqsru.load(folder / "runs" / f"{row['system']}-4")
        found = pipeline.answer(
            [one.text for one in asked.questions],
            [[asked.paragraphs[one.paragraph]] for one in asked.questions],
        )
        given = {one.id: answer.text for one, answer in zip(asked.questions, found)}
        right = [Asked(one.id, tuple(a.text for a in one.answers)) for one in asked.questions]
        scores[row["system"]] = answer_score(right, given)
        values, intervals = scores[row["system"]].values(), scores[row["system"]].intervals()
        exact = row["further"]["exact_match"]
        assert (row["test"]["mean"], exact["test"]["mean"]) == pytest.approx(
            (values["f1"], values["exact_match"])
        )
        assert (row["interval"], exact["interval"]) == (
            pytest.approx(intervals["f1"]),
            pytest.approx(intervals["exact_match"]),
        )
    sru, gru = table["systems"]
    assert gru["to_baseline"] is None and gru["further"]["exact_match"]["to_baseline"] is None
    for expected in paired_answers(scores["GRU"], scores["SRU"]):
        found = (sru if expected.name == "f1" else sru["further"]["exact_match"])["to_baseline"]
        assert (found["difference"], found["p_value"]) == pytest.approx(
            (expected.system - expected.baseline, expected.p_value)
        )
    shown = (folder / "table.md").read_text().splitlines()
    assert shown[0].startswith("| system | test f1 | to GRU | test exact_match | to GRU | validation ")
    exact, half = sru["further"]["exact_match"], sru["further"]["exact_match"]["interval"][1]
    assert f" | {exact['test']['mean']:.2f} (95 % ± {half:.2f}) | " in shown[2]


def test_passes_are_counted_in_updates():
    def passes(step, epoch, batch, **given):
        training = {"accumulate": 2, "steps": 0, "epochs": 10, **given}
        progress = {"step": step, "epoch": epoch, "batch": batch}
        return outcomes._passes({"progress": progress, "total_steps": given.get("steps", 0) or 80}, training)

    # 15 batches a pass, two an update: 8 updates, of which the last has one batch.
    assert passes(8, 2, 0) == 1.0
    assert passes(20, 3, 8) == 2.5
    assert passes(24, 3, 15) == 3.0  # stopped before the next pass began
    assert passes(6, 1, 12) == 0.75  # of the first pass, by what all of them would take
    assert passes(6, 1, 12, steps=6) is None


SEARCH = SMALL + (
    "seeds: [5]\nsystems:\n  SRU: {}\n  GRU: {model.encoder.cell: gru}\n"
    "search:\n  trials: 4\n  keep: 0.5\n  budget: {epochs: 1}\n"
    "  settings: {optimizer.lr: {from: 1e-4, to: 1e-1, scale: log}, model.pooling: [max, mean]}\n"
)


@pytest.mark.slow
def test_halving_keeps_the_right_ones(compared, calls):
    folder, _, good = compared(CLASSIFICATION, SEARCH)
    assert good
    # 4 trials to 1 epoch, 2 of them on to 2, for both systems; then one training each.
    trained = [call[1].partition("/out/")[2] for call in calls if call[0] == "train"]
    assert len(trained) == 2 * (4 + 2) + 2
    assert trained[:4] == ["search/SRU-1.yaml", "search/GRU-1.yaml", "search/GRU-2.yaml", "search/SRU-2.yaml"]
    assert not any(call[0] == "evaluate" and "search" in call[1] for call in calls)  # on validation alone
    lines = records(folder)
    table = json.loads((folder / "table.json").read_text())
    drawn = {}
    for system in ("SRU", "GRU"):
        score = {}
        for rung in (1, 2):
            for one in lines:
                number = one["job"].rpartition("-")[2]
                if one["step"] == f"train to round {rung}" and f"/{system}-" in one["job"] and one["result"]:
                    score[rung, int(number)] = one["result"]["best"]
        first = sorted(range(1, 5), key=lambda n: (-score[1, n], n))[:2]
        assert sorted(n for rung, n in score if rung == 2) == sorted(first)
        chosen = min(first, key=lambda n: (-score[2, n], n))
        found = table["search"][system]
        assert found["trial"] == chosen and found["value"] == score[2, chosen]
        assert found["rounds"][0]["scores"] == {str(n): score[1, n] for n in range(1, 5)}
        config = (folder / "runs" / f"{system}-5.yaml").read_text()
        assert f"lr: {found['settings']['optimizer.lr']!r}" in config
        assert progress(folder / "search" / f"{system}-{chosen}")["epoch"] == 3  # it went on to its second
        drawn[system] = found["trials"]
    assert drawn["SRU"] == drawn["GRU"]  # equal trials
    log = (folder / "search.csv").read_text().splitlines()
    assert log[0] == "system,trial,optimizer.lr,model.pooling,round 1,round 2,chosen" and len(log) == 9
    done = len(calls)
    assert compared(CLASSIFICATION, SEARCH)[2] and len(calls) == done
    with pytest.raises(Refused, match=r"found train to round 1 search/SRU-1 \(optimizer\.lr "):
        compared(CLASSIFICATION, SEARCH.replace("to: 1e-1", "to: 2e-1"))


def test_results_of_other_sources_or_another_machine_are_refused(compared, calls, monkeypatch):
    spec = SMALL + "seeds: [1]\nsystems: {SRU: {}}\n"
    folder, _, _ = compared(CLASSIFICATION, spec)
    spec_file, before = folder.parent / "spec.yaml", (folder / "table.json").read_bytes()
    work.Work(read(spec_file), print).make_table()
    assert (folder / "table.json").read_bytes() == before
    real = work.machine
    for name, value, change in (
        ("sources", "0.1.0,abc", {"sources": lambda: "0.1.0,abc"}),
        ("cpu", "another", {"machine": lambda settings: {**real(settings), "cpu": "another"}}),
    ):
        with monkeypatch.context() as patched:
            for function, other in change.items():
                patched.setattr(work, function, other)
            with pytest.raises(Refused) as refused:
                compared(CLASSIFICATION, spec + "  # another text, the same settings\n")
            made = records(folder)[0]["made"]
            assert str(refused.value) == (
                f"expected results of this machine and these sources of the package in {folder}/results.jsonl"
                f", found train runs/SRU-1 ({name} {value} instead of {made[name]}); "
                f"test runs/SRU-1 ({name} {value} instead of {made[name]}); "
                "put it back, choose another output, or do these anew with --anew"
            )
    assert len(calls) == 2
    # One line of another machine, and no table is made of it, wherever it is read.
    lines = records(folder)
    lines[-1]["made"]["cores"] = 1234
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        Refused, match=r"^expected results of one machine and one state of the sources in .*1234"
    ):
        work.Work(read(spec_file), print).make_table()


def test_a_measure_that_is_asked_for_later_is_measured_without_training(compared, calls):
    spec = SMALL + "seeds: [1]\nsystems: {SRU: {}}\n"
    folder, _, _ = compared(CLASSIFICATION, spec)
    # Results from before there were these have a table all the same.
    lines = records(folder)
    for line in lines:
        for name in ("passes", "update_milliseconds", "intervals"):
            line["result"].pop(name, None)
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    work.Work(read(folder.parent / "spec.yaml"), print).make_table()
    (row,) = json.loads((folder / "table.json").read_text())["systems"]
    assert (row["passes"], row["interval"], row["further"]) == (None, None, {})
    with pytest.raises(Refused, match=r"found test runs/SRU-1 \(flags \['--measures', 'macro_f1'\] instead "):
        compared(CLASSIFICATION, spec + "measures: [macro_f1]\n")
    compared(CLASSIFICATION, spec + "measures: [macro_f1]\n", anew=True)
    assert [call[0] for call in calls] == ["train", "evaluate", "evaluate"]
    (row,) = json.loads((folder / "table.json").read_text())["systems"]
    values = json.loads((folder / "runs" / "SRU-1.test.json").read_text())
    assert row["further"]["macro_f1"]["test"]["mean"] == pytest.approx(values["macro_f1"])


def test_other_data_under_the_same_name_is_another_training(compared, texts, tmp_path):
    spec = SMALL + "seeds: [1]\nsystems: {SRU: {}}\n"
    base = CLASSIFICATION.replace("train: {folder}/train.labelled", f"train: {tmp_path}/train.labelled")
    content = (texts / "train.labelled").read_text()
    (tmp_path / "train.labelled").write_text(content)
    compared(base, spec)
    (tmp_path / "train.labelled").write_text(content + "plain one two\n")
    with pytest.raises(
        Refused, match=r"found train runs/SRU-1 \(sha256 of data\.train [0-9a-f]{12} instead of "
    ):
        compared(base, spec)


def test_a_training_that_breaks_is_told_and_the_others_go_on(compared, calls, monkeypatch):
    spec = SMALL + "seeds: [1]\nsystems:\n  BAD: {optimizer.lr: 1}\n  SRU: {}\nbaseline: SRU\n"
    good_call = steps.call

    def call(arguments, log, at_work):
        ended = good_call(arguments, log, at_work)
        return Ended(-9, 0.0, "nothing said") if "BAD" in str(arguments[1]) else ended

    monkeypatch.setattr(steps, "call", call)
    folder, told, good = compared(CLASSIFICATION, spec)
    assert not good
    (failed,) = [line for line in told if line.startswith("failed")]
    assert failed == (
        "failed: train runs/BAD-1: expected `seqsru train` to end well, found signal 9: nothing said; "
        f"see {folder}/runs/BAD-1.log"
    )
    table = json.loads((folder / "table.json").read_text())
    assert table["systems"][1]["test"]["n"] == 1 and table["systems"][0]["test"] is None
    assert any(line.startswith("failed: train runs/BAD-1: ") for line in table["warnings"])
    assert "BAD: 1 of 1 seeds are not there" in table["warnings"]
    done = len(calls)
    monkeypatch.setattr(steps, "call", good_call)
    assert compared(CLASSIFICATION, spec)[2]  # once more: what failed is tried, the rest is not
    assert [call[0] for call in calls[done:]] == ["train", "evaluate"]


@pytest.mark.slow
def test_what_was_not_timed_beside_the_others_is_timed_again_with_them(compared, calls, monkeypatch):
    """And of a system whose first seed broke another one is timed."""
    spec = "latency: {count: 2, rounds: 2, length: 4, engine: torch}\nbudget: {epochs: 1}\nseeds: [1, 2]\n"
    spec += "systems:\n  BAD: {optimizer.lr: 1}\n  SRU: {}\n"
    good_call = steps.call
    broken = ["runs/BAD-1.yaml", "runs/BAD-2.yaml"]

    def call(arguments, log, at_work):
        if any(str(arguments[1]).endswith(one) for one in broken):
            return Ended(-9, 0.0, "nothing said")
        return good_call(arguments, log, at_work)

    def timed():
        return [one[1].rpartition("/")[2] for one in calls if one[0] == "latency"]

    monkeypatch.setattr(steps, "call", call)
    assert not compared(LANGUAGE_MODEL, spec)[2] and timed() == ["SRU-1", "SRU-1"]
    calls.clear()
    broken.pop()
    folder, _, good = compared(LANGUAGE_MODEL, spec)
    assert not good and timed() == ["BAD-2", "SRU-1", "SRU-1", "BAD-2"]
    table = json.loads((folder / "table.json").read_text())
    assert [row["latency"]["rounds"] for row in table["systems"]] == [2, 2]
    assert table["systems"][0]["label"] == "sru"
    assert len((folder / "earlier" / "1" / "results.jsonl").read_text().splitlines()) == 2
    calls.clear()
    broken.pop()
    compared(LANGUAGE_MODEL, spec)  # a round that all have is not done again with another seed of one of them
    assert timed() == ["BAD-1", "SRU-1", "SRU-1", "BAD-1"]


SEARCHED = SMALL.replace("2", "1") + (
    "seeds: [1]\nsystems:\n  BAD: {data.seed: 1}\n  SRU: {}\n"
    "search: {trials: 2, method: random, budget: {epochs: 1}, settings: {optimizer.lr: [1e-2, 2e-2]}}\n"
)


@pytest.mark.slow
def test_a_trial_that_something_stopped_is_made_again(compared, calls, monkeypatch):
    good_call = steps.call

    def call(arguments, log, at_work):
        if str(arguments[1]).endswith("search/BAD-2.yaml"):
            return Ended(2, 0.0, "no room")
        return good_call(arguments, log, at_work)

    monkeypatch.setattr(steps, "call", call)
    spec = SEARCHED.replace("data.seed: 1", "model.word_dropout: 0.1")
    spec = spec.replace(
        "trials: 2, method: random", "trials: 4, keep: 0.5"
    )  # with a second round for SRU alone
    folder, told, good = compared(CLASSIFICATION, spec)
    assert not good and "search BAD: waits for its trials 2; give the command again" in told
    table = json.loads((folder / "table.json").read_text())
    assert [row["system"] for row in table["systems"]] == ["SRU"] and list(table["search"]) == ["SRU"]
    monkeypatch.setattr(steps, "call", good_call)
    calls.clear()
    folder, told, good = compared(CLASSIFICATION, spec)
    trained = [one[1].rpartition("/out/")[2] for one in calls if one[0] == "train"]
    assert good and (trained[0], trained[-1]) == ("search/BAD-2.yaml", "runs/BAD-1.yaml")
    assert len(trained) == 4 and "; to train, this one included: 4 trainings, about" in told[0]


@pytest.mark.slow
def test_a_system_that_always_diverges_is_told_and_the_others_go_on(compared, calls, monkeypatch):
    good_call = steps.call

    def call(arguments, log, at_work):
        if "search/BAD" not in str(arguments[1]):
            return good_call(arguments, log, at_work)
        calls.append([str(argument) for argument in arguments])
        run = log.with_suffix("")
        run.mkdir(parents=True, exist_ok=True)  # as a training leaves it that came to numbers of no use
        (run / "metrics.jsonl").write_text(json.dumps({"kind": STOPPED, "step": 3}) + "\n")
        return Ended(1, 0.0, "expected a finite loss")

    monkeypatch.setattr(steps, "call", call)
    spec = SEARCHED.replace("data.seed: 1", "model.word_dropout: 0.1")
    folder, told, good = compared(CLASSIFICATION, spec)
    trained = [one[1].rpartition("/out/")[2] for one in calls if one[0] == "train"]
    (none,) = [line for line in told if line.startswith("failed: search BAD")]
    assert not good and "expected a trial of BAD that trains to its end, found none" in none
    assert len(trained) == 5 and trained[-1] == "runs/SRU-1.yaml"
    assert any(line.startswith("train runs/SRU-1; to train, this one included: 1 training") for line in told)
    table = json.loads((folder / "table.json").read_text())
    assert any(line.startswith("failed: search BAD: ") for line in table["warnings"])
    calls.clear()
    assert not compared(CLASSIFICATION, spec)[2] and not calls  # it would diverge again


@pytest.mark.slow
def test_a_search_over_sizes_leaves_all_systems_equally_large(compared):
    spec = SMALL.replace("epochs: 2", "updates: 2") + (
        "seeds: [1]\nset: {model.stack.hidden_size: 24, model.stack.dropout: 0}\n"
        "systems:\n  SRU: {}\n  GRU: {model.stack.cell: gru}\n"
        "parameters: {as: SRU, by: [model.stack.hidden_size], within: 0.1, multiple: 1}\n"
        "search: {trials: 3, method: random, budget: {updates: 2},"
        " settings: {model.stack.num_layers: [1, 3, 6]}}\n"
    )
    folder, _, good = compared(LANGUAGE_MODEL, spec)
    trained = [line for line in records(folder) if line["step"].startswith("train") and line["result"]]
    sizes = [line["result"]["parameters"] for line in trained]
    assert good and len(sizes) == 2 * 3 + 2 and max(sizes) < 1.22 * min(sizes)
