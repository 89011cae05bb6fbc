"""The command line: one file a command, which declares its flags and does what it says.

This file loads nothing heavy, so that ``seqsru --help`` answers at once; the file of a command is imported
when that command is asked for. It has ``declare(parser)`` and ``run(arguments)``, which gives an exit status.
"""

# What several processes, started by torchrun, answer together.
TOGETHER = ("train", "evaluate", "translate")
COMMANDS = {
    "train": "train a model, or go on with a run, as a YAML file says",
    "evaluate": "perplexity, BLEU, accuracy, exact match, word error rate: what a task is measured by",
    "translate": "translate lines of text",
    "distill": "translations of a training text, for a smaller model to learn from",
    "score": "log probability of each line, or of a translation given its source",
    "generate": "continue lines of text, drawing at random",
    "classify": "label lines of text",
    "answer": "answer questions from paragraphs",
    "transcribe": "write down recordings of speech",
    "quantize": "make one file of a run, for fast decoding on a CPU",
    "latency": "how long one token takes",
    "compare": "train systems with equal budgets and sizes, and put them side by side in a table",
    "doctor": "what is installed, which backends work, and why one does not",
    "fetch": "put a named public corpus into a folder",
}
