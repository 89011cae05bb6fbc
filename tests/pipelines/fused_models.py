"""Language models for the search of a recogniser, of random weights and made-up numbers."""

import torch
from tiny_runs import WORDS

from seqsru.cells import Stack
from seqsru.data import Characters
from seqsru.data.arpa import read_arpa
from seqsru.data.vocabulary import EOS, UNK
from seqsru.models import LanguageModel
from seqsru.pipelines import LanguagePipeline

CHARACTERS = Characters([UNK, EOS, " ", *sorted(set("".join(WORDS)))])
LINES = ["one two three", "four", "five six seven one", "two two", "three six one seven"]


def language(tokenizer, seed=6):
    torch.manual_seed(seed)
    model = LanguageModel(tokenizer.size, Stack("gru", 5, 7), 5)
    with torch.no_grad():
        model.output.weight *= 20
    return LanguagePipeline(model, tokenizer)


def arpa(folder, words):
    lines = [f"{-0.1 * number - 0.5}\t{word}\t-0.2" for number, word in enumerate(["</s>", "<s>", *words])]
    text = "\n".join(["\\data\\", f"ngram 1={len(lines)}", "ngram 2=1", "\\1-grams:", *lines])
    (folder / "lm.arpa").write_text(text + f"\n\\2-grams:\n-0.01\t<s> {words[0]}\n\\end\\\n")
    return read_arpa(folder / "lm.arpa")


def log_prob_of(model, text):
    """What a language model says of a text, asked in its own way."""
    if isinstance(model, LanguagePipeline):
        return model.score([text])[0]
    state, total = model.begin(), 0.0
    for word in text.split():
        total += model.score(state, word)
        state = model.advance(state, word)
    return total + model.score(state, "</s>")
