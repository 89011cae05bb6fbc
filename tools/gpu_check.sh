#!/usr/bin/env bash
# Check and measure seqsru on a GPU, in one call of ten minutes: bash tools/gpu_check.sh OUT [options of gpu_check.py]
# Needs torch, numba-cuda, pytest and this checkout; installs and downloads nothing. PYTHON names the interpreter.
# OUT gets log.txt (all that was printed, by every section), gpu_check.json, gpu_check.txt and table.md.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ $# -eq 0 ] || [[ $1 == -* ]]; then exec "${PYTHON:-python3}" "$here/gpu_check.py" "$@"; fi
export PYTHONUNBUFFERED=1 PYTHONPATH="$(dirname "$here")${PYTHONPATH:+:$PYTHONPATH}"
if [ -z "${CUDA_HOME:-}" ] && nvcc=$(command -v nvcc); then
    CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
    export CUDA_HOME
fi
mkdir -p "$1"
{
    echo "CUDA toolkit: ${CUDA_HOME:-none, those of Python packages}"
    "${PYTHON:-python3}" -m seqsru doctor || echo "doctor: exit status $?"
    "${PYTHON:-python3}" "$here/gpu_check.py" "$@"
} 2>&1 | tee "$1/log.txt"
