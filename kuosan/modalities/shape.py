"""Shapes: meshes, voxels and clouds of points on one side, states (b, c, depth, height, width) on the other.

What a state holds says `shape_form`.  A mesh is written as the surface where its distance is 0, which is always closed
(`shape_surface`); painted blocks are written as MagicaVoxel's files, or as closed meshes with colours.

What is lost: where a surface lies between cells is kept to about a tenth of a cell, edges are rounded to about half of
one, parts thinner than one and a half cells become as thick as that (`shape_distance`), and of the colours of meshes
nothing is kept.  Blocks come back exactly, but for those that had to be shrunk.

In training a shape is also seen in a mirror, along the axes of `form.mirror`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import shape_vox
from kuosan.modalities.base import Gathered, Modality, Read, Spec, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.shape_arrays import write_field
from kuosan.modalities.shape_form import ShapeForm
from kuosan.modalities.shape_frame import AXES
from kuosan.modalities.shape_gather import gather_shapes
from kuosan.modalities.shape_mesh_file import UP, write_mesh
from kuosan.modalities.shape_raw import Blocks, Field, Shape
from kuosan.modalities.shape_wishes import MIRRORS, ShapeWishes
from kuosan.modalities.shapes import ShapesModality

LEVELS = 255


@register
class ShapeModality(ShapesModality):
    """Shapes in one `form`."""

    name: ClassVar[str] = "shape"
    axes: ClassVar[tuple[str, ...]] = AXES
    formats: ClassVar[tuple[str, ...]] = ("glb", "stl", "obj", "ply", "off", "vox", "npz")
    colours: ClassVar[int] = shape_vox.COLOURS
    """How many colours of painted blocks are told apart, unless somebody asks."""

    def __init__(self, form: ShapeForm, wishes: ShapeWishes | None = None) -> None:
        """`wishes` are kept by decoded shapes."""
        self.form, self.wishes = form, wishes or ShapeWishes()
        own = form.suffix[1:]
        self.formats = (own, *(kind for kind in type(self).formats if kind != own))  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"ShapeModality({self.described_form()})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, depth, height, width) of one state."""
        return (self.form.channels, *self.form.sides)

    @property
    def level(self) -> float | None:
        return 2 / LEVELS

    @property
    def ruler(self) -> float:
        """A cell."""
        return self.form.cell

    @property
    def up(self) -> str:
        return self.form.up

    def wishing(self, wishes: ShapeWishes) -> ShapeModality:
        return type(self)(self.form, wishes)

    def described_form(self) -> str:
        depth, height, width = self.form.sides
        what = (
            "of painted blocks"
            if self.form.palette
            else "of blocks"
            if self.form.blocks
            else "by their surface"
        )
        return f"{self.noun} {what} on {width}×{depth}×{height} cells"

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_shapes`, also for the options; as distances, or of ``form`` voxels as cells of one value each
        (`voxels`), or points (`points`)."""
        from kuosan.modalities.points import PointsModality
        from kuosan.modalities.voxels import VoxelModality

        form = options.pop("form", "auto")
        if form == "points" or isinstance(like, PointsModality):
            return PointsModality.gather(folder, like, **options)
        options.pop("points", None)
        kind = (
            type(like)
            if isinstance(like, ShapeModality)
            else VoxelModality
            if form == "voxels"
            else ShapeModality
        )
        return gather_shapes(folder, kind, like if isinstance(like, ShapeModality) else None, **options)

    def spec(self) -> Spec:
        return {"modality": self.name, "form": self.form.to_json()}

    def resolved(self) -> dict[str, Any]:
        return {"size": max(self.form.sides), "scale": "each" if self.form.each else "common",
                "mirror": self.form.mirror or "none"}  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> ShapeModality:
        return cls(ShapeForm.of_json(spec["form"]))

    def fit(self, raw: Shape) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The storage (c, depth, height, width) of one shape."""
        form = self.form
        frame = raw.standing(form.frame, form.each)
        planes = [raw.distances(frame, form.reach)[None] / form.reach]
        values = np.rint((planes[0] + 1) * (LEVELS / 2)).astype(np.uint8)
        if not form.palette:
            return values
        paint = raw.colours(frame)
        if paint is None:
            paint = np.broadcast_to(
                np.array(form.palette, np.uint8)[len(form.palette) // 2], (*form.sides, 3)
            )
        near = form.nearest(paint.reshape(-1, 3)).reshape(*form.sides, 3)
        return np.concatenate([values, np.moveaxis(near, -1, 0)])

    def encode(self, raws: Sequence[Shape]) -> Float[Tensor, "b c d h w"]:
        if not raws:
            return torch.empty(0, *self.shape)
        return self.to_state(torch.from_numpy(np.stack([self.fit(raw) for raw in raws])))

    def decode(self, x: Float[Tensor, "b c d h w"]) -> list[Shape]:
        """Fields of states, or blocks."""
        if x.ndim != 5 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"expected states of shape (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}"
            )
        form, values = self.form, self._as_asked(x)
        if form.blocks:
            return self._blocks(values)
        return [Field(one[0] * np.float32(form.reach), form.frame) for one in values.numpy()]

    def _as_asked(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        return self.wishes(x.detach().to("cpu", torch.float32).clamp(-1, 1), self.form.reach)

    def _blocks(self, values: Float[Tensor, "b c d h w"]) -> list[Shape]:
        """Blocks where the distance is negative."""
        form, shapes = self.form, list[Shape]()
        for one in values.numpy():
            filled, paint = one[0] < 0, None
            if form.palette:
                paint = np.rint((np.moveaxis(one[1:], 0, -1) + 1) * (LEVELS / 2)).astype(np.uint8)
                paint = form.nearest(paint.reshape(-1, 3)).reshape(*form.sides, 3)
            shapes.append(Blocks.of_grid(filled, paint, form.cell))
        return shapes

    def to_state(self, storage: Tensor, seeds: Seeds | None = None) -> Float[Tensor, "b c d h w"]:
        """Storage (b, c, depth, height, width) by eq. 1 of `shape_form`; with seeds, half of them in each mirror."""
        return self.views(storage, seeds).to(torch.float32).mul_(2 / LEVELS).sub_(1)

    def views(self, storage: Tensor, seeds: Seeds | None) -> Tensor:
        """Storage with some items in a mirror."""
        for axis in self.form.mirror if seeds is not None else "":
            assert seeds is not None
            turned = seeds.fold("mirror", axis).uniforms() < 0.5
            storage = torch.where(turned.view(-1, 1, 1, 1, 1), storage.flip(MIRRORS[axis]), storage)
        return storage

    def write(self, raw: Shape, path: Path | str) -> Path:
        """Writes `form.suffix`, or what the suffix says: a mesh, a .vox file, or .npz of the distances.

        Raises `UserError` for a suffix that cannot hold it.
        """
        path = Path(path)
        path = path if path.suffix else path.with_suffix(self.form.suffix)
        suffix = path.suffix.lower()
        if suffix in UP and suffix != ".gltf":
            return write_mesh(raw.solid(), path, self.form.up)
        frame = raw.standing(self.form.frame, self.form.each)
        if suffix == ".vox":
            blocks = raw.blocks(frame)
            paint = np.full_like(blocks.positions, 190, np.uint8) if blocks.paint is None else blocks.paint
            shape_vox.write_vox(blocks.positions, paint.astype(np.uint8), path)
        elif suffix == ".npz":
            write_field(Field(raw.distances(frame, self.form.reach), frame), path)
        else:
            able = ", ".join(self.formats)
            raise UserError(f"{path.name}: shapes are not written as {suffix}; choose one of {able}.")
        return path
