"""``seqsru answer``, and what the other commands answer of a reader."""

import json
import re
import shutil

import pytest
from tiny_runs import QUESTIONS, write_config

import seqsru
from seqsru.pipelines import AnsweringPipeline


def lines_of(texts):
    return (texts / "asked").read_text().splitlines()


def test_answer_writes_a_line_for_a_line(texts, run, question_run, tmp_path):
    text = (texts / "asked").read_text()
    status, out, err = run("answer", question_run, stdin=text)
    lines = out.split("\n")
    assert (status, err) == (0, "") and len(lines) == 5 and lines[1] == lines[4] == ""
    pipeline = seqsru.load(question_run, AnsweringPipeline)
    asked = [line.split("\t") for line in lines_of(texts) if line]
    found = pipeline.answer([one[0] for one in asked], [one[1:] for one in asked])
    assert [line for line in lines if line] == [one.line() for one in found]
    assert re.fullmatch(r"[\w ,]+\tprobability=0\.\d{4}\tscore=-?\d+\.\d{4}\tparagraph=0", lines[0])
    assert run("answer", question_run, texts / "asked")[1] == out
    assert run("answer", question_run, "--output", tmp_path / "out", texts / "asked") == (0, "", "")
    assert (tmp_path / "out").read_text() == out


def test_answer_from_and_to_json(texts, run, question_run):
    asked = [
        {"id": "7", "question": "What follows\none1?", "paragraphs": ["one1\ttwo2\n three3", "four4 one1"]},
        {"question": "What?", "paragraphs": "five5 six6"},
    ]
    stdin = "".join(json.dumps(one) + "\n" for one in asked) + "\n"
    status, out, err = run("answer", question_run, "--form", "json", "--json", "--n-best", "3", stdin=stdin)
    assert (status, err) == (0, "")
    first, second, empty = map(json.loads, out.splitlines())
    assert (first["index"], first["id"], second["index"]) == (0, "7", 1) and "id" not in second
    assert empty == {"index": 2, "text": "", "alternatives": []}
    for one in (first, *first["alternatives"]):
        assert one["text"] == asked[0]["paragraphs"][one["paragraph"]][one["start"] : one["end"]]
    assert len(first["alternatives"]) == 2 and first["score"] >= first["alternatives"][0]["score"]
    plain = run("answer", question_run, "--form", "json", stdin=stdin)[1].splitlines()
    assert plain[0].split("\t")[0] == " ".join(first["text"].split()) and plain[2] == ""


def test_evaluate_a_reader(texts, run, question_run, tmp_path):
    answers = tmp_path / "answers.json"
    status, out, err = run("evaluate", question_run, "--json", tmp_path / "out.json", "--answers", answers)
    assert (status, err) == (0, "")
    lines, found = out.splitlines(), json.loads((tmp_path / "out.json").read_text())
    assert lines[0].startswith(f"exact_match {found['exact_match']:.4f} (95 % ")
    assert lines[1].startswith(f"f1 {found['f1']:.4f} (95 % ") and found["questions"] == 12
    assert re.fullmatch(
        r"seqsru \S+\|cell:sru-v2\|layers:1\|params:\S+?\|data:test.json\|questions:12\|f1:words\|"
        r"text:\w{12}\|weights:step-\d+\|model:\w{12}\|seed:1\|torch:[^|]+\|device:cpu\|threads:\d+",
        lines[2],
    )
    assert lines[2] == found["signature"] and len(lines) == 3
    paragraphs = json.loads((texts / "test.json").read_text())["data"][0]["paragraphs"]
    asked = [(part["context"], one) for part in paragraphs for one in part["qas"]]
    written = json.loads(answers.read_text())
    pipeline = seqsru.load(question_run)
    made = pipeline.answer([one["question"] for _, one in asked], [[text] for text, _ in asked])
    assert written == {one["id"]: answer.text for (_, one), answer in zip(asked, made)}
    right = sum(written[one["id"]] == one["answers"][0]["text"] for _, one in asked)
    assert found["exact_match"] >= 100 * right / 12
    assert run("evaluate", question_run, texts / "test.json")[1] == out
    assert "|data:valid.json|questions:24|" in run("evaluate", question_run, "--split", "validation")[1]
    # Its own answers, given back, score as much, and a comparison with them finds no difference.
    status, out, err = run("evaluate", question_run, "--given", answers, "--baseline", answers)
    assert (status, err) == (0, "") and out.splitlines()[:2] == lines[:2]
    assert re.fullmatch(
        r"seqsru "
        r"\S+\|data:test.json\|questions:12\|f1:words\|text:\w{12}\|given:answers.json\|answers:\w{12}\|"
        r"missing:0\|unknown:0",
        out.splitlines()[2],
    )
    assert "exact_match|questions:12|f1:words|bs:1000|seed:12345: " in out and "p = 1.0000" in out


def test_answers_that_are_given(texts, run, refused, question_run, tmp_path):
    paragraphs = json.loads((texts / "test.json").read_text())["data"][0]["paragraphs"]
    right = {one["id"]: one["answers"][0]["text"] for part in paragraphs for one in part["qas"]}
    first, *_ = right
    del right[first]
    path = tmp_path / "given.json"
    path.write_text(json.dumps({**right, "strange": "x"}))
    status, out, err = run("evaluate", question_run, "--given", path, "--json", tmp_path / "out.json")
    assert status == 0 and out.startswith(f"exact_match {100 * 11 / 12:.4f} ")
    assert err == (
        f"1 questions without an answer in {path}, which score 0 ({first})\n"
        f"1 answers in {path} to ids that no question has, left out (strange)\n"
    )
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["missing"], found["unknown"]) == (1, 1)
    out = run("evaluate", question_run, "--baseline", path, "--f1-tokens", "characters")[1]
    assert "f1|questions:12|f1:characters|bs:1000|seed:12345: " in out and "|f1:characters|text:" in out
    assert refused("evaluate", question_run, "--given", path, "--answers", tmp_path / "a") == (
        f"command line: answers: expected answers of the run to write, found those of {path}; leave one out"
    )
    path.write_text('{"a": 5}')
    for flag in ("--given", "--baseline"):
        assert refused("evaluate", question_run, flag, path) == (
            f"seqsru: expected text as the answer to 'a' in {path}, found 5; check the file"
        )


def test_latency_of_a_reader(texts, run, refused, question_run, tmp_path):
    options = ["--repeats", "1", "--warmup", "1", "--json", tmp_path / "l.json", "--plot", tmp_path / "l.svg"]
    status, out, err = run("latency", question_run, *options)
    assert (status, err) == (0, "")
    (system,) = json.loads((tmp_path / "l.json").read_text())["systems"]
    assert system["encoding"]["n"] == 12 and "later_tokens" not in system  # windows of one text are one call
    assert "|data:test.json|lines:12|decoder:reader|batch:1|" in out and (tmp_path / "l.svg").exists()
    (tmp_path / "lines").write_text("who won\n")
    assert refused("latency", question_run, tmp_path / "lines") == (
        "seqsru: expected a question, a tab and a paragraph at 'who won', found no tab in 'who won'; "
        "put one behind "
        "the question"
    )


def test_what_a_reader_refuses(texts, run, refused, question_run, classification_run, tmp_path):
    assert refused("classify", question_run) == (
        "seqsru: expected a run of a classifier, found one of a reader; use this one with evaluate, answer, "
        "latency"
    )
    assert refused("answer", classification_run) == (
        "seqsru: expected a run of a reader, found one of a classifier; use this one with evaluate, "
        "classify, "
        "latency"
    )
    assert refused("evaluate", question_run, "--beam", "2") == (
        "seqsru: expected --beam with a recogniser or a translation model, found a reader; leave it out"
    )
    assert refused("evaluate", question_run, "--on-bad-line", "skip") == (
        "seqsru: expected --on-bad-line with a classifier or a language model or a recogniser or a "
        "translation model, found a reader; leave it out"
    )
    assert refused("answer", question_run, "--n-best", "2", stdin="a\tb\n") == (
        "seqsru: expected --json with more than one output a line, found none; plain text has one "
        "line for each "
        "line in"
    )
    assert refused("answer", question_run, "--n-best", "0", stdin="a\tb\n") == (
        "command line: n_best: expected at least 1, found 0; raise it"
    )
    (tmp_path / "file").write_text("a\tb\n\nc d\ne\tf\n")
    status, out, err = run("answer", question_run, tmp_path / "file")
    assert status == 2 and out == run("answer", question_run, stdin="a\tb\n\n")[1]
    assert err == (
        f"seqsru: expected a question, a tab and a paragraph at {tmp_path}/file:3, found no tab in 'c "
        "d'; put one "
        "behind the question\n"
    )
    assert refused("quantize", question_run, "--shortlist", "none").endswith(
        "expected a translation or language model for the compiled engine, found Reader; "
        "use the run directory itself, which torch decodes from"
    )


def test_questions_that_are_bad(texts, run, refused, question_run, tmp_path):
    content = json.loads((texts / "test.json").read_text())
    asked = content["data"][0]["paragraphs"][0]["qas"]
    asked[0]["answers"][0]["answer_start"] += 1
    asked[1]["answers"] = []
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    told = refused("evaluate", question_run, path)
    assert f"question {asked[0]['id']!r} of paragraph 1 of article 1 of {path}, found " in told
    status, out, err = run("evaluate", question_run, path, "--on-bad-question", "skip")
    assert (
        status == 0
        and "|questions:10|" in out
        and err
        == (
            f"{path}: 12 questions; 1 with an answer that is not at its offset, skipped ({asked[0]['id']}); "
            f"1 without an answer, skipped ({asked[1]['id']})\n"
        )
    )
    config = write_config(texts, QUESTIONS)
    told = refused("train", config, f"data.train=[{path}]", f"output={tmp_path}/run")
    assert "the nearest place is character" in told
    for part in content["data"][0]["paragraphs"]:
        part["qas"] = []
    path.write_text(json.dumps(content))
    assert refused("evaluate", question_run, path) == (
        f"seqsru: expected questions for evaluation in {path}, found none; check the file"
    )
    told = refused("train", config, f"data.train=[{path}]", f"output={tmp_path}/other")
    assert told == (
        f"{config}:3: data: expected questions for training in {path}, found none; check the file"
    )


def test_offsets_in_bytes_have_the_line_of_the_setting(texts, run, refused, tmp_path):
    content = {"context": "Zoë sang.", "qas": [{"id": "q", "question": "What?", "answers": []}]}
    content["qas"][0]["answers"] = [{"text": "sang", "answer_start": 5}]
    path = tmp_path / "bytes.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [content, {**content, "qas": []}]}]}))
    given = [write_config(texts, QUESTIONS), f"data.train=[{path}]", f"output={tmp_path}/run"]
    assert refused("train", *given, "data.offsets=utf-16") == (
        "command line: data.offsets: expected the answer 'sang' at unit 5 of UTF-16 in question 'q' "
        "of paragraph 1 "
        f"of article 1 of {path}, found it there in bytes of UTF-8; set offsets to bytes, if it is "
        "that in the "
        "whole file; or set on_bad_question to skip"
    )
    (tmp_path / "v.json").write_text(path.read_text())
    given[1] = f"data.train={path}"  # a file alone is no list
    more = ["data.offsets=bytes", f"data.validation={tmp_path}/v.json", "data.test=null"]
    assert run("train", *given, *more)[0] == 0
    (tmp_path / "bytes.json").write_text(path.read_text().replace("What?", "Who?"))
    assert (
        f"command line: data.train: expected the file that the run in {tmp_path}/run began with"
        in refused("train", *given, *more)
    )


@pytest.mark.parametrize(
    "overrides, problem",
    [
        (["data.train=[]"], "data.train: expected a file of questions, or several, found none; name one"),
        (
            ["data.holdout=0", "data.validation=null"],
            "data.holdout: expected a share above 0 where there is no",
        ),
        (["data.offsets=chars"], "data.offsets: expected one of"),
        (
            ["reading.max_answer=99"],
            "reading.max_answer: expected at most max_paragraph = 8 tokens, found 99",
        ),
        (
            ["reading.stride=7"],
            "reading.stride: expected at most 6 tokens, so that a window of max_paragraph",
        ),
        (["reading.matched_run=0"], "reading.matched_run: expected at least 1, found 0"),
        (["model.paragraph.cell=lstmm"], "model.paragraph.cell.name: "),
        (["tokenizer=sentencepiece"], "tokenizer.name: "),
        (["training.f1_tokens=bytes"], "training.f1_tokens: expected one of"),
        (["batches.batch_size=0"], "batches.batch_size: expected at least 1, found 0"),
    ],
)
def test_impossible_settings_have_their_place(texts, refused, tmp_path, overrides, problem):
    config = write_config(texts, QUESTIONS)
    told = refused("train", "--check", config, f"output={tmp_path}/run", *overrides)
    assert told.startswith(f"command line: {problem}"), told


@pytest.mark.parametrize("cell", ["lstm", "qrnn"])
def test_characters_and_another_cell(texts, run, cell, tmp_path):
    given = [
        "tokenizer=characters",
        "reading={matched_run: 3, max_paragraph: 20, max_answer: 8, lowercase: true}",
        f"model.paragraph.cell={cell}",
        f"model.question.cell={cell}",
        "training={steps: 2, tensorboard: false, f1_tokens: characters}",
        "data.validation=null",
    ]
    status, out, err = run("train", write_config(texts, QUESTIONS), f"output={tmp_path}/run", *given)
    assert status == 0 and "|data:train.json,held-out|questions:" in out and "|f1:characters|" in out
    assert re.search(
        r"train.json: \d+ questions; \d+ about a paragraph of more than 20 tokens, read in win", err
    )
    assert "|f1:characters|" in run("evaluate", tmp_path / "run")[1]


def test_vectors_and_a_start_from_another_run(texts, run, refused, question_run, tmp_path):
    config = write_config(texts, QUESTIONS)
    (tmp_path / "vectors").write_text("follows 1 2 3 4 5 6 7 8\nnowhere 0 0 0 0 0 0 0 0\n")
    given = [f"data.vectors={tmp_path}/vectors", "model.frozen_embedding=true", f"output={tmp_path}/run"]
    status, out, err = run("train", config, *given)
    assert status == 0 and "vectors: 2 vectors; of " in err
    pipeline = seqsru.load(tmp_path / "run")
    (number,) = pipeline.tokenizer.encode("follows")
    assert pipeline.model.embedding.weight[number].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    bare = QUESTIONS[: QUESTIONS.index("tokenizer:")] + QUESTIONS[QUESTIONS.index("batches:") :]
    shutil.copytree(question_run, tmp_path / "first")
    tuned = write_config(texts, bare + f"start_from: {{{{run: {tmp_path}/first}}}}\n")
    given = [f"output={tmp_path}/tuned", "optimizer.lr=1e-3"]
    status, out, err = run("train", tuned, *given, "reading.max_paragraph=9")
    assert status == 0 and "|start:first,step-" in out
    assert seqsru.load(tmp_path / "tuned").reading.max_answer == 3  # the other run's
    assert refused("train", tuned, f"output={tmp_path}/third", "reading.matched_run=2") == (
        f"command line: reading.matched_run: expected 1, as the run in {tmp_path}/first has it, whose "
        "weights and "
        "tokenizers are taken over, found 2; put it back, or leave it out"
    )
    write_config(texts, QUESTIONS)


def test_a_saved_tokenizer_has_places(texts, run, refused, question_run, tmp_path):
    from seqsru.data import Pieces

    config = write_config(texts, QUESTIONS)
    pieces = Pieces.train(["one two three four five six"] * 9, vocabulary_size=20, algorithm="bpe")
    pieces.save(tmp_path, "tokenizer")
    assert refused(
        "train", config, f"tokenizer={{name: saved, run: {tmp_path}}}", f"output={tmp_path}/r"
    ) == (
        "command line: tokenizer.run: expected a tokenizer of words or characters, found "
        "sentencepiece; train one "
        "of these, whose tokens keep their places in the text"
    )
    given = [f"tokenizer={{name: saved, run: {question_run}}}", f"output={tmp_path}/run", "training.epochs=1"]
    assert run("train", config, *given)[0] == 0
