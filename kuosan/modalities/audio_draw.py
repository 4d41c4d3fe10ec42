"""Pictures of sounds: the waveform above its spectrum, time to the right, pitch upwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kuosan.modalities.audio_file import Sound, converted
from kuosan.modalities.audio_form import AudioForm
from kuosan.modalities.audio_mel import SILENCE, levels, to_unit

WIDTH, WAVE, SPECTRUM, GAP = 144, 32, 72, 6  # pixels
PAPER, INK, AXIS = (255, 255, 255), (47, 109, 179), (201, 201, 201)


def sound_sheet(
    raws: Sequence[Sound], form: AudioForm, columns: int | None = None, scale: int | None = None
) -> Image.Image:
    """All sounds side by side, on one scale of time; ``scale`` enlarges them by a whole number."""
    scale, seconds = scale or 1, max([raw.seconds for raw in raws], default=1.0)
    tiles = [sound_picture(raw, form, seconds, scale) for raw in raws]
    columns = columns or max(1, min(len(tiles), math.ceil(math.sqrt(len(tiles)))))
    rows, wide, high = -(-len(tiles) // columns), WIDTH * scale + GAP, (WAVE + SPECTRUM) * scale + GAP
    sheet = Image.new("RGB", (columns * wide + GAP, max(1, rows) * high + GAP), (221, 221, 221))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (GAP + i % columns * wide, GAP + i // columns * high))
    return sheet


def sound_picture(raw: Sound, form: AudioForm, seconds: float | None = None, scale: int = 1) -> Image.Image:
    """One sound in a picture that is ``seconds`` wide, by default as long as it is."""
    width, seconds = WIDTH * scale, max(seconds or raw.seconds, 1 / raw.rate)
    x = converted(raw, form.rate, 1).samples[:, 0]
    x = np.pad(x, (0, -len(x) % form.hop or (0 if len(x) else form.hop)))
    used = max(1, min(width, round(width * len(x) / form.rate / seconds)))
    picture = Image.new("RGB", (width, (WAVE + SPECTRUM) * scale), PAPER)
    picture.paste(Image.fromarray(_wave(x, used, WAVE * scale)), (0, 0))
    unit = to_unit(levels(torch.from_numpy(x)[None], form)[0], form).numpy()
    colours = Image.fromarray(_colours((unit[::-1] - SILENCE) / (1 - SILENCE)))
    picture.paste(colours.resize((used, SPECTRUM * scale), Image.Resampling.BILINEAR), (0, WAVE * scale))
    return picture


def _wave(x: NDArray[np.float32], width: int, height: int) -> NDArray[np.uint8]:
    """From the lowest to the highest sample of every column."""
    picture = np.full((height, width, 3), PAPER, np.uint8)
    picture[height // 2] = AXIS
    edges = np.linspace(0, len(x), width, endpoint=False).astype(int)
    rows = np.arange(height)[:, None]
    ends = (ends_of.reduceat(x.clip(-1, 1), edges) for ends_of in (np.maximum, np.minimum))
    top, bottom = ((1 - end) / 2 * (height - 1) for end in ends)
    picture[(rows >= np.floor(top)) & (rows <= np.ceil(bottom))] = INK
    return picture


def _colours(unit: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers from 0 to 1 in the colours of "magma"."""
    import matplotlib

    return matplotlib.colormaps["magma"](np.clip(unit, 0, 1), bytes=True)[..., :3].copy()
