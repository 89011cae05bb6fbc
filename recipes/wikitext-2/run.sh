#!/usr/bin/env bash
# SRU and LSTM on WikiText-2, from raw data to one table, and the perplexity of models that adapt to the text they read:
#   bash recipes/wikitext-2/run.sh
# Can be run again: what is done is kept, and an interrupted training goes on. Each of the two trains for 40 minutes of
# one processor. Other cells and settings: compare.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/wikitext-2
if [ $# != 0 ]; then
    echo "expected no arguments, found '$*'; cells and settings are in $here/compare.yaml" >&2
    exit 2
fi
. recipes/install.sh plot "$here/sru.yaml"

echo "== data, from SEQSRU_MIRROR or downloaded, to $here/data"
seqsru fetch wikitext-2 "$here/data"

echo "== training, the test text, the table; Ctrl-C stops, running this again goes on"
seqsru compare "$here/compare.yaml"

for name in SRU LSTM; do
    run=$here/runs/compare/runs/$name-1
    echo "== $name with a cache of the words it has read, then with weights that learn from them too"
    if [ ! -e "$run/cache.json" ]; then
        seqsru evaluate "$run" --cache tune --temperature tune --threads 1 --json "$run/cache.json"
    fi
    if [ ! -e "$run/dynamic.json" ]; then
        seqsru evaluate "$run" --dynamic rms --cache tune --temperature tune --threads 1 --json "$run/dynamic.json"
    fi
done

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$here/runs/compare"
