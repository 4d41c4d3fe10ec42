"""What all forms of shapes have in common: how their files are read, and how they are looked at and measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image

from kuosan.modalities.base import Modality, Unreadable
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.shape_draw import animation, shape_sheet
from kuosan.modalities.shape_gather import read_shapes
from kuosan.modalities.shape_raw import Shape
from kuosan.modalities.shape_wishes import ShapeWishes


class ShapesModality(Modality[Shape]):
    """Shapes in whatever form; `solid` where decoded ones have a closed surface."""

    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["shape"]
    noun: ClassVar[str] = "shapes"
    ending: ClassVar[float] = 80.0
    solid: ClassVar[bool] = True

    @property
    @abstractmethod
    def ruler(self) -> float:
        """What lengths are measured in, in the files' unit."""

    @property
    @abstractmethod
    def up(self) -> str:
        """The axis of files that is up, or auto: what their format says."""

    @abstractmethod
    def wishing(self, wishes: ShapeWishes) -> ShapesModality:
        """The same whose decoded shapes are as is asked for.  Raises `UserError` where they cannot be."""

    def read(self, path: Path | str) -> Shape:
        """The shape of a file, the first where it holds several.  Raises `Unreadable`."""
        try:
            return next(iter(read_shapes(Path(path), self.up))).shape
        except Unreadable as error:
            raise Unreadable(error.reason, path) from None

    def show(
        self, raws: Sequence[Shape], columns: int | None = None, scale: int | None = None
    ) -> Image.Image:
        """All shapes on one sheet, seen from their front, a little from the right and above."""
        return shape_sheet(raws, columns, scale)

    def clip(self, raw: Shape) -> tuple[str, bytes] | None:
        """A turn about the vertical."""
        return "image/webp", animation(raw)
