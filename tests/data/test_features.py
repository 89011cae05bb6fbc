"""Recordings as frames: feature files in every form, audio, and what is none."""

import re
from pathlib import Path

import numpy
import pytest
from tiny_runs import write_frames

from seqsru.data.features import FeatureFiles, Filterbank
from seqsru.data.utterances import BadUtterance
from seqsru.errors import NotInstalled, Refused

AN4 = Path(__file__).parents[1] / "fixtures" / "an4" / "an251-fash-b"
FRAMES = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)


def bad(source, path, sentence):
    with pytest.raises(BadUtterance) as error:
        source.read(path)
    assert str(error.value.refusal("m.tsv:1")) == "expected " + sentence.format(path=path)


def test_the_corpus_s_own_features():
    frames = FeatureFiles(size=13).read(AN4.with_suffix(".mfc"))
    assert frames.shape == (99, 13) and frames.dtype == numpy.float32 and frames.flags.c_contiguous
    numpy.testing.assert_allclose(frames.mean(0)[:3], [5.693178, -0.46501142, -0.05408856], rtol=1e-5)


@pytest.mark.parametrize("order, name", [(">", "big"), ("<", "little")])
def test_byte_orders(tmp_path, order, name):
    path = tmp_path / "f"
    write_frames(path, FRAMES, order)
    assert numpy.array_equal(FeatureFiles(size=3, byte_order=name).read(path), FRAMES)
    other = "little" if name == "big" else "big"
    count = int.from_bytes(path.read_bytes()[:4], other)
    bad(
        FeatureFiles(size=3, byte_order=other),
        path,
        f"a count of numbers, {other} byte first, and so many numbers in {{path}} at m.tsv:1, found 52 bytes "
        f"and the count {count:,}; set features.byte_order to {name}",
    )


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", ">f4"])
def test_arrays(tmp_path, dtype):
    numpy.save(tmp_path / "a.npy", FRAMES.astype(dtype))
    found = FeatureFiles(size=3, form="numpy").read(tmp_path / "a.npy")
    assert found.dtype == numpy.float32 and numpy.array_equal(found, FRAMES)


def test_files_that_hold_no_features(tmp_path):
    path, sphinx, arrays = tmp_path / "f", FeatureFiles(size=3), FeatureFiles(size=3, form="numpy")
    counted = "a count of numbers, big byte first, and so many numbers in {path} at m.tsv:1, found "
    for content, found in (
        (b"", "0 bytes"),
        (b"ab", "2 bytes"),
        (b"\0\0\0\2" + b"\0" * 4, "8 bytes and the count 2"),
    ):
        path.write_bytes(content)
        bad(sphinx, path, f"{counted}{found}; write it again, or set features.form")
    write_frames(path, FRAMES)
    bad(
        FeatureFiles(size=5),
        path,
        "frames of 5 features in {path} at m.tsv:1, found 12 numbers, which is no multiple of it; set "
        "features.size",
    )
    path.write_bytes(path.read_bytes()[:-1])
    bad(sphinx, path, f"{counted}51 bytes and the count 12; write it again, or set features.form")
    wrong = FRAMES.copy()
    wrong[2, 1] = numpy.nan
    write_frames(path, wrong)
    bad(sphinx, path, "finite numbers in {path} at m.tsv:1, found frame 3 with nan; compute it again")
    for content in (FRAMES[0], FRAMES[None], FRAMES[:, :2]):
        numpy.save(tmp_path / "a.npy", content)
        shape = (
            f"an array of shape (frames, 3) in {{path}} at m.tsv:1, found {content.shape}; set features.size"
        )
        bad(arrays, tmp_path / "a.npy", shape)
    numpy.save(tmp_path / "a.npy", FRAMES.astype(complex))
    bad(
        arrays,
        tmp_path / "a.npy",
        "real numbers in {path} at m.tsv:1, found numbers of type complex128; write it again",
    )
    numpy.save(tmp_path / "a.npy", FRAMES.astype(object), allow_pickle=True)
    for content in ((tmp_path / "a.npy").read_bytes(), b"", b"x" * 80):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(BadUtterance) as error:
            arrays.read(tmp_path / "b.npy")
        assert str(error.value.refusal()).startswith(
            f"expected a file of numpy.save at {tmp_path}/b.npy, found a damaged one ("
        )
    numpy.save(tmp_path / "a.npy", FRAMES[:0])
    bad(arrays, tmp_path / "a.npy", "frames in {path} at m.tsv:1, found none; leave it out")
    numpy.save(tmp_path / "a.npy", FRAMES.astype("f8") * 1e300)
    bad(
        arrays,
        tmp_path / "a.npy",
        "finite numbers in {path} at m.tsv:1, found frame 1 with inf; compute it again",
    )


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"sample_rate": 100}, "sample_rate: expected at least 4000, found 100; raise it"),
        (
            {"low_frequency": 9000},
            "low_frequency: expected below half the sample rate, 8000, found 9000; lower it",
        ),
        (
            {"low_frequency": 300, "high_frequency": 200},
            "high_frequency: expected from above low_frequency 300 to 8000, or 0 for that, "
            "found 200; change it",
        ),
        (
            {"bins": 127},
            "bins: expected filters that each have a frequency of the frame's "
            "spectrum, found 127; set it to 126, "
            "or lengthen the frame",
        ),
        ({"frame_shift": 0.0}, "frame_shift: expected at least 1, found 0.0; raise it"),
    ],
)
def test_a_filterbank_that_cannot_be(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        Filterbank(**options)


def test_without_the_packages(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    told = (
        'expected the package soundfile to read audio, found none; install it: pip install "seqsru[speech]"'
    )
    with pytest.raises(NotInstalled, match=f"^{re.escape(told)}$"):
        Filterbank().check_installed()


# ---- with the extra speech -------------------------------------------------------------------------


@pytest.fixture
def soundfile():
    pytest.importorskip("kaldi_native_fbank")
    pytest.importorskip("soxr")
    return pytest.importorskip("soundfile")


def test_the_filterbank_of_audio(soundfile):
    source = Filterbank()
    frames = source.read(AN4.with_suffix(".flac"))
    assert frames.shape == (98, 40) and frames.dtype == numpy.float32
    assert numpy.array_equal(frames, source.read(AN4.with_suffix(".flac")))  # nothing is dithered
    assert 10 < frames.max() - frames.min() < 25  # natural logarithms of energies


@pytest.mark.parametrize("piece", [1, 77, 160, 4000, 20000])
def test_audio_in_pieces_has_the_same_frames(soundfile, piece):
    source = Filterbank(bins=12)
    samples = source.samples(AN4.with_suffix(".flac"))[:4000]
    stream = source.stream()
    parts = [stream.feed(samples[first : first + piece]) for first in range(0, len(samples), piece)]
    assert numpy.array_equal(numpy.concatenate([*parts, stream.finish()]), source.frames(samples, "x"))


def test_speeds_change_the_length(soundfile):
    source = Filterbank()
    lengths = [len(source.read(AN4.with_suffix(".flac"), speed)) for speed in (0.9, 1.0, 1.1)]
    assert lengths == [109, 98, 89]


def test_audio_that_cannot_be_used(soundfile, tmp_path):
    source, path = Filterbank(sample_rate=8000), tmp_path / "a.wav"
    noise = numpy.random.default_rng(1).normal(size=(8000, 2)).astype("f") * 0.1
    soundfile.write(path, noise[:, 0], 16000)
    bad(
        source,
        path,
        "8000 samples a second in {path} at m.tsv:1, found 16000; resample it, or set features.sample_rate",
    )
    soundfile.write(path, noise, 8000)
    bad(source, path, "one channel in {path} at m.tsv:1, found 2 channels; mix them, or take one")
    soundfile.write(path, noise[:0, 0], 8000)
    bad(source, path, "audio in {path} at m.tsv:1, found none; leave it out")
    soundfile.write(path, noise[:100, 0], 8000)
    bad(source, path, "at least the 25 ms of a frame in {path} at m.tsv:1, found 12.5 ms; leave it out")
    path.write_text("no audio")
    with pytest.raises(BadUtterance) as error:
        source.read(path)
    assert re.fullmatch(
        rf"expected an audio file at {path}, found .+; convert it to WAV or FLAC", str(error.value.refusal())
    )
    bad(
        source,
        tmp_path / "b.wav",
        "a file at {path} at m.tsv:1, found No such file or directory; correct its name, "
        "which counts from the "
        "manifest's folder, or put it there",
    )
