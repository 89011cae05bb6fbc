"""The file of a comparison: every mistake with its line, before anything is trained."""

import pytest
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL

from seqsru.commands.main import main
from seqsru.comparing.options import CUT

GOOD = """\
output: {here}/out
base: {here}/base.yaml
seeds: [1, 2]
budget: {{epochs: 1}}
systems:
  SRU: {{}}
  GRU: {{model.stack.cell: gru}}
"""


@pytest.fixture
def refused(texts, tmp_path, capsys):
    """What `seqsru compare --check` says of a file; nothing is made where the results would be."""

    def check(text, base=LANGUAGE_MODEL):
        (tmp_path / "base.yaml").write_text(base.format(folder=texts))
        spec = tmp_path / "s.yaml"
        spec.write_text(text.format(here=tmp_path))
        capsys.readouterr()
        status = main(["compare", str(spec), "--check"])
        out, err = capsys.readouterr()
        assert not (tmp_path / "out").exists()
        assert (status, out) == (2, ""), out
        lines = [line for line in err.splitlines() if line.startswith(str(spec))]  # besides what was read
        return "\n".join(lines).replace(f"{tmp_path}/", "")

    return check


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "{{}}",
            "{{training: {{steps: 4}}}}",
            "s.yaml:6: training.steps: expected what the budget does not set, found training.steps; leave it",
        ),
        (
            "systems",
            "by_seed: {{seed: [3, 4]}}\nsystems",
            "s.yaml:5: by_seed.seed: expected settings other than output and seed, found seed; name it in se",
        ),
        (
            "systems",
            "by_seed: {{training.steps: [3, 4]}}\nsystems",
            "s.yaml:5: training.steps: expected what the budget does not set, found training.steps; leave it",
        ),
        (
            "systems",
            "search: {{budget: {{epochs: 1}}, settings: {{seed: [1, 2]}}}}\nsystems",
            "s.yaml:5: search.settings.seed: expected settings other than output and seed, found seed; name ",
        ),
        (
            "cell: gru",
            "cell: gru, data.validation: {here}/base.yaml",
            "s.yaml:7: data.validation: expected '",
        ),
        (
            "  GRU: {{model.stack.cell: gru}}\n",
            "  GRU: {{model.stack.hidden_size: 9}}\nparameters: {{as: SRU, by: [model.stack.hidden_size]}}\n",
            "s.yaml:7: model.stack.hidden_size: expected what is not solved for, found model.stack.hid",
        ),
        ("budget", "budgt", "s.yaml:4: budgt is not a setting; did you mean 'budget'?"),
        ("{{}}", "{{optimizer.lrr: 1}}", "s.yaml:6: optimizer.lrr is not a setting; did you mean 'lr'?"),
        ("cell: gru", "cell: gruu", "s.yaml:7: model.stack.cell.name: expected one of "),
        (
            "[1, 2]",
            "[]",
            "s.yaml:3: seeds: expected at least one seed, each once, found []; write for example [1, 2",
        ),
        (
            "[1, 2]",
            "[1, 1]",
            "s.yaml:3: seeds: expected at least one seed, each once, found [1, 1]; write for ",
        ),
        (
            "{{epochs: 1}}",
            "{{}}",
            "s.yaml:4: budget: expected one of minutes, processor_minutes, updates, epochs, ",
        ),
        (
            "{{epochs: 1}}",
            "{{epochs: 1, minutes: 2}}",
            "s.yaml:4: budget: expected one of minutes, processor_minutes, updates, epochs, above 0, "
            "found minutes and epochs; give one of them",
        ),
        (
            "{{}}",
            "{{training.epochs: 4}}",
            "s.yaml:6: training.epochs: expected what the budget does not set, "
            "found training.epochs; leave it out",
        ),
        (
            "{{}}",
            "{{seed: 4}}",
            "s.yaml:6: systems.SRU.seed: expected settings other than output and seed, found seed; "
            "name it in seeds",
        ),
        (
            "SRU: ",
            "S/U: ",
            "s.yaml:6: systems: expected letters, digits, +, -, _ and ., the first a letter or digit, "
            "found 'S/U'; rename it",
        ),
        (
            "budget",
            "baseline: LSTM\nbudget",
            "s.yaml:4: baseline: expected one of SRU, GRU, found 'LSTM'; choose one of these",
        ),
        (
            "budget",
            "depth: model.stack.cell.name\nbudget",
            "s.yaml:4: depth: expected the name of a setting that is a number, found 'sru' in SRU; change it",
        ),
        (
            "budget",
            "by_seed: {{optimizer.lr: [1]}}\nbudget",
            "s.yaml:4: by_seed.optimizer.lr: expected a list of 2 values, one a seed, found [1]; change it",
        ),
        (
            "budget",
            "parameters: {{by: [model.stack.hidden_size]}}\nbudget",
            "s.yaml:4: parameters.count: expected either count or as, found neither; give one of them",
        ),
        (
            "budget",
            "parameters: {{as: LSTM, by: [model.stack.hidden_size]}}\nbudget",
            "s.yaml:4: parameters.as: expected one of SRU, GRU, found 'LSTM'; choose one of these",
        ),
        (
            "budget",
            "parameters: {{count: 5000, by: [model.stack.num_layers], within: 0.001}}\nbudget",
            "s.yaml:4: parameters.count: expected 5,000 parameters within 0.1 % for some "
            "model.stack.num_layers, a multiple of 4, of SRU, found ",
        ),
        (
            "budget",
            "parameters: {{count: 5000, by: [model.stack.hiden]}}\nbudget",
            "s.yaml:4: parameters.by: expected settings of SRU that are whole numbers, found "
            "'model.stack.hiden'; did you mean 'model.stack.hidden_size'?",
        ),
        ("budget", "search: {{trials: 2}}\nbudget", "s.yaml:4: search.budget: expected one of minutes, "),
        (
            "budget",
            "search: {{budget: {{epochs: 1}}}}\nbudget",
            "s.yaml:4: search.settings: expected settings to search, found none; write setting: ",
        ),
        (
            "budget",
            "search: {{trials: 2, budget: {{epochs: 1}}, settings: {{optimizer.lr: [0.1, fast]}}}}\nbudget",
            "s.yaml:4: optimizer.lr: expected a number, found 'fast'; change it",
        ),
        ("budget", "evaluate: {{beam: 3}}\nbudget", "s.yaml:4: beam is not a setting; there are "),
        (
            "budget",
            "measures: [token_perplexity, chrf]\nbudget",
            "s.yaml:4: measures: expected one of perplexity, token_perplexity, bits_per_token, "
            "bits_per_byte, found 'chrf'; choose one of these",
        ),
        ("budget", "latency: {{engine: fast}}\nbudget", "s.yaml:4: latency.engine: expected one of "),
        (
            "budget",
            "latency: {{count: 0}}\nbudget",
            "s.yaml:4: latency.count: expected at least 1, found 0; raise it",
        ),
        (
            "{{}}",
            "{{training.threads: 2}}",
            "s.yaml:6: training.threads: expected one device and number of threads for all, as SRU has ",
        ),
        (
            "cell: gru",
            "cell: gru, training.validation_metric: bits_per_byte",
            "s.yaml:7: training.validation_metric: expected 'perplexity', by which SRU is measured, found "
            "'bits_per_byte' in GRU; measure all systems alike",
        ),
        ("cell: gru", "cell: gru, data.test: {here}/base.yaml", "s.yaml:7: data.test: expected '"),
        (
            "  SRU: {{}}\n",
            "  SRU: 3\n",
            "s.yaml:6: systems.SRU: expected a section, found 3; write name: value below",
        ),
        (
            "base.yaml",
            "none.yaml",
            "s.yaml:2: base: expected a file of settings at none.yaml, found none; check the ",
        ),
    ],
)
def test_mistakes_have_their_lines(refused, old, new, message):
    assert refused(GOOD.replace(old, new, 1)).startswith(message)


def test_systems_are_needed_and_of_one_task(refused):
    none = GOOD.partition("systems")[0]
    assert (
        refused(none)
        == "s.yaml:1: systems: expected at least one system, found none; write NAME: {setting: value}"
    )


def test_something_to_test_on_is_needed(refused):
    base = LANGUAGE_MODEL.replace(", test: {folder}/test.txt", "")
    assert refused(GOOD, base) == (
        "s.yaml:1: split: expected data.test in the settings, found none; name it, or set split to validation"
    )
    base = CLASSIFICATION.replace(", test: {folder}/test.labelled", "")
    text = GOOD.replace("model.stack", "model.encoder")
    assert refused(text, base).startswith("s.yaml:1: split: expected data.test in the settings, found none; ")


def test_the_command_itself(texts, tmp_path, capsys):
    assert main(["compare", str(tmp_path / "none.yaml")]) == 2
    assert (
        capsys.readouterr().err
        == f"seqsru: expected a YAML file at {tmp_path}/none.yaml, found none; check the path\n"
    )
    (tmp_path / "base.yaml").write_text(LANGUAGE_MODEL.format(folder=texts))
    spec = tmp_path / "s.yaml"
    spec.write_text(GOOD.format(here=tmp_path))
    assert main(["compare", str(spec), "--check", "--anew"]) == 2
    assert capsys.readouterr().err == (
        "seqsru: expected one of --check, --table and --anew, found --check and --anew; choose one\n"
    )
    assert main(["compare", str(spec), "--table", "--again", "SRU"]) == 2
    assert capsys.readouterr().err == (
        "seqsru: expected --again without --table, found both; leave one out\n"
    )
    assert main(["compare", str(spec), "--table"]) == 2
    assert capsys.readouterr().err == (
        f"seqsru: expected results in {tmp_path}/out/results.jsonl, found none; compare first, "
        "without --table\n"
    )
    spec.write_text(
        (
            GOOD + "parameters: {{count: 810, by: [model.stack.hidden_size], within: 0.07, multiple: 1}}\n"
        ).format(here=tmp_path)
    )
    assert main(["compare", str(spec), "--check"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("SRU: ") and ", model.stack.hidden_size = " in out[0]
    for line in out[:2]:
        assert 750 <= int(line.split()[1].replace(",", "")) <= 870
    assert out[2:] == [
        "train: 2 systems x 2 seeds, 1 epochs each",
        "test: test",
        "latency: 50 lines, 3 rounds, auto engine",
        "training time: told after the first one",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "over, told, total",
    [
        # 4 trials of a minute, 2 that go on to two, a training of three, for each of two systems
        ("schedule: {name: cosine}", True, "18 min"),
        # the same, but those of two minutes begin anew
        ("schedule: {name: cosine, over: time}", False, "22 min"),
        ("schedule: {name: constant}", False, "18 min"),
    ],
)
def test_a_schedule_that_time_cuts_off_is_told(texts, tmp_path, capsys, over, told, total):
    (tmp_path / "base.yaml").write_text(LANGUAGE_MODEL.format(folder=texts) + over + "\n")
    text = GOOD.replace("{{epochs: 1}}", "{{processor_minutes: 3}}").replace("[1, 2]", "[1]")
    text += """\
set: {{training.threads: 1}}
search:
  method: halving
  trials: 4
  budget: {{processor_minutes: 1}}
  keep: 0.5
  settings: {{optimizer.lr: {{from: 1e-3, to: 1e-1, scale: log}}}}
latency: false
"""
    (tmp_path / "s.yaml").write_text(text.format(here=tmp_path))
    assert main(["compare", str(tmp_path / "s.yaml"), "--check"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert (f"learning rates: {CUT}" in out) == told
    assert out[-1] == f"training time: about {total}", out
