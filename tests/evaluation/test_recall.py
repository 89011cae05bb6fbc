"""What a language model recalls: of models that give what stood some steps before, and of real ones."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from seqsru.cells import Stack
from seqsru.data import Words
from seqsru.data.copying import generate
from seqsru.errors import Refused
from seqsru.evaluation.recall import Recall, recall
from seqsru.models import LanguageModel


class Back(nn.Module):
    """Predicts what stood `steps` before the input; where there is none, the line end."""

    def __init__(self, size, steps):
        super().__init__()
        self.size, self.steps = size, steps
        self.embedding = SimpleNamespace(weight=torch.zeros(1))

    def begin(self, prompt):
        return (), ()

    def forward(self, tokens, state):
        moved = tokens.roll(self.steps, 0)
        moved[: self.steps] = tokens[0]
        return nn.functional.one_hot(moved, self.size).float(), ()

    def logits(self, features):
        return features


@pytest.fixture(scope="module")
def words():
    return Words.train(generate([1] * 100))


def test_what_lies_so_many_steps_back_is_right_for_one_gap(words):
    lines = generate([4, 0, 4, 2], alphabet=3, seed=2) + ["a ? a"]
    found = recall(Back(words.size, 3 + 2), words, lines)
    assert [one.gap for one in found] == [0, 2, 4]
    assert [one.symbols for one in found] == [4, 3, 6]
    assert found[1].right == 3 and found[1].accuracy == 1 and found[1].error == 0
    (alone,) = recall(Back(words.size, 1), words, ["a ? a", "b ? b"])
    assert alone == Recall(0, 2, 2)
    assert Recall(0, 100, 50).error == pytest.approx(0.05)


def test_each_symbol_is_asked_for_after_the_right_ones(words):
    """A model that gives what it read two steps before has both; one that gives the last it read, neither."""
    assert recall(Back(words.size, 2), words, ["a b ? a b"]) == [Recall(0, 2, 2)]
    assert recall(Back(words.size, 1), words, ["a b ? a b"]) == [Recall(0, 2, 0)]
    assert recall(Back(words.size, 0), words, ["a b ? a b", "a a ? a a"]) == [Recall(0, 4, 1)]


def test_a_language_model_of_random_weights_guesses(words):
    model = LanguageModel(words.size, Stack("sru", 8, 8, 1), 8).eval()
    found = recall(model, words, generate([0, 7, 30] * 50))
    assert [one.symbols for one in found] == [150, 150, 150]
    assert all(one.right < 75 for one in found)


@pytest.mark.parametrize("cell", ["sru", "lstm", "conv"])
def test_lines_before_are_read_first(words, cell):
    """The state after them is that of one text: as if they stood in each line's row."""
    model = LanguageModel(words.size, Stack(cell, 8, 8, 2), 8).eval()
    with torch.no_grad():
        model.output.weight.normal_()
    lines, before = generate([2, 5] * 60, seed=3), generate([4, 0], seed=4)
    found = recall(model, words, lines, before=before)
    for one, gap in zip(found, (2, 5)):
        right = 0
        for line in lines[0 if gap == 2 else 1 :: 2]:
            text = [words.eos]
            for each in (*before, line):
                text += [*words.encode(each), words.eos]
            tokens = torch.tensor(text)[:-1, None]
            with torch.no_grad():
                predicted = model.logits(model(tokens[:-1])[0][-3:]).argmax(-1)
            right += int((predicted == tokens[-3:]).sum())
        assert one == Recall(gap, 180, right)


def test_refusals(words):
    model = LanguageModel(words.size, Stack("sru", 8, 8, 1), 8).eval()
    with pytest.raises(Refused, match="^expected lines of the copy task, found none; check the file$"):
        recall(model, words, [])
    with pytest.raises(
        Refused, match="^expected a line of the copy task, such as .*, found 'a b'; make it by "
    ):
        recall(model, words, ["a b"])
    letters = SimpleNamespace(encode=lambda text: list(text.encode()), eos=0)
    with pytest.raises(
        Refused, match=r"^tokenizer: expected a token a symbol, found 5 of 'a \? a'; train with "
    ):
        recall(model, letters, ["a ? a"])
