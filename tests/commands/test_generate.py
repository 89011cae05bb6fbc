"""``seqsru generate``."""

from pathlib import Path

import seqsru

ROOT = Path(seqsru.__file__).parent.parent


def test_a_seed_that_is_too_large(refused, language_run):
    assert refused("generate", language_run, "--prompt", "one", "--seed", str(2**64)) == (
        f"command line: seed: expected a number of 64 bits, found {2**64}; give a smaller one"
    )


def test_generate(run, language_run):
    three = ["generate", language_run, "--prompt", "one two", "--count", "3", "--max-length", "4"]
    status, out, err = run(*three)
    assert status == 0 and err == "" and len(out.splitlines()) == 3
    assert all(line.startswith("one two") for line in out.splitlines())
    assert run(*three)[1] == out != run(*three, "--seed", "2")[1]
    two = run("generate", language_run, "--top-k", "1", "--max-length", "2", stdin="one\nthree four\n")[1]
    assert [line.split()[0] for line in two.splitlines()] == ["one", "three"]
