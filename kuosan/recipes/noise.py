"""The noise of a recipe: as a process, and what it cannot be asked for.

Schedules, networks and deterministic solvers take any noise of `processes.noises`. The score, the evidence bound and
reverse SDEs do not, and a run that asks for one of them is refused before it begins.
"""

from __future__ import annotations

from typing import Any

from kuosan.core.schedules import Schedule
from kuosan.errors import UserError
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.processes.discrete import Masked
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.mixtures import ScaleMixtureProcess
from kuosan.processes.noises import Binary, GeneralisedNormal, Laplace, Student, Uniform
from kuosan.recipes.entropy import is_entropic
from kuosan.recipes.schema import NoisePart, Recipe
from kuosan.solvers import SOLVERS, Solver, solver


def build_process(part: NoisePart, schedule: Schedule) -> AdditiveProcess:
    """The process of a part; ``auto`` (as in runs that had no choice yet) is Gaussian."""
    match part.kind:
        case "uniform":
            return AdditiveProcess(schedule, Uniform())
        case "binary":
            return AdditiveProcess(schedule, Binary())
        case "generalised":
            return AdditiveProcess(schedule, GeneralisedNormal(part.power))
        case "laplace":
            return ScaleMixtureProcess(schedule, Laplace())
        case "student":
            return ScaleMixtureProcess(schedule, Student(part.df, part.shared))
        case _:
            return GaussianProcess(schedule)


def build_solver(name: str, process: Process) -> Solver[Any]:
    """The solver of this name, for this process.

    Raises:
        UserError: there is no such solver, or it needs what the process has not.
    """
    try:
        rule = solver(name)
    except ValueError as e:
        raise UserError(str(e)) from e
    if not isinstance(process, rule.needs):
        lacks = "a reverse step in closed form" if name == "ancestral" else "Gaussian noise"
        lacks = "masked tokens" if rule.needs is Masked else lacks
        fit = ", ".join(n for n, make in SOLVERS.items() if isinstance(process, make().needs))
        raise UserError(f"the solver {name} needs {lacks}, and this is {process}: choose one of {fit}")
    return rule


def check_noise(recipe: Recipe, process: AdditiveProcess) -> None:
    """UserError where a resolved recipe asks of its noise what only the Gaussian has."""
    build_solver(recipe.sampling.solver, process)
    if isinstance(process, GaussianProcess):
        return
    objective, noise = recipe.objective, process.noise
    if objective.output == "score":
        raise UserError(
            f"objective.output=score is the score under Gaussian noise only, and the noise is {noise}: choose "
            "objective.output=eps, the same estimate without that meaning, or another"
        )
    if objective.kind == "elbo" or objective.weight == "uniform":
        asked = "objective.kind=elbo" if objective.kind == "elbo" else "objective.weight=uniform"
        raise UserError(
            f"{asked} is a bound under Gaussian noise only, and {noise} noise has none: choose "
            "objective.kind=denoising with another weight, or noise=gaussian"
        )
    if objective.timing == "entropy":
        raise UserError(
            f"objective.timing=entropy follows a law of Gaussian noise only, and the noise is {noise}: choose "
            "objective.timing=uniform or another, or noise=gaussian"
        )
    if is_entropic(recipe.sampling.grid):
        raise UserError(
            f"sampling.grid={recipe.sampling.grid} follows a law of Gaussian noise only, and the noise is {noise}: "
            "choose sampling.grid=karras:7 or another, or noise=gaussian"
        )
    if noise.variance > 1e300 and objective.output != "x":
        raise UserError(
            f"objective.output={objective.output} would be learned from {noise} noise, whose squares have no mean: "
            "choose objective.output=x, or noise.df above 2"
        )


def choose_noise(recipe: Recipe, init: dict[str, Any] | None) -> tuple[NoisePart, list[tuple[str, Any, str]]]:
    """The noise without ``auto``, and the reason: what was asked for, what the weights of ``init`` were trained
    under, or Gaussian."""
    part = recipe.noise
    if part.kind != "auto":
        leaves = {"student": ("df", "shared"), "generalised": ("power",)}.get(part.kind, ())
        return part, [(f"noise.{leaf}", getattr(part, leaf), "asked for") for leaf in ("kind", *leaves)]
    start = NoisePart(**init["noise"]) if init else part
    if start.kind != "auto":
        return start, [("noise.kind", start.kind, f"from {recipe.init}")]
    why = "the only one with a score, a likelihood and an export"
    return part.model_copy(update={"kind": "gaussian"}), [("noise.kind", "gaussian", why)]
