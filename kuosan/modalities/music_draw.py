"""Pictures of scores: piano rolls, one colour for each part, with a line at every bar."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from kuosan.modalities.music_score import Score

COLOURS = ("#2f6db3", "#d9822b", "#3f8f4f", "#a3477d", "#7a6cc4", "#b1493c", "#4e8d96", "#8a7a2c")
PAPER, LINE, BLACK_KEY = "#ffffff", "#c9c9c9", "#f3f3f3"
SIDE, MARGIN = 240, 8  # of one picture, in pixels
LEAST_PITCHES = 24
MOST_QUARTERS = 128.0  # that one picture shows


def piano_roll(
    score: Score, width: int = SIDE, height: int = SIDE * 2 // 3, pitches: tuple[int, int] | None = None
) -> Image.Image:
    """The beginning of a score, time to the right and pitch upwards.

    Args:
        pitches: lowest and highest; those that occur unless given.
    """
    low, high = pitches or _range([score])
    rows = high - low + 1
    quarters = max(1.0, min(MOST_QUARTERS, score.length))
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)

    def across(time: float) -> float:
        return time / quarters * width

    def down(pitch: float) -> float:
        return (high + 1 - pitch) / rows * height

    for pitch in range(low, high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            draw.rectangle((0, down(pitch + 1), width, down(pitch)), fill=BLACK_KEY)
    time = score.pickup or score.bar
    while time < quarters:
        draw.line((across(time), 0, across(time), height), fill=LINE)
        time += score.bar
    for k, part in enumerate(score.parts):
        for note in part.notes:
            left, right = across(note.start), across(note.start + note.length)
            gap = 1 if right - left > 3 else 0  # repeated notes are to be told apart
            box = (
                left,
                down(note.pitch + 1),
                max(left + 1, right - gap),
                max(down(note.pitch + 1) + 1, down(note.pitch) - 1),
            )
            draw.rectangle(box, fill=COLOURS[k % len(COLOURS)])
    return image


def music_sheet(raws: Sequence[Score], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """All of them side by side, on one scale of pitch; ``scale`` enlarges them by a whole number."""
    n = max(1, len(raws))
    columns = columns or max(1, min(n, math.ceil(math.sqrt(n))))
    rows = -(-n // columns)
    side, margin = SIDE * (scale or 1), MARGIN
    high = side * 2 // 3
    sheet = Image.new("RGB", (columns * (side + margin) + margin, rows * (high + margin) + margin), "#dddddd")
    pitches = _range(raws)
    for i, raw in enumerate(raws):
        at = (margin + i % columns * (side + margin), margin + i // columns * (high + margin))
        sheet.paste(piano_roll(raw, side, high, pitches), at)
    return sheet


def _range(raws: Sequence[Score]) -> tuple[int, int]:
    """The pitches of all of them, and some around where these are few."""
    found = [note.pitch for raw in raws for part in raw.parts for note in part.notes] or [60]
    low, high = min(found) - 1, max(found) + 1
    more = max(0, LEAST_PITCHES - (high - low + 1))
    return max(0, low - more // 2), min(127, high + (more + 1) // 2)
