#!/usr/bin/env bash
# Translation of everyday sentences (Tatoeba, German into English) and of descriptions of software (Debian, English into
# German), from pairs of sentences to BLEU and chrF, in float32 and as one file in int8:
#   bash recipes/sentences/run.sh [tatoeba | debian]        # one of the two alone
# Can be run again: what is done is kept, and an interrupted training goes on. Each trains for 40 minutes on one core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/sentences
names=("$@")
if [ $# = 0 ]; then names=(tatoeba debian); fi
for name in "${names[@]}"; do
    if [ ! -e "$here/$name.yaml" ]; then
        echo "expected tatoeba or debian, found '$name'; name one of these" >&2
        exit 2
    fi
done
. recipes/install.sh plot "$here/tatoeba.yaml"

for name in "${names[@]}"; do
    run=$here/runs/$name
    echo "== $name: data, from SEQSRU_MIRROR or downloaded, to $here/data"
    python "$here/prepare.py" "$name" "$here/data"

    echo "== $name: training, 40 minutes on one core; Ctrl-C saves, and running this again goes on"
    seqsru train "$here/$name.yaml"

    echo "== $name: BLEU and chrF of the test sentences by the best checkpoint, and in int8"
    seqsru evaluate "$run" --threads 1 --translations "$run/translations" --json "$run/test.json"
    seqsru quantize "$run" --output "$run.seqsru"
    seqsru evaluate "$run.seqsru" --threads 1 --json "$run/int8.json"
    seqsru latency "$run.seqsru" --first 50 --json "$run/latency_int8.json"

    echo "== $name: comparing with what is expected"
    python recipes/check.py "$here/expected.json" "$run"
done
