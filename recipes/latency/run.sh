#!/usr/bin/env bash
# Install, and measure how long a token takes with one to ten layers of four cells: a few minutes on a quiet machine.
# Needs Python and pip; a C compiler, a GPU and a trained model are not needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=recipes/latency/runs
. recipes/install.sh plot

echo "== measuring; the table, $out/depth.json and $out/depth.png follow"
OMP_NUM_THREADS=1 python tools/bench_depth.py --out "$out/depth.json" --plot "$out/depth.png" "$@"
