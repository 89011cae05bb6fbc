#!/usr/bin/env bash
# Multi30k English-German: one model, or two together, teach one of half the size (Kim and Rush 2016), which becomes one file
# in int8; what that costs in BLEU, with its probability. Can be run again, and goes on where it stopped.
#   bash recipes/multi30k/distill.sh [1 | 2]            # teachers; one if not said
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/multi30k
data=$here/data/multi30k
student=$here/runs/student
case ${1:-1} in
    1) teachers=(long) ;;
    2) teachers=(long long-2) ;;
    *)
        echo "expected 1 or 2 teachers, found '$1'; give one of the two" >&2
        exit 2
        ;;
esac
. recipes/install.sh plot "$here/long.yaml"

echo "== data: 29,000 captions in $data"
seqsru fetch multi30k "$here/data"

echo "== teaching: ${teachers[*]}, an hour or two each on one core"
seqsru train "$here/long.yaml"
teacher=("$here/runs/long" --average 10)
search=(--engine compiled)
if [ ${#teachers[@]} = 2 ]; then
    seqsru train "$here/long.yaml" seed=2 output="$here/runs/long-2"
    teacher+=(--ensemble "$here/runs/long-2")
    search=() # the compiled engine runs one model
fi

echo "== what they make of the captions: of ten translations the closest to each caption's own"
if [ ! -e "$here/data/distilled.de" ]; then
    seqsru distill "${teacher[@]}" ${search[@]+"${search[@]}"} "$data/train.en" "$data/train.de" --beam 10 --alpha 1.0 --threads 1 \
        --output "$here/data/distilled.de"
fi

echo "== the student, on both"
seqsru train "$here/student.yaml"
seqsru quantize "$student" --average 10 --output "$student.seqsru"

echo "== BLEU: who taught, two also each alone, the student in float32, and in int8 against the teachers"
for split in test_2016_flickr test_2017_flickr; do
    text=("$data/$split.en" "$data/$split.de" --lowercase)
    seqsru evaluate "${teacher[@]}" "${text[@]}" --threads 1 --translations "$student/$split.teacher.de" \
        --json "$student/$split.teacher.json"
    if [ ${#teachers[@]} = 2 ]; then
        for one in "${teachers[@]}"; do
            seqsru evaluate "$here/runs/$one" "${text[@]}" --average 10 --threads 1 --json "$student/$split.$one.json"
        done
    fi
    seqsru evaluate "$student" "${text[@]}" --average 10 --threads 1 --json "$student/$split.json" \
        --baseline "$student/$split.teacher.de"
    seqsru evaluate "$student.seqsru" "${text[@]}" --json "$student/$split.int8.json" \
        --baseline "$student/$split.teacher.de"
done
seqsru latency "$student.seqsru" --first 50 --json "$student/latency_int8.json"
python recipes/check.py "$here/expected.json" "$student"
