#!/usr/bin/env bash
# The copy task, from its text to how much is remembered over which gap:
#   bash recipes/copying/run.sh [key=value …]
# A minute on one core. Can be run again: what is done is kept, and an interrupted training goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/copying
run=$here/runs/sru
. recipes/install.sh plot "$here/sru.yaml" "$@"

echo "== making the text, in $here/data"
seqsru fetch copying "$here/data"

echo "== training by $here/sru.yaml; Ctrl-C saves, and running this again goes on"
seqsru train "$here/sru.yaml" "$@"

echo "== what is recalled after gaps of 0 to 128 steps"
python "$here/recall.py" "$run" --json "$run/recall.json" --plot "$run/recall.png"

echo "== what the layer keeps of its state"
python recipes/compare/state.py "$run" --json "$run/state.json" --plot "$run/state.png"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
