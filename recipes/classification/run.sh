#!/usr/bin/env bash
# Nine classifiers on six sets, from raw data to one table:
#   bash recipes/classification/run.sh [SET …]       (CR, SST-1, SUBJ, MR, TREC, SST-2; none named: all)
# Can be run again: what is done is kept, and an interrupted comparison goes on. PROCESSES=N trainings side by side
# (default 2), each with one thread.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/classification
run=$here/runs/comparison
. recipes/install.sh plot "$here/base.yaml"

echo "== data, from SEQSRU_MIRROR or downloaded, to $here/data"
seqsru fetch classification "$here/data"

echo "== training by $here/base.yaml; Ctrl-C stops, and running this again goes on"
python "$here/compare.py" train "$run" --processes "${PROCESSES:-2}" ${1:+--sets "$@"}

echo "== milliseconds a batch, the systems by turns on one thread"
python "$here/compare.py" time "$run" --sets MR --batches 200

echo "== the table: accuracy ± standard deviation over folds or seeds"
python "$here/compare.py" table "$run"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
