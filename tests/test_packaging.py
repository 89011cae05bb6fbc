"""Pins that can be met, extras that bring what they promise, a wheel that says what it is."""

import configparser
import email
import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import seqsru

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP_EXTRAS = "options.extras_require"
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def pinned():
    """Version of each package that constraints.txt pins, on this Python or any other."""
    versions = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            assert requirement.marker is None or str(requirement.marker) == 'python_version >= "3.11"', line
            assert canonicalize_name(requirement.name) not in versions, line
            versions[canonicalize_name(requirement.name)] = Version(pin.version)
    return versions


PINS = pinned()


def unmet(requirements):
    """Those of some requirements that the pins make impossible."""
    return [
        str(requirement)
        for requirement in requirements
        if (pin := PINS.get(canonicalize_name(requirement.name)))
        and not requirement.specifier.contains(pin, prereleases=True)
    ]


def listed(option, section="options"):
    """Requirements of one option of setup.cfg."""
    return [Requirement(line) for line in SETUP[section][option].splitlines() if line and line[0] != "#"]


@pytest.mark.parametrize("package", sorted(PINS))
def test_pins_meet_what_the_installed_packages_ask_for(package):
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if Version(Version(found.version).public) != PINS[package]:
        pytest.skip(f"{package} {found.version} is installed, not the version pinned")
    asked = [Requirement(text) for text in found.requires or []]
    assert unmet(r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})) == []


def test_every_dependency_is_pinned_within_its_range():
    extras = [name for option in SETUP[SETUP_EXTRAS] for name in listed(option, SETUP_EXTRAS)]
    asked = listed("install_requires") + extras
    assert unmet(asked) == []
    assert {canonicalize_name(requirement.name) for requirement in asked} <= set(PINS)


def test_dev_brings_what_the_test_command_runs():
    dev = {requirement.name: requirement for requirement in listed("dev", SETUP_EXTRAS)}
    # The extra is what brings the compilers, and the libcudart that importing numba.cuda needs.
    assert dev["numba-cuda"].extras == {"cu13"} == listed("cuda", SETUP_EXTRAS)[0].extras
    assert listed("cu12", SETUP_EXTRAS)[0].extras == {"cu12"}
    assert {"pytest", "pytest-cov", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML"} <= set(dev)
    assert {str(requirement) for requirement in listed("plot", SETUP_EXTRAS)} <= set(map(str, dev.values()))


@pytest.mark.parametrize("extra", ["ja", "ko"])
def test_what_sacrebleus_tokenizers_need_comes_with_the_extras(extra):
    asked = [Requirement(text) for text in importlib.metadata.requires("sacrebleu")]
    asked = [
        requirement
        for requirement in asked
        if requirement.marker and requirement.marker.evaluate({"extra": extra})
    ]
    ours = {requirement.name for requirement in listed(extra, SETUP_EXTRAS)}
    assert {requirement.name for requirement in asked} == ours and unmet(asked) == []
    assert ours <= {requirement.name for requirement in listed("dev", SETUP_EXTRAS)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built with the setuptools that is there."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    copytree(ROOT / "seqsru", folder / "seqsru", ignore=ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, folder)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    run = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "eprecat" not in run.stderr, run.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_is_the_package_and_nothing_else(wheel):
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "seqsru").rglob("*.py")}
    assert files == package | {"seqsru/py.typed"}


def test_the_wheel_says_what_it_is(wheel):
    folder = f"seqsru-{seqsru.__version__}.dist-info"
    about = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert (about["Name"], about["Version"]) == ("seqsru", seqsru.__version__)
    assert "classification" in about["Summary"] and about["Requires-Python"] == ">=3.10"
    assert about["License-Expression"] == "MIT" and about["License-File"] == "LICENSE"
    assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert about["Home-page"] is None and about["Project-URL"] is None  # there is none yet
    classifiers = about.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert not any(classifier.startswith("License ::") for classifier in classifiers)
    assert "seqsru = seqsru." in wheel.read(f"{folder}/entry_points.txt").decode()
