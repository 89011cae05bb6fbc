"""The objective of language modelling: its batches, its loss, its validation."""

import pytest
import tiny
import torch
import torch.nn.functional as F

from seqsru.data.stream import StreamBatches, TokenStream
from seqsru.data.vocabulary import Words
from seqsru.evaluation.perplexity import perplexity
from seqsru.tasks.language_modelling import LanguageModelObjective


def make(**options):
    words = Words.train(tiny.LINES)
    tokens = TokenStream.from_lines(tiny.LINES, words)
    return LanguageModelObjective(
        StreamBatches(tokens.tokens, 4, 6, words.eos), tokens, {"tokenizer": words.fingerprint}, **options
    )


def test_loss_is_the_smoothed_one_and_nll_is_not(tmp_path):
    objective, model = make(label_smoothing=0.1), tiny.make(tmp_path).model.eval()
    *_, last = objective.batches(1, 0)  # its rows end at different steps
    assert last.valid is not None
    result = objective.loss(model, last, None)
    features, _ = model(last.inputs, None, last.valid)
    logits, targets = model.logits(features)[last.valid], last.targets[last.valid]
    smooth = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(result.loss, smooth)
    torch.testing.assert_close(result.nll, F.cross_entropy(logits, targets, reduction="sum").detach())
    assert (result.tokens, result.rows) == (len(targets), 4)


def test_the_state_is_carried_from_window_to_window(tmp_path):
    objective, model = make(), tiny.make(tmp_path).model.eval()
    first, second = list(objective.batches(1, 0))[:2]
    carried = objective.loss(model, first, None).carried
    went_on, began = objective.loss(model, second, carried), objective.loss(model, second, None)
    features, _ = model(torch.cat([first.inputs, second.inputs]))
    _, nll = model.cross_entropy(features[len(first.inputs) :], second.targets)
    torch.testing.assert_close(went_on.nll, nll.sum())
    assert abs(went_on.nll - began.nll) > 1e-3


def test_an_epoch_counts_every_token_once_and_may_be_begun_anywhere():
    objective = make()
    whole = list(objective.batches(1, 0))
    assert len(whole) == objective.epoch_length() and sum(b.count for b in whole) == len(
        objective.validation.tokens
    )
    assert torch.equal(next(objective.batches(1, 5)).targets, whole[5].targets)


@pytest.mark.parametrize("state", ["carried", "separate"])
def test_validation_is_perplexity_without_smoothing(tmp_path, state):
    objective, model = make(label_smoothing=0.5, validation_state=state), tiny.make(tmp_path).model.eval()
    assert (
        objective.validate(model)
        == perplexity(model, objective.validation, carried=state == "carried").values()
    )


def test_the_headline_may_be_another(tmp_path):
    objective = make(validation_metric="bits_per_byte")
    assert objective.metric in objective.validate(tiny.make(tmp_path).model.eval())


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="validation_state: expected one of carried, separate, found 'both'"):
        make(validation_state="both")
    with pytest.raises(ValueError, match="validation_metric: expected one of perplexity, .*, found 'bleu'"):
        make(validation_metric="bleu")
    with pytest.raises(ValueError, match=r"label_smoothing: expected .* from 0 to below 1, found -0\.1"):
        make(label_smoothing=-0.1)
