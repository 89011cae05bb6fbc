"""The command line, end to end: what goes where, exit statuses, and every sentence."""

import configparser
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, write_config, write_texts

import seqsru
from seqsru import cli
from seqsru.cli import COMMANDS, main
from seqsru.pipelines.translation import TranslationPipeline
from seqsru.training import Trainer, checkpoints

ROOT = Path(seqsru.__file__).parent.parent


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with the texts, and a file of lines that ends without a line end."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    (folder / "lines").write_text("one two\n\nthree\n \nseven six")
    return folder


def trained(texts, text, name):
    path = write_config(texts, text)
    assert main(["train", str(path), f"output={texts / name}"]) == 0
    return texts / name


@pytest.fixture(scope="module")
def language_run(texts):
    """A trained language model."""
    return trained(texts, LANGUAGE_MODEL, "lm")


@pytest.fixture(scope="module")
def translation_run(texts):
    """A trained translation model."""
    return trained(texts, TRANSLATION, "mt")


class Terminal(io.TextIOWrapper):
    """Standard input at which a person types."""

    def isatty(self):
        return True


@pytest.fixture
def run(capsys, monkeypatch):
    """Call a command with text on standard input; gives status, stdout and stderr."""

    def call(*arguments, stdin="", terminal=False):
        data = stdin.encode() if isinstance(stdin, str) else stdin
        stream = Terminal if terminal else io.TextIOWrapper
        monkeypatch.setattr(sys, "stdin", stream(io.BytesIO(data)))
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def refused(run):
    """Call a command that must refuse; gives what it says on stderr, and checks that it says nothing else."""

    def call(*arguments, stdin=""):
        status, out, err = run(*arguments, stdin=stdin)
        assert (status, out) == (2, "") and err.endswith("\n")
        return err[:-1]

    return call


# ---- help ------------------------------------------------------------------------------------------


def test_help_names_every_command(run):
    status, out, err = run("--help")
    assert status == 0 and err == ""
    for name, text in COMMANDS.items():
        assert re.search(rf"^    {name}\b", out, re.M), name
    assert run("--version") == (0, f"seqsru {seqsru.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_teaches(run, command):
    status, out, err = run(command, "--help")
    assert status == 0 and err == ""
    assert out.startswith(f"usage: seqsru {command} [-h]")
    if command != "doctor":
        assert f"\n  seqsru {command} " in out, "no example"
    assert max(map(len, out.splitlines())) <= 115


def test_help_loads_nothing_heavy():
    code = (
        "import sys, seqsru.cli\nassert seqsru.cli.main(['--help']) == 0\n"
        "assert not {'torch', 'numpy', 'numba', 'yaml', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_train_help_shows_every_setting(run):
    out = run("train", "--help")[1]
    for text in (
        "task: translation",
        "  name: sru",
        "highway_bias: 0.0",
        "name: noam",
        "label_smoothing: 0",
        "embedding_size:",
        "(required)",
    ):
        assert text in out or text.replace("0.0", "0") in out, text


def test_translate_help_shows_every_option_of_the_search(run):
    out = run("translate", "--help")[1]
    for flag in (
        "--beam",
        "--alpha",
        "--n-best",
        "--length-factor",
        "--checkpoint",
        "--average",
        "--moses",
        "--json",
    ):
        assert flag in out


# ---- mistakes --------------------------------------------------------------------------------------


def test_no_command_and_unknown_commands(run, refused):
    status, out, err = run()
    assert status == 2 and out == "" and "required: COMMAND" in err
    assert refused("trian") == (
        "seqsru: expected a command (train, evaluate, translate, score, generate, "
        "latency, doctor, fetch), found 'trian'; did you mean 'train'?"
    )
    assert refused("xyzzy").endswith("found 'xyzzy'; see `seqsru --help`")
    assert "unrecognized arguments: --bean" in refused("fetch", "ptb", "here", "--bean")


def test_mistakes_in_settings_are_told_one_a_line(texts, refused):
    path = write_config(texts, LANGUAGE_MODEL)
    assert refused("train", path, "model.stack.cell.hiden=5", "optimizer.lr=fast").splitlines() == [
        "command line: model.stack.cell.hiden is not a setting; there are version, highway, activation, "
        "highway_bias, rescale, input_dropout, layer_norm, projection_size, backend",
        "command line: optimizer.lr must be a number, found 'fast'",
    ]
    assert refused("train", path, "model.stack.hiden_size=5") == (
        "command line: model.stack.hiden_size is not a setting; did you mean 'hidden_size'?"
    )
    assert refused("train", texts / "none.yaml") == (
        f"seqsru: expected a YAML file or a run directory at {texts}/none.yaml, found none; check the path"
    )
    assert refused("train", texts).startswith(f"seqsru: expected a YAML file or a run directory at {texts}, ")


def test_an_error_of_the_system_is_a_sentence(texts, refused):
    path = write_config(texts, LANGUAGE_MODEL)
    assert re.fullmatch(
        r"seqsru: /dev/null/run: .*; check the path and the permissions",
        refused("train", path, "output=/dev/null/run"),
    )


def test_an_error_from_deep_inside_is_a_bug_and_shows_where(run, monkeypatch):
    def deep(arguments):
        raise json.JSONDecodeError("not ours", "", 0)

    monkeypatch.setattr(cli, "_run", deep)
    with pytest.raises(ValueError, match="not ours"):
        run()
    monkeypatch.setattr(cli, "_run", lambda arguments: {}["key"])
    with pytest.raises(KeyError):
        run()


def test_a_traceback_on_request(refused, run, monkeypatch):
    assert "expected a command" in refused("trian")
    monkeypatch.setenv("SEQSRU_TRACEBACK", "1")
    with pytest.raises(ValueError, match="expected a command"):
        run("trian")


def test_ctrl_c_outside_training(run, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert run() == (130, "", "seqsru: interrupted\n")


def test_a_reader_that_went_away():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "seqsru", "--help"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_text_is_utf8_whatever_the_locale(texts, tmp_path, monkeypatch):
    folder = tmp_path / "für"
    folder.mkdir()
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii", newline="\r\n"))
    assert main(["train", "--check", str(write_config(texts, LANGUAGE_MODEL)), f"output={folder}"]) == 0
    assert f"output: {folder}\n".encode() in out.getvalue()


# ---- train -----------------------------------------------------------------------------------------


def test_train_tells_the_result_and_its_signature(texts, run, tmp_path):
    path = write_config(texts, LANGUAGE_MODEL)
    status, out, err = run("train", path, f"output={tmp_path}/run")
    assert status == 0
    assert re.fullmatch(r"perplexity \d+\.\d\d\nseqsru \S+\|cell:sru-v2\|layers:2\|[^\n]*\n", out)
    assert "train.txt: 60 lines\n" in err and "\r" not in err
    again = run("train", tmp_path / "run")
    assert again[:2] == (status, out)


def test_check_shows_every_setting_and_trains_nothing(texts, run, refused, tmp_path):
    path = write_config(texts, LANGUAGE_MODEL)
    status, out, err = run("train", "--check", path, f"output={tmp_path}/run", "schedule=cosine")
    assert status == 0 and err == "" and not (tmp_path / "run").exists()
    (tmp_path / "resolved.yaml").write_text(out)
    assert run("train", "--check", tmp_path / "resolved.yaml")[1] == out
    assert "found 2" in refused("train", "--check", path, "model.stack.dropout=2")


def test_ctrl_c_saves_and_says_how_to_go_on(texts, run, language_run, tmp_path, monkeypatch):
    update = Trainer._update

    def interrupt(self, *arguments):
        update(self, *arguments)
        if self.progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_update", interrupt)
    folder = tmp_path / "a run"
    status, out, err = run("train", write_config(texts, LANGUAGE_MODEL), f"output={folder}")
    assert (status, out) == (130, "")
    assert err.endswith(f"seqsru: stopped after step 3 and saved; go on with: seqsru train '{folder}'\n")
    monkeypatch.undo()
    assert run("train", folder)[0] == 0
    ours, theirs = (
        checkpoints.select(path / "checkpoints", "last").model() for path in (folder, language_run)
    )
    assert all(ours[name].equal(tensor) for name, tensor in theirs.items())


def test_a_moved_run_goes_on_where_it_is(texts, run, tmp_path):
    assert (
        run("train", write_config(texts, LANGUAGE_MODEL), f"output={tmp_path}/run", "training.epochs=1")[0]
        == 0
    )
    (tmp_path / "run").rename(tmp_path / "moved")
    assert run("train", tmp_path / "moved", "training.epochs=2")[0] == 0
    assert not (tmp_path / "run").exists()


# ---- a language model ------------------------------------------------------------------------------


def test_evaluate_a_language_model(texts, run, language_run, tmp_path):
    status, out, err = run("evaluate", language_run, "--json", tmp_path / "out.json")
    assert status == 0 and err == ""
    found = json.loads((tmp_path / "out.json").read_text())
    assert out.splitlines()[:4] == [
        f"{name} {found[name]:.4f}"
        for name in ("perplexity", "token_perplexity", "bits_per_token", "bits_per_byte")
    ]
    signature = out.splitlines()[4]
    assert signature == found["signature"] and found["data"] == str(texts / "test.txt")
    assert re.fullmatch(
        r"seqsru \S+\|cell:sru-v2\|layers:2\|params:\S+?\|data:test.txt\|"
        rf"tokens:{found['tokens']}\|unknown:0\|state:carried\|weights:step-\d+\|seed:1\|"
        r"torch:[^|]+\|device:cpu\|threads:\d+",
        signature,
    )
    assert "|data:valid.txt|" in run("evaluate", language_run, "--split", "valid")[1]
    alone = run("evaluate", language_run, texts / "test.txt", "--state", "separate")[1]
    assert "|state:separate|" in alone and alone.splitlines()[0] != out.splitlines()[0]


def test_evaluate_tells_of_lines_it_left_out(texts, run, refused, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"one two\n\xff\n")
    path = write_config(texts, LANGUAGE_MODEL)
    assert run("train", path, f"output={tmp_path}/run", "data.on_bad_line=skip", "training.epochs=1")[0] == 0
    status, out, err = run("evaluate", tmp_path / "run", tmp_path / "bad.txt")
    assert status == 0 and "|tokens:3|" in out
    assert err == f"{tmp_path}/bad.txt: 2 lines; 1 not UTF-8, skipped (line 2)\n"


def test_score_lines(texts, run, language_run):
    scores = seqsru.load(language_run).score(["one two", "", "three", " ", "seven six"])
    expected = [f"{value:.6f}" for value in scores]
    text = (texts / "lines").read_text()
    for found in (
        run("score", language_run, stdin=text),
        run("score", language_run, texts / "lines"),
        run("score", language_run, "-", stdin=text),
    ):
        assert found == (0, "".join(line + "\n" for line in expected), "")


def test_generate(run, language_run):
    three = ["generate", language_run, "--prompt", "one two", "--count", "3", "--max-length", "4"]
    status, out, err = run(*three)
    assert status == 0 and err == "" and len(out.splitlines()) == 3
    assert all(line.startswith("one two") for line in out.splitlines())
    assert run(*three)[1] == out != run(*three, "--seed", "2")[1]
    two = run("generate", language_run, "--top-k", "1", "--max-length", "2", stdin="one\nthree four\n")[1]
    assert [line.split()[0] for line in two.splitlines()] == ["one", "three"]


def test_latency_of_a_language_model(texts, run, language_run, tmp_path):
    status, out, err = run(
        "latency",
        language_run,
        texts / "test.txt",
        "--first",
        "2",
        "--length",
        "3",
        "--repeats",
        "1",
        "--warmup",
        "1",
        "--json",
        tmp_path / "l.json",
        "--plot",
        tmp_path / "l.svg",
    )
    assert status == 0 and err == ""
    report = json.loads((tmp_path / "l.json").read_text())
    assert report["protocol"]["lines"] == 2 and report["signatures"] == [out.splitlines()[-1]]
    assert "|data:test.txt|lines:2|decoder:sampling|batch:1|length:3|threads:1|" in out.splitlines()[-1]
    assert "later tokens" in out and (tmp_path / "l.svg").stat().st_size > 1000


# ---- a translation model ---------------------------------------------------------------------------


def test_translate(texts, run, translation_run, tmp_path):
    text = (texts / "lines").read_text()
    status, out, err = run("translate", translation_run, stdin=text)
    lines = out.split("\n")
    assert status == 0 and err == "" and len(lines) == 6 and lines[1] == lines[3] == lines[5] == ""
    assert lines[:5] == [found.text for found in seqsru.load(translation_run).translate(text.split("\n"))]
    assert run("translate", translation_run, texts / "lines")[1] == out
    assert run("translate", translation_run, "--batch-size", "1", "-", stdin=text)[1] == out
    assert run("translate", translation_run, "--output", tmp_path / "out", texts / "lines") == (0, "", "")
    assert (tmp_path / "out").read_text() == out
    assert run("translate", translation_run, stdin="") == (0, "", "")


def test_translate_answers_a_terminal_line_by_line(run, translation_run, monkeypatch):
    sizes, translate = [], TranslationPipeline.translate

    def counted(self, lines, **rest):
        sizes.append(len(lines))
        return translate(self, lines, **rest)

    monkeypatch.setattr(TranslationPipeline, "translate", counted)
    status, out, _ = run("translate", translation_run, stdin="one\ntwo\n", terminal=True)
    assert (status, sizes, len(out.splitlines())) == (0, [1, 1], 2)


def test_translate_n_best(texts, run, translation_run):
    status, out, err = run(
        "translate", translation_run, texts / "lines", "--beam", "3", "--n-best", "2", "--moses"
    )
    assert status == 0 and err == ""
    rows = [line.split(" ||| ") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "1", "2", "2", "3", "4", "4"]
    assert all(re.fullmatch(r"log_prob= -?\d+\.\d{6}", row[2]) for row in rows)
    assert float(rows[0][3]) >= float(rows[1][3])


def test_translate_json(texts, run, translation_run):
    out = run("translate", translation_run, texts / "lines", "--json", "--n-best", "2", "--attention")[1]
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["index"] for one in found] == [0, 1, 2, 3, 4]
    first, empty = found[:2]
    assert len(first["alternatives"]) == 1 and first["source_labels"] == ["one", "two", "<eos>"]
    assert len(first["attention"]) == len(first["target_labels"])
    assert all(abs(sum(row) - 1) < 1e-5 for row in first["attention"])
    assert (empty["text"], empty["alternatives"], empty["attention"]) == ("", [], None)
    assert "attention" not in json.loads(run("translate", translation_run, "--json", stdin="one\n")[1])


def test_translate_draws_attention(run, translation_run, tmp_path):
    assert run("translate", translation_run, "--plot", tmp_path / "plots", stdin="one two\n\nthree\n")[0] == 0
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["line-1.png", "line-3.png"]


def test_translate_with_rules(run, refused, translation_run):
    def lengths(*options):
        out = run("translate", translation_run, *options, stdin="one\ntwo\n")[1]
        return [len(line.split()) for line in out.splitlines()]

    assert min(lengths("--rule", "min_length.length=5")) >= 4 > 2
    assert refused("translate", translation_run, "--rule", "min_lenght.length=5", stdin="one\n") == (
        "command line: min_lenght is not a setting; did you mean 'min_length'?"
    )
    assert refused("translate", translation_run, "--rule", "min_length.length=0", stdin="one\n") == (
        "seqsru: length: expected at least 1, found 0; leave the rule min_length out"
    )


def test_translate_reports_what_it_cut(run, translation_run):
    status, out, err = run(
        "translate", translation_run, "--max-source", "3", stdin="one\none two three four\n"
    )
    assert (status, len(out.splitlines())) == (0, 2)
    assert err == "<stdin>: 2 lines; 1 longer than max_source, cut (line 2)\n"


def test_what_translate_refuses(texts, refused, translation_run, language_run):
    assert refused("translate", translation_run, "--n-best", "2") == (
        "seqsru: translate: expected --json or --moses with more than one output a line, found neither; "
        "plain text has one line for each line in"
    )
    assert refused("translate", translation_run, "--attention") == (
        "seqsru: translate: expected --json with --attention, found none; add it, or draw the attention with "
        "--plot"
    )
    assert refused("translate", translation_run, "--beam", "x") == (
        "command line: beam must be a whole number, found 'x'"
    )
    assert "expected at least 1, found 0" in refused(
        "translate", translation_run, "--beam", "0", stdin="one\n"
    )
    assert "not allowed with argument" in refused("translate", translation_run, "--json", "--moses")
    assert refused("translate", language_run) == (
        "seqsru: translate: expected a run of a translation model, found one of a language model; `seqsru "
        "--help` says what that can do"
    )
    assert refused("translate", texts).startswith("seqsru: expected a run directory with a config.yaml at ")
    assert refused("translate", translation_run, stdin=b"one\n\xff\n").startswith(
        "seqsru: expected UTF-8 text in <stdin>:2, found byte 0xFF at byte offset 0 of the line"
    )
    assert refused("translate", translation_run, "--threads", "0") == (
        "seqsru: expected --threads of at least 1, found 0; leave it out for torch's own choice"
    )
    assert refused("translate", translation_run, "--device", "gpu") == (
        "command line: device must be one of 'auto', 'cpu', 'cuda', found 'gpu'; did you mean 'cpu'?"
    )


def test_score_translations(texts, run, refused, translation_run):
    pipeline = seqsru.load(translation_run)
    sources, targets = ((texts / f"test.{side}").read_text().splitlines() for side in ("src", "tgt"))
    expected = "".join(f"{value:.6f}\n" for value in pipeline.score(sources, targets))
    assert run("score", translation_run, texts / "test.src", texts / "test.tgt") == (0, expected, "")
    assert refused("score", translation_run, texts / "test.src") == (
        "seqsru: score: expected 2 files, found 1; a translation model takes SOURCE and TARGET"
    )
    assert re.fullmatch(
        r"seqsru: expected as many lines in \S+/test.src as in \S+/valid.tgt, found 6 and "
        r"12; .*",
        refused("score", translation_run, texts / "test.src", texts / "valid.tgt"),
    )


def test_evaluate_a_translation_model(texts, run, translation_run, tmp_path):
    status, out, err = run(
        "evaluate",
        translation_run,
        texts / "test.src",
        texts / "test.tgt",
        "--beam",
        "1",
        "--json",
        tmp_path / "out.json",
        "--translations",
        tmp_path / "out.txt",
        "--baseline",
        texts / "test.tgt",
    )
    assert status == 0 and err == ""
    found = json.loads((tmp_path / "out.json").read_text())
    lines = out.splitlines()
    assert lines[0].startswith(f"BLEU|{found['signatures']['bleu']} = {found['bleu']:.2f} ")
    assert lines[1].startswith(f"chrF2|{found['signatures']['chrf']} = {found['chrf']:.2f}")
    assert lines[2] == found["signature"]
    assert re.search(
        r"\|cell:sru-v2\+gru\|layers:1\+1\|attention:dot\|params:\S+?\|data:test.src\|lines:6\|"
        r"beam:1\|penalty:power\|alpha:1.0\|weights:step-\d+\|",
        lines[2],
    )
    assert lines[3].startswith("BLEU|") and "100.00 -> " in lines[3] and len(lines) == 5
    assert found["comparison"]["bleu"]["baseline"] == pytest.approx(100)
    translations = (tmp_path / "out.txt").read_text()
    assert translations == run("translate", translation_run, texts / "test.src", "--beam", "1")[1]
    only = run("evaluate", translation_run, "--split", "valid", "--metrics", "ter")[1].splitlines()
    assert only[0].startswith("TER|") and len(only) == 2


def test_what_evaluate_and_score_refuse(texts, refused, language_run, translation_run):
    assert refused("evaluate", translation_run) == (
        "seqsru: evaluate: expected data.test in the configuration, found none; name SOURCE and REFERENCE, "
        "or take --split valid"
    )
    assert refused("evaluate", language_run, texts / "lines", "--split", "valid") == (
        "seqsru: evaluate: expected files or --split, found both; leave one out"
    )
    assert refused("evaluate", language_run, texts / "lines", texts / "lines") == (
        "seqsru: evaluate: expected 1 files, found 2; this run takes a text"
    )
    assert refused("evaluate", language_run, "--beam", "2") == (
        "seqsru: evaluate: expected --beam with a translation model, found a language model; leave it out"
    )
    assert refused("evaluate", translation_run, "--split", "valid", "--state", "carried") == (
        "seqsru: evaluate: expected --state with a language model, found a translation model; leave it out"
    )
    assert "metrics: expected one of bleu, chrf, ter, found 'blue'" in refused(
        "evaluate", translation_run, "--split", "valid", "--metrics", "blue"
    )
    assert re.search(
        r"expected as many lines in \S+/lines as in \S+/valid.tgt, found 5 and 12; compare ",
        refused("evaluate", translation_run, "--split", "valid", "--baseline", texts / "lines"),
    )
    assert refused("score", language_run, "a", "b") == (
        "seqsru: score: expected 0 or 1 files, found 2; a language model takes one text, or stdin"
    )
    assert refused("generate", translation_run, "--prompt", "one") == (
        "seqsru: generate: expected a run of a language model, found one of a translation model; `seqsru "
        "--help` says what that can do"
    )
    assert refused("generate", language_run, "--prompt", "one", "--temperature", "0").startswith(
        "seqsru: temperature: expected a finite number above 0, found 0.0"
    )


def test_latency_of_two_translation_models(texts, run, refused, translation_run, language_run, tmp_path):
    status, out, err = run(
        "latency",
        translation_run,
        "--against",
        translation_run,
        "--first",
        "2",
        "--beam",
        "1",
        "--length",
        "4",
        "--repeats",
        "2",
        "--json",
        tmp_path / "l.json",
    )
    assert status == 0 and err == "" and "P50 of later tokens" in out
    assert len(json.loads((tmp_path / "l.json").read_text())["signatures"]) == 2
    assert "|data:valid.src|lines:2|decoder:beam 1|batch:1|length:4|threads:1|" in out.splitlines()[-1]
    assert refused("latency", translation_run, "--first", "0") == (
        "seqsru: latency: expected --first of at least 1, found 0; leave it out"
    )
    assert refused("latency", language_run, "--beam", "2") == (
        "seqsru: latency: expected --beam with a translation model, found a language model; leave it out"
    )
    assert refused("latency", language_run, "--plot", "latency.txt") == (
        "seqsru: plot: expected a file ending in .png, .svg, .pdf, found latency.txt; rename it"
    )


def test_a_damaged_checkpoint_is_told(texts, run, tmp_path):
    assert run("train", write_config(texts, LANGUAGE_MODEL), f"output={tmp_path}/run")[0] == 0
    newest = checkpoints.paths(tmp_path / "run" / "checkpoints")[-1]
    (newest / "model.safetensors").write_bytes(b"damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, out, err = run("score", tmp_path / "run", "--checkpoint", "last", stdin="one\n")
    assert status == 0 and len(out.splitlines()) == 1
    assert re.fullmatch(rf"seqsru: warning: \S*{newest.name}/model.safetensors: expected sha256 .*\n", err)


# ---- doctor and fetch ------------------------------------------------------------------------------


def test_doctor(run):
    status, out, err = run("doctor")
    assert err == "" and out.startswith(f"seqsru {seqsru.__version__} at ")
    assert re.search(r"^  torch +\d", out, re.M) and re.search(r"^  reference +ok$", out, re.M)
    assert status == (0 if re.search(r"^  cpu +ok$", out, re.M) else 1)
    assert re.search(r"^  cuda +(ok|no: .+)$", out, re.M) and re.search(r"torch uses \d+ threads", out)


def test_doctor_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(cli, "_version", lambda package: None)
    status = {"reference": "ok", "cpu": "no: numba", "cuda": "no: x"}
    monkeypatch.setattr("seqsru.ops.backend_status", lambda: status)
    status, out, _ = run("doctor")
    assert status == 1 and re.search(r"^  cpu +no: numba$", out, re.M)
    assert "not installed: pip install sentencepiece\n" in out
    assert 'not installed (optional): pip install "seqsru[cuda]"\n' in out


def test_doctor_knows_what_setup_asks_for():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")

    def names(text):
        return tuple(re.match(r"[\w-]+", line)[0] for line in text.strip().split("\n"))

    assert names(setup["options"]["install_requires"]) == cli.REQUIRED
    for extra, packages in cli.EXTRAS.items():
        assert names(setup["options.extras_require"][extra]) == packages


def test_fetch(run, refused, tmp_path, monkeypatch):
    assert run("fetch", "synthetic", tmp_path) == (0, f"{tmp_path}/synthetic\n", "")
    assert "expected the name of a corpus" in refused("fetch", "ptbb", tmp_path)
    monkeypatch.setenv("SEQSRU_MIRROR", str(tmp_path / "mirror"))
    assert "SEQSRU_MIRROR" in refused("fetch", "ptb", tmp_path)
