#!/usr/bin/env bash
# SRU and LSTM on texts by characters, from raw data to bits a character:
#   bash recipes/characters/run.sh [shakespeare | penn]     # one of the two alone
# Can be run again: what is done is kept, and an interrupted training goes on. Each of the two trainings of a text takes
# ten minutes of one processor, or 15 with Penn Treebank. Other cells and settings: compare-shakespeare.yaml, compare-penn.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/characters
texts=("$@")
if [ $# = 0 ]; then texts=(shakespeare penn); fi
for text in "${texts[@]}"; do
    if [ ! -e "$here/compare-$text.yaml" ]; then
        echo "expected shakespeare or penn, found '$text'; name one of these" >&2
        exit 2
    fi
done
. recipes/install.sh plot "$here/shakespeare.yaml"

echo "== data, from SEQSRU_MIRROR or downloaded, to $here/data"
python "$here/prepare.py" "$here/data"

for text in "${texts[@]}"; do
    echo "== $text: training, the test text, the table; Ctrl-C stops, running this again goes on"
    seqsru compare "$here/compare-$text.yaml"
    echo "== comparing with what is expected"
    python recipes/check.py "$here/expected.json" "$here/runs/compare-$text"
done
