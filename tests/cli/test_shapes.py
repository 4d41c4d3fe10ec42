"""What `kuosan sample` can be asked of shapes, and what it refuses in a sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kuosan.cli.sample_music import formats_of
from kuosan.cli.sample_shapes import constrained
from kuosan.errors import UserError
from kuosan.modalities import ImageFormat, ImageModality, ShapeForm, ShapeModality, ShapeWishes


def run(modality: Any) -> Any:
    return SimpleNamespace(modality=modality, path=Path("runs/x"))


def test_wishes_go_into_the_modality_of_the_run_and_into_no_other() -> None:
    shapes = run(ShapeModality(ShapeForm((8, 8, 8), 1.0)))
    assert constrained(shapes, None, False, False) is shapes
    made = constrained(shapes, "xy", True, True)
    assert made.modality.wishes == ShapeWishes("xy", True, True)
    assert shapes.modality.wishes == ShapeWishes()
    assert made.modality.spec() == shapes.modality.spec()
    pictures = run(ImageModality(ImageFormat(6, 5, 3, "RGB", "uint8", 0.0, 255.0)))
    for axes, flat, whole, flag in (
        ("x", False, False, "--symmetric"),
        (None, True, False, "--flat-base"),
        (None, False, True, "--one-piece"),
    ):
        with pytest.raises(UserError, match=f"{flag} is for shapes"):
            constrained(pictures, axes, flat, whole)
    with pytest.raises(UserError, match="--symmetric z"):
        constrained(shapes, "z", False, False)


@pytest.mark.parametrize("suffix", [".glb", ".stl", ".vox"])
def test_other_formats_come_beside_the_own_one(suffix: str) -> None:
    shapes = run(ShapeModality(ShapeForm((8, 8, 8), 1.0, suffix=suffix)))
    assert formats_of(shapes, "glb, .STL,vox", None) == [
        k for k in ("glb", "stl", "vox") if f".{k}" != suffix
    ]
    with pytest.raises(UserError, match="shapes are not written as dae"):
        formats_of(shapes, "dae", None)
