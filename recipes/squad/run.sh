#!/usr/bin/env bash
# Readers of four cells and three depths on SQuAD 1.1, from raw data to one table:
#   bash recipes/squad/run.sh [--cells sru lstm …] [--depths 2 4 …] [--set key=value …]    (none named: all twelve)
# Can be run again: what is done is kept, and an interrupted training goes on. Each of the twelve trains 25 minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/squad
. recipes/install.sh plot "$here/sru.yaml"

echo "== data, from SEQSRU_MIRROR or downloaded, to $here/data"
python "$here/prepare.py" "$here/data"

echo "== training by $here/sru.yaml, and answering the test questions; Ctrl-C stops, running this again goes on"
python "$here/compare.py" train "$here/sru.yaml" "$@"

echo "== milliseconds a batch, the systems by turns on one thread"
python "$here/compare.py" time "$here/sru.yaml" "$@"

echo "== the table: exact match and F1 with their bootstrap intervals"
python "$here/compare.py" table "$here/sru.yaml" "$@"

if [ -e "$here/runs/sru-4/test.json" ]; then
    echo "== comparing with what is expected"
    python recipes/check.py "$here/expected.json" "$here/runs/sru-4"
fi
