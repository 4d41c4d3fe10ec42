"""Sides: the axes of a state behind its channels, one (time), two (height, width) or three of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def each(number: int | Sequence[int], sides: int) -> tuple[int, ...]:
    """One number for every side, or those that there are.

    Raises:
        ValueError: of another count.
    """
    numbers = (number,) * sides if isinstance(number, int) else tuple(number)
    if len(numbers) != sides:
        raise ValueError(f"{times(numbers)} is for {len(numbers)} sides, and the states have {sides}")
    return numbers


def counts_of(sides: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Patches along each side, the last of which may reach beyond it."""
    return tuple(-(-side // p) for side, p in zip(sides, patch, strict=True))


def times(numbers: Sequence[int]) -> str:
    """28×28."""
    return "×".join(map(str, numbers))


def padded(x: Float[Tensor, "b c *sides"], sides: Sequence[int]) -> Float[Tensor, "b c *larger"]:
    """Larger by repeating the edge at the end of each side; the same tensor where it is as large."""
    if tuple(x.shape[2:]) == tuple(sides):
        return x
    more = [n - m for n, m in zip(sides, x.shape[2:], strict=True)]
    return F.pad(x, [k for n in reversed(more) for k in (0, n)], mode="replicate")


def cropped(x: Float[Tensor, "b c *larger"], sides: Sequence[int]) -> Float[Tensor, "b c *sides"]:
    """Undoes `padded`."""
    if tuple(x.shape[2:]) == tuple(sides):
        return x
    return x[(slice(None), slice(None), *(slice(n) for n in sides))]


def coordinates_of(sides: Sequence[int]) -> Float[Tensor, "s *sides"]:
    """Where the middle of every place lies along each side, whose ends are at -1 and 1."""
    along = ((2 * torch.arange(n) + 1) / n - 1 for n in sides)
    return torch.stack(torch.meshgrid(*along, indexing="ij"))


def places(
    where: Float[Tensor, "s *whole"], corner: Int64[Tensor, "b s"] | None, x: Float[Tensor, "b c *sides"]
) -> Float[Tensor, "b s *sides"]:
    """The coordinates ``where`` of the places of crops, or of the whole."""
    if corner is None:
        return where.expand(len(x), *where.shape)
    spans = [[slice(i, i + n) for i, n in zip(at, x.shape[2:], strict=True)] for at in corner.tolist()]
    return torch.stack([where[(slice(None), *span)] for span in spans])
