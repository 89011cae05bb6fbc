#!/usr/bin/env bash
# Readers of four cells and three depths on SQuAD 1.1, from raw data to a table for each depth:
#   bash recipes/squad/run.sh [--depths 2 4 …]    (none named: 2, 4 and 6)
# Can be run again: what is done is kept, and an interrupted training goes on. Each of the twelve trains for 25
# minutes of one processor. Other cells and settings: depth-2.yaml, depth-4.yaml and depth-6.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/squad
depths=("${@:2}")
if [ $# = 0 ]; then depths=(2 4 6); fi
if [ "${1:---depths}" != --depths ] || [ ${#depths[@]} = 0 ]; then
    echo "expected --depths 2 4 6, or some of these, found '$*'; other cells and settings go into $here/depth-N.yaml" >&2
    exit 2
fi
for depth in "${depths[@]}"; do
    if [ ! -f "$here/depth-$depth.yaml" ]; then
        echo "expected the depths 2, 4 or 6, found '$depth'; name one of these, or write $here/depth-$depth.yaml" >&2
        exit 2
    fi
done
. recipes/install.sh plot "$here/sru.yaml"

echo "== data, from SEQSRU_MIRROR or downloaded, to $here/data"
python "$here/prepare.py" "$here/data"

for depth in "${depths[@]}"; do
    echo "== depth $depth: training, the test questions, the table; Ctrl-C stops, running this again goes on"
    seqsru compare "$here/depth-$depth.yaml"
    case $depth in
    2 | 4 | 6)
        echo "== comparing with what is expected"
        python recipes/check.py "$here/expected.json" "$here/runs/depth-$depth"
        ;;
    esac
done
