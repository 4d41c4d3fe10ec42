"""Sides: the axes of a state behind its channels, one (time), two (height, width) or three of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)  # of so many sides


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


def space_to_depth(x: Float[Tensor, "b c *sides"], by: Sequence[int]) -> Float[Tensor, "b k *fewer"]:
    """Blocks of ``by`` places as channels: `pixel_unshuffle` for any number of sides, each with its own factor."""
    sides = [n for side, f in zip(x.shape[2:], by, strict=True) for n in (side // f, f)]
    places = range(2, 2 + len(sides))
    x = x.reshape(*x.shape[:2], *sides).permute(0, 1, *places[1::2], *places[::2])
    return x.flatten(1, 1 + len(by))


def depth_to_space(x: Float[Tensor, "b k *fewer"], by: Sequence[int]) -> Float[Tensor, "b c *sides"]:
    """Undoes `space_to_depth`."""
    n, sides = len(by), x.shape[2:]
    x = x.reshape(len(x), -1, *by, *sides)
    x = x.permute(0, 1, *(axis for i in range(n) for axis in (2 + n + i, 2 + i)))
    return x.reshape(*x.shape[:2], *(side * f for side, f in zip(sides, by, strict=True)))


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
