"""Pictures of motions: stick figures before a fixed camera.

The camera looks from the front, a little from the side and from above, without perspective; lines on the floor are a
metre apart. Left limbs, right limbs and the rest have a colour each, which tells a walk to the left from one to the
right.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw
from scipy.spatial.transform import Rotation

from kuosan.errors import UserError
from kuosan.modalities.motion_form import unit_of
from kuosan.modalities.motion_names import part_of
from kuosan.modalities.motion_skeleton import Array, Motion, Skeleton, resampled

PAPER, FLOOR = "#ffffff", "#dfe3e8"
COLOURS = {"left": "#d9722b", "right": "#2f6db3", "": "#3b3f46"}
CAMERA = Rotation.from_euler("YX", [-30, 12], degrees=True).as_matrix().T
SIDE, CELL, MARGIN, POSES = 200, 72, 6, 9  # pixels of a film, of a pose; poses of a strip
FINE = 2  # drawn larger, then reduced
MOST_STRIPS = 40  # on one sheet
FILM_RATE, MOST_SECONDS = 15.0, 8.0  # of the film in a page


def seen(x: Array) -> Array:
    """Points (…, 3) as the camera has them: to the right and upwards, (…, 2)."""
    return np.asarray((x @ CAMERA.T)[..., :2])


def _colours(skeleton: Skeleton) -> list[str]:
    """Of every bone, by the joint that it leads to or hangs on."""
    sides = [part_of(name)[0] for name in skeleton.names]
    return [COLOURS[sides[c] if c < len(sides) else sides[p]] for p, c in skeleton.bones]


def _pose(
    draw: ImageDraw.ImageDraw, flat: Array, skeleton: Skeleton, colours: Sequence[str], width: int
) -> None:
    for (p, c), colour in zip(skeleton.bones, colours, strict=True):
        line = (*flat[p].tolist(), *flat[c].tolist())
        draw.line(line, fill=colour, width=width)
    if len(skeleton) == 1:
        x, y = flat[0].tolist()
        draw.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), fill=COLOURS[""])


def film(motion: Motion, side: int = SIDE) -> Iterator[Image.Image]:
    """Every frame of a motion, from one place, on one scale."""
    x = motion.points() * unit_of(motion.skeleton)[1]
    low = min(0.0, float(np.quantile(x[..., 1], 0.02)))
    ground = x[..., [0, 2]].reshape(-1, 2)
    begin, end = ground.min(0) - 0.5, ground.max(0) + 0.5
    corners = np.array([[u, low, w] for u in (begin[0], end[0]) for w in (begin[1], end[1])])
    flat = seen(x)
    box = np.concatenate([flat.reshape(-1, 2), seen(corners)])
    least, size = box.min(0), max(0.2, float(np.ptp(box, axis=0).max()))
    full = side * FINE
    zoom = 0.94 * full / size
    middle = least + np.ptp(box, axis=0) / 2

    def placed(points: Array) -> Array:
        away = (points - middle) * zoom
        return np.stack([full / 2 + away[..., 0], full / 2 - away[..., 1]], -1)

    paper = Image.new("RGB", (full, full), PAPER)
    draw = ImageDraw.Draw(paper)
    for axis in (0, 1):
        step = max(1.0, math.ceil((end[axis] - begin[axis]) / 40))
        for value in np.arange(math.ceil(begin[axis]), end[axis], step):
            line = np.array([[value, low, begin[1]], [value, low, end[1]]])
            if axis:
                line = np.array([[begin[0], low, value], [end[0], low, value]])
            draw.line([tuple(p) for p in placed(seen(line)).tolist()], fill=FLOOR, width=FINE)
    colours = _colours(motion.skeleton)
    for pose in placed(flat):
        image = paper.copy()
        _pose(ImageDraw.Draw(image), pose, motion.skeleton, colours, max(2, round(0.012 * full)))
        yield image.reduce(FINE)


def strip(motion: Motion, cell: int = CELL, poses: int = POSES) -> Image.Image:
    """Some frames of a motion beside one another, evenly in time, all on one scale."""
    x = motion.points()
    x = x - x[:, :1] * [1, 0, 1]
    flat = seen(x[np.linspace(0, len(x) - 1, min(poses, len(x))).round().astype(int)])
    low, high = flat.reshape(-1, 2).min(0), flat.reshape(-1, 2).max(0)
    zoom = 0.92 * cell * FINE / max(1e-9, float((high - low).max()))
    image = Image.new("RGB", (poses * cell * FINE, cell * FINE), PAPER)
    draw = ImageDraw.Draw(image)
    colours = _colours(motion.skeleton)
    for k, pose in enumerate(flat):
        away = (pose - (low + high) / 2) * zoom
        centre = np.array([(k + 0.5) * cell * FINE, 0.5 * cell * FINE])
        _pose(draw, centre + away * [1, -1], motion.skeleton, colours, max(2, round(0.03 * cell * FINE)))
    return image.reduce(FINE)


def motion_sheet(raws: Sequence[Motion], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """A strip of each, on one sheet."""
    raws = raws[:MOST_STRIPS]
    cell = CELL * (scale or 1)
    columns = columns or (1 if len(raws) <= 6 else 2)
    rows = max(1, -(-len(raws) // columns))
    wide, high = POSES * cell + MARGIN, cell + MARGIN
    sheet = Image.new("RGB", (columns * wide + MARGIN, rows * high + MARGIN), "#dddddd")
    for i, raw in enumerate(raws):
        sheet.paste(strip(raw, cell), (MARGIN + i % columns * wide, MARGIN + i // columns * high))
    return sheet


def gif_bytes(motion: Motion, side: int = SIDE, seconds: float | None = None, rate: float = 25.0) -> bytes:
    """A motion as an animated GIF that repeats."""
    slow = resampled(motion, min(rate, motion.rate))
    frames = list(
        film(slow if seconds is None else slow.part(0, max(1, math.ceil(seconds * slow.rate))), side)
    )
    colours = _palette()
    flat = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    out = io.BytesIO()
    flat[0].save(
        out, "GIF", save_all=True, append_images=flat[1:], duration=1000 / slow.rate, loop=0, optimize=True
    )
    return out.getvalue()


def _palette() -> Image.Image:
    """The colours of figures, on paper and half covered by it: more need not be in a file."""
    paper = np.array([255, 255, 255])
    inks = [np.array(ImageColor.getrgb(c)) for c in (FLOOR, *COLOURS.values())]
    found = [
        paper,
        *(np.rint(paper + (ink - paper) * k / 4).astype(int) for ink in inks for k in (1, 2, 3, 4)),
    ]
    image = Image.new("P", (1, 1))
    image.putpalette([int(v) for colour in found for v in colour])
    return image


def write_mp4(motion: Motion, path: Path, side: int = 2 * SIDE) -> None:
    """A motion as H.264.

    Raises:
        UserError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(f"{path.name} needs PyAV: run `pip install av`, or write .gif instead") from None
    from fractions import Fraction

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(motion.rate).limit_denominator(1001))
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for image in film(motion, side):
            file.mux(stream.encode(av.VideoFrame.from_image(image)))
        file.mux(stream.encode())
