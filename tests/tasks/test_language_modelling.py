"""The language model's task: its batches, its loss, its validation."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from seqsru.data.stream import StreamBatches, TokenStream
from seqsru.data.vocabulary import Words
from seqsru.evaluation.perplexity import perplexity
from seqsru.training.language_model_task import LanguageModelTask


def make(**options):
    words = Words.train(tiny.LINES)
    tokens = TokenStream.from_lines(tiny.LINES, words)
    return LanguageModelTask(
        StreamBatches(tokens.tokens, 4, 6, words.eos), tokens, {"tokenizer": words.fingerprint}, **options
    )


def test_loss_is_the_smoothed_one_and_nll_is_not(tmp_path):
    task, model = make(label_smoothing=0.1), tiny.make(tmp_path).model.eval()
    *_, last = task.batches(1, 0)  # its rows end at different steps
    assert last.valid is not None
    result = task.loss(model, last, None)
    features, _ = model(last.inputs, None, last.valid)
    logits, targets = model.logits(features)[last.valid], last.targets[last.valid]
    smooth = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(result.loss, smooth)
    torch.testing.assert_close(result.nll, F.cross_entropy(logits, targets, reduction="sum").detach())
    assert (result.tokens, result.rows) == (len(targets), 4)


def test_the_state_is_carried_from_window_to_window(tmp_path):
    task, model = make(), tiny.make(tmp_path).model.eval()
    first, second = list(task.batches(1, 0))[:2]
    carried = task.loss(model, first, None).carried
    went_on, began = task.loss(model, second, carried), task.loss(model, second, None)
    features, _ = model(torch.cat([first.inputs, second.inputs]))
    _, nll = model.cross_entropy(features[len(first.inputs) :], second.targets)
    torch.testing.assert_close(went_on.nll, nll.sum())
    assert abs(went_on.nll - began.nll) > 1e-3


def test_an_epoch_counts_every_token_once_and_may_be_begun_anywhere():
    task = make()
    whole = list(task.batches(1, 0))
    assert len(whole) == task.epoch_length(1) and sum(b.count for b in whole) == len(task.valid.tokens)
    assert torch.equal(next(task.batches(1, 5)).targets, whole[5].targets)


@pytest.mark.parametrize("state", ["carried", "separate"])
def test_validation_is_perplexity_without_smoothing(tmp_path, state):
    task, model = make(label_smoothing=0.5, valid_state=state), tiny.make(tmp_path).model.eval()
    assert task.validate(model) == perplexity(model, task.valid, carried=state == "carried").values()


def test_the_headline_may_be_another(tmp_path):
    task = make(valid_metric="bits_per_byte")
    assert task.metric in task.validate(tiny.make(tmp_path).model.eval())


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="valid_state to be one of carried, separate, found 'both'"):
        make(valid_state="both")
    with pytest.raises(ValueError, match="valid_metric to be one of perplexity, .*, found 'bleu'"):
        make(valid_metric="bleu")
    with pytest.raises(ValueError, match=r"label_smoothing: expected .* from 0 to below 1, found -0\.1"):
        make(label_smoothing=-0.1)
