"""``seqsru translate``."""

import json
import re
from pathlib import Path

import seqsru

ROOT = Path(seqsru.__file__).parent.parent


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
        "command line: min_length.length: expected at least 1, found 0; leave the rule min_length out"
    )


def test_translate_reports_what_it_cut(run, translation_run):
    status, out, err = run(
        "translate", translation_run, "--max-source", "3", stdin="one\none two three four\n"
    )
    assert (status, len(out.splitlines())) == (0, 2)
    assert err == "<stdin>: 2 lines; 1 longer than max_source, cut (line 2)\n"


def test_what_translate_refuses(texts, refused, translation_run, language_run):
    assert refused("translate", translation_run, "--n-best", "2") == (
        "seqsru: expected --json or --moses with more than one output a line, found neither; "
        "plain text has one line for each line in"
    )
    assert refused("translate", translation_run, "--attention") == (
        "seqsru: expected --json with --attention, found none; add it, or draw the attention with --plot"
    )
    assert refused("translate", translation_run, "--beam", "x") == (
        "command line: beam: expected a whole number, found 'x'; change it"
    )
    assert "expected at least 1, found 0" in refused(
        "translate", translation_run, "--beam", "0", stdin="one\n"
    )
    assert "not allowed with argument" in refused("translate", translation_run, "--json", "--moses")
    assert refused("translate", language_run) == (
        "seqsru: expected a run of a translation model, found one of a language model; use this one with "
        "evaluate, score, generate, latency"
    )
    assert refused("translate", texts).startswith("seqsru: expected a run directory with a config.yaml at ")
    assert refused("translate", translation_run, stdin=b"\xff\n").startswith(
        "seqsru: expected UTF-8 text in <stdin>:1, found byte 0xFF at byte offset 0 of the line"
    )
    assert refused("translate", translation_run, "--threads", "0") == (
        "seqsru: expected --threads of at least 1, found 0; leave it out for torch's own choice"
    )
    assert refused("translate", translation_run, "--device", "gpu") == (
        "command line: device: expected auto, cpu, cuda or cuda:N, found 'gpu'; write cuda for a GPU, cuda:1 "
        "for the second one"
    )
