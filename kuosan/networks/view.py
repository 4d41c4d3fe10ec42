"""What a step of training shows of a picture: a crop of it, and which of its tokens go through every block.

A network that is given no view sees the whole picture with all its tokens, as it always does once it is trained.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Int64
from torch import Tensor


class View(NamedTuple):
    """``corner`` is the row and column of the crop's first pixel in the whole picture, both multiples of the network's
    ``grain``; ``through`` the numbers of the tokens that go through every block, rising. None: all there is."""

    corner: Int64[Tensor, "b 2"] | None = None
    through: Int64[Tensor, "b k"] | None = None


WHOLE = View()
