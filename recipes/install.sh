# Sourced by the recipes' run.sh and by tests/run.sh, from the repository's root:
#   . recipes/install.sh EXTRAS
# makes the virtual environment .venv (another place: VENV=…) with $PYTHON (python3), installs the package there
# with these extras through constraints.txt, and puts its commands first in PATH. Done before, it does nothing.

extras=$1
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

# The stamp says what was installed from which files; -nt makes a changed setup.cfg or constraints.txt count.
stamp=$venv/installed-$extras
if [ ! -e "$stamp" ] || [ setup.cfg -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    echo "== installing seqsru[$extras] with the versions of constraints.txt"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
    touch "$stamp"
fi
PATH=$(cd "$venv/bin" && pwd):$PATH
export PATH
