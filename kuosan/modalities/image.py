"""Pictures: files on one side, states (b, c, h, w) in [-1, 1] on the other.

With the range low … high of the data set's format,

    x = 2 (v - low) / (high - low) - 1,        v = low + (x + 1) (high - low) / 2                      (1)

and decoding clips x to [-1, 1] and rounds v.  float32 carries 24 bits, so (1) is exact both ways for 8 and 16
bits, and within 1e-6 of the range for floating-point pictures.

Pictures of a folder are brought to one size, and stand in one tensor; or they keep their own, and a state is a crop of
one (`crops`); or each has the nearest of several shapes (`shapes`), of which a batch of training has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import BESIDE, PICTURE
from kuosan.errors import UserError
from kuosan.modalities import tiff
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.beside import Beside, beside_from
from kuosan.modalities.folder import Folder
from kuosan.modalities.grid import grid_picture
from kuosan.modalities.image_format import ImageFormat
from kuosan.modalities.image_gather import gather_pictures
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.loose import Loose
from kuosan.modalities.picture_file import read_picture
from kuosan.modalities.pixels import Picture, Pixels, convert
from kuosan.modalities.resize import cover, nearest


@register
class ImageModality(Modality[Picture]):
    """Pictures in one format: any channel count, 1, 8 or 16 bits or floating point, any shape."""

    name: ClassVar[str] = "image"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["image"]
    noun: ClassVar[str] = "pictures"
    axes: ClassVar[tuple[str, ...]] = PICTURE

    def __init__(
        self,
        format: ImageFormat,
        *,
        beside: Beside | None = None,
        crops: bool = False,
        shapes: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.format, self.beside, self.crops = format, beside, crops
        self.shapes = tuple((int(height), int(width)) for height, width in shapes)

    def like(self, **other: Any) -> ImageModality:
        """The same but for these arguments."""
        own = {"format": self.format, "beside": self.beside, "crops": self.crops, "shapes": self.shapes}
        return ImageModality(**(own | other))

    def __repr__(self) -> str:
        f = self.format
        return f"ImageModality({f.height}×{f.width}, {f.mode}, {f.dtype}, {f.low:g}…{f.high:g})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one state."""
        return self.format.channels, self.format.height, self.format.width

    def described_form(self) -> str:
        f = self.format
        what = {1: "grey", 3: "colour"}.get(f.channels, f"{f.channels}-channel")
        return f"{what} {self.noun} of {f.height}×{f.width} pixels"

    def plain(self, size: tuple[int, int]) -> ImageModality:
        """Pictures in the same form at another size, with nothing beside them."""
        return ImageModality(replace(self.format, height=size[0], width=size[1]))

    def small(self, storage: Tensor | Loose) -> Tensor:
        """What is kept of what stands beside items: see `Beside.small`."""
        assert self.beside is not None
        pixels = self._dense(storage, None)
        return self.beside.small(self._state(pixels), pixels[:, self.format.channels :])

    def shown(self, small: Tensor) -> Tensor:
        assert self.beside is not None
        return self.beside.shown(small)

    def shelves(self, storage: Tensor | Loose) -> list[Tensor]:
        if not self.shapes or isinstance(storage, Tensor):
            return []
        sizes = storage.sizes
        found = [torch.tensor([i for i, size in enumerate(sizes) if size == shape]) for shape in self.shapes]
        return [index for index in found if len(index)]

    @property
    def beside_channels(self) -> int:
        return self.beside.channels if self.beside else 0

    @property
    def level(self) -> float | None:
        return None if self.format.dtype == "float32" else 2 / (self.format.high - self.format.low)

    @property
    def scale(self) -> float:
        return (self.format.high - self.format.low) / 2

    def sized(self, sides: Sequence[int]) -> ImageModality:
        height, width = sides
        return self.like(format=replace(self.format, height=height, width=width), shapes=())

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_pictures`, whose options these are."""
        return gather_pictures(folder, cls, like if isinstance(like, ImageModality) else None, **options)

    def spec(self) -> Spec:
        out: Spec = {"modality": self.name, "format": self.format.to_json()}
        out |= {"beside": self.beside.spec()} if self.beside else {}
        out |= {"crops": True} if self.crops else {}
        return out | ({"shapes": [list(shape) for shape in self.shapes]} if self.shapes else {})

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> ImageModality:
        return cls(
            ImageFormat.from_json(spec["format"]), beside=beside_from(spec.get("beside")),
            crops=spec.get("crops", False), shapes=spec.get("shapes", ()),
        )  # fmt: skip

    def read(self, path: Path | str) -> Picture:
        """One picture in its own mode, depth and size.  Raises `Unreadable`."""
        return read_picture(Path(path))

    def fit(self, raw: Picture, size: tuple[int, int] | None = None) -> Picture:
        """The picture in this format, or at another size: resized to cover and cropped, then converted.  Raises
        `Unreadable`."""
        f = self.format
        height, width = size or (f.height, f.width)
        mode, pixels = raw.mode, raw.pixels
        if mode == "1" and pixels.shape[:2] != (height, width):
            mode, pixels = "L", convert(pixels, "1", "L", "uint8")
        pixels = convert(cover(pixels, mode, height, width), mode, f.mode, f.dtype)
        if pixels.shape[2] != f.channels:
            raise Unreadable(f"it has {pixels.shape[2]} channels where {f.channels} are expected")
        return Picture(pixels, f.mode)

    def kept(self, raw: Picture, room: int) -> Pixels:
        """What storage keeps of a picture (h, w, c): the picture in this format; of one that is to be cropped, no less
        than a crop, as it is, or a square of its middle with ``room`` values a side, where it has more.  Raises
        `Unreadable`."""
        if not self.crops:
            return self.fit(raw, self._nearest(raw)).pixels
        least, (h, w) = (self.format.height, self.format.width), raw.pixels.shape[:2]
        scale = max(1.0, *(n / m for n, m in zip(least, (h, w), strict=True)))
        pixels = self.fit(raw, (math.ceil(h * scale), math.ceil(w * scale))).pixels
        top, left = (max(0, n - max(room, m)) // 2 for n, m in zip(pixels.shape, least, strict=False))
        height, width = (max(room, m) for m in least)
        return pixels[top : top + height, left : left + width]

    def _nearest(self, raw: Picture) -> tuple[int, int] | None:
        """The shape whose aspect is nearest to a picture's; None where there is one shape."""
        h, w = raw.pixels.shape[:2]
        return min(self.shapes, key=lambda s: abs(math.log(s[1] / s[0] * h / w)), default=None)

    def encode(self, raws: Sequence[Picture]) -> Float[Tensor, "b c h w"]:
        """States of pictures, which are brought to this format first."""
        if not raws:
            return torch.empty(0, *self.shape)
        stack = np.stack([self.fit(raw).pixels for raw in raws])
        return self.to_state(torch.from_numpy(np.ascontiguousarray(np.moveaxis(stack, -1, 1))))

    def decode(self, x: Float[Tensor, "b c h w"]) -> list[Picture]:
        """Pictures of states: clipped, and rounded where the depth is one of integers."""
        f = self.format
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"expected states of shape (b, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}"
            )
        unit = (x.detach().to("cpu", torch.float64).clamp(-1, 1).numpy() + 1) / 2
        values = f.low + unit * (f.high - f.low)
        if f.dtype != "float32":
            values = np.rint(values)
        pixels = np.ascontiguousarray(np.moveaxis(values, 1, -1)).astype(f.dtype)
        return [Picture(one, f.mode) for one in pixels]

    def to_state(self, storage: Tensor, seeds: Seeds | None = None) -> Float[Tensor, "b c h w"]:
        """Storage (b, c, h, w) in the depth of the format as float32 by equation (1); a picture has one view."""
        return self._state(self._dense(storage, seeds))

    def _state(self, pixels: Tensor) -> Float[Tensor, "b c h w"]:
        f = self.format
        x = pixels[:, : f.channels].to(torch.float32, copy=True)
        return x.sub_(f.low).mul_(2 / (f.high - f.low)).sub_(1)

    def _dense(self, storage: Tensor | Loose, seeds: Seeds | None) -> Tensor:
        """Of one size: all that there is of each, a crop of it, or itself brought to the size of the format."""
        f = self.format
        if isinstance(storage, Tensor):
            return storage
        if self.crops:
            return storage.crops(f.height, f.width, seeds)
        return storage.stacked() if seeds is not None else self._common(storage)

    def _common(self, storage: Loose) -> Tensor:
        """Items of several shapes at the size of the format, of which no batch of training is asked."""
        f, out = self.format, []
        for item in storage.items:
            pixels = item.movedim(0, -1).numpy()
            colours = cover(pixels[..., : f.channels], f.mode, f.height, f.width)
            plane = nearest(pixels[..., f.channels :], f.height, f.width)
            out.append(torch.from_numpy(np.concatenate([colours, plane], -1)).movedim(-1, 0))
        return torch.stack(out)

    def labels(
        self,
        labels: dict[str, Tensor],
        words: Mapping[str, Sequence[str]],
        storage: Tensor | Loose,
        seeds: Seeds | None,
    ) -> dict[str, Tensor]:
        """The items' own, and what stands beside them, where something does."""
        if self.beside is None:
            return labels
        pixels = self._dense(storage, seeds)
        plane = pixels[:, self.format.channels :]
        return {**labels, BESIDE: self.beside.of(self._state(pixels), plane, seeds)}

    def write(self, raw: Picture, path: Path | str) -> Path:
        """Writes without loss: `.png` where PNG can hold the picture, `.tif` always.

        A path without suffix gets the format's own.  Raises `UserError` for a suffix that cannot hold it.
        """
        path = Path(path)
        path = path if path.suffix else path.with_suffix(self.format.suffix)
        suffix = path.suffix.lower()
        if suffix in (".tif", ".tiff"):
            tiff.write(raw, path)
        elif suffix == ".png" and raw.pixels.dtype != np.float32 and raw.mode in _PNG_MODES:
            _write_png(raw, path)
        else:
            what = f"{raw.mode} pictures of {raw.pixels.dtype}"
            raise UserError(f"{path.name} cannot hold {what} without loss; name it {path.stem}.tif.")
        return path

    def show(
        self, raws: Sequence[Picture], columns: int | None = None, scale: int | None = None
    ) -> Image.Image:
        """All pictures on one sheet; see `grid_picture`."""
        return grid_picture(raws, columns, scale, low=self.format.low, high=self.format.high)


_PNG_MODES = ("1", "L", "LA", "RGB", "RGBA")


def _write_png(raw: Picture, path: Path) -> None:
    pixels = raw.pixels[..., 0] if raw.pixels.shape[2] == 1 else raw.pixels
    pixels = np.ascontiguousarray(pixels)
    if pixels.dtype == np.uint16:
        import imagecodecs  # Pillow writes 16 bits of grey only

        path.write_bytes(imagecodecs.png_encode(pixels))
    elif raw.mode == "1":
        Image.fromarray(pixels.astype(bool)).save(path)
    else:
        Image.fromarray(pixels).save(path)
