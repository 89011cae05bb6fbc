"""``seqsru evaluate --lowercase``: each figure cased and in lower case, signed so, and compared so."""

import json

import pytest
import sacrebleu

import seqsru
from seqsru.evaluation.bleu import paired_bootstrap, translation_scores

METRICS = ["bleu", "chrf", "ter"]


@pytest.fixture
def mixed(texts, tmp_path):
    """References of which every second word is in lower case, and another system's translations."""
    lines = [line.split() for line in (texts / "test.tgt").read_text().splitlines()]
    files = tmp_path / "mixed.tgt", tmp_path / "other.tgt"
    texts = [
        " ".join(word if place % 2 else word.lower() for place, word in enumerate(line)) for line in lines
    ]
    files[0].write_text("".join(text + "\n" for text in texts))
    files[1].write_text("".join(text.title() + "\n" for text in texts[:-1]) + "One\n")
    return files


def test_both_figures(texts, run, translation_run, mixed, tmp_path):
    reference, other = mixed
    command = "evaluate", translation_run, texts / "test.src", reference, "--metrics", ",".join(METRICS)
    status, out, err = run(*command, "--lowercase", "--baseline", other, "--json", tmp_path / "both.json")
    assert (status, err) == (0, "")
    found = json.loads((tmp_path / "both.json").read_text())
    sources = (texts / "test.src").read_text().splitlines()
    system = [one.text for one in seqsru.load(translation_run).translate(sources)]
    references, before = (path.read_text().splitlines() for path in (reference, other))
    low = {"lowercase": True}
    assert found["bleu"] == sacrebleu.corpus_bleu(system, [references]).score
    assert found["lowercase"]["bleu"] == sacrebleu.corpus_bleu(system, [references], **low).score
    assert found["chrf"] == sacrebleu.corpus_chrf(system, [references]).score
    assert found["ter"] == sacrebleu.corpus_ter(system, [references], case_sensitive=True).score
    assert found["lowercase"]["ter"] == sacrebleu.corpus_ter(system, [references]).score
    assert found["lowercase"]["chrf"] > found["chrf"] and found["lowercase"]["ter"] < found["ter"]
    lowered = [[line.lower() for line in lines] for lines in (before, system, references)]
    for name, one in zip(METRICS, translation_scores(lowered[1], lowered[2], METRICS)):
        assert found["lowercase"][name] == one.value
        assert "|case:mixed|" in found["signatures"][name]
        assert "|case:lc|" in found["lowercase"]["signatures"][name]
    for name, one in zip(METRICS, paired_bootstrap(*lowered, METRICS)):
        of_both = found["lowercase"]["comparison"][name]
        assert {**one.as_dict(), "signature": ""} == {**of_both, "signature": ""}
        assert "|case:lc|" in of_both["signature"]
    for name, one in zip(METRICS, paired_bootstrap(before, system, references, METRICS, lowercase=False)):
        assert one.as_dict() == found["comparison"][name]
    lines = out.splitlines()
    names = [line.partition("|")[0] for line in lines if not line.startswith("seqsru ")]
    assert names == ["BLEU", "BLEU", "chrF2", "chrF2", "TER", "TER"] * 2
    cases = ["mixed" if "|case:mixed|" in line else "lc" for line in lines if "|case:" in line]
    assert cases == ["mixed", "lc"] * 6


def test_without_it_everything_is_as_it_was(texts, run, translation_run, mixed, tmp_path):
    files = texts / "test.src", mixed[0]
    out = run("evaluate", translation_run, *files, "--metrics", "bleu,ter", "--json", tmp_path / "j")[1]
    assert "|case:mixed|" in out.splitlines()[0] and "|case:lc|" in out.splitlines()[1]
    assert "lowercase" not in json.loads((tmp_path / "j").read_text())


def test_the_tokenizer_holds_for_both(texts, run, translation_run, mixed):
    out = run("evaluate", translation_run, texts / "test.src", mixed[0], "--lowercase", "--tokenize", "char")[
        1
    ]
    assert out.count("|tok:char|") == 2


def test_it_takes_no_file_for_its_value_and_belongs_to_translation(texts, run, translation_run, language_run):
    files = texts / "test.src", texts / "test.tgt"
    assert run("evaluate", translation_run, "--lowercase", *files)[0] == 0
    told = "seqsru: expected --lowercase with a translation model, found a language model; leave it out\n"
    assert run("evaluate", language_run, "--lowercase", texts / "test.txt") == (2, "", told)
    status, out, err = run("evaluate", translation_run, "--lowercase=no", *files)
    assert (status, out) == (2, "") and err.endswith("ignored explicit argument 'no'\n")
