"""Flags: written whole, given once, held to their kinds."""

import pytest


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (
            ["--bea", "1"],
            "seqsru: expected a flag of seqsru translate, found '--bea'; did you mean '--beam'?",
        ),
        (["--bea=1"], "seqsru: expected a flag of seqsru translate, found '--bea'; did you mean '--beam'?"),
        (["--jso"], "seqsru: expected a flag of seqsru translate, found '--jso'; did you mean '--json'?"),
        (
            ["-b", "1"],
            "seqsru: expected a flag of seqsru translate, found '-b'; see `seqsru translate --help`",
        ),
        (["--beam", "1", "--beam=2"], "seqsru: expected --beam once, found it twice; remove one"),
        (["--json", "--json"], "seqsru: expected --json once, found it twice; remove one"),
        (["--beam="], "command line: beam: expected a whole number, found null; change it"),
        (["--beam", "nan"], "command line: beam: expected a whole number, found 'nan'; change it"),
        (["--beam", "1.5"], "command line: beam: expected a whole number, found 1.5; change it"),
        (["--beam", "-1"], "command line: beam: expected at least 1, found -1; 1 is greedy search"),
        (
            ["--alpha", "-1e-3"],
            "command line: alpha: expected a finite number of at least 0, found -0.001; 0 switches it off",
        ),
        (
            ["--alpha", "-.inf"],
            "command line: alpha: expected a finite number, found -inf; give such a number",
        ),
        (["--threads", "two"], "command line: threads: expected a whole number, found 'two'; change it"),
        (["--output="], "seqsru: --output: expected a path, found an empty text; name a file or folder"),
        (
            ["--checkpoint", "newest"],
            "command line: checkpoint: expected one of 'best', 'last' or a whole number, found 'newest'; did "
            "you mean 'best'?",
        ),
        (
            ["--device", "gpu"],
            "command line: device: expected auto, cpu, cuda or cuda:N, found 'gpu'; write cuda for a GPU, "
            "cuda:1 for the second one",
        ),
    ],
)
def test_what_a_flag_cannot_be(translation_run, refused, flags, sentence):
    assert refused("translate", translation_run, *flags, stdin="one\n") == sentence


def test_what_it_may_be(translation_run, run):
    rules = ["--rule", "min_length.length=2", "--rule", "no_repeat_ngram.size=2"]  # a list is repeated
    status, out, err = run("translate", translation_run, "--beam", "1e0", *rules, stdin="one\n")
    assert (status, err) == (0, "") and out.count("\n") == 1
    assert run("--versio")[0] == 2
    assert "one of 'best', 'last' or a whole number" in " ".join(run("score", "--help")[1].split())


def test_lines_that_cannot_be_read(
    translation_run, language_run, classification_run, texts, tmp_path, run, refused
):
    bad = b"one two\n\xff\xfe three\nfour\nfive\0 six\n"
    status, out, err = run("translate", translation_run, stdin=bad)
    assert (status, out) == (2, run("translate", translation_run, stdin="one two\n")[1])
    assert err == (
        "seqsru: expected UTF-8 text in <stdin>:2, found byte 0xFF at byte offset 0 of the line (8 of the "
        "file); convert the file to UTF-8, or set on_bad_line to skip or replace\n"
    )
    file = tmp_path / "bad"
    file.write_bytes(bad)
    report = "{}: 4 lines; 1 not UTF-8, {} (line 2); 1 NUL, {} (line 4)\n"
    for source, name, stdin in (([file], file, b""), ([], "<stdin>", bad)):
        told = report.format(name, "skipped", "skipped")
        for command, trained in (
            ("translate", translation_run),
            ("classify", classification_run),
            ("score", language_run),
        ):
            status, out, err = run(command, trained, *source, "--on-bad-line", "skip", stdin=stdin)
            lines = out.split("\n")
            assert status == 0 and err == told and len(lines) == 5
            assert lines[1] == lines[3] == lines[4] == "" != lines[0]
            status, out, err = run(command, trained, *source, "--on-bad-line=replace", stdin=stdin)
            assert status == 0 and err == report.format(name, "replaced", "replaced")
            assert out.count("\n") == 4
    status, out, err = run("generate", language_run, "--on-bad-line", "skip", stdin=bad)
    assert status == 0 and out.count("\n") == 2 and err == report.format("<stdin>", "skipped", "skipped")
    good = tmp_path / "good"
    good.write_text("ONE\nTWO\nTHREE\nFOUR\n")
    status, out, err = run("score", translation_run, file, good, "--on-bad-line", "skip")
    assert status == 0 and [bool(line) for line in out.split("\n")[:-1]] == [True, False, True, False]
    assert err == report.format(f"{file} + {good}", "skipped", "skipped")
    assert "on_bad_line" in refused("score", translation_run, file, good)
    assert "on_bad_line" in refused("evaluate", translation_run, file, good)
    status, out, err = run("evaluate", translation_run, file, good, "--on-bad-line", "skip")
    assert status == 0 and "lines:2" in out and err == report.format(f"{file} + {good}", "skipped", "skipped")
    status, out, err = run("evaluate", language_run, file, "--on-bad-line", "replace")
    assert status == 0 and err == report.format(file, "replaced", "replaced")
    labelled = tmp_path / "labelled"
    labelled.write_bytes(b"lucky one\nplain \xff\n")
    status, out, err = run("evaluate", classification_run, labelled, "--on-bad-line", "skip")
    assert status == 0 and err == f"{labelled}: 2 lines; 1 not utf-8, skipped (line 2)\n"
    assert refused("evaluate", classification_run, labelled, "--on-bad-line", "replace") == (
        "command line: on_bad_line: expected one of 'error', 'skip', found 'replace'; change it"
    )
