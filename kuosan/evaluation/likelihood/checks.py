"""What a likelihood may be asked of, and of what."""

from __future__ import annotations

import torch

from kuosan.core.shapes import State, leaves
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.processes.base import Bridged, Reversible


def bridged(denoiser: Denoiser) -> Bridged:
    """The denoiser's process; UserError where it has no likelihood."""
    process = denoiser.process
    if not isinstance(process, Bridged):
        known = isinstance(process, Reversible)
        why = "the divergence of its reverse steps has" if known else "its reverse step has"
        raise UserError(
            f"{process} has no likelihood, because {why} no closed form to make a bound of (Gaussian noise, tokens and "
            "joint states have one): leave --likelihood away, or train with noise=gaussian"
        )
    return process


def checked(denoiser: Denoiser, x: State, level: float | None) -> Bridged:
    """The denoiser's process, if it has a likelihood and ``x`` can be asked for one.

    Args:
        level: distance of two levels of the data, in [-1, 1]; None is a density.

    Raises:
        UserError: a process without one, numbers that are not finite, data out of range or off their levels.
    """
    process = bridged(denoiser)
    for leaf in leaves(x):
        if not leaf.is_floating_point():
            continue
        if not bool(torch.isfinite(leaf).all()):
            raise UserError("the data hold numbers that are not finite: they have no likelihood")
        if level is not None:
            steps = (leaf.double() + 1) / level
            off = (steps - steps.round()).abs().max()
            if bool(off > 0.01) or bool(leaf.abs().max() > 1 + level / 4):
                raise UserError(
                    f"the data are not levels {level:.3g} apart within [-1, 1], which the model was trained on: give "
                    "data in its own range and depth"
                )
    return process
