"""The entropy's profile in a run's folder, and the grids that are made of it."""

from __future__ import annotations

from pathlib import Path

from kuosan.core.entropy import EntropyProfile
from kuosan.core.grids import Grid, grid
from kuosan.errors import UserError
from kuosan.recipes.kept import read_kept

ENTROPY = "grids/entropy.json"


def is_entropic(name: str) -> bool:
    """Whether a grid of this name is made of the profile."""
    return name.partition(":")[0] == "entropy"


def read_profile(run: Path) -> EntropyProfile | None:
    """The profile that training left in the run's folder; None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    return read_kept(run / ENTROPY, "entropy profile", EntropyProfile.of_json)


def grid_of(name: str, run: Path, profile: EntropyProfile | None) -> Grid:
    """The grid of this name for the run in this folder, which has this profile.

    Raises:
        UserError: there is no such grid, or no profile to make it of.
    """
    if is_entropic(name) and profile is None:
        raise UserError(
            f"the grid {name} needs {run / ENTROPY}, which a run under Gaussian noise writes when its training ends, "
            "and there is none: choose uniform, logsnr or karras"
        )
    try:
        return grid(name, profile)
    except ValueError as e:
        raise UserError(str(e)) from e
