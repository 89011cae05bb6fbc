# Sourced by the recipes' run.sh and by tests/run.sh, from the repository's root:
#   . recipes/install.sh EXTRAS [CONFIG [key=value …]]
# makes the virtual environment .venv (another place: VENV=…) with $PYTHON (python3), installs the package there
# with these extras through constraints.txt, and puts its commands first in PATH. Done before, it does nothing.
# Where a training by CONFIG would run on a GPU, the extra that this needs is installed too; and where its device
# is not there or does not work, that ends here, before any data is touched.

venv=${VENV:-.venv}
python=${PYTHON:-python3}

if [ ! -x "$venv/bin/pip" ]; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "expected Python 3.10 or newer, found $("$python" --version 2>&1); name another with PYTHON=…" >&2
        exit 2
    fi
    echo "== making the virtual environment $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi

install_extras() {
    # The stamp says what was installed from which files; -nt makes a changed setup.cfg or constraints.txt count.
    local stamp=$venv/installed-$1 constraints=constraints.txt
    if [ -e "$stamp" ] && [ ! setup.cfg -nt "$stamp" ] && [ ! constraints.txt -nt "$stamp" ]; then return; fi
    echo "== installing seqsru[$1] with the versions of constraints.txt"
    if [[ $1 == *cu12* ]]; then # the constraints pin the libraries of CUDA 13
        constraints=$venv/constraints-cu12.txt
        grep -v -E '^(cuda|nvidia)-' constraints.txt > "$constraints"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -e ".[$1]"
    touch "$stamp"
}

install_extras "$1"
if [ $# -gt 1 ]; then
    missing=$("$venv/bin/python" recipes/backend.py "${@:2}") || {
        if [ -z "$missing" ]; then exit 2; fi
        install_extras "$1,$missing"
        "$venv/bin/python" recipes/backend.py "${@:2}" > /dev/null || exit 2
    }
fi
PATH=$(cd "$venv/bin" && pwd):$PATH
export PATH
