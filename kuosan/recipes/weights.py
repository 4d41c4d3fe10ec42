"""A run's model from its files."""

from __future__ import annotations

from pathlib import Path

from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.diffusers import read_diffusers
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.errors import UserError
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.build import build_model
from kuosan.recipes.facts import Facts
from kuosan.training.checkpoint import load_weights


def foreign_model(path: Path) -> Denoiser:
    """That of a diffusers pipeline's folder."""
    loaded = read_diffusers(path)
    return NetworkDenoiser(GaussianProcess(loaded.schedule), loaded.network, loaded.output)


def trained_model(facts: Facts, path: Path) -> Denoiser:
    """That of a run with the weights in a file.

    Raises:
        UserError: they are missing, damaged, or of another network.
    """
    model = build_model(facts.network, facts.recipe)
    if not path.is_file():
        raise UserError(f"{path} is missing: run `kuosan resume {path.parent}` to write it")
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as e:
        raise UserError(
            f"the weights {path} do not fit the recipe beside them: restore both from one copy"
        ) from e
    return model
