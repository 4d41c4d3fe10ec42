"""One clip: its frames as pixels, how fast they are shown, and the form that all clips of a data set are brought to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kuosan.modalities.base import Unreadable
from kuosan.modalities.image_format import ImageFormat
from kuosan.modalities.pixels import Picture, Pixels, convert, has_alpha
from kuosan.modalities.resize import cover


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames (t, h, w, c) of 8 bits, their mode, and how many are shown in a second."""

    frames: Pixels
    mode: str
    rate: float

    def __len__(self) -> int:
        return len(self.frames)

    def pictures(self) -> list[Picture]:
        """Frame by frame."""
        return [Picture(frame, self.mode) for frame in self.frames]

    def same(self, other: Clip) -> bool:
        """True where mode, rate, and every value are equal."""
        alike = (self.mode, self.rate) == (other.mode, other.rate)
        return alike and np.array_equal(self.frames, other.frames)


@dataclass(frozen=True)
class VideoFormat:
    """Clips of `frames` frames at `rate` a second, each a picture of the form `frame`."""

    frames: int
    rate: float
    frame: ImageFormat

    def to_json(self) -> dict[str, Any]:
        return self.frame.to_json() | {"frames": self.frames, "rate": self.rate}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> VideoFormat:
        return cls(int(facts["frames"]), float(facts["rate"]), ImageFormat.from_json(facts))

    def fit(self, raw: Picture) -> Picture:
        """One frame in this form: resized to cover and cropped, converted, and black where nothing of it is seen.

        Raises `Unreadable` where the channels do not map.
        """
        f, mode, pixels = self.frame, raw.mode, raw.pixels
        if mode == "1":
            mode, pixels = "L", convert(pixels, "1", "L", "uint8")
        pixels = convert(cover(pixels, mode, f.height, f.width), mode, f.mode, "uint8")
        return Picture(cleared(pixels, f.mode), f.mode)


def cleared(pixels: Pixels, mode: str) -> Pixels:
    """Pixels (…, c) without the colours that transparency hides, which are nobody's picture."""
    if not has_alpha(mode) or pixels[..., -1].all():
        return pixels
    return np.where(pixels[..., -1:].astype(bool), pixels, np.zeros((), pixels.dtype))


def clip_of(pictures: Iterable[Picture], rate: float) -> Clip:
    """Frames of one mode and size as a clip.  Raises `Unreadable` where there are fewer than two, or they differ."""
    found = list(pictures)
    if len(found) < 2:
        raise Unreadable(f"it holds {len(found) or 'no'} frame, and a clip has two or more")
    if len({(p.mode, p.pixels.shape) for p in found}) > 1:
        raise Unreadable("its frames are of several sizes or modes")
    mode = found[0].mode
    frames = np.stack([p.pixels for p in found])
    if mode == "1":
        mode, frames = "L", convert(frames, "1", "L", "uint8")
    return Clip(cleared(convert(frames, mode, mode, "uint8"), mode), mode, rate)
