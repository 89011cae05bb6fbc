#!/usr/bin/env bash
# Multi30k English-German, trained longer than run.sh does, to BLEU on both test sets, cased and in lower case; twice:
# on the captions as they are (long.yaml), and on captions in lower case (lower.yaml). Can be run again.
#   bash recipes/multi30k/long.sh [long | lower]        # one of the two alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/multi30k
. recipes/install.sh plot "$here/long.yaml"

echo "== data: 29,000 captions in $here/data/multi30k, and in lower case beside them"
seqsru fetch multi30k "$here/data"
python "$here/lower.py" "$here/data/multi30k" "$here/data/lower"

for name in ${1:-long lower}; do
    data=$here/data/multi30k
    if [ "$name" = lower ]; then data=$here/data/lower; fi
    run=$here/runs/$name
    echo "== training $name.yaml: an hour or two on one core; Ctrl-C saves, and running this again goes on"
    seqsru train "$here/$name.yaml"
    for split in test_2016_flickr test_2017_flickr; do
        seqsru evaluate "$run" "$data/$split.en" "$data/$split.de" --average 10 --threads 1 --lowercase \
            --translations "$run/$split.de" --json "$run/$split.json"
    done
    python recipes/check.py "$here/expected.json" "$run"
done
