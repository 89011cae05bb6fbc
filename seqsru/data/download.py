"""One file from an address: resumed after an interruption, checked, and renamed once it is whole."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from seqsru.data.files import CHUNK, file_digest, write_all
from seqsru.data.room import room
from seqsru.errors import NoRoom, Refused, Unreachable


def download(
    url: str, path: Path, digest: str | None, *, attempts: int = 5, pause: float = 1.0, timeout: float = 60.0
) -> None:
    """Fetch `url` to `path`.

    The bytes go to ``path.part``, which a later call continues with an HTTP range request, in this process or
    in another. When the sum is right it is renamed, so a file named `path` is whole.

    Parameters
    ----------
    url : str
        Address, http or https.
    path : Path
        Where the file goes; its folder exists.
    digest : str or None
        ``md5:`` or ``sha256:`` and the sum in hexadecimal. None is of a file that changes with time: whoever
        reads it checks it.
    attempts : int
        Give up after so many connections in a row that brought nothing new.
    pause : float
        Seconds to wait before connecting again.
    timeout : float
        Seconds without a byte after which a connection counts as broken.

    Raises
    ------
    Unreachable
        The file cannot be had, or the connection broke for good; what came stays in ``path.part``.
    Refused
        The sum is wrong; ``path.part`` is removed.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        reason: object = "the connection ended early"
        try:
            if _transfer(url, part, before, timeout):
                break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # nothing beyond what is there: whole, if the sum says so
                break
            if error.code < 500 and error.code not in (408, 429):
                raise Unreachable(
                    f"a file at {url}",
                    f"HTTP status {error.code} ({error.reason})",
                    "fetch it by hand from elsewhere and point SEQSRU_MIRROR at a folder with it",
                ) from None
            reason = error
        except NoRoom:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = error
        got = part.stat().st_size if part.exists() else 0
        failures = 0 if got > before else failures + 1
        if failures >= attempts:
            raise Unreachable(
                f"the whole of {url}",
                f"a broken connection after {got:,} bytes ({reason})",
                "run the same command again to go on from there",
            )
        time.sleep(pause)
    found = None if digest is None else file_digest(part, digest.partition(":")[0])
    if found != digest:
        part.unlink()
        raise Refused(
            f"{digest} for {url}",
            str(found),
            "the download was damaged or the file there has changed: it was removed, run the same command "
            "again to fetch it afresh",
        )
    os.replace(part, path)


def _transfer(url: str, part: Path, have: int, timeout: float) -> bool:
    """Append what one connection brings, or begin anew if the server sends the whole; return if it is all."""
    from tqdm import tqdm

    headers = {"User-Agent": "seqsru", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
        resumed = response.status == 206
        if resumed:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != have:
                raise ConnectionError(
                    f"asked for bytes from {have}, got {response.headers.get('Content-Range')}"
                )
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        expected = None if length is None else start + int(length)
        silent = True if sys.stderr is None else None
        bar = tqdm(initial=start, total=expected, unit="B", unit_scale=True, desc=part.stem, disable=silent)
        with room(part, None if length is None else int(length)):
            out = open(part, "ab" if resumed else "wb", buffering=0)
        with out, bar:
            done = start if resumed else 0
            while chunk := response.read(CHUNK):
                with room(part, None if expected is None else expected - done):
                    write_all(out, chunk)
                done += len(chunk)
                bar.update(len(chunk))
            return expected is None or done >= expected


def copy_checked(source: Path, path: Path, digest: str | None) -> None:
    """Copy a file of a mirror folder to `path`, by way of ``path.part``.

    Raises
    ------
    Refused
        The copy has another sum than `digest`.
    """
    path = Path(os.path.realpath(path))
    part = path.with_name(path.name + ".part")
    with room(part, source.stat().st_size):
        try:
            shutil.copyfile(source, part)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    found = None if digest is None else file_digest(part, digest.partition(":")[0])
    if found != digest:
        part.unlink()
        raise Refused(f"{digest} for {source}", str(found), "replace the file in the mirror folder")
    os.replace(part, path)
