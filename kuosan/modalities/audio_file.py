"""Sounds in files: WAV, FLAC, OGG and MP3 in, WAV and FLAC out.

Samples are numbers from -1 to 1, (n, c), at their own rate.  `libsndfile` decodes (8 to 32 bits, floating point, any
rate and channel count), and `soxr` changes rates.  A file that ends before its header says is damaged; a header that
was never finished (a recording that was cut off, a stream) says nothing, and counts for what is there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable

Samples = NDArray[np.float32]  # (n, c)

OUT = {".wav": "WAV", ".flac": "FLAC"}
LOSSY = (".ogg", ".mp3")  # whose headers only guess the length
UNFINISHED = (0, 0xFFFFFFFF)
BLOCK = 1 << 20  # samples that are read at a time
MOST_RATE = 768_000  # samples per second: beyond that a header is damaged


@dataclass(frozen=True, eq=False)
class Sound:
    """One sound: `samples` (n, c) from -1 to 1, `rate` of them in a second."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def same(self, other: Sound) -> bool:
        """True where rate, length and every value are equal."""
        return self.rate == other.rate and np.array_equal(self.samples, other.samples)


@dataclass(frozen=True)
class SoundHeader:
    """What a file says of itself before it is decoded."""

    rate: int
    channels: int
    length: int
    depth: str

    @property
    def seconds(self) -> float:
        return self.length / self.rate


def peek_sound(path: Path) -> SoundHeader:
    """The header of a file.  Raises `Unreadable`."""
    try:
        if path.stat().st_size == 0:
            raise Unreadable("the file is empty (0 bytes)", path)
        found = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise Unreadable(f"no sound that can be decoded ({_plain(error, path)})", path) from None
    _check_wav(path)
    if not 1 <= found.samplerate <= MOST_RATE:
        raise Unreadable(f"its header says {found.samplerate:,} samples a second, which cannot be", path)
    return SoundHeader(found.samplerate, found.channels, found.frames, found.subtype)


def read_sound(path: Path) -> Sound:
    """A whole file.  Raises `Unreadable` where it is damaged, or holds values that are not finite."""
    header = peek_sound(path)
    samples = np.concatenate([np.zeros((0, header.channels), np.float32), *blocks_of(path)])
    if not np.isfinite(samples).all():
        raise Unreadable("it holds values that are not finite (NaN or infinity)", path)
    return Sound(samples, header.rate)


def blocks_of(path: Path, size: int | None = None) -> Iterator[Samples]:
    """The samples of a file, so many (`BLOCK`) at a time.  Raises `Unreadable`, at the end where it comes too early."""
    header, there = peek_sound(path), 0
    try:
        with soundfile.SoundFile(str(path)) as file:
            while len(block := file.read(size or BLOCK, dtype="float32", always_2d=True)):
                there += len(block)
                yield block
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise Unreadable(f"no sound that can be decoded ({_plain(error, path)})", path) from None
    if there < header.length and path.suffix.lower() not in LOSSY:
        short = f"it ends after {there / header.rate:.3g} s of the {header.seconds:.3g} s that its header promises"
        raise Unreadable(short, path)


def write_sound(sound: Sound, path: Path) -> Path:
    """16-bit WAV, or FLAC by its suffix; a path without suffix gets `.wav`.  Values beyond -1 … 1 are clipped.

    Raises `UserError` for a suffix that is neither.
    """
    path = path if path.suffix else path.with_suffix(".wav")
    kind = OUT.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path.name} cannot be written as {path.suffix}; name it .wav or .flac.")
    path.write_bytes(sound_bytes(sound, kind))
    return path


def sound_bytes(sound: Sound, kind: str = "WAV") -> bytes:
    """The contents of a 16-bit file."""
    out = io.BytesIO()
    soundfile.write(out, quantised(sound.samples), sound.rate, format=kind, subtype="PCM_16")
    return out.getvalue()


def quantised(samples: Samples) -> NDArray[np.int16]:
    """16-bit samples, as libsndfile reads them back: 1 is 32,768, which is clipped."""
    return np.clip(np.rint(samples.astype(np.float64) * 32_768), -32_768, 32_767).astype(np.int16)


def converted(sound: Sound, rate: int, channels: int) -> Sound:
    """The sound at another rate, and in another number of channels: one is the mean of all, two of one are equal, of
    more than are wanted the first are kept."""
    samples = in_channels(sound.samples, channels)
    if sound.rate != rate:
        samples = soxr.resample(samples, sound.rate, rate, quality="HQ")
    return Sound(np.ascontiguousarray(samples, dtype=np.float32), rate)


def in_channels(samples: Samples, channels: int) -> Samples:
    """See `converted`."""
    if channels == 1:
        return samples.mean(1, keepdims=True)
    return np.repeat(samples[:, :1], channels, 1) if samples.shape[1] < channels else samples[:, :channels]


def _check_wav(path: Path) -> None:
    """libsndfile reads a WAV file that was cut off without a word, so its own count is compared with the file's."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF":
        said, there = int.from_bytes(head[4:8], "little"), path.stat().st_size - 8
        if said not in UNFINISHED and there < said - 1:  # some leave the last padding byte away
            raise Unreadable(f"it ends after {there:,} of the {said:,} bytes that its header promises", path)


def _plain(error: Exception, path: Path) -> str:
    text = str(error).replace(f"Error opening {str(path)!r}: ", "").strip().rstrip(".")
    return text or type(error).__name__
