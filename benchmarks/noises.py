"""The same small network on heavy-tailed data under each noise.

    python -m benchmarks.noises

The data is made: an even mixture of two crosswise bivariate Student laws of three degrees of freedom, so that
P(|x| > r) ~ r^(-3), known without fitting anything. Every noise gets the same network, batches, steps and schedule,
three training seeds, and 40,000 samples a seed, whose radii are compared with those of a million draws of the data.
What fresh draws of the data score at the same count stands beside.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.table import write
from kuosan.core.grids import grid
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.explain.plot import INK, STYLE
from kuosan.explain.small import fit
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.noises import Noise, Student
from kuosan.recipes.noise import build_process
from kuosan.recipes.schema import NoisePart
from kuosan.solvers import sample, solver
from kuosan.training.timing import UniformTiming

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "noises.png"
TAIL = 3.0  # degrees of freedom of the data
POOL, STEPS, WIDTH, SEEDS = 2**15, 1200, 64, 3
N, FEWER, REFERENCE, PAIRS = 40_000, 5_000, 1_000_000, 4_000
# Grid, steps, samples: drawing noise for each example at every step takes longer than the network.
WAYS = {"deis": ("karras:7", 20, N), "ancestral": ("logsnr", 200, FEWER), "redraw": ("logsnr", 20, FEWER)}
NOISES = {
    "Gaussian": (NoisePart(kind="gaussian"), ("deis", "ancestral"), "#0072b2", "-"),
    "uniform": (NoisePart(kind="uniform"), ("deis",), "#56b4e9", "-"),
    "binary": (NoisePart(kind="binary"), ("deis", "redraw"), "#999999", "-"),
    "generalised, power 1.5": (NoisePart(kind="generalised", power=1.5), ("deis",), "#cc79a7", "-"),
    "Laplace": (NoisePart(kind="laplace"), ("deis", "ancestral"), "#e69f00", "-"),
    "Student 5, shared": (NoisePart(kind="student", df=5.0), ("deis",), "#d55e00", "--"),
    "Student 3, shared": (NoisePart(kind="student", df=3.0), ("deis", "ancestral"), "#d55e00", "-"),
    "Student 3, independent": (NoisePart(kind="student", df=3.0, shared=False), ("deis",), "#009e73", "-"),
}


def data(seeds: Seeds) -> Tensor:
    """Draws (b, 2) of variance near one."""
    noise = Student(TAIL).draw(torch.empty(len(seeds), 2, dtype=torch.float64), seeds.fold("noise"))
    first = seeds.fold("component").uniforms()[:, None] < 0.5
    wide, narrow = (
        torch.tensor([[1.1, 0.5]], dtype=torch.float64),
        torch.tensor([[0.5, 1.1]], dtype=torch.float64),
    )
    middle = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    return torch.where(first, middle + wide * noise, -middle + narrow * noise)


class Row(NamedTuple):
    """What is measured of samples."""

    q99: float
    q999: float
    q9999: float
    hill: float
    energy: float


def hill(radius: Tensor, share: float = 0.01) -> float:
    """Hill's (1975) estimate of the tail's index from the largest ``share`` of radii; its standard error is about the
    index over the root of their number."""
    top = radius.sort().values[-int(share * len(radius)) - 1 :].log()
    mean = float((top[1:] - top[0]).mean())
    return 1 / mean if mean > 0 else math.nan


def energy(x: Tensor, y: Tensor) -> float:
    """Székely & Rizzo's (2004) energy distance, unbiased."""

    def inside(z: Tensor) -> float:
        return float(torch.pdist(z).mean())

    return 2 * float(torch.cdist(x, y).mean()) - inside(x) - inside(y)


def measure(x: Tensor, reference: Tensor, other: Tensor) -> Row:
    x = x.double()
    radius, real = x.norm(dim=1), reference.norm(dim=1)

    def ratio(p: float) -> float:
        few = (1 - p) * len(x) < 2  # samples beyond: no quantile, but the largest of them
        return math.nan if few else float(radius.quantile(p) / real.quantile(p))

    return Row(
        ratio(0.99), ratio(0.999), ratio(0.9999), hill(radius), 1000 * energy(x[:PAIRS], other[:PAIRS])
    )


def walk(process: AdditiveProcess, model: Any, how: str, seed: int) -> Tensor:
    rule, (name, steps, n) = solver(how), WAYS[how]
    seeds = Seeds.of(seed, n).fold("samples")
    x = process.prior(torch.empty(n, 2), seeds.fold("prior"))
    return sample(model, rule, grid(name)(process.schedule, steps), x, seeds.fold("steps"))


def cells(rows: list[Row]) -> list[str]:
    """Mean and standard error over seeds."""
    out = []
    for values in zip(*rows, strict=True):
        column = torch.tensor(values, dtype=torch.float64)
        mean, error = float(column.mean()), float(column.std()) / len(column) ** 0.5
        out.append("–" if math.isnan(mean) else f"{mean:.2f} ± {error:.2f}")
    return out


def draw(noises: dict[str, Noise], curves: dict[str, list[Tensor]], reference: Tensor) -> None:
    """How each noise falls, and how far its samples reach beside the data."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    p = torch.logspace(math.log10(0.5), -4, 120, dtype=torch.float64)
    real = reference.norm(dim=1).quantile(1 - p)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.5), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        eps = torch.linspace(-6, 6, 1201, dtype=torch.float64)
        for name, xs in curves.items():
            color, line = (INK, ":") if name == "real data" else NOISES[name][2:]
            ratios = torch.stack([x.double().norm(dim=1).quantile(1 - p) / real for x in xs])
            right.plot(p, ratios.mean(0), color=color, ls=line, lw=1.6, label=name)
            if name in noises:
                left.plot(eps, noises[name].log_density(eps).exp(), color=color, ls=line, lw=1.6)
        left.set(yscale="log", ylim=(1e-5, 1.5), xlabel="ε", title="Density of an element of the noise")
        right.set(xscale="log", xlim=(0.5, 1e-4), ylim=(0, 1.2), title="Reach of the samples: 1 is right")
        right.set(
            xlabel="share of samples further out than the quantile", ylabel="quantile of |x| over the data's"
        )
        figure.legend(loc="outside lower center", ncols=4)
        figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def main() -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    reference = data(Seeds.of(0, REFERENCE).fold("reference"))
    others = [data(Seeds.of(s, N).fold("other")) for s in range(SEEDS)]
    fresh = [data(Seeds.of(s, N).fold("fresh")) for s in range(SEEDS)]
    floor = [measure(x, reference, o) for x, o in zip(fresh, others, strict=True)]
    table = [["real data", "–", *cells(floor), "–"]]
    curves, noises = {"real data": fresh}, {}
    for name, (part, ways, *_) in NOISES.items():
        process = build_process(part, Cosine())
        models, began = [], time.process_time()
        for s in range(SEEDS):
            pool = data(Seeds.of(s, POOL).fold("train"))
            models.append(fit(process, pool, s, STEPS, width=WIDTH, timing=UniformTiming()))
        seconds = (time.process_time() - began) / SEEDS
        for how in ways:
            xs = [walk(process, model, how, s) for s, model in enumerate(models)]
            rows = [measure(x, reference, o) for x, o in zip(xs, others, strict=True)]
            table.append([name, f"{how}, {WAYS[how][1]}", *cells(rows), f"{seconds:.1f}"])
            if how == "deis" and name != "binary":
                curves[name], noises[name] = xs, process.noise
    draw(noises, curves, reference)
    notes = f"""
`python -m benchmarks.noises`, {time.process_time() - started:.0f} s of one core in all. An even mixture of two
crosswise bivariate Student laws with {TAIL:g} degrees of freedom, {POOL:,} draws to train on; a network of three
hidden layers of {WIDTH} that predicts v on the cosine schedule, {STEPS:,} batches of 256; {SEEDS} training seeds,
{N:,} samples each, of `ancestral` and `redraw` {FEWER:,}. Mean ± standard error over the seeds, which includes what
so many draws leave to chance, as the first row shows (real data against real data, {SEEDS} times {N:,} fresh draws).

- 99 %, 99.9 %, 99.99 %: the samples' quantile of |x| over the data's (that of {REFERENCE:,} draws; 1 is right). A
  dash: too few samples.
- Hill: the tail's index, from the largest 1 % of radii; 3 is right, larger is a lighter tail. A dash: all are equal.
- Energy: Székely & Rizzo's distance to fresh data, {PAIRS:,} by {PAIRS:,}, times 1,000; 0 is right.
"""
    header = ("noise", "solver, steps", "99 %", "99.9 %", "99.99 %", "Hill", "energy", "CPU s to train")
    write("noises", "Noises on heavy-tailed data", notes, header, table)


if __name__ == "__main__":
    main()
