"""A run in another guise: with weights averaged over another length, guided by an early state of itself, drawing
tokens at another temperature, or writing music with another number of faults.

A `Variant` is a `Run` of the same folder, so all that a run can be asked for it can be asked for too. It samples with
the solver and the grid that were measured for the run as it is, and changes nothing in its folder.
"""

from __future__ import annotations

import copy
import math
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch

from kuosan.core.curves import Curve
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.guidance.autoguided import Autoguided
from kuosan.recipes.average import GUIDE, basis_at
from kuosan.recipes.heat import told
from kuosan.recipes.run import Run
from kuosan.solvers.sequence import Sequence
from kuosan.training import checkpoint
from kuosan.training.averages import TRACKED

SHORTEST, LONGEST = 0.01, 0.28


class Variant(Run):
    """A run with another model or a guide.

    Args:
        of: the run, or a variant of it.
        told: what is different, for whoever asks how it samples.
    """

    def __init__(
        self,
        of: Run,
        model: Denoiser,
        told: dict[str, Any],
        guide: Denoiser | None = None,
        w: float | Curve = 1.0,
        heat: tuple[float, float] | None = None,
        allowed: tuple[tuple[float, ...] | None] | None = None,
    ):
        super().__init__(of.path)
        self._heat = of.heat if heat is None else heat
        (self._allowed,) = (of.allowed,) if allowed is None else allowed
        self._of, self._model, self._told, self._guide, self._w = of, model, told, guide, w

    @cached_property
    def model(self) -> Denoiser:
        return self._model

    @property
    def heat(self) -> tuple[float, float]:
        return self._heat

    @property
    def allowed(self) -> tuple[float, ...] | None:
        return self._allowed

    @property
    def unguided(self) -> Denoiser:
        inner = self._of.unguided if self._model is self._of.model else self._model
        return inner if self._guide is None else Autoguided(inner, self._guide, self._w)

    def sequence(self, *asked: Any, **named: Any) -> Sequence | None:
        return self._of.sequence(*asked, **named)

    def sampler(self, *asked: Any, **named: Any) -> dict[str, Any]:
        return self._of.sampler(*asked, **named) | self._told


def averaged(run: Run, length: float) -> Run:
    """The run with weights averaged over another length, a relative standard deviation: see `training.posthoc`.

    Raises:
        UserError: the length is impossible, or the run has not kept what it takes.
    """
    if not SHORTEST <= length < LONGEST:
        raise UserError(
            f"an average of length {length:g} cannot be made: give one from {SHORTEST:g} to below {LONGEST:g}"
        )
    place = run.path / "checkpoints" / "best"
    if run.foreign or run.facts.recipe.training.ema != "auto" or not checkpoint.exists(place):
        raise UserError(
            f"{run.path} keeps no averages to make others of: train with training.ema=auto and some items held out, "
            "and keep its folder checkpoints"
        )
    weights = basis_at(place, TRACKED).combined(length)
    return Variant(run, _with(run.model, weights), {"ema": length})


def autoguided(run: Run, w: float | Curve) -> Run:
    """The run guided by its own early state: see `guidance.autoguided`.

    Raises:
        UserError: it has kept none, or is a student.
    """
    path = run.path / GUIDE
    if not path.is_file():
        raise UserError(
            f"{run.path} keeps no early state of itself to be guided by: train with training.ema=auto and some items "
            "held out"
        )
    if run.facts.recipe.distil.steps:
        raise UserError(f"{run.path} is a student, which has no guidance of its own: guide its teacher")
    guide = _with(run.model, checkpoint.load_weights(path))
    return Variant(run, run.model, {"autoguide": w}, guide, w)


def heated(run: Run, temperature: float | None = None, nucleus: float | None = None) -> Run:
    """The run with another temperature or nucleus: see `guidance.tempered`.

    Raises:
        UserError: it is no model of tokens, or they are impossible.
    """
    if not run.facts.recipe.process.discrete:
        raise UserError(
            f"a temperature is of models of texts or music, and {run.path} is of {run.modality.noun}: leave it away"
        )
    heat = (
        run.heat[0] if temperature is None else temperature,
        run.heat[1] if nucleus is None else nucleus,
    )
    if not heat[0] > 0 or not 0 < heat[1] <= 1:
        raise UserError(
            f"temperature {heat[0]:g} with nucleus {heat[1]:g} is impossible: give a temperature above 0 and a nucleus "
            "above 0 and up to 1"
        )
    return Variant(run, run.model, told(heat), heat=heat)


def revised(run: Run, faults: float | str) -> Run:
    """The run of music with another number of faults of voice leading per bar that its passages may keep: see
    `music_revise`; ``any`` is what the model writes.

    Raises:
        UserError: it is no model of voices, or there is no such number.
    """
    if run.facts.recipe.data.modality != "music" or not run.facts.recipe.process.discrete:
        raise UserError(
            f"--faults is for music in voices, and {run.path} is a model of {run.modality.noun}: leave it away"
        )
    number = -1.0
    with suppress(ValueError):
        number = math.inf if faults == "any" else float(faults)
    if not number >= 0:
        raise UserError(f"--faults {faults} is no number of faults per bar: give one from 0, or any")
    allowed = None if math.isinf(number) else (number,)
    return Variant(run, run.model, {"faults": faults}, heat=run.heat, allowed=(allowed,))


@torch.inference_mode(False)
def _with(model: Denoiser, weights: dict[str, Any]) -> Denoiser:
    """A copy of a model with other weights."""
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    return other
