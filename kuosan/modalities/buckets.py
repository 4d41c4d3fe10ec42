"""A few shapes for pictures of many, all of about one area: aspect-ratio buckets.

A network sees batches of one shape, and folders hold pictures of many. Cropped to one, wide ones lose their ends. So
each is brought to the nearest of a few shapes (height, width), multiples of a step, whose areas are that of the one
shape that there would be else (NovelAI 2022, "aspect ratio bucketing"; Podell et al. 2023, SDXL, sec. 2.3):

    what a crop to (h, w) keeps of a picture of aspect a = w/h is min(a/a′, a′/a)                              (1)

Shapes are added one by one, always the one that keeps most more of all pictures together, as long as it keeps `GAIN`
more; a picture belongs to the shape that keeps most of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from kuosan.modalities.base import Choice
from kuosan.modalities.pixels import Header

Shape = tuple[int, int]

MOST, WIDEST = 8, 4.0  # shapes, and the aspect of the widest
GAIN = 0.01  # of the area of all pictures that one more shape must save
LOST = 0.08  # of their area that crops to one shape may lose before there are several
FEWEST = 32  # pictures that are worth several


def kept(aspects: np.ndarray, shape: Shape) -> np.ndarray:
    """Eq. 1."""
    ratio = aspects / (shape[1] / shape[0])
    return np.minimum(ratio, 1 / ratio)


def candidates(area: int, step: int) -> list[Shape]:
    """Shapes of nearly this area, from tall to wide."""
    side = math.isqrt(area)
    heights = range(step, round(side * math.sqrt(WIDEST)) + step, step)
    found = {(h, max(step, round(area / h / step) * step)) for h in heights}
    near = [s for s in found if 0.8 <= s[0] * s[1] / area <= 1.15 and 1 / WIDEST <= s[1] / s[0] <= WIDEST]
    return sorted(near, key=lambda s: s[1] / s[0])


def choose_shapes(headers: Sequence[Header], main: Shape, asked: str) -> tuple[list[Shape], list[Choice]]:
    """The shapes of pictures that would all be cropped to ``main``, the one of most of them first; none where one is
    enough, or ``asked`` is "crop"; and why. "buckets" asks for several."""
    if asked == "crop":
        return [], []
    counts = np.array([header.count for header in headers], float)
    aspects = np.array([header.width / header.height for header in headers])
    weights = counts / counts.sum()
    lost = 1 - float(weights @ kept(aspects, main))
    if asked == "auto" and (lost <= LOST or counts.sum() < FEWEST):
        few = lost > LOST
        why = f"crops to one shape lose {lost:.0%} of the pictures' area"
        why += f", and {int(counts.sum())} are too few for several" if few else ""
        return [], [("data.aspect", "crop", why)] if lost > 0.005 else []
    # Those of one aspect may be larger than most of the pictures are; several shapes need not be.
    own = np.median(np.repeat([h.height * h.width for h in headers], [h.count for h in headers]))
    step, area = 8 if min(main) >= 32 else 4, int(min(main[0] * main[1], own))
    pool = candidates(area, step)
    if pool and area < main[0] * main[1]:
        main = max(pool, key=lambda shape: float(kept(np.array([main[1] / main[0]]), shape)[0]))
    chosen, best = [main], kept(aspects, main)
    while len(chosen) < MOST:
        gains = [float(weights @ np.maximum(best, kept(aspects, shape))) for shape in pool]
        if not gains or max(gains) - float(weights @ best) < GAIN:
            break
        chosen.append(pool.pop(int(np.argmax(gains))))
        best = np.maximum(best, kept(aspects, chosen[-1]))
    nearest = np.argmax([kept(aspects, shape) for shape in chosen], 0)
    held: Counter[Shape] = Counter()
    for i, n in zip(nearest, counts, strict=True):
        held[chosen[i]] += int(n)
    shapes = [shape for shape, _ in held.most_common()]
    if len(shapes) == 1:
        return [], [("data.aspect", "crop", f"one shape keeps {1 - lost:.0%} of the pictures' area")]
    words = ", ".join(f"{h}×{w} ({held[h, w]:,})" for h, w in shapes)
    why = f"crops to one shape would lose {lost:.0%} of the pictures' area, these lose {1 - float(weights @ best):.0%}"
    return shapes, [("data.aspect", f"buckets: {words}", why)]
