#!/usr/bin/env bash
# The comparisons that answer four criticisms of SRU, from raw data to their tables and plots:
#   bash recipes/compare/run.sh [ptb | depth | multi30k | copy | search | optimizers | sgd | additions | layers …]   (none named: copy and layers)
# README.md says how long each takes. Can be run again: what is done is kept, and an interrupted comparison goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=recipes/compare
. recipes/install.sh plot
if [ $# = 0 ]; then set -- copy layers; fi

for name in "$@"; do
    out=$here/runs/$name
    mkdir -p "$out"
    echo "== $name"
    case $name in
        layers)
            python tools/bench_parts.py --threads 1 --out "$out/parts.json" --plot "$out/parts.png"
            continue
            ;;
        copy) seqsru fetch copying recipes/copying/data ;;
        multi30k) seqsru fetch multi30k recipes/multi30k/data ;;
        ptb | depth | search | optimizers | sgd | additions) seqsru fetch ptb recipes/ptb/data ;;
        *)
            echo "expected ptb, depth, multi30k, copy, search, optimizers, sgd, additions or layers, found '$name'; name one of these" >&2
            exit 2
            ;;
    esac
    seqsru compare "$here/$name.yaml"
    if [ "$name" = copy ]; then
        python recipes/copying/recall.py "$out"/runs/*/ --json "$out/recall.json" --plot "$out/recall.png"
        python "$here/state.py" "$out"/runs/*-1/ --checkpoint last --json "$out/state.json" --plot "$out/state.png"
    elif [ "$name" = ptb ]; then # a convolution has no state
        for run in "$out"/runs/*-1/; do
            case $run in */conv-1/) continue ;; esac
            python "$here/state.py" "$run" --json "${run}state.json" --plot "${run}state.png"
        done
    fi
done
