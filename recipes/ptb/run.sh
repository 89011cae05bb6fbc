#!/usr/bin/env bash
# Penn Treebank from raw data to perplexity:
#   bash recipes/ptb/run.sh [sru.yaml | lstm.yaml | paper-6x910.yaml] [key=value …]
# Can be run again: what is done is kept, and an interrupted training goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/ptb
config=${1:-sru.yaml}
name=${config%.yaml}
run=$here/runs/$name
if [ ! -e "$here/$config" ]; then
    echo "expected a config in $here (sru.yaml, lstm.yaml, paper-6x910.yaml), found '$config'; name one of these" >&2
    exit 2
fi
. recipes/install.sh plot "$here/$config" "${@:2}"

echo "== data, from SEQSRU_MIRROR or downloaded, to $here/data"
seqsru fetch ptb "$here/data"

echo "== training by $here/$config; Ctrl-C saves, and running this again goes on"
seqsru train "$here/$config" "${@:2}"

for split in validation test; do
    echo "== perplexity of the $split text, one stream, state carried"
    seqsru evaluate "$run" --split $split --state carried --threads 1 --json "$run/$split.json"
done
echo "== perplexity of the test text while the model learns from it, rates and temperature tuned on the validation text"
seqsru evaluate "$run" --split test --state carried --dynamic rms --temperature tune --threads 1 --json "$run/dynamic.json"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
