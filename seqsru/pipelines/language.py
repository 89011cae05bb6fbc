"""A trained language model with its tokenizer: text in, numbers or text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy

from seqsru.data.lines import one_line, text_lines, unbroken
from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding, Hypothesis
from seqsru.decoding.drawing import check_drawing
from seqsru.engine.inference import Output
from seqsru.errors import Refused, check_at_least, check_seed
from seqsru.evaluation.adaptation import Adaptation, no_adaptation
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.text_score import EncodedText, TextScore
from seqsru.pipelines.compiled import CompiledModel, timed_inside, uniform
from seqsru.settings import checked_arguments

if TYPE_CHECKING:  # torch takes a second to import, and the engine does without it
    from seqsru.models.language_model import LanguageModel


def no_shares() -> Refused:
    """The refusal of an engine that adds up a stream within."""
    do = "take engine torch, or state separate"
    return Refused("engine torch for the share of each line", "compiled", do, "engine")


@checked_arguments
@dataclass(frozen=True, eq=False, repr=False)
class LanguagePipeline:
    """Score and continue text. Nothing in it changes, so that threads may share it.

    Parameters
    ----------
    model : LanguageModel
        Put in evaluation mode.
    tokenizer : Tokenizer
        The one it was trained with.
    engine : CompiledModel, optional
        The same model compiled, which is then used in place of `model`; `model` may be None beside it.

    Raises
    ------
    Refused
        The tokenizer has another number of types than the model, or there is no model.
    """

    model: Any  # a LanguageModel or None: naming it would import torch
    tokenizer: Tokenizer
    _: KW_ONLY
    engine: CompiledModel | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            from seqsru.models.language_model import LanguageModel

            if not isinstance(self.model, LanguageModel):
                raise Refused("a LanguageModel", type(self.model).__name__, "give a language model", "model")
            size = self.model.vocabulary_size
            self.model.eval()
        elif self.engine is not None:
            size = self.engine.model.vocabulary
        else:
            raise Refused("a model, or an engine that has one", "neither", "give one of them", "model")
        if self.tokenizer.size != size:
            raise Refused(
                f"a tokenizer of {size} types",
                f"one of {self.tokenizer.size}",
                "use the one the model was trained with",
                "tokenizer",
            )

    def score(self, lines: Sequence[str]) -> list[float]:
        """Log probability of each line and its end, alone, natural logarithm, in input order.

        On a CPU in float32 the bits do not depend on what else is scored.
        """
        sentences = [[*self.tokenizer.encode(line), self.tokenizer.eos] for line in text_lines(lines)]
        if self.engine is not None:
            return self._scores(self.engine, sentences)
        from seqsru.pipelines.eager import sentence_nlls

        return [-nll for nll in sentence_nlls(self._torch(), sentences, self.tokenizer.eos)]

    @checked_arguments
    def perplexity(
        self,
        lines: Sequence[str],
        *,
        carried: bool = True,
        adaptation: Adaptation | None = None,
        rms: Sequence[Any] | None = None,
    ) -> TextScore:
        """Perplexity of a text: :func:`seqsru.evaluation.perplexity.perplexity`.

        Parameters
        ----------
        lines : sequence of str
            The text.
        carried : bool
            One stream, the state carried from line to line; False: each line alone.
        adaptation : Adaptation, optional
            A temperature, a cache and dynamic evaluation, which torch computes; the model stays as it is.
        rms : sequence of Tensor, optional
            From `seqsru.evaluation.learning.gradient_rms`, for dynamic evaluation by the rule rms.

        Raises
        ------
        Refused
            No lines, or an adaptation of what cannot be adapted.
        """
        return self.perplexity_by_line(lines, carried=carried, adaptation=adaptation, rms=rms)[0]

    @checked_arguments
    def perplexity_by_line(
        self,
        lines: Sequence[str],
        *,
        carried: bool = True,
        adaptation: Adaptation | None = None,
        rms: Sequence[Any] | None = None,
    ) -> tuple[TextScore, list[float] | None]:
        """What `perplexity` and `line_nlls` return, of one pass over the text.

        Parameters and errors are those of `perplexity`. The compiled engine adds up a stream within, and
        has no lines of it: None.
        """
        if self.engine is None:
            from seqsru.pipelines.eager import perplexity_of

            return perplexity_of(self._torch(), text_lines(lines), self.tokenizer, carried, adaptation, rms)
        if adaptation is not None:
            raise no_adaptation()
        text = EncodedText(text_lines(lines), self.tokenizer)
        if carried:
            return text.scored(self.engine.stream_nll(text.tokens, self.tokenizer.eos), carried), None
        nlls = [-score for score in self._scores(self.engine, text.sentences())]
        return text.scored(math.fsum(nlls), carried), nlls

    @checked_arguments
    def line_nlls(
        self,
        lines: Sequence[str],
        *,
        carried: bool = True,
        adaptation: Adaptation | None = None,
        rms: Sequence[Any] | None = None,
    ) -> list[float]:
        """What each line and its end add to the negative log probability of a text, in input order.

        Parameters and errors are those of `perplexity`.
        """
        if self.engine is not None and carried and adaptation is None:
            raise no_shares()
        nlls = self.perplexity_by_line(lines, carried=carried, adaptation=adaptation, rms=rms)[1]
        assert nlls is not None
        return nlls

    @checked_arguments
    def generate(
        self,
        prompt: str = "",
        *,
        count: int = 1,
        max_length: int = 100,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 1,
        lines: int = 1,
    ) -> list[str]:
        """Continue a prompt to the end of its line, or over more lines, drawing each token at random.

        Parameters
        ----------
        prompt : str
            Beginning of a line; empty for a whole new one.
        count : int
            Continuations to draw.
        max_length : int
            Most tokens of a line's continuation; one that is as long without an end is the last of its text.
        temperature : float
            Divides the log probabilities; below 1 is more careful.
        top_k : int
            Draw from the k likeliest tokens; 0 from all, 1 takes the likeliest.
        top_p : float
            Draw from the fewest likeliest tokens that together have this probability.
        seed : int
            Of the generator: the same seed gives the same text, and more lines begin with the same ones.
        lines : int
            Lines of a continuation, each drawn after those before it, as the lines of a text follow.

        Returns
        -------
        list of str
            Whole lines, the prompt included as the model read it; several of a text with breaks between.

        Raises
        ------
        Refused
            A setting that cannot be meant.
        """
        check_at_least(1, count=count, max_length=max_length, lines=lines)
        check_seed(seed=seed)
        check_drawing(temperature, top_k, top_p)
        how: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        how["max_length"] = max_length
        eos, prefix = self.tokenizer.eos, self._prefix(prompt)
        drawn = self._draw([eos, *prefix], count, seed=seed, **how)
        if lines == 1:
            return [self._text(prefix, one) for one in drawn]
        texts = []
        for number, first in enumerate(drawn):
            seeds = numpy.random.SeedSequence((seed, number)).generate_state(lines - 1)
            texts.append(self._text_of_lines(prefix, first, seeds.tolist(), how))
        return texts

    @checked_arguments
    def search(
        self, prompt: str = "", *, beam: int = 5, n_best: int = 1, max_length: int = 100, alpha: float = 1.0
    ) -> list[tuple[str, Hypothesis]]:
        """Find the likeliest ends of a line that begins with a prompt, best first, by beam search.

        Parameters
        ----------
        prompt : str
            Beginning of a line.
        beam : int
            Live hypotheses; 1 is greedy.
        n_best : int
            Lines to give, at most ``beam``.
        max_length : int
            Most tokens of a continuation, the end of the line counted.
        alpha : float
            Exponent of the length penalty L ** alpha.

        Returns
        -------
        list of (str, Hypothesis)
            The whole line, and what was found.

        Raises
        ------
        Refused
            A setting that cannot be meant.
        """
        check_at_least(1, max_length=max_length)
        decoding = Decoding(beam=beam, n_best=n_best, alpha=alpha)
        if self.engine is not None:
            *before, last = context = [self.tokenizer.eos, *self._prefix(prompt)]
            (outputs,) = self.engine.search(
                [before], [last], eos=self.tokenizer.eos, decoding=decoding, limits=[max_length]
            )
            ends = [Hypothesis(one.tokens, one.log_prob, one.score, None) for one in outputs]
            return [(self._text(context[1:], one), one) for one in ends]
        from seqsru.pipelines.eager import continuations

        prefix, eos = self._prefix(prompt), self.tokenizer.eos
        found = continuations(self._torch(), [eos, *prefix], eos, max_length, decoding)
        return [(self._text(prefix, hypothesis), hypothesis) for hypothesis in found]

    def timed(self, name: str) -> TimedDecoder:
        """Give `generate` to the meter: each line is a prompt, and the same draw continues it every time."""

        def decode(pipeline: LanguagePipeline, line: str, length: int | None) -> list[str]:
            return pipeline.generate(line) if length is None else pipeline.generate(line, max_length=length)

        timed = TimedDecoder(
            name, self.model, self.tokenizer.eos, "sampling", lambda *given: decode(self, *given)
        )
        return timed if self.engine is None else timed_inside(timed, self, decode)

    def _torch(self) -> LanguageModel:
        """Return the model, where torch is to be used."""
        model: LanguageModel = self.model
        assert model is not None  # else there is an engine
        return model

    def _prefix(self, prompt: str) -> list[int]:
        return self.tokenizer.encode(one_line(prompt, "prompt"))

    def _scores(self, engine: CompiledModel, sentences: Sequence[Sequence[int]]) -> list[float]:
        """Return the log probability of each sentence, alone."""
        inputs = [[self.tokenizer.eos, *sentence[:-1]] for sentence in sentences]
        return engine.score([()] * len(sentences), inputs, sentences)

    def _draw(self, context: list[int], count: int, *, max_length: int, seed: int, **how: Any) -> list[Any]:
        """Draw what follows a context, in the engine what `sample` would draw."""
        eos = self.tokenizer.eos
        if self.engine is None:
            from seqsru.pipelines.eager import draw

            return draw(self._torch(), context, count, eos=eos, max_length=max_length, seed=seed, **how)
        *before, last = context
        drawn: list[Any] = self.engine.engine().draw(
            before,
            last,
            count,
            eos=eos,
            max_length=max_length,
            uniform=uniform(seed, max_length * count).reshape(max_length, count),
            minimum=self.engine.fewest,
            times=self.engine.times(max_length),
            **how,
        )
        return drawn

    def _text_of_lines(
        self, prefix: list[int], drawn: Hypothesis | Output, seeds: list[int], how: dict[str, Any]
    ) -> str:
        """Draw a line for each seed after the one that was drawn, as long as they come to an end."""
        eos, found = self.tokenizer.eos, [self._text(prefix, drawn)]
        context = [eos, *prefix, *drawn.tokens]
        for seed in seeds:
            if context[-1] != eos:
                break
            (drawn,) = self._draw(context, 1, seed=seed, **how)
            found.append(self._text([], drawn))
            context += drawn.tokens
        return "\n".join(found)

    def _text(self, prefix: list[int], hypothesis: Hypothesis | Output) -> str:
        tokens = [*prefix, *(t for t in hypothesis.tokens if t != self.tokenizer.eos)]
        return unbroken(self.tokenizer.decode(tokens))
