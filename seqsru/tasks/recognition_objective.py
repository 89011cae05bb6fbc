"""What a recogniser minimises, CTC and maybe a decoder's cross entropy, and how it is measured."""

# Annotations are read at run time: arguments of the objective are settings.
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from torch import nn

from seqsru.data.padding import between_ends, pad
from seqsru.data.speech_batches import SpeechBatch, SpeechBatches, steps_needed
from seqsru.data.tokenizers import Tokenizer
from seqsru.data.utterances import Frames
from seqsru.decoding.ctc import best_path
from seqsru.errors import Refused, check_known, check_probability
from seqsru.evaluation.error_rate import error_rates
from seqsru.models.recognizer import Recognizer
from seqsru.pipelines.recognition import heard
from seqsru.pipelines.recognition_attention import spelled
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["wer", "cer", "loss"]


class _Measured(NamedTuple):
    """An utterance of validation: its text, the nll of its units by CTC, how many, and the decoder's nll."""

    text: str
    nll: float
    units: int
    attention_nll: float


class RecognitionObjective(Objective):
    """Write down utterances, by connectionist temporal classification, and with a decoder where there is one.

    An epoch is every utterance once, in batches drawn from the batches' seed and the epoch's number. What is
    minimised with a decoder is λ·CTC + (1 − λ)·its cross entropy, of sums over the units.

    Validation gives ``wer`` and ``cer``, the word and character error rate of the likeliest paths in percent,
    and ``loss``, the negative log probability of a unit of the transcripts by CTC; of equal rates the one of
    lower loss is the best. With a decoder ``attention_loss`` is its own, of a unit or an end.

    Parameters
    ----------
    utterances : SpeechBatches
        The training utterances.
    inputs : sequence of ndarray of shape (T, I)
        Those of validation, after the frontend.
    transcripts : sequence of str
        What was said in them; at least one word.
    tokenizer : Tokenizer
    fingerprints : dict of str to str
        sha256 of the tokenizer and the features.
    audio : str
        Digest of the inputs.
    validation_metric : {"wer", "cer", "loss"}
        What the best checkpoint is the best in.
    ctc_weight : float or None
        λ, the share of CTC where there is model.decoder, between 0 and 1; null is 0.5.
    label_smoothing : float
        Share of a unit's probability that is spread over all, in the loss of model.decoder alone; never part
        of a reported loss.

    Raises
    ------
    Refused
        No validation utterances, or an option outside its values.
    """

    higher_is_better = False

    def __init__(
        self,
        utterances: SpeechBatches,
        inputs: Sequence[Frames],
        transcripts: Sequence[str],
        tokenizer: Tokenizer,
        fingerprints: dict[str, str],
        audio: str,
        *,
        validation_metric: ValidationMetric = "wer",
        ctc_weight: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        check_known(get_args(ValidationMetric), validation_metric=validation_metric)
        check_probability(label_smoothing=label_smoothing)
        if ctc_weight is not None and not 0.0 < ctc_weight < 1.0:
            do = "both outputs are to learn; leave out model.decoder for CTC alone"
            raise Refused("a number above 0 and below 1", str(ctc_weight), do, "ctc_weight")
        self.ctc_weight = 0.5 if ctc_weight is None else ctc_weight
        self.label_smoothing = label_smoothing
        if not inputs:
            raise Refused("validation utterances", "none", "check the validation manifest")
        self.utterances, self.inputs, self.transcripts = utterances, inputs, transcripts
        self.tokenizer, self.fingerprints, self.audio = tokenizer, fingerprints, audio
        self.metric: str = validation_metric
        if validation_metric != "loss":
            self.tie_breaker = "loss"
        self._targets = [tokenizer.encode(text) for text in transcripts]

    def epoch_length(self) -> int:
        return len(self.utterances)

    def batches(self, epoch: int, start: int) -> Iterator[SpeechBatch]:
        order = self.utterances.epoch(epoch)[start:]
        return (self.utterances.collate(indices, epoch) for indices in order)

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        examples = self.utterances.examples
        rows = self.utterances.epoch(epoch)[number]
        return {examples.report.name: [int(examples.numbers[index]) for index in rows]}

    def loss(self, model: nn.Module, batch: SpeechBatch, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, Recognizer)
        valid = batch.valid.to(model.device)
        encoded, _ = model.encode(batch.inputs.to(model.device), valid)
        log_probs = model.outputs(encoded)
        loss = model.ctc_loss(log_probs, valid, batch.targets, batch.target_valid).sum()
        nll = loss.detach()
        if model.decoder is not None:
            texts = between_ends(batch.targets, batch.target_valid, self.tokenizer.bos, self.tokenizer.eos)
            read, predicted, there = (one.to(model.device) for one in texts)
            attention, own = model.cross_entropy(
                *model.begin(encoded, valid), read, predicted, there, self.label_smoothing
            )
            share = self.ctc_weight
            loss = share * loss + (1.0 - share) * attention
            nll = share * nll + (1.0 - share) * own.sum()
        return BatchLoss(loss, nll, batch.count, batch.targets.shape[1], ())

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Recognizer)

        def measured(indices: Sequence[int]) -> list[_Measured]:
            return self._measured(model, indices)

        found = self.processes.map(measured, range(len(self.inputs)))
        wer, cer = error_rates(self.transcripts, [one.text for one in found])
        loss = math.fsum(one.nll for one in found) / max(1, sum(one.units for one in found))
        values = {"wer": wer.counts.rate, "cer": cer.counts.rate, "loss": loss}
        if model.decoder is not None:
            predicted = sum(map(len, self._targets)) + len(found)
            values["attention_loss"] = math.fsum(one.attention_nll for one in found) / predicted
        return values

    def _measured(self, model: Recognizer, indices: Sequence[int]) -> list["_Measured"]:
        """Of each of some utterances its text, and the losses of its units."""
        inputs = [self.inputs[index] for index in indices]
        targets = [self._targets[index] for index in indices]
        results = [_Measured("", 0.0, 0, 0.0)] * len(inputs)
        for members, encoded, valid, log_probs in heard(model, inputs):
            ids, there = pad([targets[place] for place in members], 0)
            losses = model.ctc_loss(log_probs, valid, ids, there).double().tolist()
            rows = log_probs.transpose(0, 1).cpu().numpy()
            own = [0.0] * len(members)
            if model.decoder is not None:
                texts = [[targets[place]] for place in members]
                own = [-score for (score,) in spelled(model, encoded, valid, texts, self.tokenizer)]
            for place, row, loss, attention in zip(members, rows, losses, own):
                text = self.tokenizer.decode(best_path(row[: len(inputs[place])], model.blank).tokens)
                fits = steps_needed(targets[place]) <= len(inputs[place])  # else it has no probability
                results[place] = _Measured(
                    text, loss if fits else 0.0, len(targets[place]) if fits else 0, attention
                )
        return results

    def signature_fields(self) -> dict[str, object]:
        return {"utterances": len(self.inputs), "search": "best-path", "audio": self.audio}
