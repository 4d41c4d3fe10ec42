"""Clips for tests, made here: films, animations, folders of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kuosan.modalities import Clip
from kuosan.modalities.video_write import write_clip


def ball(seed: int, frames: int = 8, side: int = 16, channels: int = 3, rate: float = 8.0) -> Clip:
    """A disc that crosses a coloured ground on a straight path, smooth enough for H.264."""
    rng = np.random.default_rng(seed)
    ground, colour = rng.integers(30, 220, (2, channels))
    begin, end = rng.uniform(0.2, 0.8, (2, 2)) * side
    row, column = np.indices((side, side))
    out = np.empty((frames, side, side, channels), np.uint8)
    for i in range(frames):
        y, x = begin + (end - begin) * i / max(1, frames - 1)
        near = np.clip(side / 4 + 1 - np.hypot(row - y, column - x), 0, 1)[..., None]
        out[i] = np.rint(ground * (1 - near) + colour * near)
    return Clip(out, {1: "L", 3: "RGB", 4: "RGBA"}[channels], rate)


def counted(work: int, frames: int, side: int = 8) -> Clip:
    """Frames that say which they are: every pixel of frame i of a work has red = work, green = i."""
    out = np.zeros((frames, side, side, 3), np.uint8)
    out[..., 0], out[..., 2] = work, 255
    out[..., 1] = np.arange(frames)[:, None, None]
    return Clip(out, "RGB", 8.0)


def save(clip: Clip, path: Path) -> Path:
    """Written as its suffix says, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(clip, path)
