"""What `kuosan sample` can be asked of shapes, and what it refuses in a sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kuosan.cli.sample_music import formats_of
from kuosan.cli.sample_shapes import about_empty, constrained
from kuosan.errors import UserError
from kuosan.modalities import ImageFormat, ImageModality, ShapeForm, ShapeModality, ShapeWishes
from kuosan.recipes.samples import Samples


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


def test_empty_shapes_are_named() -> None:
    modality = ShapeModality(ShapeForm((8, 8, 8), 1.0))
    x = torch.ones(4, *modality.shape)
    x[1, 0, 2:6, 2:6, 2:6] = -1
    text, numbers = about_empty(Samples(x, {}, 10, modality))
    assert numbers == {"empty": [10, 12, 13]}
    assert "3 of 4 are empty" in text and "(00010, 00012, 00013)" in text and "--seed" in text
    assert about_empty(Samples(x[1:2], {}, 0, modality)) == ("", {"empty": []})
    pictures = ImageModality(ImageFormat(6, 5, 3, "RGB", "uint8", 0.0, 255.0))
    assert about_empty(Samples(torch.zeros(1, 3, 6, 5), {}, 0, pictures)) == ("", {})


@pytest.mark.parametrize("suffix", [".glb", ".stl", ".vox"])
def test_other_formats_come_beside_the_own_one(suffix: str) -> None:
    shapes = run(ShapeModality(ShapeForm((8, 8, 8), 1.0, suffix=suffix)))
    assert formats_of(shapes, "glb, .STL,vox", None) == [
        k for k in ("glb", "stl", "vox") if f".{k}" != suffix
    ]
    with pytest.raises(UserError, match="shapes are not written as dae"):
        formats_of(shapes, "dae", None)
