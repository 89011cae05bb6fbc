"""Pages of 2 MiB, which torch is asked to ask for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import seqsru
from seqsru.commands import pages

ROOT = Path(seqsru.__file__).parent.parent
HUGE = "THP_MEM_ALLOC_ENABLE"


@pytest.mark.parametrize(
    "given, set_before, expected",
    [
        ("always [madvise] never\n", None, "1"),
        ("[always] madvise never\n", None, "1"),
        ("always madvise [never]\n", None, None),
        ("always [madvise] never\n", "0", "0"),
        (None, None, None),
        ("\xff", None, None),
    ],
)
def test_huge_pages_are_asked_for_where_there_are_any(given, set_before, expected, monkeypatch, tmp_path):
    if given is not None:
        (tmp_path / "enabled").write_text(given, encoding="latin-1")
    monkeypatch.setattr(pages, "HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setenv(HUGE, "of before")  # which comes back at the end
    monkeypatch.delenv(HUGE)
    if set_before is not None:
        monkeypatch.setenv(HUGE, set_before)
    pages.ask_for_huge_pages()
    assert os.environ.get(HUGE) == set_before  # too late: torch is there
    monkeypatch.delitem(sys.modules, "torch")
    pages.ask_for_huge_pages()
    assert os.environ.get(HUGE) == expected


def test_a_training_asks_for_them_before_torch_comes(tmp_path):
    (tmp_path / "enabled").write_text("[madvise]")
    program = (
        "import os, pathlib, sys\n"
        "from seqsru.commands import pages\n"
        "from seqsru.commands.main import main\n"
        "pages.HUGE_PAGES = pathlib.Path(sys.argv[1])\n"
        "main(['train', '--check', sys.argv[2]])\n"
        "print(os.environ.get('THP_MEM_ALLOC_ENABLE'))\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "enabled", ROOT / "recipes/ptb/sru.yaml"]
    environment = {name: value for name, value in os.environ.items() if name != HUGE}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1"
