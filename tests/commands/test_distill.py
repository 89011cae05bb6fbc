"""``seqsru distill``: what a student learns from."""

import os

import pytest
import sacrebleu

import seqsru
from seqsru.commands import distill
from seqsru.pipelines import TranslationPipeline


@pytest.fixture
def files(texts):
    return texts / "train.src", texts / "train.tgt"


@pytest.fixture
def parts(monkeypatch):
    """Parts of 8 lines; gives the number of lines of each that is translated, and stops where it is "
    "told to."""
    seen, stop = [], []
    translate = TranslationPipeline.translate

    def counted(pipeline, lines, *arguments, **options):
        if stop and len(seen) == stop[0]:
            stop.clear()
            raise KeyboardInterrupt
        seen.append(len(lines))
        return translate(pipeline, lines, *arguments, **options)

    monkeypatch.setattr(distill, "CHUNK", 8)
    monkeypatch.setattr(TranslationPipeline, "translate", counted)
    return seen, stop


@pytest.mark.parametrize(
    "pick, score", [("chrf", sacrebleu.sentence_chrf), ("bleu", sacrebleu.sentence_bleu)]
)
def test_the_closest_of_the_beam(run, translation_run, files, pick, score):
    source, reference = files
    options = ["--beam", "4"] + (["--pick", pick] if pick != "chrf" else [])
    status, out, err = run("distill", translation_run, source, reference, *options)
    assert status == 0 and f"|n_best:4|pick:{pick}|" in err
    sources, references = (path.read_text().splitlines() for path in files)
    found = seqsru.load(translation_run).translate(sources, beam=4, n_best=4)
    expected = []
    for one, wanted in zip(found, references):
        texts = [one.text, *(other.text for other in one.alternatives)]
        expected.append(max(texts, key=lambda text: score(text, [wanted]).score))
    assert out.split("\n") == [*expected, ""]
    best = [one.text for one in found]
    assert expected != best
    fewer = run("distill", translation_run, source, reference, *options, "--n-best", "1")[1]
    assert fewer.split("\n") == [*best, ""]


def test_without_a_reference_the_best(run, translation_run, files):
    plain = run("translate", translation_run, files[0])[1]
    status, out, err = run("distill", translation_run, files[0])
    assert (status, out) == (0, plain) and "|n_best:1|text:" in err
    assert run("distill", translation_run, "-", stdin=files[0].read_text())[1] == plain


def test_several_runs_teach(run, translation_run, files):
    once = run("distill", translation_run, *files)
    status, out, err = run("distill", translation_run, *files, "--ensemble", translation_run)
    assert (status, out) == once[:2] and "|ensemble:mt,mt|" in err


def test_an_interrupted_work_goes_on(run, translation_run, files, parts, tmp_path):
    seen, stop = parts
    out, begun = tmp_path / "out", tmp_path / "out.partial"
    whole = run("distill", translation_run, *files)[1]
    assert seen == [8] * 7 + [4]
    seen.clear()
    stop.append(3)
    do = "give the command again and it goes on"
    told = f"seqsru: interrupted; the lines that were done are in {begun}: {do}\n"
    assert run("distill", translation_run, *files, "--output", out) == (130, "", told)
    assert os.listdir(tmp_path) == ["out.partial"] and begun.read_bytes().count(b"\n") == 1 + 24
    content = begun.read_bytes()
    begun.write_bytes(content[:-9])  # as after a power failure: the third part is not whole
    seen.clear()
    status, _, err = run("distill", translation_run, *files, "--output", out)
    assert status == 0 and err.startswith(f"{out}: goes on after 16 of 60 lines\n")
    assert seen == [8] * 5 + [4] and out.read_text() == whole and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "other", [["--beam", "3"], ["--pick", "bleu"], ["--n-best", "1"], ["--checkpoint", "last"], "less"]
)
def test_other_work_does_not_go_on(run, translation_run, files, parts, tmp_path, other):
    out, begun = tmp_path / "out", tmp_path / "out.partial"
    parts[1].append(1)
    assert run("distill", translation_run, *files, "--output", out)[0] == 130
    source, reference, kept = *files, begun.read_bytes()
    if other == "less":  # the same command, another text
        other, reference = [], tmp_path / "train.tgt"
        reference.write_text(files[1].read_text().replace("ONE", "TWO", 1))
    command = "distill", translation_run, source, reference, "--output", out, *other
    if "--checkpoint" in other:  # the best is the last one here, and the work is the same
        assert run(*command)[0] == 0 and out.exists()
        return
    told = (
        f"seqsru: expected what was done of this work, in this way, in {begun}, found what was done "
        "of another; "
        "delete it to begin anew, or name another file\n"
    )
    assert run(*command) == (2, "", told)
    assert begun.read_bytes() == kept and not out.exists()


def test_a_line_out_for_each_line_in(run, translation_run, parts, tmp_path):
    source, target, lines = tmp_path / "source", tmp_path / "target", ["one", "", "two", "x\0", "three", " "]
    source.write_text("".join(line + "\n" for line in lines))
    target.write_text("ONE\n\nTWO\nTWO\nTHREE\nONE\n")
    status, out, err = run("distill", translation_run, source, target, "--on-bad-line", "skip")
    texts = out.split("\n")
    assert status == 0 and len(texts) == 7 and texts[1] == texts[3] == texts[5] == texts[6] == ""
    assert err.startswith(f"{source} + {target}: 6 lines; 1 ") and "(line 4)" in err
    best = run("distill", translation_run, source, "--on-bad-line", "skip", "--output", tmp_path / "out")
    assert best[0] == 0 and (tmp_path / "out").read_text().count("\n") == 6
    (tmp_path / "none").write_text("")
    assert run("distill", translation_run, tmp_path / "none", "--output", tmp_path / "empty")[0] == 0
    assert (tmp_path / "empty").read_text() == ""
    status, _, err = run("distill", translation_run, source, "--max-source", "2", "--on-bad-line", "replace")
    assert status == 0
    source.write_text("one two three\none\n")
    err = run("distill", translation_run, source, "--max-source", "2")[2]
    assert err.startswith(f"{source}: 2 lines; 1 longer than max_source, cut (line 1)\n")


def test_a_stream_is_written_to(run, translation_run, files, tmp_path):
    plain = run("distill", translation_run, *files)[1]
    for path in ("-", "/dev/null"):
        status, out, _ = run("distill", translation_run, *files, "--output", path)
        assert status == 0 and out in ("", plain)
    assert os.listdir(tmp_path) == [] and not os.path.exists("-.partial")


def test_refusals(run, refused, translation_run, language_run, files, texts, tmp_path):
    source, reference = files
    for flags, name in ((["--pick", "bleu"], "pick"), (["--n-best", "2"], "n_best")):
        assert refused("distill", translation_run, source, *flags) == (
            f"command line: {name}: expected a REFERENCE to hold translations against, found none; "
            "name it after "
            "SOURCE, or leave this out: the best translation is written"
        )
    for given in ([], [source, reference, source]):
        assert refused("distill", translation_run, *given) == (
            f"seqsru: expected 1 or 2 files, found {len(given)}; the command takes SOURCE, or SOURCE "
            "and REFERENCE"
        )
    assert refused("distill", language_run, source) == (
        "seqsru: expected a run of a translation model, found one of a language model; use this one with "
        "evaluate, score, generate, latency"
    )
    assert refused("distill", translation_run, source, texts / "test.tgt") == (
        f"seqsru: expected as many lines in {source} as in {texts / 'test.tgt'}, found 60 and 6; "
        "align the files "
        "line by line, nothing is cut to the shorter one"
    )
    assert refused("distill", translation_run, source, reference, "--output", reference) == (
        f"seqsru: expected another file for --output, found {reference}, which is an input or part of "
        "one; name "
        "one of its own"
    )
    assert refused("distill", translation_run, source, reference, "--pick", "ter") == (
        "command line: pick: expected one of 'chrf', 'bleu', found 'ter'; change it"
    )
    partial = tmp_path / "x.partial"
    partial.write_bytes(source.read_bytes())
    told = refused("distill", translation_run, partial, "--output", tmp_path / "x")
    assert told == (
        f"seqsru: expected another file for --output with .partial, found {partial}, which is an "
        "input or part of "
        "one; name one of its own"
    )
