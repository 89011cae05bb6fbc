"""pip resolves what set-up asks for, where torch is the CPU build, the CUDA build, and one of CUDA 12.

The resolver is pip's own. The index that it asks is a folder of wheels that hold nothing but their metadata,
which is what real indexes say of these packages (`fixtures/packages.txt`). With SEQSRU_INDEX=1 the real ones
are asked as well: the one that pip is configured for, and PyPI alone.
"""

import json
import os
import subprocess
import sys
import zipfile

import pytest
from test_packaging import PINS, ROOT, SETUP, SETUP_EXTRAS, listed

import seqsru

RECORDS = ROOT / "tests" / "fixtures" / "packages.txt"
NVIDIA = ("nvidia-cuda-nvrtc", "nvidia-nvjitlink", "nvidia-nvvm")


def records():
    """(name, version) -> requirements, of every package that the index has."""
    found, here = {}, ()
    for line in RECORDS.read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            found[here].append(line.strip())
        elif not line.startswith("#"):
            here = tuple(line.split())
            found[here] = []
    known = {name for name, _ in found}
    found |= {(name, str(version)): [] for name, version in PINS.items() if name not in known}
    extras = {extra: listed(extra, SETUP_EXTRAS) for extra in SETUP[SETUP_EXTRAS]}
    found["seqsru", seqsru.__version__] = [
        *map(str, listed("install_requires")),
        *(f'{requirement}; extra == "{extra}"' for extra, some in extras.items() for requirement in some),
    ]
    return found


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder of empty wheels, and a function that adds one."""
    folder = tmp_path_factory.mktemp("index")
    for (name, version), requirements in records().items():
        extras = {line.split('extra == "')[1].strip('"') for line in requirements if "extra ==" in line}
        about = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        about += [f"Provides-Extra: {extra}" for extra in sorted(extras)]
        about += [f"Requires-Dist: {requirement}" for requirement in requirements]
        stem = f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(about) + "\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return folder


def resolve(*asked, index=None, configured=False):
    """Versions by name that pip would install, or what it says where there is no solution."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {} if configured else {"PIP_CONFIG_FILE": os.devnull}
    source = ["--no-index", "--find-links", str(index)] if index else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--disable-pip-version-check", "--report", "-", *source, *asked]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode:
        return run.stderr
    report = json.loads(run.stdout[run.stdout.index("{") :])
    packages = [package["metadata"] for package in report["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def constrained(folder, text=None):
    """`-c` and a file of constraints: the one of the checkout unless a text is given."""
    path = ROOT / "constraints.txt"
    if text is not None:
        path = folder / "constraints.txt"
        path.write_text(text, encoding="utf-8")
    return ["-c", str(path)]


@pytest.mark.parametrize("torch", ["2.13.0", "2.13.0+cpu"])
def test_the_constraints_hold_for_both_builds_of_torch(index, tmp_path, torch):
    found = resolve("seqsru[dev]", f"torch==={torch}", *constrained(tmp_path), index=index)
    assert isinstance(found, dict), found
    assert found["torch"] == torch and found["numba-cuda"] == str(PINS["numba-cuda"])
    for package in NVIDIA:  # the compilers of the CUDA that torch has, whichever build of torch it is
        assert found[package] == "13.0.88"
    assert "nvidia-cuda-runtime" in found and "pytest" in found


@pytest.mark.parametrize("package", ["nvidia-cuda-nvrtc", "nvidia-nvjitlink"])
def test_a_newer_compiler_would_leave_no_solution_or_another_toolkit(index, tmp_path, package):
    """What the test above is for: the recorded index has these, and the resolver sees the conflict."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    changed = text.replace(f"{package}==13.0.88", f"{package}==13.5.37")
    assert changed != text
    found = resolve("seqsru[cuda]", "torch===2.13.0", *constrained(tmp_path, changed), index=index)
    if package == "nvidia-nvjitlink":  # whose range torch leaves open
        assert found[package] == "13.5.37"
    else:
        assert "conflicting dependencies" in found


def test_cuda_12_resolves_without_the_pins_of_cuda_13(index, tmp_path):
    """What `recipes/install.sh` leaves of the constraints; torch 2.10.0 is a build of CUDA 12."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith(("cuda-", "nvidia-", "torch="))]
    constraints = constrained(tmp_path, "\n".join(kept))
    found = resolve("seqsru[cu12,plot]", "torch==2.10.0", *constraints, index=index)
    assert isinstance(found, dict), found
    assert found["cuda-bindings"] == "12.9.4" and found["nvidia-cuda-nvcc-cu12"] == "12.8.93"
    assert not {"nvidia-nvvm", "nvidia-cuda-nvrtc"} & set(found)
    both = resolve("seqsru[cu12,cuda]", "torch==2.10.0", *constraints, index=index)
    assert "conflicting dependencies" in both


@pytest.mark.slow
@pytest.mark.skipif("SEQSRU_INDEX" not in os.environ, reason="SEQSRU_INDEX is not set: no index is asked")
@pytest.mark.parametrize("configured", [True, False])
def test_the_constraints_hold_on_a_real_index(configured, tmp_path):
    asked = ["torch", *map(str, listed("dev", SETUP_EXTRAS)), *constrained(tmp_path)]
    found = resolve(*asked, configured=configured)
    assert isinstance(found, dict), found
    assert found["torch"].partition("+")[0] == "2.13.0"
    assert [found[package] for package in NVIDIA] == ["13.0.88"] * 3
