"""How boldly a run over tokens draws: its temperature and nucleus, see `guidance.tempered`.

``auto`` is the model's own law, T = 1, unless the end of training measured another (`music_heat`) and kept it with the
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuosan.denoisers.base import Denoiser
from kuosan.evaluation.report_words import steps_in_words
from kuosan.guidance.tempered import Tempered
from kuosan.recipes.facts import Facts
from kuosan.recipes.kept import read_kept

HEAT = "grids/temperature.json"
PLAIN = (1.0, 1.0)


def heat_of(facts: Facts, path: Path) -> tuple[float, float]:
    """The temperature and the nucleus of a run.

    Raises:
        UserError: a measured temperature that cannot be read.
    """
    sampling = facts.recipe.sampling
    if not facts.recipe.process.discrete:
        return PLAIN
    if sampling.temperature != "auto":
        return sampling.temperature, sampling.nucleus
    return (measured(path) or {"temperature": 1.0})["temperature"], sampling.nucleus


def measured(path: Path) -> dict[str, Any] | None:
    """What the end of training kept; None where there is nothing."""
    return read_kept(
        path / HEAT, "temperature", lambda tree: {**tree, "temperature": float(tree["temperature"])}
    )


def tempered(denoiser: Denoiser, temperature: float, nucleus: float) -> Denoiser:
    """The denoiser so bent; itself where nothing is to be bent."""
    return denoiser if (temperature, nucleus) == PLAIN else Tempered(denoiser, temperature, nucleus)


def sampled_in_words(sampler: Mapping[str, Any]) -> str:
    """How everything in a report was sampled; ``sampler`` is what `Run.sampler` tells."""
    heat = sampler.get("temperature", 1.0)
    at = "" if heat == 1 else f", at the temperature {heat:g}"
    steps = steps_in_words(sampler["steps"])
    return (
        f"Everything here was sampled in {steps}, with {sampler['solver']} on the {sampler['grid']} grid{at}"
    )


def told(heat: tuple[float, float]) -> dict[str, float]:
    """What differs from the model's own law, for whoever asks how a run samples."""
    names = ("temperature", "nucleus")
    return {name: value for name, value, plain in zip(names, heat, PLAIN, strict=True) if value != plain}
