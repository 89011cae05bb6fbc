#!/usr/bin/env bash
# WMT'14 English-German from the public archives to BLEU on newstest2014. Can be run again: what is done is kept.
#   bash recipes/wmt14/run.sh [key=value …]            # the whole: a GPU, days, 40 GB of disk
#   bash recipes/wmt14/run.sh --sample [key=value …]   # every step on 10,000 pairs and a CPU, in minutes
# The archives are downloaded and checked, or copied from the folder SEQSRU_MIRROR names; the sample is only there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/wmt14
data=$here/data
if [ "${1:-}" = --sample ]; then
    shift
    run=$here/runs/sample config=$here/sample.yaml prepared=$data/prepared-sample mean=2
    raw=${SEQSRU_MIRROR:?--sample reads the folder wmt-10k of the mirror: set SEQSRU_MIRROR to the mirror}/wmt-10k
    sample=--sample
else
    run=$here/runs/sru config=$here/sru.yaml prepared=$data/prepared mean=5
    raw=$data/wmt14-en-de
    sample=
fi
. recipes/install.sh plot "$config" "$@"

# name, and sacrebleu's name of the set
test_set() {
    for side in en:src de:ref; do
        local file=$data/$1.${side%:*}
        if [ -s "$file" ]; then continue; fi
        mkdir -p "$data"
        if [ -n "${SEQSRU_MIRROR:-}" ]; then
            cp "$SEQSRU_MIRROR/wmt/$1.${side%:*}" "$file.part"
        else
            sacrebleu -t "$2" -l en-de --echo "${side#*:}" > "$file.part"
        fi
        mv "$file.part" "$file"
    done
}

echo "== data: newstest2013 to validate, newstest2014 to test, training pairs"
test_set newstest2013 wmt13
test_set newstest2014 wmt14/full
if [ -z "$sample" ]; then seqsru fetch wmt14-en-de "$data"; fi

echo "== filtering pairs into $prepared"
if [ ! -s "$prepared/report.json" ]; then python "$here/prepare.py" $sample "$raw" "$prepared"; fi

echo "== training; Ctrl-C saves, and running this again goes on"
seqsru train "$config" "$@"

echo "== decoding newstest2014 with the mean of the best checkpoints, and BLEU, cased, on detokenised text"
seqsru evaluate "$run" "$data/newstest2014.en" "$data/newstest2014.de" --average "$mean" \
    --translations "$run/newstest2014.de" --json "$run/newstest2014.json"

echo "== how long one token takes"
seqsru latency "$run" --average "$mean" --first 30 --json "$run/latency.json" --plot "$run/latency.png"

echo "== comparing with what is expected"
python recipes/check.py "$here/expected.json" "$run"
