#!/usr/bin/env bash
# Check and measure seqsru on a GPU: bash tools/gpu_check.sh OUT [options of tools/gpu_check.py]
# Needs torch, numba-cuda, pytest and this checkout; installs and downloads nothing. PYTHON names the interpreter.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$here/gpu_check.py" "$@"
