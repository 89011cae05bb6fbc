"""The kernels' cache: whatever is in its folder, results are the same, and what is wrong is said once."""

import os
import subprocess
import sys

import pytest
import torch

from seqsru.errors import Refused
from seqsru.ops import backends, cpu_build, cpu_cache, cpu_kernels
from seqsru.ops.calls import LinearForward, packed

DO = "kernels are compiled anew in each process, a second each, until XDG_CACHE_HOME names such a folder"
FOLDER = "expected a folder for compiled kernels that nobody else can write to, found "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for the cache, and a process that has said nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu_cache, "_told", set())
    return cpu_cache.cache_folder()


def compiled(dtype="float32"):
    """Compile or read a kernel as a new process does, and check what it computes."""
    call, address = cpu_build.kernel.__wrapped__(cpu_kernels.linear_forward, dtype)
    kind = getattr(torch, dtype)
    a, b = torch.full((1, 1, 2), 0.5, dtype=kind), torch.ones(1, 1, 2, dtype=kind)
    c0 = torch.tensor([[2.0, 4.0]], dtype=kind)
    out, c_last = torch.zeros_like(a), torch.zeros_like(c0)
    given = LinearForward(*[0] * len(LinearForward._fields))._replace(T=1, B=1, D=2)
    places = given._replace(b=b.data_ptr(), out=out.data_ptr(), c_last=c_last.data_ptr())
    count = LinearForward._fields.index("T")
    arguments = packed(LinearForward, places[:count], places[count:])
    call(0, 1, arguments.buffer_info()[0], a.data_ptr(), c0.data_ptr())
    assert address != 0 and out.tolist() == [[[2.0, 3.0]]] and c_last.tolist() == [[2.0, 3.0]]
    return cpu_build._compiled[-1].cache_hits


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


DAMAGE = {
    "empty": lambda content, other: b"",
    "cut short": lambda content, other: content[: len(content) // 2],
    "longer": lambda content, other: content + b"x",
    "a bit of the code": lambda content, other: flipped(content, len(content) // 2),
    "a bit of the last byte": lambda content, other: flipped(content, len(content) - 1),
    "a bit of the head": lambda content, other: flipped(content, 3),
    "a bit of the fingerprint": lambda content, other: flipped(content, 20),
    "a bit of the sum": lambda content, other: flipped(content, 90),
    "something else": lambda content, other: b"hello",
    "another kernel": lambda content, other: other,
}


def test_a_kernel_is_read_from_the_cache(folder):
    assert compiled() == 0
    (file,) = folder.iterdir()
    assert file.name.startswith("linear_forward-float32-") and file.stat().st_mode & 0o777 == 0o600
    assert compiled() == 1


def test_a_damaged_file_is_compiled_anew_and_said(folder):
    compiled()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    compiled("float64")
    (other,) = set(folder.iterdir()) - {file}
    for damage in DAMAGE.values():
        file.write_bytes(damage(content, other.read_bytes()))
        cpu_cache._told.clear()
        with pytest.warns(RuntimeWarning) as warned:
            assert compiled() == 0
        assert [str(each.message) for each in warned] == [
            f"expected {file} as it was written, found other content; it is compiled anew"
        ]
        assert compiled() == 1  # it was written again
    content = file.read_bytes()
    sound = content[: 2 * 64 + 18] + b"not a pickle"
    payload = sound[-12:]
    file.write_bytes(content[: 16 + 64 + 1] + cpu_cache._sum(payload) + b"\n" + payload)
    cpu_cache._told.clear()
    with pytest.warns(RuntimeWarning, match="as it was written, found .*; it is compiled anew"):
        assert compiled() == 0
    assert compiled() == 1


def test_what_is_no_file_is_left_and_said(folder):
    compiled()
    (file,) = folder.iterdir()
    file.unlink()
    os.mkfifo(file)  # reading it would wait for ever
    with pytest.warns(RuntimeWarning, match=f"expected {file} as it was written, found something that is no"):
        assert compiled() == 0
    assert compiled() == 1  # a file took its place
    file.unlink()
    file.mkdir()
    cpu_cache._told.clear()
    with pytest.warns(RuntimeWarning) as warned:
        assert compiled() == 0
    found = [str(each.message) for each in warned]
    assert found[0].startswith(f"expected {file} as it was written, found something that is no file")
    assert found[1:] == [f"expected to write {file}, found Is a directory; {DO}"]
    assert compiled() == 0  # said once


def test_a_file_that_cannot_be_read_or_written(folder, monkeypatch):
    compiled()
    (file,) = folder.iterdir()

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(file))

    read = type(file).read_bytes
    monkeypatch.setattr(type(file), "read_bytes", lambda path: denied() if path == file else read(path))
    monkeypatch.setattr(cpu_cache.tempfile, "mkstemp", denied)
    with pytest.warns(RuntimeWarning) as warned:
        assert compiled() == 0
    assert [str(each.message) for each in warned] == [
        f"expected {file} as it was written, found Permission denied; it is compiled anew",
        f"expected to write {file}, found Permission denied; {DO}",
    ]


def test_a_full_disk_leaves_no_part_of_a_file(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cpu_cache.os, "replace", full)
    with pytest.warns(
        RuntimeWarning, match="expected to write .*, found No space left on device; kernels are"
    ):
        assert compiled() == 0
    assert list(folder.iterdir()) == []


def test_other_versions_and_processors_have_other_files(folder, monkeypatch):
    compiled()
    monkeypatch.setattr(cpu_cache.numba, "__version__", "0.1")
    assert compiled() == 0 and len(list(folder.iterdir())) == 2


def test_without_a_folder_kernels_are_compiled_and_that_is_said_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(cpu_cache, "_told", set())
    with pytest.warns(RuntimeWarning) as warned:
        assert compiled() == 0 and compiled() == 0
    (message,) = [str(each.message) for each in warned]
    assert message.startswith(FOLDER + str(tmp_path / "file")) and message.endswith(f"Not a directory; {DO}")
    assert cpu_cache.KernelCache("x").cache_path is None


def test_the_cache_is_a_folder_that_nobody_else_can_write(tmp_path, folder, monkeypatch):
    assert folder.parent == tmp_path / "cache" / "seqsru" and folder.stat().st_mode & 0o777 == 0o700
    for place, mode in ((folder, 0o770), (folder.parent, 0o777), (tmp_path, 0o702)):
        before = place.stat().st_mode & 0o777
        place.chmod(mode)
        with pytest.raises(Refused, match=f"^{FOLDER}that others can write to {place}; {DO}$"):
            cpu_cache.cache_folder()
        place.chmod(before)
    assert cpu_cache.cache_folder() == folder
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(Refused, match=f"^{FOLDER}{folder} of another user; {DO}$"):
        cpu_cache.cache_folder()


def test_there_is_no_cache_without_a_home_or_on_another_system(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cpu_cache.Path, "home", homeless)
    with pytest.raises(Refused, match="found Could not determine home directory"):
        cpu_cache.cache_folder()
    monkeypatch.setattr(cpu_cache.os, "name", "nt")
    with pytest.raises(Refused, match="found the system nt, where that is not known"):
        cpu_cache.cache_folder()


def test_the_cache_follows_the_sources(tmp_path, folder, monkeypatch):
    for name in ("calls.py", "cpu_build.py", "cpu_kernels.py"):
        (tmp_path / name).write_text("# other sources")
    monkeypatch.setattr(cpu_cache, "__file__", str(tmp_path / "cpu_cache.py"))
    assert cpu_cache.cache_folder() != folder


SCAN = """
import torch
from seqsru.ops import sru_scan
torch.set_num_threads(2)
u, c0, b = torch.ones(40, 20, 3, 60), torch.zeros(20, 60), torch.zeros(2, 60)
with torch.no_grad():
    print(sru_scan(u, None, c0, None, b)[1].sum().item())
"""


@pytest.mark.slow
def test_processes_that_compile_at_once_share_the_folder(folder):
    processes = [subprocess.Popen([sys.executable, "-c", SCAN], stdout=-1, stderr=-1) for _ in range(4)]
    results = {process.communicate() for process in processes}
    assert len(results) == 1 and results.pop()[1] == b""
    assert {path.name.rpartition("-")[0] for path in folder.iterdir()} == {"share", "sru_forward-float32"}


# What the environment tells Numba


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, value, sentence",
    [
        (
            "NUMBA_DISABLE_JIT",
            "1",
            "expected Numba's compiler for backend 'cpu', found NUMBA_DISABLE_JIT=1; unset it, or pass "
            "backend='reference'",
        ),
        (
            "NUMBA_NUM_THREADS",
            "0",
            "expected settings of Numba that it can be imported with, found Number of threads specified must "
            "be > 0; check the environment variables whose names begin with NUMBA_",
        ),
        ("NUMBA_NUM_THREADS", "1000000000", "NUMBA_NUM_THREADS: expected from 1 to "),
        (
            "NUMBA_THREADING_LAYER",
            "foo",
            "expected a threading layer for the CPU kernels, found The threading layer requested 'foo' is "
            "unknown to Numba; check the environment variables whose names begin with NUMBA_THREADING_LAYER",
        ),
    ],
)
def test_settings_of_numba_that_cannot_be_used(name, value, sentence):
    done = subprocess.run(
        [sys.executable, "-c", SCAN], env={**os.environ, name: value}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        f"seqsru.errors.Refused: {sentence}"
    )


def test_no_compiler(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    monkeypatch.setattr(backends, "_loaded", {})
    with pytest.raises(Refused, match="found NUMBA_DISABLE_JIT=1; unset it, or pass backend='reference'"):
        backends.backend_module("cpu", torch.device("cpu"))
    assert backends.backend_status()["cpu"].startswith("no: expected Numba's compiler for backend 'cpu'")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", False)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 10**9)
    with pytest.raises(
        Refused, match=r"NUMBA_NUM_THREADS: expected from 1 to \d+ threads, found 1000000000; give"
    ):
        backends.backend_module("cpu", torch.device("cpu"))
