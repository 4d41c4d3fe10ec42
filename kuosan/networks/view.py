"""What a step of training shows of a state: a crop of it, and which of its tokens go through every block.

A network that is given no view sees the whole state with all its tokens, as it always does once it is trained.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Int64
from torch import Tensor


class View(NamedTuple):
    """``corner`` is the place of the crop's first value along each side of the whole, multiples of the network's
    ``grain``; ``through`` the numbers of the tokens that go through every block, rising. None: all there is."""

    corner: Int64[Tensor, "b s"] | None = None
    through: Int64[Tensor, "b k"] | None = None


WHOLE = View()
