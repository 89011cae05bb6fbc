#!/usr/bin/env bash
# Install, generate English-German phrases, train a small translation model on them, and show what it does.
# Needs Python and pip. Can be run again: what is done is kept, and an interrupted training goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/quickstart
run=$here/runs/phrases
test=$here/data/synthetic/test
. recipes/install.sh plot "$here/config.yaml"

echo "== generating number, date and time phrases in $here/data"
seqsru fetch synthetic "$here/data"

echo "== training: a few minutes; Ctrl-C saves, and running this again goes on"
seqsru train "$here/config.yaml"

echo "== translating phrases that training never saw"
seqsru translate "$run" "$test.en" --output "$run/test.de" --threads 1
python "$here/exact_match.py" "$test.en" "$test.de" "$run/test.de" "$run/exact_match.json"

echo "== translating a few lines, with their attention drawn to $run/attention"
seqsru translate "$run" "$here/phrases.txt" --output "$run/phrases.de" --plot "$run/attention" --threads 1
paste -d '\t' "$here/phrases.txt" "$run/phrases.de"

echo "== measuring how long one token takes"
seqsru latency "$run" --first 50 --json "$run/latency.json" --plot "$run/latency.png"

echo "== one file for fast decoding (the engine is compiled once, in about a minute), and its latency"
seqsru quantize "$run" --output "$run.seqsru"
seqsru translate "$run.seqsru" "$test.en" --output "$run/test.int8.de"
python "$here/exact_match.py" "$test.en" "$test.de" "$run/test.int8.de" "$run/exact_match_int8.json"
seqsru latency "$run.seqsru" --first 50 --json "$run/latency_int8.json"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
echo "== try it:  echo 'quarter to nine' | $venv/bin/seqsru translate $run"
