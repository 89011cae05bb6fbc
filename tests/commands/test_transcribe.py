"""``seqsru transcribe``, and what the other commands answer of a recogniser; audio from end to end."""

import json
import re

import pytest
from tiny_runs import LANGUAGE_MODEL, RECOGNITION, spoken, write_config, write_frames

import seqsru
from seqsru.commands.main import main
from seqsru.pipelines import RecognitionPipeline


def rows(texts, split="test"):
    return [line.split("\t") for line in (texts / f"{split}.tsv").read_text().splitlines()[1:]]


@pytest.fixture(scope="session")
def word_model(texts):
    """A language model over the words that are said."""
    path = write_config(texts, LANGUAGE_MODEL)
    assert main(["train", str(path), f"output={texts / 'words'}"]) == 0
    return texts / "words"


def test_a_line_for_a_recording(texts, run, recognition_run, tmp_path):
    files = [row[1] for row in rows(texts)]
    status, out, err = run("transcribe", recognition_run, *files)
    pipeline = seqsru.load(recognition_run, RecognitionPipeline)
    assert (status, err) == (0, "") and out.splitlines() == [one.text for one in pipeline.transcribe(files)]
    assert run("transcribe", recognition_run, texts / "test.tsv")[1] == out
    assert run("transcribe", recognition_run, stdin="\n".join(files))[1] == out
    assert run("transcribe", recognition_run, "--output", tmp_path / "out", *files) == (0, "", "")
    assert (tmp_path / "out").read_text() == out
    mixed = run("transcribe", recognition_run, files[1], texts / "test.tsv", files[0])[1].splitlines()
    assert mixed == [out.splitlines()[1], *out.splitlines(), out.splitlines()[0]]
    told = run("transcribe", recognition_run, "--json", "--beam", "4", "--n-best", "2", *files)[
        1
    ].splitlines()
    found = [json.loads(line) for line in told]
    assert [(one["index"], one["file"]) for one in found] == list(enumerate(files))
    assert all(one["alternatives"][0]["score"] <= one["score"] for one in found)


def test_a_manifest_needs_no_transcripts_here(texts, run, recognition_run, tmp_path):
    files = [row[1] for row in rows(texts)]
    path = tmp_path / "new.tsv"
    path.write_text("id\tfile\ttranscript\n" + "".join(f"{i}\t{file}\t\n" for i, file in enumerate(files)))
    whole = run("transcribe", recognition_run, *files)
    assert run("transcribe", recognition_run, path) == whole


@pytest.mark.parametrize("piece", ["0.02", "0.1", "5"])
def test_pieces_give_the_same_text_and_their_time(texts, run, recognition_run, piece):
    whole = run("transcribe", recognition_run, texts / "test.tsv")[1]
    status, out, err = run("transcribe", recognition_run, texts / "test.tsv", "--piece", piece)
    assert (status, out) == (0, whole)
    assert re.fullmatch(
        rf"[\d.]+ seconds of audio in \d+ pieces of {piece} s: [\d.]+ ms a second of audio, [\d.]+ "
        rf"ms the slowest "
        r"piece\n",
        err,
    )
    told = run("transcribe", recognition_run, texts / "test.tsv", "--piece", piece, "--json")[1]
    for line, row in zip(told.splitlines(), rows(texts)):
        found = json.loads(line)
        assert found["file"] == row[1] and found["pieces"] >= 1 and found["milliseconds_per_second"] > 0


def test_evaluate_a_recogniser(texts, run, recognition_run, tmp_path):
    status, out, err = run(
        "evaluate", recognition_run, "--json", tmp_path / "j", "--transcripts", tmp_path / "t"
    )
    found = json.loads((tmp_path / "j").read_text())
    assert (status, err) == (0, "")
    lines = out.splitlines()
    counted = (
        r"\(95 % [\d.]+ to [\d.]+; \d+ errors in \d+ {}: \d+ substitutions, \d+ deletions, \d+ insertions\)"
    )
    assert re.fullmatch(rf"WER {found['wer']:.2f} " + counted.format("words"), lines[0])
    assert re.fullmatch(rf"CER {found['cer']:.2f} " + counted.format("characters"), lines[1])
    assert re.fullmatch(
        r"seqsru "
        r"\S+\|cell:sru-v2\|layers:2\|directions:1\|units:words\|params:\S+?\|data:test.tsv\|utterances:6\|"
        r"search:best-path\|text:\w{12}\|audio:\w{12}\|weights:step-\d+\|model:\w{12}\|seed:1\|torch:[^|]+\|"
        r"device:cpu\|threads:\d+",
        lines[-1],
    )
    assert lines[-1] == found["signature"] and found["rates"]["wer"]["length"] == 21
    assert (tmp_path / "t").read_text() == run("transcribe", recognition_run, texts / "test.tsv")[1]
    assert run("evaluate", recognition_run, texts / "test.tsv")[1] == out
    assert "|data:valid.tsv|utterances:12|" in run("evaluate", recognition_run, "--split", "validation")[1]


def signed(out):
    return out.splitlines()[-1]


def test_two_numbers_that_may_differ_have_two_signatures(texts, run, recognition_run, word_model, tmp_path):
    def evaluated(*arguments):
        status, out, err = run("evaluate", recognition_run, *arguments)
        assert (status, err) == (0, ""), err
        return signed(out)

    (tmp_path / "a").mkdir()
    text = (texts / "test.tsv").read_text()
    (tmp_path / "test.tsv").write_text(text.replace("six", "two", 1))  # another transcript
    first = rows(texts)[0][1]
    write_frames(tmp_path / "other.mfc", spoken("one", 5))
    (tmp_path / "a" / "test.tsv").write_text(text.replace(first, str(tmp_path / "other.mfc")))
    model = ["--language-model", word_model]
    every = [
        [],
        ["--beam", "4"],
        ["--beam", "4", "--candidates", "2"],
        ["--beam", "4", *model],
        ["--beam", "4", *model, "--lm-weight", "0.1"],
        ["--beam", "4", *model, "--lm-bonus", "0.1"],
        ["--beam", "4", *model, "--lm-unknown", "5"],
        [tmp_path / "test.tsv"],
        [tmp_path / "a" / "test.tsv"],
    ]
    lines = [evaluated(*arguments) for arguments in every]
    assert len(set(lines)) == len(every) and all(len(line) < 450 for line in lines)


def test_a_language_model_is_a_run_or_an_arpa_file(
    texts, run, refused, recognition_run, word_model, tmp_path
):
    words = "one two three four five six seven".split()
    ngrams = "".join(f"-1.0 {word}\n" for word in ["</s>", *words])
    (tmp_path / "lm.arpa").write_text(f"\\data\\\nngram 1=8\n\\1-grams:\n{ngrams}\\end\\\n")
    for model in (word_model, tmp_path / "lm.arpa"):
        given = ["--beam", "8", "--language-model", model, "--lm-weight", "0.2"]
        status, out, err = run("evaluate", recognition_run, *given)
        assert (status, err) == (0, "") and re.search(
            rf"\|lm-weight:0.2\|lm-bonus:0.0\|lm:{model.name},\w{{12}}\|", out
        )
        text = run("transcribe", recognition_run, texts / "test.tsv", *given)[1]
        assert text == run("transcribe", recognition_run, *[row[1] for row in rows(texts)], *given)[1]
        assert text == run("transcribe", recognition_run, texts / "test.tsv", *given, "--piece", "0.1")[1]
    given = ["evaluate", recognition_run, "--beam", "2", "--language-model"]
    assert refused(*given, tmp_path / "no") == (
        f"command line: language_model: expected a run directory, or n-grams in the ARPA format, at "
        f"{tmp_path}/no, "
        "found nothing; check the path"
    )
    assert refused(*given, recognition_run) == (
        f"command line: language_model: expected a run of a language model at {recognition_run}, "
        f"found one of a "
        "recogniser; name another"
    )
    (tmp_path / "lm.seqsru").write_bytes(b"x")
    assert refused(*given, tmp_path / "lm.seqsru") == (
        f"command line: language_model: expected a language model at {tmp_path}/lm.seqsru that "
        f"torch decodes, found "
        "a file of `seqsru quantize`; name its run directory"
    )
    assert refused("evaluate", recognition_run, "--language-model", word_model) == (
        "seqsru: beam: expected a beam of at least 2 with a language model, found 1, which takes "
        "the likeliest "
        "path; raise it"
    )


def test_latency_is_a_real_time_factor(texts, run, recognition_run, tmp_path):
    given = ["--repeats", "2", "--warmup", "1"]
    status, out, err = run("latency", recognition_run, *given, "--json", tmp_path / "l")
    assert (status, err) == (0, "")
    (system,) = json.loads((tmp_path / "l").read_text())["systems"]
    seconds = sum(spoken(row[2], number).shape[0] for number, row in enumerate(rows(texts))) / 100
    assert system["audio_seconds"] == pytest.approx(seconds) and system["encoding"]["n"] == 12
    mean = system["sentences"]["mean"] * 6 / 1000
    assert system["real_time_factor"] == pytest.approx(mean / seconds)
    assert f"real-time factor {system['real_time_factor']:.4f}: " in out
    assert "|data:test.tsv|lines:6|decoder:recogniser|batch:1|" in out and "|search:best-path|" in out
    assert "|lines:6|" in run("latency", recognition_run, texts / "test.tsv", *given)[1]
    (tmp_path / "names").write_text("".join(row[1] + "\n" for row in rows(texts)[:2]))
    assert "|data:names|lines:2|" in run("latency", recognition_run, tmp_path / "names", *given)[1]
    out = run("latency", recognition_run, *given, "--piece", "0.05", "--json", tmp_path / "p")[1]
    (streamed,) = json.loads((tmp_path / "p").read_text())["systems"]
    assert streamed["encoding"]["n"] > 12 and "|piece:0.05|" in out  # a call a piece
    both = run("latency", recognition_run, *given, "--against", recognition_run, "--against-engine", "torch")[
        1
    ]
    assert both.count("real-time factor") == 2 and ", P50 of sentences: " in both


def test_what_a_recogniser_refuses(texts, refused, recognition_run, classification_run, tmp_path):
    assert refused("translate", recognition_run) == (
        "seqsru: expected a run of a translation model, found one of a recogniser; use this one with "
        "evaluate, transcribe, latency"
    )
    assert refused("transcribe", classification_run, "a") == (
        "seqsru: expected a run of a recogniser, found one of a classifier; use this one with "
        "evaluate, classify, "
        "latency"
    )
    assert refused("transcribe", recognition_run, tmp_path / "no.mfc") == (
        f"seqsru: expected a file at {tmp_path}/no.mfc, found No such file or directory; correct "
        f"its name, which "
        "counts from the manifest's folder, or put it there"
    )
    assert refused("transcribe", recognition_run, tmp_path / "no.tsv").startswith(
        f"seqsru: expected a text file at {tmp_path}/no.tsv, found nothing; "
    )
    file = rows(texts)[0][1]
    assert refused("transcribe", recognition_run, file, "--beam", "2", "--n-best", "2") == (
        "seqsru: expected --json with more than one output a recording, found none; plain text has "
        "one line for "
        "each recording"
    )
    for flags, told in (
        (
            ["--lm-weight", "1"],
            "lm_weight: expected a language model with it, found none; name one with --language-model",
        ),
        (
            ["--candidates", "3"],
            "candidates: expected a beam of at least 2 with candidates, found 1, which takes the "
            "likeliest path; "
            "widen the beam",
        ),
        (["--piece", "0"], "piece: expected at least 0.001, found 0.0; raise it"),
        (
            ["--piece", ".inf"],
            "piece: expected a finite number, found inf; give such a number",
        ),
    ):
        assert refused("transcribe", recognition_run, file, *flags) == f"command line: {told}"
    assert refused("transcribe", recognition_run, file, "--output", file).startswith("seqsru: expected ")


def test_what_cannot_stream_says_so_before_the_work(texts, run, refused, tmp_path):
    config = write_config(texts, RECOGNITION)
    for number, change in enumerate(["model.encoder.bidirectional=true", "frontend.normalize=speaker"]):
        folder = tmp_path / str(number)
        assert run("train", config, f"output={folder}", "training.epochs=1", change)[0] == 0
        told = refused("transcribe", folder, texts / "test.tsv", "--piece", "0.5")
        assert told.startswith(
            f"seqsru: expected {'a recogniser' if number == 0 else 'features'} that stream"
        )
        assert run("transcribe", folder, texts / "test.tsv")[0] == 0


# ---- real audio ------------------------------------------------------------------------------------

YESNO = """\
task: speech_recognition
output: {folder}/run
data: {{train: {corpus}/train.tsv, validation: {corpus}/train.tsv, test: {folder}/test.tsv}}
features: {{name: filterbank, sample_rate: 8000, bins: 23}}
frontend: {{normalize: training, stack: 20, stride: 16}}
augmentation: {{speeds: [0.9, 1.0, 1.1], time_masks: 1, time_width: 10}}
tokenizer: words
model: {{encoder: {{cell: sru, hidden_size: 64, num_layers: 2}}}}
batches: {{frames: 1500}}
optimizer: {{name: adam, lr: 5e-3}}
schedule: {{name: cosine, warmup: 40}}
training: {{epochs: 25, clip: 5, tensorboard: false, threads: 1}}
"""


@pytest.mark.slow
def test_yesno_from_audio_to_text(mirror, run, tmp_path):
    """Thirty recordings to learn from, and nearly every word of thirty others right."""
    for package in ("soundfile", "kaldi_native_fbank", "soxr"):
        pytest.importorskip(package)
    corpus = mirror / "yesno"
    (tmp_path / "run.yaml").write_text(YESNO.format(folder=tmp_path, corpus=corpus))
    lines = (corpus / "test.tsv").read_text().replace("waves_yesno", f"{corpus}/waves_yesno")
    (tmp_path / "test.tsv").write_text(lines)
    assert run("train", tmp_path / "run.yaml")[0] == 0
    status, out, err = run("evaluate", tmp_path / "run", "--json", tmp_path / "j")
    found = json.loads((tmp_path / "j").read_text())
    assert found["rates"]["wer"]["length"] == 240 and found["wer"] <= 5.0, out
    whole = run("transcribe", tmp_path / "run", tmp_path / "test.tsv")[1]
    right = [line.split("\t")[2] for line in lines.splitlines()[1:]]
    assert sum(map(str.__eq__, whole.splitlines(), right)) >= 20
    streamed = run("transcribe", tmp_path / "run", tmp_path / "test.tsv", "--piece", "0.3")
    assert streamed[1] == whole
    assert float(re.search(r"([\d.]+) ms a second of audio", streamed[2])[1]) < 1000
