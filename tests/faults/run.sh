#!/usr/bin/env bash
# The long part of the faults: everything that is tried by force, and a table of what held. An argument below 1 tries so
# much of it:  bash tests/faults/run.sh 0.1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. recipes/install.sh dev
export OMP_NUM_THREADS=1 PYTHONPATH="$PWD:$PWD/tests:$PWD/tests/training:$PWD/tests/faults${PYTHONPATH:+:$PYTHONPATH}"
exec python tests/faults/long.py "$@"
