#!/usr/bin/env bash
# Multi30k English-German from the public files to BLEU on both test sets, with translations, attention and latency.
# Needs Python and pip, and the corpus: from the folder SEQSRU_MIRROR names, or downloaded. Can be run again.
#   bash recipes/multi30k/run.sh [key=value …]          # settings that differ from sru.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/multi30k
run=$here/runs/sru
data=$here/data/multi30k
. recipes/install.sh plot "$here/sru.yaml" "$@"

echo "== data: 29,000 captions in $data"
seqsru fetch multi30k "$here/data"

echo "== training: an hour on one core; Ctrl-C saves, and running this again goes on"
seqsru train "$here/sru.yaml" "$@"

echo "== BLEU, cased, on detokenised text; the mean of the best checkpoints' weights"
for year in 2016 2017; do
    name=test_${year}_flickr
    seqsru evaluate "$run" "$data/$name.en" "$data/$name.de" --average 4 --threads 1 \
        --translations "$run/$name.de" --json "$run/$name.json"
done

echo "== attention of the first five captions, drawn to $run/attention"
head -n 5 "$data/test_2016_flickr.en" > "$run/five.en"
seqsru translate "$run" "$run/five.en" --average 4 --threads 1 --output "$run/five.de" --plot "$run/attention"
paste -d '\n' "$run/five.en" "$run/five.de"

echo "== how long one token takes"
seqsru latency "$run" --average 4 --first 50 --json "$run/latency.json" --plot "$run/latency.png"

echo "== one file in int8 with a shortlist (the engine is compiled once, in about a minute): BLEU and latency"
seqsru quantize "$run" --average 4 --output "$run.seqsru"
for year in 2016 2017; do
    name=test_${year}_flickr
    seqsru evaluate "$run.seqsru" "$data/$name.en" "$data/$name.de" --json "$run/$name.int8.json"
done
seqsru latency "$run.seqsru" --first 50 --json "$run/latency_int8.json"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
