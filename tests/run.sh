#!/usr/bin/env bash
# Make a virtual environment, install the package with what the tests need, run flake8, mypy and the tests.
# Can be run again: the environment is kept. Arguments go to pytest: bash tests/run.sh -m "not slow" tests/ops
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. recipes/install.sh dev

if [ -z "${SEQSRU_MIRROR:-}" ]; then
    echo "== SEQSRU_MIRROR is not set: the tests that read real corpora will be skipped"
fi
echo "== flake8"
python -m flake8 seqsru recipes tests tools
echo "== mypy"
python -m mypy seqsru
echo "== pytest"
exec python -m pytest "$@"
