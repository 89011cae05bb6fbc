"""Files that users name: whole or not at all, through links, into pipes and devices, and never an input."""

import errno
import os
import re
import socket
import stat
import sys
import threading

import pytest

from seqsru.data.outputs import check_outputs, write_output, written
from seqsru.errors import NoRoom, Refused


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_once_it_is_whole(tmp_path):
    path = tmp_path / "out"
    path.write_text("old\n")
    path.chmod(0o640)
    with written(path) as stream:
        stream.write("nüe\r\n")
        stream.flush()
        assert path.read_text() == "old\n" and names(tmp_path) == ["out", "out.part"]
    assert path.read_bytes() == "nüe\r\n".encode() and names(tmp_path) == ["out"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("keep_done", [False, True])
def test_a_failure_leaves_the_earlier_file(tmp_path, keep_done):
    path = tmp_path / "out"
    path.write_text("old\n")
    with pytest.raises(KeyError), written(path, keep_done=keep_done) as stream:
        stream.write("half")
        raise KeyError
    assert path.read_text() == "old\n" and names(tmp_path) == ["out"]


def test_ctrl_c_leaves_what_was_done(tmp_path):
    path, others = tmp_path / "out", tmp_path / "out.part"
    path.write_text("old\n")
    others.write_text("a user's\n")
    with pytest.raises(
        KeyboardInterrupt, match=f"^the lines that were done are in {re.escape(str(path))}.part.1$"
    ):
        with written(path, keep_done=True) as stream:
            stream.write("one\n")
            raise KeyboardInterrupt
    assert (tmp_path / "out.part.1").read_text() == "one\n"
    with pytest.raises(KeyboardInterrupt, match="^$"), written(path, keep_done=True):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match="^$"), written(path) as stream:
        stream.write("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out", "out.part", "out.part.1"]
    assert path.read_text() == "old\n" and others.read_text() == "a user's\n"


def test_links_stay_links(tmp_path):
    (tmp_path / "file").write_text("old\n")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "other").hardlink_to(tmp_path / "file")
    write_output(tmp_path / "link", b"1\n")
    write_output(tmp_path / "dangling", b"2\n")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "dangling").is_symlink()
    assert [(tmp_path / name).read_text() for name in ("file", "other", "new")] == ["1\n", "1\n", "2\n"]
    assert names(tmp_path) == ["dangling", "file", "link", "new", "other"]


def test_a_name_may_be_long(tmp_path):
    path = tmp_path / ("ü" * 127)  # 254 bytes, as long as names may be
    write_output(path, b"x")
    assert names(tmp_path) == [path.name]


def test_where_only_the_file_may_be_written(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_text("old\n")
    inode = path.stat().st_ino

    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)  # a mount, or somebody else's file in /tmp
        write_output(path, b"new\n")
    assert path.read_text() == "new\n" and path.stat().st_ino == inode and names(tmp_path) == ["out"]

    plain = open

    def no_new(name, mode="r", *more, **rest):
        return refuse() if mode == "x" else plain(name, mode, *more, **rest)

    monkeypatch.setattr("builtins.open", no_new)
    write_output(path, b"newer\n")
    assert path.read_text() == "newer\n" and path.stat().st_ino == inode and names(tmp_path) == ["out"]
    with pytest.raises(PermissionError):
        write_output(tmp_path / "absent", b"")


def test_what_could_not_take_its_place_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_text("old\n")
    (tmp_path / "other").hardlink_to(path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(
        Refused,
        match=rf"^expected to write {path}, found No space left on device; take it from {path}.part, "
        "which is whole$",
    ):
        write_output(path, b"new\n")
    assert (tmp_path / "out.part").read_text() == "new\n"


def test_pipes_and_devices_are_written_into(tmp_path, capfd):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"x" * 100_000)
    reader.join()
    assert found == [b"x" * 100_000] and stat.S_ISFIFO(pipe.stat().st_mode)
    write_output("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with open(tmp_path / "open", "w+b") as stream:
        stream.write(b"before\n")
        stream.flush()
        write_output(f"/dev/fd/{stream.fileno()}", b"after\n")
    assert (tmp_path / "open").read_bytes() == b"before\nafter\n"
    for name in ("-", "/dev/stdout", "/proc/self/fd/1"):
        print("first")
        write_output(name, b"then\n")
        assert capfd.readouterr().out == "first\nthen\n"


def test_no_room_names_the_path():
    with pytest.raises(
        NoRoom,
        match="^expected room for 1 byte at /dev/full, found a device that takes no more; free some, then go "
        "on$",
    ):
        write_output("/dev/full", b"x")


def test_an_output_is_no_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text"
    text.write_text("x\n")
    (tmp_path / "hard").hardlink_to(text)
    (tmp_path / "soft").symlink_to("hard")
    for name in (text, "text", "./text", "hard", "soft", "../" + tmp_path.name + "/soft"):
        with pytest.raises(
            Refused,
            match=f"^expected another file for --json, found {name}, which is an input or part of "
            f"one; name one of "
            "its own$",
        ):
            check_outputs({"--json": name}, ["none", text])
    with open(text, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(Refused, match="found hard, which is an input"):
            check_outputs({"--json": "hard"}, ["-"])
    with pytest.raises(Refused, match="found later, which is an input or part of one"):
        check_outputs({"--json": "later"}, [tmp_path / "later"])
    check_outputs({"--json": "new", "--plot": "/dev/null"}, [text, "/dev/null", "-"])
    assert names(tmp_path) == ["hard", "soft", "text"]


def test_two_outputs_are_two_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("new")
    for one, other in (("new", "./new"), ("new", "link"), ("link", "link")):
        with pytest.raises(
            Refused,
            match=f"^expected another file for --plot, found {other}, which --json names too; name "
            f"one of its own$",
        ):
            check_outputs({"--json": one, "--plot": other}, [])
    check_outputs({"--json": "/dev/null", "--plot": "/dev/null"}, [])


def test_an_output_is_not_where_results_go(tmp_path, capfd):
    saved = os.dup(1)
    try:
        with open(tmp_path / "out", "wb") as stream:
            os.dup2(stream.fileno(), 1)
        with pytest.raises(
            Refused, match="found .*/out, which standard output goes to; name one of its own$"
        ):
            check_outputs({"--json": tmp_path / "out"}, [])
        check_outputs({"--json": "/dev/stdout", "--plot": "-"}, [])
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@pytest.mark.parametrize(
    "name, told",
    [
        ("folder", "expected a file for --json, found the folder folder; name a file"),
        ("socket", "expected a file for --json, found the socket socket; name a file"),
        (
            "none/out",
            "expected a folder for the file none/out of --json, found none at {folder}/none; "
            "make it, or name "
            "another",
        ),
        ("/dev/fd/999", "expected an open file for --json, found /dev/fd/999, which is closed; name a file"),
    ],
)
def test_what_nothing_can_be_written_to(tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        with pytest.raises(Refused) as caught:
            check_outputs({"--json": name}, [])
    assert str(caught.value) == told.format(folder=tmp_path)


def test_permissions_are_asked_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(os, "access", lambda *asked: False)  # whoever runs the tests may do all
    for name, told in (
        (
            "file",
            f"a file that can be written to for --json, found {tmp_path}/file, which cannot; change its "
            "permissions, or name another",
        ),
        (
            "new",
            f"a folder that can be written to for --json, found {tmp_path}, which cannot; "
            f"change its permissions, "
            "or name a file elsewhere",
        ),
    ):
        with pytest.raises(Refused) as caught:
            check_outputs({"--json": tmp_path / name}, [])
        assert str(caught.value) == f"expected {told}"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        check_outputs({"--json": tmp_path / "round"}, [])


def test_a_closed_standard_output_is_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(Refused, match="found /dev/stdout, which is closed; name a file"):
        check_outputs({"--json": "/dev/stdout"}, [])
