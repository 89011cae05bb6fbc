"""Tiny data and tiny runs for the tests of the parts that need whole ones."""

import json
import random

import numpy

from seqsru import runs
from seqsru import settings as strict

LANGUAGE_MODEL = """\
task: language_model
output: {folder}/run
data: {{train: {folder}/train.txt, validation: {folder}/valid.txt, test: {folder}/test.txt}}
tokenizer: words
model:
  embedding_size: 8
  stack: {{cell: {{name: sru, backend: reference}}, hidden_size: 8, num_layers: 2, dropout: 0.1}}
batches: {{batch_size: 4, window: 16}}
optimizer: {{name: adamw, lr: 1e-2}}
training: {{epochs: 2, tensorboard: false}}
"""
TRANSLATION = """\
task: translation
output: {folder}/run
data:
  train: {{source: {folder}/train.src, target: {folder}/train.tgt}}
  validation: {{source: {folder}/valid.src, target: {folder}/valid.tgt}}
tokenizer: {{name: words, joint: false}}
model:
  embedding_size: 16
  encoder: {{cell: {{name: sru, backend: reference}}, hidden_size: 16, bidirectional: true}}
  decoder: {{cell: gru, hidden_size: 16, attention: {{name: dot, heads: 2}}}}
batches: {{tokens: 256}}
optimizer: {{name: adam, lr: 1e-2}}
training: {{steps: 4, tensorboard: false}}
decoding: {{beam: 2}}
"""
CLASSIFICATION = """\
task: classification
output: {folder}/run
data: {{train: {folder}/train.labelled, validation: {folder}/valid.labelled, test: {folder}/test.labelled}}
tokenizer: words
model:
  embedding_size: 8
  encoder: {{cell: {{name: sru, backend: reference}}, hidden_size: 8, bidirectional: true}}
  pooling: max
optimizer: {{name: adam, lr: 2e-2}}
training: {{epochs: 3, tensorboard: false}}
"""
QUESTIONS = """\
task: question_answering
output: {folder}/run
data: {{train: [{folder}/train.json], validation: {folder}/valid.json, test: {folder}/test.json}}
tokenizer: words
reading: {{max_paragraph: 8, max_answer: 3}}
model:
  embedding_size: 8
  paragraph: {{cell: {{name: sru, backend: reference}}, hidden_size: 8, bidirectional: true}}
  question: {{cell: {{name: sru, backend: reference}}, hidden_size: 8, bidirectional: true}}
batches: {{batch_size: 8}}
optimizer: {{name: adam, lr: 2e-2}}
training: {{epochs: 3, tensorboard: false}}
"""
RECOGNITION = """\
task: speech_recognition
output: {folder}/run
data: {{train: {folder}/train.tsv, validation: {folder}/valid.tsv, test: {folder}/test.tsv}}
features: {{name: files, size: 6}}
frontend: {{normalize: training, deltas: 1, stack: 2, stride: 2}}
tokenizer: words
model:
  encoder: {{cell: {{name: sru, backend: reference}}, hidden_size: 16, num_layers: 2}}
batches: {{frames: 400}}
optimizer: {{name: adam, lr: 2e-2}}
training: {{epochs: 4, tensorboard: false}}
"""
WORDS = "one two three four five six seven".split()


def sentences(count, seed):
    """Random sentences of one to six words, the same for the same seed."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(count)]


def questions(count, seed):
    """SQuAD's JSON: what follows a word in a paragraph that has it once, two questions a paragraph."""
    draw, paragraphs = random.Random(seed), []
    for number in range(count):
        words = [f"{word}{draw.randint(0, 9)}" for word in draw.sample(WORDS, 7)]
        context = f"— {' '.join(words[:4])}, {' '.join(words[4:])}."
        asked = []
        for place in draw.sample(range(6), 2):
            answer = words[place + 1]
            asked.append(
                {
                    "id": f"{seed}-{number}-{place}",
                    "question": f"What follows {words[place]}?",
                    "answers": [{"text": answer, "answer_start": context.index(answer)}],
                }
            )
        paragraphs.append({"context": context, "qas": asked})
    return {"version": "1.1", "data": [{"title": "numbers", "paragraphs": paragraphs}]}


def write_texts(folder):
    """Texts for all tasks.

    The translation of a sentence is its words in upper case, turned around; its label is whether it has a
    seven, for which there are words enough in the training lines.
    """
    for seed, (split, count) in enumerate((("train", 60), ("valid", 12), ("test", 6))):
        lines = sentences(count, seed)
        (folder / f"{split}.txt").write_text("".join(line + "\n" for line in lines))
        (folder / f"{split}.json").write_text(json.dumps(questions(count, seed)))
        labelled = (f"{'lucky' if 'seven' in line.split() else 'plain'} {line}\n" for line in lines)
        (folder / f"{split}.labelled").write_text("".join(labelled))
        write_speech(folder, split, lines)
        (folder / f"{split}.src").write_text("".join(line + "\n" for line in lines))
        (folder / f"{split}.tgt").write_text(
            "".join(" ".join(line.upper().split()[::-1]) + "\n" for line in lines)
        )


def spoken(line, seed, size=6):
    """Frames of a sentence: each word has a sound of its own, for three to five frames, and a pause."""
    draw, frames = numpy.random.default_rng(seed), []
    for word in line.split():
        sound = numpy.random.default_rng(WORDS.index(word)).normal(size=size) * 3
        length = draw.integers(3, 6)
        frames += [sound + draw.normal(size=size) * 0.1 for _ in range(length)]
        frames += [draw.normal(size=size) * 0.1 for _ in range(2)]
    return numpy.array(frames, dtype=numpy.float32)


def write_frames(path, frames, order=">"):
    """Write frames as Sphinx does: a count of numbers, then the numbers."""
    content = numpy.array(frames.size, f"{order}i4").tobytes() + frames.astype(f"{order}f4").tobytes()
    path.write_bytes(content)


def write_speech(folder, split, lines):
    """Write a manifest of sentences and their recordings; two speakers take turns."""
    (folder / "speech").mkdir(exist_ok=True)
    rows = ["id\tfile\ttranscript\tspeaker"]
    for number, line in enumerate(lines):
        file = folder / "speech" / f"{split}-{number}.mfc"
        write_frames(file, spoken(line, number))
        rows.append(f"{split}-{number}\t{file}\t{line}\tspeaker {number % 2}")
    (folder / f"{split}.tsv").write_text("".join(row + "\n" for row in rows))


def write_config(folder, text):
    """Write a configuration for the texts in a folder, and give its path."""
    path = folder / "run.yaml"
    path.write_text(text.format(folder=folder))
    return path


def settings(folder, text, *overrides):
    """Resolved settings for the texts in a folder."""
    return strict.load(write_config(folder, text), runs.schema(), overrides)
