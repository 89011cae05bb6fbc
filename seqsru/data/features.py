"""Recordings as frames of features: files of features as they are, or log-mel filterbanks of audio.

Audio needs the extra ``speech``: soundfile reads it, kaldi-native-fbank computes the filterbank, soxr changes
the speed. Files of features need none of them.
"""

# Annotations are read at run time: the fields are the settings `features`.
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy
from numpy.typing import NDArray

from seqsru.data.utterances import BadUtterance, Frames
from seqsru.errors import NotInstalled, Refused, check_at_least, check_at_most, check_known

Form = Literal["sphinx", "numpy"]
ByteOrder = Literal["big", "little"]
MOST_FEATURES = 10_000


@dataclass(frozen=True)
class FeatureFiles:
    """Files of features that another program computed.

    Parameters
    ----------
    size : int
        Features of a frame.
    form : {"sphinx", "numpy"}
        sphinx: a count of numbers in four bytes, then the numbers as float32, frame by frame. numpy: an array
        of shape (frames, size) as numpy.save writes it.
    byte_order : {"big", "little"}
        Of sphinx files; a numpy file says its own.
    frame_shift : float
        Milliseconds from a frame to the next.
    """

    size: int = 13
    form: Form = "sphinx"
    byte_order: ByteOrder = "big"
    frame_shift: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_known(get_args(Form), form=self.form)
        check_known(get_args(ByteOrder), byte_order=self.byte_order)
        check_at_least(1, size=self.size)
        check_at_most(MOST_FEATURES, size=self.size)
        _check_shift(self.frame_shift)

    @property
    def seconds(self) -> float:
        """From a frame to the next."""
        return self.frame_shift / 1000.0

    def check_installed(self) -> None:
        """Nothing is needed."""

    def read(self, path: Path, speed: float = 1.0) -> Frames:
        """The frames of a file, of shape (T, size), read so many times as fast."""
        values = self._numpy(path) if self.form == "numpy" else self._sphinx(path)
        if not len(values):
            raise BadUtterance("without a frame", f"frames in {path}", "none", "leave it out")
        return _at_speed(_finite(values, path), speed)

    def _sphinx(self, path: Path) -> NDArray[Any]:
        data = _bytes(path)
        wanted, other = (">", "<") if self.byte_order == "big" else ("<", ">")
        have = (len(data) - 4) / 4
        count = int(numpy.frombuffer(data, f"{wanted}i4", 1)[0]) if len(data) >= 4 else -1
        if len(data) < 4 or count != have:
            swapped = len(data) >= 4 and int(numpy.frombuffer(data, f"{other}i4", 1)[0]) == have
            raise BadUtterance(
                "damaged",
                f"a count of numbers, {self.byte_order} byte first, and so many numbers in {path}",
                f"{len(data):,} bytes" + (f" and the count {count:,}" if count >= 0 else ""),
                f"set features.byte_order to {'little' if self.byte_order == 'big' else 'big'}"
                if swapped
                else "write it again, or set features.form",
            )
        if count % self.size:
            raise BadUtterance(
                "of another size",
                f"frames of {self.size} features in {path}",
                f"{count:,} numbers, which is no multiple of it",
                "set features.size",
            )
        return numpy.frombuffer(data, f"{wanted}f4", offset=4).reshape(-1, self.size)

    def _numpy(self, path: Path) -> NDArray[Any]:
        _bytes(path, 0)
        try:
            values: NDArray[Any] = numpy.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            found, do = f"a damaged one ({error})", "write it again, or set features.form"
            raise BadUtterance("damaged", f"a file of numpy.save at {path}", found, do) from None
        if not isinstance(values, numpy.ndarray) or values.ndim != 2 or values.shape[1] != self.size:
            shape = values.shape if isinstance(values, numpy.ndarray) else "several arrays"
            raise BadUtterance(
                "of another size",
                f"an array of shape (frames, {self.size}) in {path}",
                str(shape),
                "set features.size",
            )
        if values.dtype.kind not in "fiu":
            found = f"numbers of type {values.dtype}"
            raise BadUtterance("not numbers", f"real numbers in {path}", found, "write it again")
        return values


@dataclass(frozen=True)
class Filterbank:
    """Log-mel filterbanks of audio, as Kaldi computes them: no dither, frames that lie within the audio.

    Parameters
    ----------
    sample_rate : int
        Of all audio, in Hz; a file of another rate is refused.
    bins : int
        Filters, which are the features of a frame.
    frame_length : float
        Milliseconds of audio in a frame.
    frame_shift : float
        Milliseconds from a frame to the next.
    low_frequency : float
        Where the first filter begins, in Hz.
    high_frequency : float
        Where the last one ends, in Hz; 0 is half the sample rate.
    """

    sample_rate: int = 16000
    bins: int = 40
    frame_length: float = 25.0
    frame_shift: float = 10.0
    low_frequency: float = 20.0
    high_frequency: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        check_at_least(4000, sample_rate=self.sample_rate)
        check_at_most(768_000, sample_rate=self.sample_rate)
        check_at_least(3, bins=self.bins)
        check_at_most(1000, bins=self.bins)
        check_at_least(5, frame_length=self.frame_length)
        check_at_most(1000, frame_length=self.frame_length)
        _check_shift(self.frame_shift)
        check_at_least(0, low_frequency=self.low_frequency, high_frequency=self.high_frequency)
        half = self.sample_rate / 2
        if self.low_frequency >= half:
            expected = f"below half the sample rate, {half:g}"
            raise Refused(expected, f"{self.low_frequency:g}", "lower it", "low_frequency")
        if self.high_frequency and not self.low_frequency < self.high_frequency <= half:
            raise Refused(
                f"from above low_frequency {self.low_frequency:g} to {half:g}, or 0 for that",
                f"{self.high_frequency:g}",
                "change it",
                "high_frequency",
            )
        most = self._most_bins()
        if self.bins > most:
            do = f"set it to {most}, or lengthen the frame" if most >= 3 else "widen the frequencies"
            expected = "filters that each have a frequency of the frame's spectrum"
            raise Refused(expected, str(self.bins), do, "bins")

    @property
    def size(self) -> int:
        """Features of a frame."""
        return self.bins

    @property
    def seconds(self) -> float:
        """From a frame to the next."""
        return self.frame_shift / 1000.0

    def check_installed(self) -> None:
        """Refuse where what reads audio is not there.

        Raises
        ------
        NotInstalled
            A package of the extra ``speech`` is missing.
        """
        for package in ("soundfile", "kaldi_native_fbank", "soxr"):
            _package(package)

    def read(self, path: Path, speed: float = 1.0) -> Frames:
        """The filterbank of a file, of shape (T, bins), of its audio played so many times as fast."""
        return self.frames(self.samples(path, speed), str(path))

    def samples(self, path: Path, speed: float = 1.0) -> NDArray[numpy.float32]:
        """The audio of a file, one channel, of shape (samples,), as whole numbers of 16 bits would be."""
        soundfile = _package("soundfile")
        _bytes(path, 0)
        try:
            audio, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            found = " ".join(str(error).partition(": ")[2].split()) or "something else"
            do = "convert it to WAV or FLAC"
            raise BadUtterance("no audio", f"an audio file at {path}", found, do) from None
        if rate != self.sample_rate:
            raise BadUtterance(
                "of another rate",
                f"{self.sample_rate} samples a second in {path}",
                str(rate),
                "resample it, or set features.sample_rate",
            )
        if audio.shape[1] != 1:
            found, do = f"{audio.shape[1]} channels", "mix them, or take one"
            raise BadUtterance("of several channels", f"one channel in {path}", found, do)
        if not len(audio):
            raise BadUtterance("without audio", f"audio in {path}", "none", "leave it out")
        mono: NDArray[numpy.float32] = audio[:, 0]
        if speed != 1.0:
            mono = _package("soxr").resample(mono, self.sample_rate * speed, self.sample_rate)
        return mono

    def frames(self, samples: NDArray[numpy.float32], name: str) -> Frames:
        """The filterbank of samples, of shape (T, bins)."""
        stream = self.stream()
        found = numpy.concatenate([stream.feed(samples), stream.finish()])
        if not len(found):
            raise BadUtterance(
                "shorter than a frame",
                f"at least the {self.frame_length:g} ms of a frame in {name}",
                f"{1000.0 * len(samples) / self.sample_rate:g} ms",
                "leave it out",
            )
        return _finite(found, name)

    def stream(self) -> "FilterbankStream":
        """What takes audio as it arrives."""
        return FilterbankStream(self)

    def options(self) -> Any:
        """Kaldi's options."""
        options = _package("kaldi_native_fbank").FbankOptions()
        options.frame_opts.samp_freq = self.sample_rate
        options.frame_opts.dither = 0.0
        options.frame_opts.frame_length_ms = self.frame_length
        options.frame_opts.frame_shift_ms = self.frame_shift
        options.mel_opts.num_bins = self.bins
        options.mel_opts.low_freq = self.low_frequency
        options.mel_opts.high_freq = self.high_frequency
        return options

    def _most_bins(self) -> int:
        """The most filters of which each has a frequency of the spectrum, which Kaldi asks for."""
        window = int(self.sample_rate * self.frame_length / 1000.0)
        padded = 1 << (window - 1).bit_length()
        mels = _mel(numpy.arange(padded // 2) * (self.sample_rate / padded))
        low, high = _mel(self.low_frequency), _mel(self.high_frequency or self.sample_rate / 2)
        mels = mels[(mels > low) & (mels < high)]
        for bins in range(self.bins, 0, -1):
            held = numpy.zeros(bins + 1, dtype=bool)
            held[((mels - low) / (high - low) * (bins + 1)).astype(int)] = True
            if (held[:-1] | held[1:]).all():  # a filter spans two of the steps between
                return bins
        return 0


class FilterbankStream:
    """The filterbank of audio that arrives in pieces: the frames are those of the whole.

    Parameters
    ----------
    filterbank : Filterbank
    """

    def __init__(self, filterbank: Filterbank) -> None:
        self._size, self._rate = filterbank.bins, filterbank.sample_rate
        self._online = _package("kaldi_native_fbank").OnlineFbank(filterbank.options())
        self._taken = 0

    def feed(self, samples: NDArray[numpy.float32]) -> Frames:
        """The frames, of shape (T, bins), that are whole with these samples, of shape (n,)."""
        self._online.accept_waveform(self._rate, numpy.ascontiguousarray(samples, dtype=numpy.float32))
        return self._ready()

    def finish(self) -> Frames:
        """The frames that were still kept back."""
        self._online.input_finished()
        return self._ready()

    def _ready(self) -> Frames:
        new = list(self._new())
        self._online.pop(len(new))
        return numpy.stack(new) if new else numpy.empty((0, self._size), dtype=numpy.float32)

    def _new(self) -> Iterator[Frames]:
        while self._taken < self._online.num_frames_ready:
            yield numpy.array(self._online.get_frame(self._taken))
            self._taken += 1


FEATURES: dict[str, type[FeatureFiles] | type[Filterbank]] = {
    "filterbank": Filterbank,
    "files": FeatureFiles,
}


def _at_speed(frames: Frames, speed: float) -> Frames:
    """Frames (T, F) read so many times as fast: (T / speed, F), each a mean of its two neighbours in time."""
    if speed == 1.0:
        return frames
    at = numpy.minimum(numpy.arange(max(1, round(len(frames) / speed))) * speed, len(frames) - 1)
    first = at.astype(int)
    share = (at - first).astype(numpy.float32)[:, None]
    second = numpy.minimum(first + 1, len(frames) - 1)
    found: Frames = (1 - share) * frames[first] + share * frames[second]
    return found


def _mel(frequency: Any) -> Any:
    return 1127.0 * numpy.log1p(numpy.asarray(frequency) / 700.0)


def _check_shift(milliseconds: float) -> None:
    check_at_least(1, frame_shift=milliseconds)
    check_at_most(1000, frame_shift=milliseconds)


def _bytes(path: Path, most: int = -1) -> bytes:
    """The first bytes of a file, or all; refuse one that cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(most)
    except OSError as error:
        do = "correct its name, which counts from the manifest's folder, or put it there"
        raise BadUtterance("not there", f"a file at {path}", error.strerror or "none", do) from None


def _finite(values: NDArray[Any], name: object) -> Frames:
    # Numbers that float32 does not hold are found after the conversion.
    with numpy.errstate(over="ignore"):
        frames = numpy.ascontiguousarray(values, dtype=numpy.float32)
    wrong = numpy.flatnonzero(~numpy.isfinite(frames).all(1))
    if len(wrong):
        found = f"frame {wrong[0] + 1} with {frames[wrong[0]][~numpy.isfinite(frames[wrong[0]])][0]}"
        raise BadUtterance("not finite", f"finite numbers in {name}", found, "compute it again")
    return frames


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # soundfile raises the second where its library is not there
        found = "none" if isinstance(error, ImportError) else str(error)
        do = 'install it: pip install "seqsru[speech]"'
        raise NotInstalled(f"the package {name.replace('_', '-')} to read audio", found, do) from None
