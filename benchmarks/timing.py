"""Densities of training times, learned and not, at equal steps; and grids of equal entropy beside others.

    python -m benchmarks.timing

The demo's digits and their held-out part, a small transformer that predicts v, three training seeds. The densities of
the first table differ in nothing else. The second walks the models of its first row, and compares with what 64 steps of
Heun make of the same noise.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.table import write
from kuosan.core.grids import grid
from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.denoisers.calibrated import calibrate
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.evaluation.frechet import frechet_distance
from kuosan.modalities import Dataset
from kuosan.recipes.build import build_denoiser, build_settings
from kuosan.recipes.demo import write_digits
from kuosan.recipes.facts import Facts
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from kuosan.solvers import sample, solver
from kuosan.training.budget import Budget
from kuosan.training.loop import Training
from kuosan.training.objective import RESOLUTIONS, Denoising, Found
from kuosan.training.timing import EntropyTiming, LogNormalTiming, LogSNRTiming, UniformTiming

STEPS, SEEDS, N, LEVELS = 400, 3, 1000, 32
LEAVES = {"network": "transformer", "network.patch": 4, "network.dim": 96, "network.depth": 3}
TRUTH = ("heun", "karras:7", 64)
GRIDS = ("entropy", "entropy:0.5", "entropy:0.25", "karras:7", "logsnr", "uniform")
SOLVERS, COUNTS = ("deis", "dpm++2m"), (5, 8, 10)


@dataclass(frozen=True)
class Kept(Denoising):
    """Importance weights that keep the objective at that of even times, whatever the density is."""

    def look(self, denoiser: NetworkDenoiser, x: Tensor, u: Tensor, seeds: Seeds, **cond: Tensor) -> Found:
        found = super().look(denoiser, x, u, seeds, **cond)
        return Found(found.losses / self.timing.density(denoiser.schedule, u).to(found.losses), found.errors)


def entropy(resolution: float) -> EntropyTiming:
    return EntropyTiming(resolution=resolution)


OBJECTIVES: dict[str, Denoising] = {
    "v: uniform": Denoising("output", UniformTiming()),
    "v: lognormal": Denoising("output", LogNormalTiming()),
    "v: logsnr": Denoising("output", LogSNRTiming()),
    "v: entropy, δ = 0.3 (`entropy`)": Denoising("output", entropy(0.3)),
    "v: entropy, δ = 1": Denoising("output", entropy(1.0)),
    "v: entropy, δ = 0": Denoising("output", entropy(0.0)),
    "v: entropy, δ = 0.3, importance weights": Kept("output", entropy(0.3)),
    "sigmoid: uniform": Denoising("sigmoid", UniformTiming()),
    "sigmoid: entropy, δ = 1.65 (`entropy`)": Denoising("sigmoid", entropy(RESOLUTIONS["sigmoid"])),
    "bound: logsnr": Denoising("uniform", LogSNRTiming()),
    "bound: entropy, δ = 0.3": Denoising("uniform", entropy(0.3)),
    "bound: entropy, δ = 0 (`entropy`)": Denoising("uniform", entropy(RESOLUTIONS["uniform"])),
}


def train(facts: Facts, data: Dataset, objective: Denoising, seed: int) -> NetworkDenoiser:
    recipe = facts.recipe.model_copy(update={"seed": seed})
    settings = build_settings(recipe.training, seed, Budget.parse(f"{STEPS}steps"), None)
    with tempfile.TemporaryDirectory() as folder:
        run = Training(
            build_denoiser(facts.network, recipe), objective, data.train, data.val, settings,
            Path(folder), null=facts.null,
        )  # fmt: skip
        for _ in run.run():
            pass
    return run.average


@torch.no_grad()
def held_out(model: NetworkDenoiser, data: Dataset, objective: Denoising) -> float:
    """Mean loss of all held-out items at the middles of equal parts, the same noise for every model."""
    x, cond = data.val.batch(torch.arange(len(data.val)))
    total = 0.0
    for j in range(LEVELS):
        u, seeds = as_time((j + 0.5) / LEVELS, len(x)), Seeds.of(0, len(x)).fold(j)
        total += float(objective.at_quantiles(model, x, u, seeds, **cond).double().mean()) / LEVELS
    return total


@torch.inference_mode()
def walk(model: NetworkDenoiser, how: str, times: Tensor) -> Tensor:
    """`N` samples, a tenth of each digit, from the same noise for every model."""
    seeds = Seeds.of(7, N)
    x = model.process.prior(torch.empty(N, 1, 8, 8), seeds.fold("prior"))
    return sample(model, solver(how), times, x, seeds.fold("steps"), **{"class": torch.arange(N) % 10})


def cell(values: list[float], digits: int = 3) -> str:
    """Mean and standard error over training seeds."""
    column = torch.tensor(values, dtype=torch.float64)
    return f"{float(column.mean()):.{digits}f} ± {float(column.std()) / len(column) ** 0.5:.{digits}f}"


def flat(x: Tensor) -> Tensor:
    return x.flatten(1).double()


def densities(facts: Facts, data: Dataset) -> tuple[list[list[str]], list[NetworkDenoiser]]:
    """The first table, and the models of its first row."""
    real, table, models = data.val.batch(torch.arange(len(data.val)))[0], [], []
    bits = 1 / torch.log(torch.tensor(2.0)).item()
    for name, objective in OBJECTIVES.items():
        rows = []
        for seed in range(SEEDS):
            model = train(facts, data, objective, seed)
            models += [model] if objective is next(iter(OBJECTIVES.values())) else []
            x = walk(model, "deis", grid("karras:7")(model.schedule, 10))
            rows.append(
                (
                    held_out(model, data, Denoising("output", UniformTiming())),
                    bits * held_out(model, data, Denoising("uniform", LogSNRTiming())),
                    frechet_distance(flat(x), flat(real)),
                )
            )
        loss, bound, distance = (list(column) for column in zip(*rows, strict=True))
        table.append([name, cell(loss, 4), cell(bound), cell(distance)])
        print(table[-1], flush=True)
    return table, models


def grids(models: list[NetworkDenoiser], data: Dataset) -> list[list[str]]:
    """The second table: distance to real data, and to the truth of the same noise, for each number of steps."""
    x, cond = data.val.batch(torch.arange(64))
    real = data.val.batch(torch.arange(len(data.val)))[0]
    halves = [(part, {k: v[i::2] for k, v in cond.items()}) for i, part in enumerate((x[0::2], x[1::2]))]
    profiles = [calibrate(m, halves, Seeds.of(0, 32).fold("variances")).profile() for m in models]
    truths = [walk(m, TRUTH[0], grid(TRUTH[1])(m.schedule, TRUTH[2])) for m in models]
    table = [
        ["(truth)", *TRUTH[:1], *[""] * 5, cell([frechet_distance(flat(y), flat(real)) for y in truths])]
    ]
    for how in SOLVERS:
        for name in GRIDS:
            cells: list[list[str]] = [[], []]
            for steps in COUNTS:
                found = [
                    walk(m, how, grid(name, p)(m.schedule, steps))
                    for m, p in zip(models, profiles, strict=True)
                ]
                off = [float((a - b).square().mean().sqrt()) for a, b in zip(found, truths, strict=True)]
                cells[0].append(cell(off))
                cells[1].append(cell([frechet_distance(flat(y), flat(real)) for y in found]))
            table.append([name, how, *cells[0], *cells[1]])
            print(table[-1], flush=True)
    return table


def lines(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))


def main() -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        asked: dict[str, Any] = {**LEAVES, "budget": f"{STEPS}steps"}
        plan = settle(write_digits(Path(folder) / "digits"), None, Recipe().updated(asked), asked)
        first, models = densities(plan.facts, plan.data)
        second = grids(models, plan.data)
    counts = [str(n) for n in COUNTS]
    header = ["grid", "solver", *(f"RMS, {n}" for n in counts), *(f"FD, {n}" for n in counts)]
    notes = f"""
`python -m benchmarks.timing`, {time.process_time() - started:.0f} s of one core in all. The demo's digits, {STEPS}
steps of {plan.facts.recipe.training.batch} with a transformer of width {LEAVES["network.dim"]}; mean ± standard error
over {SEEDS} training seeds. {len(plan.data.val)} held-out digits, {LEVELS} levels of noise, {N:,} samples; the same
noise for all rows.

## Grids

The models of the row `v: uniform`. RMS: of the difference to {TRUTH[2]} steps of {TRUTH[0]} from the same noise, states
in [-1, 1]. FD: Fréchet distance in pixels to the held-out digits. The profile is measured on 64 of them.

{lines(header, second)}

## Densities

`v` is the plain squared error of v, `sigmoid` the weight of this name, `bound` the objective `elbo`; marked `entropy`
is what `objective.timing=entropy` takes for it. The first two numbers are the same questions for all rows: the error of
v at even times, and the diffusion part of the bound from log-SNR -14 to 14 in bits per dimension. FD: Fréchet distance
in pixels to the held-out digits, ten steps of deis on karras:7. δ = 0.3 and the row without importance weights were
chosen on the same digits with two of the seeds, at 500 steps.
"""
    write("timing", "Densities of training times, and grids of equal entropy", notes,
          ["density of times", "error of v", "bound, bits/dim", "FD"], first)  # fmt: skip


if __name__ == "__main__":
    main()
