"""A sound of any length as frames, piece by piece: an hour takes as much memory as a minute.

Blocks of samples go through channels and rate (`Converter`), and from there into frames of a hop, whose spectra are
taken `BLOCK` frames at a time with the neighbours that their windows reach.  What comes out is the same to the bit
however the sound is cut into blocks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from kuosan.modalities.audio_file import Samples, in_channels, quantised
from kuosan.modalities.audio_form import AudioForm
from kuosan.modalities.audio_mel import levels as levels_of
from kuosan.modalities.base import Unreadable

BLOCK = 4_096  # frames whose spectra are taken at a time
Frames = tuple[NDArray[np.float16], NDArray[np.int16]]


@dataclass(frozen=True)
class Stream:
    """A sound that has not been read: ``blocks`` begins it anew, ``length`` samples are promised of it."""

    blocks: Callable[[], Iterator[Samples]]
    rate: int
    channels: int
    length: int


class Heard:
    """What is known of a stream once all of it went by: its `length`, `peak` and `digest`."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.length, self.peak = stream, 0, 0.0
        self._digest = self._begun(stream.length)

    def blocks(self) -> Iterator[Samples]:
        """The stream's.  Raises `Unreadable` at values that are not finite."""
        for block in self.stream.blocks():
            if not np.isfinite(block).all():
                raise Unreadable("it holds values that are not finite (NaN or infinity)")
            self.length += len(block)
            self.peak = max(self.peak, float(np.abs(block).max(initial=0)))
            self._digest.update(np.ascontiguousarray(block).data)
            yield block

    @property
    def seconds(self) -> float:
        return self.length / self.stream.rate

    def digest(self) -> bytes:
        """sha256 of rate, shape and values.  The shape comes first, so where another length was promised (by an MP3,
        say) the stream is read again."""
        if self.length == self.stream.length:
            return self._digest.digest()
        again = self._begun(self.length)
        for block in self.stream.blocks():
            again.update(np.ascontiguousarray(block).data)
        return again.digest()

    def _begun(self, length: int) -> hashlib._Hash:
        return hashlib.sha256(f"{self.stream.rate} {(length, self.stream.channels)}".encode())


def converted_blocks(blocks: Iterable[Samples], rate: int, form: AudioForm) -> Iterator[Samples]:
    """At the form's rate and in its channels, see `audio_file.converted`."""
    if rate == form.rate:
        yield from (in_channels(block, form.channels) for block in blocks)
        return
    stream = soxr.ResampleStream(rate, form.rate, form.channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(in_channels(block, form.channels)))
    yield stream.resample_chunk(np.zeros((0, form.channels), np.float32), last=True)


def framed(blocks: Iterable[Samples], rate: int, form: AudioForm) -> Iterator[Frames]:
    """Levels (t, c, f) in dB, and samples (t, c, hop), of at most `BLOCK` frames each; the last frame is filled up
    with silence."""
    hop, pad = form.hop, form.window // form.hop
    wave = np.zeros((form.channels, 0), np.float32)  # from frame ``first`` on
    first = start = 0

    def taken(last: int) -> Frames:
        """From ``start`` on, when the sound is known up to frame ``last``."""
        count, skipped = min(BLOCK, last - start), start - first
        block = levels_of(torch.from_numpy(wave[:, : (last - first) * hop]), form)[
            ..., skipped : skipped + count
        ]
        own = wave[:, skipped * hop : (skipped + count) * hop].reshape(form.channels, count, hop)
        return block.permute(2, 0, 1).numpy().astype(np.float16), quantised(own).transpose(1, 0, 2)

    for block in converted_blocks(blocks, rate, form):
        wave = np.concatenate([wave, block.T], 1)
        while first + wave.shape[1] // hop >= (last := start + BLOCK + pad):
            yield taken(last)
            start += BLOCK
            wave, first = wave[:, (max(0, start - pad) - first) * hop :], max(0, start - pad)
    frames = max(1, first + math.ceil(wave.shape[1] / hop))
    wave = np.pad(wave, ((0, 0), (0, (frames - first) * hop - wave.shape[1])))
    while start < frames:
        yield taken(min(frames, start + BLOCK + pad))
        start += BLOCK
        wave, first = wave[:, (max(0, start - pad) - first) * hop :], max(0, start - pad)
