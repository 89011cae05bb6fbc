"""Machine code on disk: whole or made anew, read only where nobody else could have put it."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest

from seqsru.ops import compiled
from seqsru.ops.compiled import IGNORED


def double(numbers, n):
    for i in range(n):
        numbers[i] = numbers[i] * 2 + 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "seqsru"


def called(sources=(), name="double"):
    """What the function makes of 1, 2, 3."""
    address = compiled.address(lambda: double, ["int64*", "int64"], name=name, sources=sources, fastmath=())
    numbers = (ctypes.c_int64 * 3)(1, 2, 3)
    signature = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    assert signature(address)(IGNORED, IGNORED + 8, ctypes.addressof(numbers), 3) == 0
    return list(numbers)


def files(cache):
    return sorted(cache.iterdir())


def test_code_is_kept_and_read(cache, monkeypatch):
    assert called() == [3, 5, 7]
    (path,) = files(cache)
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(compiled, "_compile", None)
    assert called() == [3, 5, 7]


def test_code_is_loaded_without_numba(cache):
    """Numba takes a quarter of a second to import, and 60 MB."""
    program = (
        "import sys; sys.path[:0] = {path!r}\n"
        "import test_compiled\n"
        "print(test_compiled.called(), 'numba' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache.parent)}
    command = [sys.executable, "-c", program.format(path=[*sys.path, os.path.dirname(__file__)])]
    for expected in ("[3, 5, 7] True", "[3, 5, 7] False"):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == expected


DAMAGE = {
    "empty": lambda content: b"",
    "short": lambda content: content[: len(content) // 2],
    "one line": lambda content: content.split(b"\n")[0],
    "no code": lambda content: b"\n".join([*content.split(b"\n", 2)[:2], b""]),
    "long": lambda content: content + b"\0",
    "foreign": lambda content: b"\x80\x04\x95 a pickle",
    "text": lambda content: "ünï".encode() * 100,
    "zeros": lambda content: bytes(len(content)),
    "another format": lambda content: content.replace(b"code 1", b"code 2", 1),
    **{
        f"bit at {share}": lambda content, share=share: (
            content[: int(share * len(content))]
            + bytes([content[int(share * len(content))] ^ 4])
            + content[int(share * len(content)) + 1 :]
        )
        for share in (0.0, 0.002, 0.01, 0.05, 0.3, 0.5, 0.9, 0.9999)
    },
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_code_is_made_anew(damage, cache):
    called()
    (path,) = files(cache)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning) as told:
        assert called() == [3, 5, 7]
    sentence = f"compiled code is not taken from {path}, as it is damaged; it is made anew"
    assert [str(one.message) for one in told] == [sentence]
    assert compiled._read(path) is not None and called() == [3, 5, 7]


def test_something_else_in_its_place_ends_nothing(cache):
    called()
    (path,) = files(cache)
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="compiled code is not taken from"):
        assert called() == [3, 5, 7]
    path.rmdir()
    elsewhere = cache / "elsewhere"
    elsewhere.write_bytes(b"mine")
    path.symlink_to(elsewhere)
    with pytest.warns(UserWarning, match="Too many levels of symbolic links"):
        assert called() == [3, 5, 7]
    assert elsewhere.read_bytes() == b"mine" and not path.is_symlink()
    path.unlink()
    os.mkfifo(path)  # nobody writes to it: reading it must not wait
    with pytest.warns(UserWarning, match="it is damaged"):
        assert called() == [3, 5, 7]


def test_a_folder_where_nothing_can_be_written(cache, monkeypatch):
    def refused(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiled.tempfile, "mkstemp", refused)
    with pytest.warns(UserWarning, match=r"nothing can be written there \(No space left on device\)"):
        assert called() == [3, 5, 7]


def test_code_follows_sources_versions_and_processor(cache, tmp_path, monkeypatch):
    source = tmp_path / "source.py"
    source.write_text("1")
    called([source])
    source.write_text("2")
    called([source])
    assert len(files(cache)) == 2
    monkeypatch.setattr(compiled, "version", lambda name: "0.0")
    called([source])
    monkeypatch.setattr(compiled.llvm, "get_host_cpu_name", lambda: "another")
    called([source])
    monkeypatch.setenv("NUMBA_OPT", "1")
    called([source])
    assert len(files(cache)) == 5


def test_several_at_once(cache):
    found = []
    threads = [threading.Thread(target=lambda: found.append(called())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[3, 5, 7]] * 4 and len(files(cache)) == 1


def test_nothing_is_kept_where_others_can_write(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = compiled.folder()
    assert folder == tmp_path / "cache" / "seqsru" and folder.stat().st_mode & 0o777 == 0o700
    for place, mode in ((folder, 0o770), (folder.parent, 0o777), (tmp_path, 0o702)):
        before = place.stat().st_mode & 0o777
        place.chmod(mode)
        assert compiled.folder() is None
        place.chmod(before)
    assert compiled.folder() == folder
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert compiled.folder() is None
    assert called() == [3, 5, 7] and not files(folder)


def test_there_is_no_cache_where_no_folder_can_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled.folder() is None
    assert called() == [3, 5, 7]
