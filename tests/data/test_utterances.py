"""Manifests: what they may look like, and every line that cannot be used, named."""

import re

import numpy
import pytest
from tiny_runs import write_frames

from seqsru.data.features import FeatureFiles
from seqsru.data.frontend import FeatureSpace, Frontend
from seqsru.data.speech_batches import SpeechExamples
from seqsru.data.utterances import read_manifest, read_recordings
from seqsru.data.vocabulary import Characters
from seqsru.errors import NotFound, Refused

SOURCE = FeatureFiles(size=2)


@pytest.fixture
def folder(tmp_path):
    for name, frames in (("a", 5), ("b", 3), ("none", 0)):
        write_frames(tmp_path / f"{name}.mfc", numpy.ones((frames, 2), dtype=numpy.float32))
    return tmp_path


def manifest(folder, text):
    (folder / "m.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / "m.tsv"


@pytest.mark.parametrize(
    "text, speakers",
    [
        ("1\ta.mfc\tYES NO\n2\tb.mfc\tGO\n", ["", ""]),
        ("1\ta.mfc\tYES NO\tann\n2\tb.mfc\tGO\tben", ["ann", "ben"]),
        ("\ufefffile\tsamples\ttranscript\tid\na.mfc\t9\t YES  NO \t1\r\nb.mfc\t9\tGO\t2\r\n", ["", ""]),
        ("speaker\ttranscript\tfile\tid\nann\tYES NO\ta.mfc\t1\nben\tGO\tb.mfc\t2\n", ["ann", "ben"]),
    ],
)
def test_columns_have_names_or_an_order(folder, text, speakers):
    found = read_recordings(manifest(folder, text), SOURCE)
    told = found.utterances
    assert (told.ids, told.transcripts, told.speakers) == (["1", "2"], ["YES NO", "GO"], speakers)
    assert [len(one[1.0]) for one in found.frames] == [5, 3] and told.files[0] == folder / "a.mfc"
    first = 2 if "transcript" in text else 1
    assert told.numbers == [first, first + 1] and told.place(1).endswith(f"m.tsv:{first + 1}")


def test_an_utterance_without_an_id_is_called_as_its_file_and_absolute_names_stay(folder):
    found = read_manifest(manifest(folder, f"file\ttranscript\n{folder}/a.mfc\tGO\n"))
    assert found.ids == [f"{folder}/a.mfc"] and found.files == [folder / "a.mfc"]


HEAD = "id\tfile\ttranscript\tspeaker\n1\ta.mfc\tGO\tann\n"
BAD = [
    ("2\tb.mfc\tGO\n", "4 columns (id, file, transcript, speaker) between tabs at {at}, found 3; put what is "
     "missing between tabs", "with another number of columns"),
    ("2 b.mfc GO\n", "4 columns (id, file, transcript, speaker) between tabs at {at}, found 1; put what is "
     "missing between tabs", "with another number of columns"),
    ("\n", "an utterance at {at}, found an empty line; remove it", "empty"),
    ("2\t\tGO\tann\n", "a file at {at}, found none; name one", "without a file"),
    ("2\tb.mfc\t \tann\n", "a transcript at {at}, found none; "
    "write down what is said", "without a transcript"),
    ("1\tb.mfc\tGO\tann\n", "an id of its own at {at}, found '1', as in line 2; rename one",
     "with an id that another has"),
    ("2\tc.mfc\tGO\tann\n", "a file at {folder}/c.mfc at {at}, found No such file or directory; correct its "
     "name, which counts from the manifest's folder, or put it there", "not there"),
    ("2\t.\tGO\tann\n", "a file at {folder} at {at}, found Is a directory; "
    "correct its name, which counts from "
     "the manifest's folder, or put it there", "not there"),
    ("2\tnone.mfc\tGO\tann\n", "frames in {folder}/none.mfc at {at}, found none; leave it out",
     "without a frame"),
]  # fmt: skip


@pytest.mark.parametrize("line, sentence, reason", BAD)
def test_a_bad_line_is_named_or_left_out(folder, line, sentence, reason):
    path = manifest(folder, HEAD + line + "9\tb.mfc\tNO\tann\n")
    told = f"expected {sentence}, or set on_bad_line to skip".format(at=f"{path}:3", folder=folder)
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        read_recordings(path, SOURCE)
    found = read_recordings(path, SOURCE, on_bad_line="skip")
    assert found.utterances.ids == ["1", "9"] and len(found) == 2
    assert str(found.utterances.report) == f"{path}: 4 lines; 1 {reason}, skipped (line 3)"


def test_bytes_that_are_no_text(folder):
    path = manifest(folder, HEAD.encode() + b"2\tb.mfc\tG\xd6\tann\n")
    with pytest.raises(Refused, match=rf"^expected UTF-8 text in {path}:3, found byte 0xD6 at byte offset 9"):
        read_manifest(path)
    assert read_manifest(path, on_bad_line="skip").ids == ["1"]


def test_other_mistakes(folder):
    with pytest.raises(NotFound, match="^expected a text file at nowhere, found nothing; check the path"):
        read_manifest("nowhere")
    path = manifest(folder, "file\ttranscript\tfile\n")
    with pytest.raises(Refused, match=rf"^expected each column once in {path}:1, found 'file' twice; rename"):
        read_manifest(path)
    with pytest.raises(Refused, match="^on_bad_line: expected one of error, skip, found 'replace'"):
        read_manifest(path, on_bad_line="replace")


def examples(folder, text, tokenizer=None, on_bad_line="error", **frontend):
    recordings = read_recordings(manifest(folder, text), SOURCE)
    tokenizer = tokenizer or Characters.train(recordings.utterances.transcripts)
    space = FeatureSpace([0.0, 0.0], [1.0, 1.0])
    return SpeechExamples.made(recordings, tokenizer, Frontend(**frontend), space, on_bad_line)


def test_a_transcript_that_its_frames_are_too_few_for(folder):
    assert len(examples(folder, "1\ta.mfc\tABCDE\n2\tb.mfc\tABA\n")) == 2
    text = "1\ta.mfc\tABCDE\n2\tb.mfc\tABB\n"  # between two equal ones a blank has to stand
    path = folder / "m.tsv"
    told = (
        f"expected at least 4 steps of the model for the 3 units of the transcript at {path}:2, found 3; "
        "correct it, or lower frontend.stride, or set on_bad_line to skip"
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        examples(folder, text)
    kept = examples(folder, text, on_bad_line="skip")
    assert len(kept) == 1 and "with a transcript too long for the frames, skipped (line 2)" in str(
        kept.report
    )
    with pytest.raises(Refused, match=r"at least 5 steps .*m.tsv:1, found 3; "):
        examples(folder, text, stack=2, stride=2)


def test_a_speaker_is_needed_where_that_is_normalised(folder):
    with pytest.raises(
        Refused,
        match=r"^expected a speaker at \S+m.tsv:2, found none; "
        r"add a column speaker, or set frontend.normalize",
    ):
        examples(folder, "1\ta.mfc\tA\tann\n2\tb.mfc\tB\n", normalize="speaker")
