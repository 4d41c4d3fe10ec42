"""Sampling a run over tokens: from masks (or noise) to text, within rules that a person sets.

The state that sampling starts from is the prior, all masks, except for the places that a template fixes: the masked
process never changes a revealed token, so these are carried through, and the network reads them from the first step
on. What must hold of the whole text is an automaton around the denoiser (`guidance.language`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.unmasking import UnmaskingProfile, unmasking_grid
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.guidance.language import Constrained, TokenAutomaton
from kuosan.guidance.permitted import Permitted
from kuosan.modalities import Dataset
from kuosan.processes.discrete import DiscreteProcess, Masked
from kuosan.recipes.heat import told
from kuosan.recipes.kept import read_kept
from kuosan.recipes.noise import build_solver
from kuosan.solvers import SOLVERS, Step, trajectory
from kuosan.solvers.unmasking import ORDERS

if TYPE_CHECKING:
    from kuosan.recipes.music_rules import Canvas
    from kuosan.recipes.plans_mend import Brief
    from kuosan.recipes.run import Run

PROFILE = "grids/unmasking.json"


@dataclass(frozen=True)
class Rules:
    """What samples must keep to: tokens that are given, masks elsewhere, (L,) or of each (b, L); an automaton of whole
    texts; which values each position may have, (L, k); a piece of music around what is given
    of it, or what plans must have."""

    given: Int64[Tensor, "... L"] | None = None
    automaton: TokenAutomaton | None = None
    permitted: Bool[Tensor, "L k"] | None = None
    canvas: Canvas | Brief | None = None


def order_of(run: Run) -> str:
    """The order of positions that a run's unmasking schedule is for: its sampler's, where that is known beforehand."""
    name = run.facts.recipe.sampling.solver
    return name if name in ORDERS else "first-hitting"


def token_counts(data: Dataset, most: int = 4096) -> Float[Tensor, " k"]:
    """How often each token stands in training items, in up to ``most`` of them."""
    index = torch.arange(min(len(data.train), most)) * len(data.train) // min(len(data.train), most)
    x, _ = data.train.batch(index)
    return torch.bincount(x.flatten(), minlength=data.modality.tokeniser.size).double()  # type: ignore[attr-defined]


def read_unmasking(path: Path) -> UnmaskingProfile | None:
    """The profile in a run's folder, where training or `kuosan tune` left it, or in a file; None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    found = _unmasking(path)
    return found[0] if found else None


def _unmasking(path: Path) -> tuple[UnmaskingProfile, dict[str, str]] | None:
    """The profile, and the schedule that `kuosan tune` kept for each number of steps that it judged."""

    def of(tree: Any) -> tuple[UnmaskingProfile, dict[str, str]]:
        return UnmaskingProfile.of_json(tree), {str(k): str(name) for k, name in tree.get("kept", {}).items()}

    return read_kept(path / PROFILE if path.is_dir() else path, "unmasking profile", of)


def unmasking_in_words(run: Run) -> str:
    """What the grid ``auto`` of a run of masked texts is made of; UserError where that is damaged."""
    found = _unmasking(run.path)
    if found is None:
        return "even, until training has ended"
    profile, kept = found
    first, *_, last = profile.per_token().tolist()
    text = f"fitted: a token costs {first:.2f} nats where none is known, {last:.2f} where most others are"
    tuned = ", ".join(f"{k} steps {name}" for k, name in kept.items())
    return f"{text}; tuned: {tuned}" if tuned else text


def token_sampler(run: Run, steps: int | None, solver: str, grid: str, w: float | None) -> dict[str, Any]:
    """Steps, solver, grid and w that these choices come to."""
    sampling = run.facts.recipe.sampling
    count = sampling.steps if steps is None else steps
    name = sampling.grid if grid == "auto" else grid
    if name == "auto":
        own = _unmasking(run.path) if run.facts.recipe.process.kind == "masked" else None
        name = own[1].get(str(count), "optimal") if own else "linear"
    return {
        "steps": count,
        "solver": sampling.solver if solver == "auto" else solver,
        "grid": name,
        "w": sampling.w if w is None else w,
        **told(run.heat),
    }


def token_grid(run: Run, steps: int, name: str, process: DiscreteProcess, like: Tensor) -> Tensor:
    """The times of so many steps for states like ``like``; the best unmasking schedule has at most one step per token.

    Args:
        name: of a grid, or a file that `kuosan tune --out` wrote.

    Raises:
        UserError: no such grid, or no profile to make it of.
    """
    if name.endswith(".json"):
        found = _unmasking(Path(name))
        if found is None or found[0].length != like.shape[1]:
            what = "is not there" if found is None else f"is of texts of {found[0].length} tokens"
            raise UserError(f"the grid {name} {what}: give one that `kuosan tune {run.path} --out` wrote")
        profile: UnmaskingProfile | None = found[0]
        name = found[1].get(str(steps), "optimal")
    else:
        profile = read_unmasking(run.path)
    if name == "optimal" and profile is not None:
        steps = min(steps, profile.length)
    try:
        survival = process.survival(like) if isinstance(process, Masked) else process.keep
        return unmasking_grid(name, steps, survival, profile)
    except ValueError as e:
        raise UserError(str(e)) from e


def walk_tokens(
    run: Run,
    seeds: Seeds,
    cond: Mapping[str, Tensor],
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    w: float | None = None,
    denoiser: Denoiser | None = None,
    rules: Rules | None = None,
) -> Iterator[Step]:
    """The trajectory of texts, see `Run.walk`.

    Raises:
        UserError: no such solver or grid, rules for a process without masks, or rules that nothing satisfies.
    """
    asked = token_sampler(run, steps, solver, grid, w)
    if denoiser is None:
        denoiser = run.guided(asked["w"])
    process = denoiser.process
    assert isinstance(process, DiscreteProcess)
    rule = build_solver(asked["solver"], process)
    device = next(denoiser.parameters()).device
    like = torch.zeros(len(seeds), *run.latent_shape, dtype=torch.int64, device=device)
    x = process.prior(like, seeds.fold("prior"))
    if rules is not None and not isinstance(process, Masked):
        raise UserError(
            f"templates and constraints need a process of masks, and {run.path} is {process}: train with "
            "--set process=masked"
        )
    if rules is not None and not rule.carries:
        keep = ", ".join(name for name, make in SOLVERS.items() if make().carries)
        raise UserError(
            f"the solver {asked['solver']} writes everything anew, also what is given: choose one of {keep}"
        )
    if rules is not None and rules.given is not None:
        x = rules.given.to(device).expand_as(x).clone()
    if rules is not None and rules.automaton is not None:
        denoiser = Constrained(denoiser, rules.automaton)
    if rules is not None and rules.permitted is not None:
        denoiser = Permitted(denoiser, rules.permitted)
    cond = {k: v.to(device) for k, v in cond.items()}
    times = token_grid(run, asked["steps"], asked["grid"], process, like)
    yield from trajectory(denoiser, rule, times, x, seeds.fold("steps"), **cond)
