"""Clips: files on one side, states (b, c, t, h, w) in [-1, 1] on the other.

A clip is a stack of pictures, and a state is theirs (`image`, eq. 1) along a second axis, time. All clips of a data set
have one rate, one size and one number of frames (`video_form`). What is longer is seen through windows, what is shorter
holds its last frame (`video_time`, eq. 2), and in training windows slide. `decode` takes states of any duration and
size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.base import Gathered, Modality, Read, Spec, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.grid import grid_picture
from kuosan.modalities.image import ImageModality
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.pixels import Picture, has_alpha
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.video_clip import Clip, VideoFormat, cleared, clip_of
from kuosan.modalities.video_file import footage
from kuosan.modalities.video_gather import gather_clips
from kuosan.modalities.video_time import evenly, resampled
from kuosan.modalities.video_write import WRITTEN, playing, write_clip

STRIP = 12  # frames of a clip on a contact sheet
LEGIBLE = 48  # pixels of their longer side, about
GAP = 6


@register
class VideoModality(Modality[Clip]):
    """Clips in one form: grey or colour, with transparency or without."""

    name: ClassVar[str] = "video"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["video"]
    axes: ClassVar[tuple[str, ...]] = ("time", "height", "width")
    noun: ClassVar[str] = "clips"

    def __init__(self, format: VideoFormat) -> None:
        self.format = format
        self.pictures = ImageModality(format.frame)

    def __repr__(self) -> str:
        f = self.format
        return f"VideoModality({f.frames} frames, {f.rate:g}/s, {f.frame.height}×{f.frame.width}, {f.frame.mode})"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(c, t, h, w) of one state."""
        f = self.format
        return f.frame.channels, f.frames, f.frame.height, f.frame.width

    @property
    def formats(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of what is transparent WebP first, and where PyAV is not installed; of all else MP4."""
        usual = self.usual(self.format.frame.mode)
        return (usual, *(kind for kind in WRITTEN if kind != usual))

    @property
    def level(self) -> float | None:
        return self.pictures.level

    @property
    def scale(self) -> float:
        return self.pictures.scale

    def described_form(self) -> str:
        f = self.format
        what = {"L": "grey", "RGB": "colour"}.get(f.frame.mode, f.frame.mode)
        size = f"{f.frame.height}×{f.frame.width} pixels"
        return f"{what} {self.noun} of {f.frames} frames of {size}, {f.rate:g} a second"

    def resolved(self) -> dict[str, Any]:
        return {"rate": self.format.rate, "length": self.format.frames}

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_clips`, also for the options."""
        return gather_clips(folder, cls, like if isinstance(like, VideoModality) else None, **options)

    def spec(self) -> Spec:
        return {"modality": self.name, "format": self.format.to_json()}

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> VideoModality:
        return cls(VideoFormat.from_json(spec["format"]))

    def read(self, path: Path | str) -> Clip:
        """The first clip of a file, or the frames of a folder, at its own rate and size; where no rate is said, at
        this form's.  Raises `Unreadable`."""
        found = footage(Path(path))
        frames = resampled(found.frames(), found.rate or 1.0, 1 / (found.rate or 1.0))
        return clip_of(frames, found.rate or self.format.rate)

    def write(self, raw: Clip, path: Path | str) -> Path:
        """Writes MP4, WebP where there is transparency, or what the suffix says (`video_write`)."""
        path = Path(path)
        return write_clip(raw, path if path.suffix else path.with_suffix("." + self.usual(raw.mode)))

    @staticmethod
    def usual(mode: str) -> str:
        """The format that clips are written in unless another is named."""
        return "webp" if has_alpha(mode) or find_spec("av") is None else "mp4"

    def fit(self, raw: Clip) -> Clip:
        """The clip in this form: at this rate and size, its first window; it holds its last frame where it is
        shorter.  Raises `Unreadable`."""
        f = self.format
        pictures: list[Picture] = []
        for picture in resampled(evenly(raw.pictures(), raw.rate), f.rate, 1 / raw.rate):
            pictures.append(self.format.fit(picture))
            if len(pictures) == f.frames:
                break
        pictures += pictures[-1:] * (f.frames - len(pictures))
        return clip_of(pictures, f.rate)

    def encode(self, raws: Sequence[Clip]) -> Float[Tensor, "b c t h w"]:
        """States of clips, which are brought to this form first."""
        if not raws:
            return torch.empty(0, *self.shape)
        return self._state(torch.from_numpy(np.stack([self.fit(raw).frames for raw in raws])).movedim(-1, 2))

    def decode(self, x: Float[Tensor, "b c t h w"]) -> list[Clip]:
        """Clips of states of any duration and size: clipped, and rounded to 8 bits."""
        f = self.format
        if x.ndim != 5 or x.shape[1] != f.frame.channels:
            raise ValueError(
                f"expected states of shape (b, {f.frame.channels}, t, h, w), got {tuple(x.shape)}"
            )
        pictures = ImageModality(replace(f.frame, height=x.shape[3], width=x.shape[4]))
        stacks = [np.stack([p.pixels for p in pictures.decode(one.movedim(1, 0))]) for one in x]
        return [Clip(cleared(frames, f.frame.mode), f.frame.mode, f.rate) for frames in stacks]

    def to_state(self, storage: Ragged, seeds: Seeds | None = None) -> Float[Tensor, "b c t h w"]:
        """The windows of items (b) as states; with seeds they slide."""
        return self._state(storage.windows(self.format.frames, None, seeds))

    def _state(self, frames: Tensor) -> Float[Tensor, "b c t h w"]:
        """Bytes (b, t, c, h, w) as states."""
        return self.pictures.to_state(frames.movedim(2, 1))

    def confine(self, storage: Ragged) -> Ragged:
        """Items whose windows stay among these items."""
        return storage.confined()

    def units(self, axis: str) -> Mapping[str, float]:
        return {"s": self.format.rate, "frames": 1.0} if axis == "time" else {}

    def sized(self, sides: Sequence[int]) -> VideoModality:
        """The same form at another length or size."""
        frames, height, width = sides
        frame = replace(self.format.frame, height=height, width=width)
        return VideoModality(replace(self.format, frames=frames, frame=frame))

    def clip(self, raw: Clip) -> tuple[str, bytes]:
        """A small animation for a page."""
        return playing(raw)

    def show(self, raws: Sequence[Clip], columns: int | None = None, scale: int | None = None) -> Image.Image:
        """Contact strips of at most twelve frames each, evenly spaced; `columns` of them in a row."""
        if not raws:
            return grid_picture([])
        scale = scale or max(1, LEGIBLE // max(raws[0].frames.shape[1:3]))
        strips = [self._strip(raw, scale) for raw in raws]
        width, height = (max(strip.size[side] for strip in strips) + GAP for side in (0, 1))
        columns = min(columns or max(1, round((len(strips) * height / width) ** 0.5)), len(strips))
        rows = math.ceil(len(strips) / columns)
        sheet = Image.new("RGB", (columns * width - GAP, rows * height - GAP), "white")
        for i, strip in enumerate(strips):
            sheet.paste(strip, (i % columns * width, i // columns * height))
        return sheet

    @staticmethod
    def _strip(raw: Clip, scale: int) -> Image.Image:
        places = np.linspace(0, len(raw) - 1, min(STRIP, len(raw))).round().astype(int)
        pictures = raw.pictures()
        return grid_picture([pictures[i] for i in places], len(places), scale)
