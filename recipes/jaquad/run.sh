#!/usr/bin/env bash
# Readers of four cells on JaQuAD, Japanese by characters, from raw data to one table:
#   bash recipes/jaquad/run.sh
# Can be run again: what is done is kept, and an interrupted training goes on. Each of the four trains for 25
# minutes of one processor. Other cells, depths and settings: compare.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/jaquad
commit=23f5d72cc273c49b35e2d9efe0f51757aa1770bd
if [ $# != 0 ]; then
    echo "expected no arguments, found '$*'; cells, depths and settings are in $here/compare.yaml" >&2
    exit 2
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

echo "== training, the test questions, the table; Ctrl-C stops, running this again goes on"
seqsru compare "$here/compare.yaml"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$here/runs/compare"
