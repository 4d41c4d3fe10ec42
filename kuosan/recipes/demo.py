"""Real data for a first try: 1,797 handwritten digits that come with scikit-learn.

They are 8×8 pictures of 17 grey levels by 13 writers: the test half of Alpaydin & Kaynak (1998), "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, doi 10.24432/C50P49. They are written out
as PNG files because that is what people have: the demo then does exactly what anybody's own folder would get.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from kuosan.errors import UserError

EVERY = 5  # each fifth picture of a digit is held out: 360 of 1,797
TOP = 16.0  # the brightest level in scikit-learn's file


def write_digits(folder: Path) -> Path:
    """Write ``folder/{train,val}/DIGIT/NUMBER.png``, the same files each time; those that are there are left.

    Raises:
        UserError: the folder cannot be written.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / TOP)).astype(np.uint8)
    seen = dict.fromkeys(range(10), 0)
    try:
        for number, (picture, digit) in enumerate(zip(pixels, digits.target.tolist(), strict=True)):
            seen[digit] += 1
            side = "val" if seen[digit] % EVERY == 0 else "train"
            path = folder / side / str(digit) / f"{number:04d}.png"
            if not _holds(path, picture):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_png(picture))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another place with --out"
        ) from error
    return folder


def _holds(path: Path, picture: np.ndarray) -> bool:
    """Whether a file holds these pixels: a demo that was killed may have left half of one."""
    try:
        with Image.open(path) as image:
            return image.mode == "L" and np.array_equal(np.asarray(image), picture)
    except (OSError, SyntaxError):  # absent, or no PNG any more
        return False


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
