"""Step functions small enough to be read at a glance, and the slow, obvious way to decode them."""

import itertools

import torch

EOS = 0


class Fake:
    """A model whose next token depends on the sentence and on all tokens so far, through a random table.

    The state is spread over two tensors of different shapes and types: the number of the history, and a copy
    of it that the step checks, so a state that is reordered wrongly or in part fails.
    """

    def __init__(self, vocabulary, sentences, *, source=3, sharpness=1.0, quantum=0.0, seed=0, contexts=997):
        generator = torch.Generator().manual_seed(seed)
        logits = sharpness * torch.randn(sentences, contexts, vocabulary, generator=generator)
        self.table = logits.log_softmax(-1)
        if quantum:  # multiples of a power of two: sums tie exactly, in any order of addition
            self.table = (self.table / quantum).round() * quantum
        self.weights = torch.randn(sentences, contexts, source, generator=generator).softmax(-1)
        self.vocabulary, self.sentences, self.contexts = vocabulary, sentences, contexts
        self.widths = []

    def begin(self):
        sentences = torch.arange(self.sentences)
        zero = torch.zeros(self.sentences, dtype=torch.int64)
        return (sentences,), (zero, zero.double().view(-1, 1, 1).expand(-1, 2, 1).clone())

    def start(self):
        return torch.full((self.sentences,), 1)

    def step(self, tokens, memory, state):
        (sentences,), (history, copy) = memory, state
        assert torch.equal(copy, history.double().view(-1, 1, 1).expand(-1, 2, 1))
        rows = torch.arange(len(tokens)) // (len(tokens) // len(sentences))
        self.widths.append(len(tokens) // len(sentences))
        history = (history * 31 + tokens + 7) % self.contexts
        owner = sentences[rows]
        return (
            self.table[owner, history],
            self.weights[owner, history],
            (history, history.double().view(-1, 1, 1).expand(-1, 2, 1).clone()),
        )

    def follow(self, sentence, tokens):
        """Log probability of each token of one sentence, and the attention at each: a loop without a beam."""
        history, log_probs, weights = 0, [], []
        for previous, token in zip([1, *tokens], tokens):
            history = (history * 31 + previous + 7) % self.contexts
            log_probs.append(float(self.table[sentence, history, token]))
            weights.append(self.weights[sentence, history])
        return log_probs, weights

    def next(self, sentence, tokens):
        """Log probabilities of the token after `tokens`."""
        history = 0
        for previous in [1, *tokens]:
            history = (history * 31 + previous + 7) % self.contexts
        return self.table[sentence, history].tolist()


def every_output(vocabulary, limit):
    """All outputs that end with EOS within `limit` tokens."""
    words = [token for token in range(vocabulary) if token != EOS]
    for length in range(limit):
        for body in itertools.product(words, repeat=length):
            yield [*body, EOS]


def plain_beam(fake, sentence, limit, beam, penalty, stop):
    """Beam search written from its description, with lists: [(score, log_prob, tokens)] best first."""
    live, finished = [(0.0, [])], []
    for length in range(1, limit + 1):
        candidates = []
        for row, (total, tokens) in enumerate(live):
            for token, log_prob in enumerate(fake.next(sentence, tokens)):
                if length < limit or token == EOS:
                    candidates.append((-(total + log_prob), row * fake.vocabulary + token, [*tokens, token]))
        live = []
        for place, (cost, _, tokens) in enumerate(sorted(candidates)[: 2 * beam]):
            if tokens[-1] != EOS:
                live.append((-cost, tokens))
            elif place < beam:
                finished.append((-cost / penalty(length), -cost, tokens))
        live = live[:beam]
        finished.sort(key=lambda entry: -entry[0])
        if not live:
            break
        if len(finished) >= beam and stop == "first":
            break
        if len(finished) >= beam and stop == "exact" and live[0][0] / penalty(limit) <= finished[beam - 1][0]:
            break
    return finished
