#!/usr/bin/env bash
# Make a virtual environment, install the package with what the tests need, check format, lint and types, run the tests,
# from Python 3.12 on with their coverage. Can be run again: the environment is kept. Arguments go to pytest:
#   bash tests/run.sh -m "not slow" tests/ops
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. recipes/install.sh dev

if [ -z "${SEQSRU_MIRROR:-}" ]; then
    echo "== SEQSRU_MIRROR is not set: the tests that read real corpora will be skipped"
fi
echo "== format and lint"
python -m ruff format --check seqsru recipes tests tools
python -m ruff check seqsru recipes tests tools
echo "== types"
python -m mypy
echo "== tests"
# A process a core, each with whole files, which share what they trained and compiled. Lines are counted where Python does
# that without tracing every call (3.12): elsewhere it would take as long again as the tests.
coverage=()
if python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    export COVERAGE_CORE=sysmon
    coverage=(--cov)
fi
exec python -m pytest -n "${TEST_PROCESSES:-auto}" --dist loadfile ${coverage[@]+"${coverage[@]}"} "$@"
