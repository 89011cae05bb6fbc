#!/usr/bin/env bash
# Multi30k English-German, trained longer than run.sh does, to BLEU on both test sets, cased and in lower case; twice:
# on the captions as they are (long.yaml), and on captions in lower case (lower.yaml). Can be run again.
#   bash recipes/multi30k/long.sh [long | lower | again …]   # some of them alone
# again is long.yaml's model taught by itself (again.yaml), after distill.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/multi30k
names=("$@")
if [ $# = 0 ]; then names=(long lower); fi
for name in "${names[@]}"; do
    case $name in
        long | lower) ;;
        again)
            if [ ! -e "$here/data/distilled.de" ]; then
                echo "expected $here/data/distilled.de, found no such file; bash $here/distill.sh makes it" >&2
                exit 2
            fi
            ;;
        *)
            echo "expected long, lower or again, found '$name'; name one of these" >&2
            exit 2
            ;;
    esac
done

. recipes/install.sh plot "$here/long.yaml"

echo "== data: 29,000 captions in $here/data/multi30k, and in lower case beside them"
seqsru fetch multi30k "$here/data"
python "$here/lower.py" "$here/data/multi30k" "$here/data/lower"

for name in "${names[@]}"; do
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
