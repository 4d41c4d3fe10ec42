"""What stands beside pictures: what is known of every place of each, for a network that makes them to suit.

    Enlarging   the same picture, f times smaller, brought back to size: super-resolution
    Mapped      a map of what is where: one channel for each class

Both are functions of an item, (b, k, h, w) for pictures (b, c, h, w), and 0 means that nothing is known. `small` is
what has to be kept of one to show it again without its picture, which is also the form in which people give it: without
seeds, of(x, plane) = shown(small(x, plane)).

Enlarging: with A the mean over blocks of f×f and U bicubic interpolation,

    low = JPEG(A (blur ∗ x)),      beside = [ α_s U(low) + σ_s ε,  α_s ],    α = cos(πs/2), σ = sin(πs/2)      (1)

Blur, compression and noise are drawn for some of the examples of training only. With the noise a network learns to mend
what small pictures of elsewhere have that its own had not, told how much there is (Ho et al. 2022, "Cascaded diffusion
models", sec. 4: noise conditioning augmentation; Saharia et al. 2021, SR3).
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds

NOISY, NOISIEST = 0.5, 0.5  # share of the examples whose small picture has noise, and the largest s of eq. 1
SPOILT = 0.5  # share that is blurred, and share that is compressed, where that is asked for
UNKNOWN = 255  # in maps: nothing is known of that place


class Beside(ABC):
    """See the module."""

    kind: ClassVar[str]
    planes: ClassVar[int] = 0
    """Channels of the storage, behind those of the picture, that it is made of."""
    folder: str = ""
    """Of the maps, in the data."""
    classes: tuple[str, ...] = ()
    """What the numbers in maps mean."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """k."""

    @abstractmethod
    def of(self, x: Float[Tensor, "b c h w"], plane: Tensor, seeds: Seeds | None) -> Float[Tensor, "b k h w"]:
        """Of states and of the planes behind them in storage (b, planes, h, w); as training sees it with seeds."""

    @abstractmethod
    def small(self, x: Float[Tensor, "b c h w"], plane: Tensor) -> UInt8[Tensor, "b p i j"]:
        """What is kept of it."""

    @abstractmethod
    def shown(self, small: UInt8[Tensor, "b p i j"]) -> Float[Tensor, "b k h w"]:
        """What it says."""

    def settled(self, colours: int, classes: tuple[str, ...]) -> Beside:
        """For pictures of so many channels, and maps with these classes."""
        return self

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """JSON-able; `beside_from` makes it again."""


@dataclass(frozen=True)
class Enlarging(Beside):
    """Eq. 1.

    Args:
        factor: f.
        colours: channels of the pictures.
        blur: largest standard deviation in pixels of the small picture.
        jpeg: lowest quality that small pictures are compressed with; 0: none is.
    """

    factor: int
    colours: int
    blur: float = 0.0
    jpeg: int = 0
    kind: ClassVar[str] = "enlarging"

    @property
    def channels(self) -> int:
        return self.colours + 1

    def of(self, x: Float[Tensor, "b c h w"], plane: Tensor, seeds: Seeds | None) -> Float[Tensor, "b k h w"]:
        if seeds is None:
            return self.shown(self.small(x, plane))
        seeds = seeds.fold("beside")
        u = seeds.uniform(torch.empty(len(x), 6, dtype=torch.float64))
        blur = torch.where(u[:, 0] < SPOILT, self.blur * u[:, 1], 0.0)
        low = F.avg_pool2d(blurred(x, self.factor * blur), self.factor)
        if self.jpeg:
            quality = (self.jpeg + u[:, 3] * (96 - self.jpeg)).floor()
            low = torch.stack([compressed(one, int(q)) if v < SPOILT else one
                               for one, q, v in zip(low, quality, u[:, 2].tolist(), strict=True)])  # fmt: skip
        s = torch.where(u[:, 4] < NOISY, NOISIEST * u[:, 5], 0.0)
        alpha, sigma = ((f(math.pi / 2 * s)).to(x)[:, None, None, None] for f in (torch.cos, torch.sin))
        there = alpha * self.raised(low) + sigma * seeds.fold("noise").normal(torch.empty_like(x))
        return torch.cat([there, alpha.expand(-1, 1, *x.shape[2:])], 1)

    def small(self, x: Float[Tensor, "b c h w"], plane: Tensor) -> UInt8[Tensor, "b c i j"]:
        low = F.avg_pool2d(x, self.factor)
        return ((low + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def shown(self, small: UInt8[Tensor, "b c i j"]) -> Float[Tensor, "b k h w"]:
        return self.told(small.float() / 127.5 - 1)

    def told(self, low: Float[Tensor, "b c i j"]) -> Float[Tensor, "b k h w"]:
        """Eq. 1 of a small picture as it is."""
        x = self.raised(low)
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)

    def raised(self, low: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """U."""
        return F.interpolate(low, scale_factor=float(self.factor), mode="bicubic", align_corners=False).clamp(
            -1, 1
        )

    def settled(self, colours: int, classes: tuple[str, ...]) -> Enlarging:
        return replace(self, colours=colours)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, **vars(self)}


@dataclass(frozen=True)
class Mapped(Beside):
    """A channel for each class, 1 where it is."""

    folder: str
    classes: tuple[str, ...] = ()
    kind: ClassVar[str] = "map"
    planes: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        return len(self.classes)

    def of(self, x: Float[Tensor, "b c h w"], plane: Tensor, seeds: Seeds | None) -> Float[Tensor, "b k h w"]:
        return self.shown(self.small(x, plane))

    def small(self, x: Float[Tensor, "b c h w"], plane: Tensor) -> UInt8[Tensor, "b 1 h w"]:
        return plane.to(torch.uint8)

    def shown(self, small: UInt8[Tensor, "b 1 h w"]) -> Float[Tensor, "b k h w"]:
        return (small == torch.arange(self.channels, dtype=torch.uint8)[:, None, None]).float()

    def settled(self, colours: int, classes: tuple[str, ...]) -> Mapped:
        return replace(self, classes=self.classes or classes)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "classes": list(self.classes), "folder": self.folder}


def beside_from(spec: Mapping[str, Any] | None) -> Beside | None:
    """The inverse of `Beside.spec`; None of None."""
    if spec is None:
        return None
    leaves = {name: value for name, value in spec.items() if name != "kind"}
    return (
        Mapped(leaves["folder"], tuple(leaves["classes"]))
        if spec["kind"] == Mapped.kind
        else Enlarging(**leaves)
    )


def blurred(x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Each by a Gaussian of its own standard deviation in pixels; edges are repeated."""
    if not bool((sigma > 0).any()):
        return x
    b, c = x.shape[:2]
    reach = min(math.ceil(3 * float(sigma.max())), min(x.shape[2:]) - 1)
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    rows = torch.exp(-(place**2) / (2 * sigma.clamp_min(1e-3)[:, None] ** 2))
    kernel = (rows / rows.sum(1, keepdim=True)).to(x).repeat_interleave(c, 0)[:, None]
    out = F.pad(x.reshape(1, b * c, *x.shape[2:]), (reach,) * 4, mode="replicate")
    out = F.conv2d(F.conv2d(out, kernel[..., None, :], groups=b * c), kernel[..., None], groups=b * c)
    return out.reshape(x.shape)


def compressed(x: Float[Tensor, "c h w"], quality: int) -> Float[Tensor, "c h w"]:
    """As a JPEG file of that quality has it; as it is where JPEG cannot hold it."""
    if len(x) not in (1, 3):
        return x
    pixels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if len(x) == 1 else np.ascontiguousarray(pixels)).save(
        file, "JPEG", quality=quality
    )
    with Image.open(file) as image:
        back = np.asarray(image)
    back = back[..., None] if back.ndim == 2 else back
    return torch.from_numpy(back.copy()).permute(2, 0, 1).to(x) / 127.5 - 1
