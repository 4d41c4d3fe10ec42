"""Are two sets of shapes alike? Three questions to a matrix of distances.

nna        the share of both sets whose nearest other item is of its own set; ½ where the sets are alike, 1 where
           they are apart, below ½ where one copies the other     (Lopez-Paz & Oquab 2017; Yang et al. 2019, eq. 4)
coverage   the share of the reference that is the nearest to some sample           (Achlioptas et al. 2018)
mmd        the mean distance from the reference to the nearest sample              (the same)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Estimate
from kuosan.evaluation.estimates import share_stderr


def nna(
    within: Float[Tensor, "n n"], across: Float[Tensor, "n m"], reference: Float[Tensor, "m m"]
) -> Estimate:
    """Of sets of one size; items that are each other's nearest count once for the error, which is for the safe side."""
    whole = torch.cat([torch.cat([within, across], 1), torch.cat([across.T, reference], 1)])
    whole = whole.clone().fill_diagonal_(math.inf)
    mine = torch.arange(len(whole)) < len(within)
    value = float((mine[whole.argmin(1)] == mine).double().mean())
    return Estimate(value, share_stderr(value, min(len(within), len(reference))))


def coverage(across: Float[Tensor, "n m"]) -> Estimate:
    """Of the m of the reference."""
    value = len(across.argmin(1).unique()) / across.shape[1]
    return Estimate(value, share_stderr(value, across.shape[1]))


def mmd(across: Float[Tensor, "n m"]) -> Estimate:
    """Over the m of the reference."""
    near = across.min(0).values
    return Estimate(float(near.mean()), float(near.std() / math.sqrt(len(near))))
