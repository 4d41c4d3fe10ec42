"""Between two vectors along a great circle.

Standard normal noise of d elements has a norm close to √d, and its straight average has √(d/2): a place where a
model has never been. So directions are turned and norms are averaged, each evenly,

    g(s) = ((1 - s) |a| + s |b|) · (u cos sΩ + w sin sΩ),    u = a/|a|,  b/|b| = u cos Ω + w sin Ω     (1)

with w ⊥ u of length one (Shoemake 1985, for any dimension). Equal directions (Ω = 0) need no w; between opposite ones
(Ω = π) every great circle is as short, and w is the part across u of the axis along which u is shortest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kuosan.core.shapes import Time, at

_PARALLEL = 1e-9  # length of a direction's part across the other below which it is rounding


def great_circle(a: Tensor, b: Tensor, s: Time) -> Tensor:
    """Eq. 1 per example.

    Args:
        a, b: vectors (b, ...) of any shape.
        s: how far from ``a`` (0, which is returned as it is) to ``b`` (1, likewise) each example is (b,).
    """
    one, two, part = a.flatten(1).double(), b.flatten(1).double(), at(s, a).flatten(1).double()
    size, other = one.norm(dim=1, keepdim=True), two.norm(dim=1, keepdim=True)
    tiny = torch.finfo(torch.float64).tiny
    u, v = one / size.clamp_min(tiny), two / other.clamp_min(tiny)
    across = v - (u * v).sum(1, keepdim=True) * u
    # 2 atan2 keeps its digits at both ends, where the arc cosine loses half of them (Kahan 2006).
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    axis = torch.nn.functional.one_hot(u.abs().argmin(1), u.shape[1]).to(u)
    axis = axis - (u * axis).sum(1, keepdim=True) * u
    w = torch.where(across.norm(dim=1, keepdim=True) > _PARALLEL, across, axis)
    w = w / w.norm(dim=1, keepdim=True).clamp_min(tiny)
    direction = u * (part * angle).cos() + w * (part * angle).sin()
    way = torch.lerp(size, other, part) * direction
    straight = torch.lerp(one, two, part)  # the only way from or to a vector without direction
    way = torch.where((size > 0) & (other > 0), way, straight)
    way = torch.where(part == 0, one, torch.where(part == 1, two, way))
    return way.reshape(a.shape).to(a)
