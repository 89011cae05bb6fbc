"""A trained language model with its tokenizer: text in, numbers or text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seqsru.data.lines import one_line, text_lines
from seqsru.data.stream import TokenStream
from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding, Hypothesis, beam_search, sample
from seqsru.errors import Refused, check_at_least, check_seed
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.perplexity import TextScore, perplexity, sentence_nlls
from seqsru.models.language_model import LanguageModel
from seqsru.settings import checked_arguments


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

    Raises
    ------
    Refused
        The tokenizer has another number of types than the model.
    """

    model: LanguageModel
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        if self.tokenizer.size != self.model.vocabulary_size:
            raise Refused(
                f"a tokenizer of {self.model.vocabulary_size} types",
                f"one of {self.tokenizer.size}",
                "use the one the model was trained with",
                "tokenizer",
            )
        self.model.eval()

    def score(self, lines: Sequence[str]) -> list[float]:
        """Log probability of each line and its end, alone, natural logarithm, in input order.

        On a CPU in float32 the bits do not depend on what else is scored.
        """
        sentences = [[*self.tokenizer.encode(line), self.tokenizer.eos] for line in text_lines(lines)]
        return [-nll for nll in sentence_nlls(self.model, sentences, self.tokenizer.eos)]

    @checked_arguments
    def perplexity(self, lines: Sequence[str], *, carried: bool = True) -> TextScore:
        """Perplexity of a text: :func:`seqsru.evaluation.perplexity.perplexity`."""
        return perplexity(self.model, TokenStream.from_lines(lines, self.tokenizer), carried=carried)

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
    ) -> list[str]:
        """Continue a prompt to the end of its line, drawing each token at random.

        Parameters
        ----------
        prompt : str
            Beginning of a line; empty for a whole new one.
        count : int
            Continuations to draw.
        max_length : int
            Most tokens of a continuation.
        temperature : float
            Divides the log probabilities; below 1 is more careful.
        top_k : int
            Draw from the k likeliest tokens; 0 from all, 1 takes the likeliest.
        top_p : float
            Draw from the fewest likeliest tokens that together have this probability.
        seed : int
            Of the generator: the same seed gives the same text.

        Returns
        -------
        list of str
            Whole lines, the prompt included as the model read it.

        Raises
        ------
        Refused
            A setting that cannot be meant.
        """
        check_at_least(1, count=count, max_length=max_length)
        check_seed(seed=seed)
        prefix, state, start = self._begin(prompt, count)
        drawn = sample(
            self.model.step,
            (),
            state,
            start,
            eos=self.tokenizer.eos,
            max_length=torch.full((count,), max_length),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=torch.Generator().manual_seed(seed),
        )
        return [self._text(prefix, hypothesis) for hypothesis in drawn]

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
        prefix, state, start = self._begin(prompt, 1)
        (found,) = beam_search(
            self.model.step,
            (),
            state,
            start,
            eos=self.tokenizer.eos,
            max_length=torch.tensor([max_length]),
            decoding=Decoding(beam=beam, n_best=n_best, alpha=alpha),
        )
        return [(self._text(prefix, hypothesis), hypothesis) for hypothesis in found]

    def timed(self, name: str) -> TimedDecoder:
        """Give `generate` to the meter: each line is a prompt, and the same draw continues it every time."""

        def decode(line: str, length: int | None) -> list[str]:
            return self.generate(line) if length is None else self.generate(line, max_length=length)

        return TimedDecoder(name, self.model, self.tokenizer.eos, "sampling", decode)

    def _begin(self, prompt: str, rows: int) -> tuple[list[int], tuple[torch.Tensor, ...], torch.Tensor]:
        """Return the prompt's tokens, the state before the last of ``<eos>`` and them, and that one a row."""
        device = self.model.embedding.weight.device
        prefix = self.tokenizer.encode(one_line(prompt, "prompt"))
        context = torch.tensor([self.tokenizer.eos, *prefix], device=device)
        with torch.no_grad():
            _, state = self.model.begin(context[:-1, None])
        return prefix, tuple(t.repeat_interleave(rows, 0) for t in state), context[-1:].repeat(rows)

    def _text(self, prefix: list[int], hypothesis: Hypothesis) -> str:
        return self.tokenizer.decode([*prefix, *(t for t in hypothesis.tokens if t != self.tokenizer.eos)])
