"""Points: shapes on one side, clouds of points (b, 3, n) on the other.

What a state holds says `points_form`.  Meshes, blocks and voxels become points spread over their surface; of the points
of a cloud some are taken.  What a model makes is written as points (PLY, NPZ), or as the closed surface of what they
enclose (STL, GLB, OBJ, OFF).  Colours and normals are not kept.

No number of a state has a place of its own: a shape with its points in another order is the same state.  Networks over
it have no positions (`networks.transformer`), and states are compared by where their points lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.base import Gathered, Modality, Read, Spec, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.places import places
from kuosan.modalities.points_form import PointsForm
from kuosan.modalities.shape_frame import AXES, OF_GRID
from kuosan.modalities.shape_mesh_file import UP, write_mesh, write_points
from kuosan.modalities.shape_raw import Cloud, Shape
from kuosan.modalities.shape_wishes import ShapeWishes
from kuosan.modalities.shapes import ShapesModality

SIDES = {"x": 0, "y": 1}  # the number of a point that a mirror turns


@register
class PointsModality(ShapesModality):
    """Clouds in one `form`; decoded ones are their own mirror images along the axes of `symmetric`."""

    name: ClassVar[str] = "points"
    files_of: ClassVar[str] = "shape"
    axes: ClassVar[tuple[str, ...]] = ("point",)
    unordered: ClassVar[bool] = True
    solid: ClassVar[bool] = False
    formats: ClassVar[tuple[str, ...]] = ("ply", "npz", "stl", "glb", "obj", "off")

    def __init__(self, form: PointsForm, symmetric: str = "") -> None:
        self.form, self.symmetric = form, symmetric

    def __repr__(self) -> str:
        return f"PointsModality({self.described_form()})"

    @property
    def shape(self) -> tuple[int, int]:
        """(3, n) of one state."""
        return 3, self.form.count

    @property
    def scale(self) -> float:
        return self.form.spread

    @property
    def ruler(self) -> float:
        """The standard deviation of positions."""
        return self.form.spread

    @property
    def up(self) -> str:
        return self.form.up

    def wishing(self, wishes: ShapeWishes) -> PointsModality:
        if wishes.flat_base or wishes.one_piece:
            raise UserError(
                "flat bases and single pieces are of shapes with a surface, and this model makes points: leave "
                "--flat-base and --one-piece away"
            )
        return PointsModality(self.form, wishes.symmetric)

    def described_form(self) -> str:
        return f"{self.noun} of {self.form.count:,} points"

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `points_gather.gather_points`, also for the options."""
        from kuosan.modalities.points_gather import gather_points

        own = {name: options[name] for name in ("side", "points", "scale", "up", "mirror") if name in options}
        return gather_points(folder, like if isinstance(like, PointsModality) else None, **own)

    def spec(self) -> Spec:
        return {"modality": self.name, "form": self.form.to_json()}

    def resolved(self) -> dict[str, Any]:
        return {"modality": "shape", "form": "points", "size": self.form.count, "mirror": self.form.mirror or "none",
                "scale": "each" if self.form.longest else "common"}  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> PointsModality:
        return cls(PointsForm.of_json(spec["form"]))

    def fit(self, raw: Shape, count: int) -> NDArray[np.float32]:
        """The storage (3, count) of one shape: that many of its points, always the same."""
        return self.form.states(raw.points_of(count), raw.bounds)

    def encode(self, raws: Sequence[Shape]) -> Float[Tensor, "b 3 n"]:
        if not raws:
            return torch.empty(0, *self.shape)
        return torch.from_numpy(np.stack([self.fit(raw, self.form.count) for raw in raws]))

    def decode(self, x: Float[Tensor, "b 3 n"]) -> list[Shape]:
        """Clouds of states."""
        if x.ndim != 3 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"expected states of shape (b, 3, {self.form.count}), got {tuple(x.shape)}")
        x = mirrored(x.detach().to("cpu", torch.float32), self.symmetric)
        return [Cloud(self.form.positions(one)) for one in x]

    def to_state(self, storage: Tensor, seeds: Seeds | None = None) -> Float[Tensor, "b 3 n"]:
        """The first points of storage (b, 3, kept); with seeds any of them, half of the items in each mirror."""
        if seeds is None:
            return storage[:, :, : self.form.count].clone()
        b, _, kept = storage.shape
        order = seeds.fold("points").uniform(torch.empty(b, kept, dtype=torch.float64)).argsort(1)
        index = order[:, None, : self.form.count].expand(-1, 3, -1)
        x = storage.gather(2, index)
        for axis in self.form.mirror:
            turned = seeds.fold("mirror", axis).uniforms() < 0.5
            x[turned, SIDES[axis]] *= -1
        return x

    @property
    def compared_axes(self) -> tuple[str, ...]:
        return AXES

    def compared(self, x: Float[Tensor, "b 3 n"]) -> Float[Tensor, "b 1 d h w"]:
        """Where points lie: `PointsForm.density`."""
        return self.form.density(x)

    def region(self, axis: str, text: str, x: Float[Tensor, "b 3 n"]) -> Bool[Tensor, "b 3 n"]:
        """The points that lie between places along depth, height or width, in hundredths of the way from an item's one
        end to its other, or along ``point`` some of them wherever they lie."""
        if axis not in AXES:
            return super().region(axis, text, x)
        along = x[:, OF_GRID[AXES.index(axis)]]
        low, high = along.amin(1, keepdim=True), along.amax(1, keepdim=True)
        found = places(text, axis, 100)
        at = (along - low) / (high - low).clamp_min(1e-12) * 100
        inside = (at >= found.start) & ((at < found.stop) | (found.stop == 100))
        return inside[:, None].expand_as(x)

    def showing(self, x: Float[Tensor, "b 3 n"], mask: Bool[Tensor, "m 3 n"]) -> Float[Tensor, "b 3 n"]:
        """The points that are not given lie where one that is does."""
        whole = mask.all(1, keepdim=True).expand_as(x)
        return torch.where(whole, x, x.gather(2, whole.int().argmax(2, keepdim=True)))

    def coloured(self, x: Float[Tensor, "1 3 n"], colours: NDArray[np.uint8]) -> Image.Image:
        return self.show([Cloud(self.form.positions(x[0].cpu()), colours)], 1)

    def write(self, raw: Shape, path: Path | str) -> Path:
        """Writes points, or the surface around them where the suffix can hold none (`formats`).

        Raises `UserError` for a suffix that cannot hold either.
        """
        path = Path(path)
        path = path if path.suffix else path.with_suffix(self.form.suffix)
        suffix = path.suffix.lower()
        points = raw.points_of(self.form.count)
        if suffix == ".ply":
            return write_points(points, path, self.form.up)
        if suffix == ".npz":
            np.savez_compressed(path, points=points, up=np.array("z"))
        elif suffix in UP and suffix != ".gltf":
            write_mesh(raw.solid(), path, self.form.up)
        else:
            able = ", ".join(self.formats)
            raise UserError(
                f"{path.name}: clouds of points are not written as {suffix}; choose one of {able}."
            )
        return path


def mirrored(x: Float[Tensor, "b 3 n"], axes: str) -> Float[Tensor, "b 3 n"]:
    """With half of the points and their mirror images, along each of `axes`: of the side on which more are, those that
    lie nearest to the mirror last; what is symmetric already stays, in another order."""
    for axis in axes:
        along = SIDES[axis]
        side = torch.where((x[:, along] > 0).sum(1) > (x[:, along] < 0).sum(1), 1.0, -1.0)
        order = (x[:, along] * side[:, None]).argsort(1, descending=True)
        n = x.shape[2]
        half = x.gather(2, order[:, None, : (n + 1) // 2].expand(-1, 3, -1))
        if n % 2:  # the one without a partner lies on the mirror
            half[:, along, -1] = 0
        other = half.clone()
        other[:, along] *= -1
        x = torch.cat([half, other], 2)[:, :, :n]
    return x
