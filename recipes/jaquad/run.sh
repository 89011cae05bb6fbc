#!/usr/bin/env bash
# Readers of four cells on JaQuAD, Japanese by characters, from raw data to one table:
#   bash recipes/jaquad/run.sh [--cells sru lstm …] [--depths 2 4 …] [--set key=value …]   (none named: depth 4)
# Can be run again: what is done is kept, and an interrupted training goes on. Each of them trains 25 minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/jaquad
compare=recipes/squad/compare.py
commit=23f5d72cc273c49b35e2d9efe0f51757aa1770bd
if [ $# -eq 0 ]; then
    set -- --depths 4
fi
. recipes/install.sh plot "$here/sru.yaml"

echo "== data, from SEQSRU_MIRROR or a checkout of commit $commit, to $here/data"
if [ -n "${SEQSRU_MIRROR:-}" ]; then
    python "$here/prepare.py" "$here/data"
else
    if [ ! -e "$here/data/source/.git" ]; then
        git clone https://github.com/SkelterLabsInc/JaQuAD "$here/data/source"
    fi
    git -C "$here/data/source" checkout --quiet "$commit"
    python "$here/prepare.py" "$here/data" "$here/data/source"
fi

echo "== training by $here/sru.yaml, and answering the test questions; Ctrl-C stops, running this again goes on"
python "$compare" train "$here/sru.yaml" "$@"

echo "== milliseconds a batch, the systems by turns on one thread"
python "$compare" time "$here/sru.yaml" "$@"

echo "== the table: exact match and F1 of characters, with their bootstrap intervals"
python "$compare" table "$here/sru.yaml" "$@"

if [ -e "$here/runs/sru-4/test.json" ]; then
    echo "== comparing with what is expected"
    python recipes/check.py "$here/expected.json" "$here/runs/sru-4"
fi
