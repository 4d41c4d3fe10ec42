"""Students of one, two and four steps beside the teacher that they come from.

    python -m benchmarks.distillation --fashion ../shared/data/fashion_mnist

The teacher is trained with `kuosan train`; every student has the teacher's own time for its pairs and its training. All
are measured as `kuosan evaluate` does, on the same held-out data. Students have several seeds of their own; teacher and
students are sampled with the same noise. A ratio is that to the teacher's distance at 20 steps.

What was not built stands beside: easy consistency tuning (Geng et al. 2024), which starts from the diffusion loss,
r = 0, and brings r nearer to t in stages, on the data and in the same time.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import kuosan
from benchmarks.table import write
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.modalities import Dataset
from kuosan.recipes.build import build_denoiser, build_settings
from kuosan.recipes.demo import write_digits
from kuosan.recipes.distil import prepare
from kuosan.recipes.evaluate import SEED, data_of, measure
from kuosan.recipes.finish import finish
from kuosan.recipes.run import Run, Samples
from kuosan.solvers import Redraw, sample
from kuosan.training.budget import Budget
from kuosan.training.loop import Training
from kuosan.training.objective import Objective
from kuosan.training.timing import Timing, UniformTiming

N, TEACHER = 1000, 20
DISTANCES = ("fd_pixels", "fd_encoder")
HEADER = ("data", "model", "calls", "pixels", "ratio", "encoder", "ratio", "training, s")


@dataclass(frozen=True)
class Consistency(Objective):
    """‖f(x_t) - sg f(x_r)‖/(ρ_t - ρ_r) at the same noise, with log ρ_t normal and

    ρ_r = ρ_t (1 - q^-(stage+1) (1 + 8 sigmoid(-ρ_t))), or 0, where the target is x.
    """

    steps: int
    q: float = 2.0
    stages: int = 2
    mean: float = 0.0
    std: float = 1.6
    timing: Timing = UniformTiming()
    made: list[int] = field(default_factory=lambda: [0])

    def at_quantiles(
        self, denoiser: Denoiser, x: Tensor, u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        assert isinstance(denoiser, NetworkDenoiser)
        schedule = denoiser.schedule
        stage = min(self.stages, self.made[0] * (self.stages + 1) // self.steps)
        self.made[0] += 1
        rho = (self.mean + self.std * torch.distributions.Normal(0.0, 1.0).icdf(u)).exp()
        less = rho * (1 - self.q ** -(stage + 1.0) * (1 + 8 * torch.sigmoid(-rho))).clamp_min(0)
        t = schedule.time_of(-2 * rho.log()).clamp(0, 1)
        r = schedule.time_of(-2 * less.clamp_min(1e-5).log()).clamp(0, 1)
        x_t, x_r = (denoiser.process.corrupt(x, s, seeds) for s in (t, r))
        with torch.no_grad():
            target = torch.where(at(less > 0, x), denoiser(x_r, r, **cond).mean, x)
        norm = (denoiser(x_t, t, **cond).mean - target).square().flatten(1).sum(1).sqrt()
        return norm / x[0].numel() ** 0.5 / (rho - less).to(norm)


def consistency(
    teacher: Run, data: Dataset, seconds: float, seed: int, folder: Path
) -> tuple[NetworkDenoiser, float]:
    """A student by consistency tuning on the data for about so many seconds, and those that it took."""
    recipe = teacher.facts.recipe
    model = build_denoiser(teacher.facts.network, recipe)
    model.load_state_dict(teacher.denoiser.state_dict())
    part = recipe.training.model_copy(update={"lr": 5e-4, "patience": 0, "save_seconds": 1e9})

    def trained(steps: int) -> tuple[NetworkDenoiser, float]:
        training = Training(
            copy.deepcopy(model),
            Consistency(steps),
            data.train,
            Nothing(),
            build_settings(part, seed, Budget(steps=steps), None),
            folder / str(steps),
            null=teacher.facts.null,
        )
        started = time.monotonic()
        for _ in training.run():
            pass
        return training.average, time.monotonic() - started

    # The stages are shares of all steps: how many there can be is seen from a few.
    few = 40
    return trained(max(few, int(few * seconds / trained(few)[1])))


class Nothing:
    """No held-out items: a consistency loss changes with its stage and ranks nothing."""

    def __len__(self) -> int:
        return 0

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        raise IndexError


def drawn(teacher: Run, model: Denoiser, rhos: tuple[float, ...]) -> Samples:
    """Samples of the consistency student at these noise-to-signal ratios."""
    schedule = teacher.denoiser.schedule
    times = schedule.time_of(-2 * torch.tensor(rhos, dtype=torch.float64).log()).clamp(0, 1)
    grid = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
    xs, conds = [], []
    for low in range(0, N, 250):
        numbers = range(low, low + 250)
        seeds, cond = Seeds.of(SEED, numbers), teacher.conditions(SEED, numbers)
        z = teacher.denoiser.process.prior(torch.empty(250, *teacher.latent_shape), seeds.fold("prior"))
        xs.append(sample(model, Redraw(), grid, z, seeds.fold("steps"), **cond))
        conds.append(cond)
    cond = {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
    return Samples(torch.cat(xs), cond, 0, teacher.modality)


class Table:
    """Rows that are measured against one data set."""

    def __init__(self, teacher: Run, name: str, kept: Path) -> None:
        self.teacher, self.data, self.name, self.kept = teacher, data_of(teacher), name, kept
        self.rows: list[list[str]] = []
        self.base: dict[str, float] = {}
        self.floor: dict[str, Any] = {}

    def distances(self, samples: Samples) -> dict[str, Any]:
        found = measure(self.teacher, self.data, samples, seconds=20.0).metrics
        return {name: found[name] for name in DISTANCES}

    def known(self) -> dict[str, list[str]]:
        """The rows that were measured before."""
        return json.loads(self.kept.read_text(encoding="utf-8")) if self.kept.is_file() else {}

    def key(self, name: str, calls: int, count: int) -> str:
        return f"{self.name}, {name}, {calls} calls, {count} seeds"

    def add(self, name: str, calls: int, sets: list[Callable[[], Samples]], seconds: list[float]) -> None:
        """A row: the mean over models; its error is that over models where there are several, else the metric's. One
        that was measured before is taken as it is."""
        known, key = self.known(), self.key(name, calls, len(sets))
        if key in known:
            self.rows.append(known[key])
            for metric, cell in zip(DISTANCES, known[key][3::2], strict=False):
                self.base.setdefault(metric, float(cell.split()[0]))
            return
        found = [self.distances(draw()) for draw in sets]
        cells = []
        for metric in DISTANCES:
            values = torch.tensor([f[metric].value for f in found], dtype=torch.float64)
            mean = float(values.mean())
            error = (
                float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else found[0][metric].stderr
            )
            base = self.base.setdefault(metric, mean)
            cells += [f"{mean:.3g} ± {error:.1g}", f"{mean / base:.2f}"]
        many = f", {len(sets)} seeds" if len(sets) > 1 else ""
        took = f"{sum(seconds) / len(seconds):.0f}" if seconds else "–"
        self.rows.append([self.name, name + many, str(calls), *cells, took])
        self.kept.write_text(
            json.dumps(known | {key: self.rows[-1]}, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        print(self.rows[-1], flush=True)


def student(
    teacher: Run, steps: int, seed: int, budget: str, folder: Path, w: float = 1.0
) -> tuple[Run, float]:
    """A student, and the seconds of its pairs and training; one that is there is taken as it is."""
    session = prepare(teacher, steps, budget=budget, seed=seed, w=w, out=folder)
    if not (folder / "summary.json").is_file():
        for _ in session.steps():
            pass
        finish(session)
    return session.run, session.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fashion", default="", help="folder with Fashion-MNIST; without it, digits alone")
    parser.add_argument(
        "--out", default="", help="where the runs lie; what is finished there is not made again"
    )
    parser.add_argument("--kept", action="store_true", help="no new students: the table of what is there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(asked.out or tempfile.mkdtemp())
    parts = [rows_of("digits", write_digits(out / "digits-data"), "110s", "110s", 2, out, asked.kept)]
    if asked.fashion:
        parts.append(rows_of("fashion", Path(asked.fashion), "3m", "3m", 2, out, asked.kept))
    notes = f"""
`python -m benchmarks.distillation`: Fréchet distance in pixels and in the features of an encoder that is trained on the
same data, as `kuosan evaluate` measures them (seed {SEED:,}). A student's seconds hold its pairs and its training.
Errors are standard errors, over the seeds of students where there are several, else of the measurement. Ratios are to
the teacher at {TEACHER} steps. Wanted were ratios of 1.25 in one step and 1.1 in two, in no more than the teacher's
time. Seconds are the clock's.

{chr(10).join(about for about, _ in parts)}
"""
    write("distillation", "Students of few steps", notes, HEADER, [row for _, rows in parts for row in rows])


def rows_of(
    name: str, source: Path, budget: str, students: str, seeds: int, out: Path, kept: bool
) -> tuple[str, list[list[str]]]:
    """What is to be said of a data set, and its rows."""
    teacher = kuosan.train(source, out=out / name, budget=budget)
    log = (teacher.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = float(json.loads(log[-1])["seconds"])
    table, own = Table(teacher, name, out / "rows.json"), teacher.facts.recipe.sampling

    def walked(calls: int) -> Samples:
        return teacher.sample(N, steps=calls, solver=own.solver, grid=own.grid, seed=SEED)

    for calls in (TEACHER, 10, 4, 2, 1):
        took = [seconds] if calls == TEACHER else []
        table.add("teacher", calls, [partial(walked, calls)], took)
    for steps in (1, 2, 4):
        count = seeds if steps < 4 else 1
        folders = [out / f"{name}-{steps}-{seed}" for seed in range(count)]
        if kept and not all((folder / "summary.json").is_file() for folder in folders):
            continue
        made = [student(teacher, steps, seed, students, folder) for seed, folder in enumerate(folders)]
        table.add(
            f"student of {steps}",
            steps,
            [partial(r.sample, N, seed=SEED) for r, _ in made],
            [s for _, s in made],
        )
    made_once = cache(lambda: consistency(teacher, table.data, seconds, 0, out / f"{name}-consistency"))
    for rhos in ((80.0,), (80.0, 1.5)):
        if kept and table.key("consistency tuning", len(rhos), 1) not in table.known():
            continue
        table.add(
            "consistency tuning",
            len(rhos),
            [lambda rhos=rhos: drawn(teacher, made_once()[0], rhos)],  # type: ignore[misc]
            [seconds],
        )
    table.floor = table.distances(walked(TEACHER))
    floors = " and ".join(
        f"{table.floor[m].floor:.3g} ± {table.floor[m].floor_stderr:.1g}" for m in DISTANCES
    )
    n = " and ".join(f"{table.floor[m].n:,}" for m in DISTANCES)
    parameters = sum(p.numel() for p in teacher.denoiser.parameters())
    about = (
        f"- {name}: `kuosan train` with a budget of {budget}, students with one of {students}; "
        f"{parameters:,} parameters, {own.solver} on "
        f"{own.grid}; n = {n}, where real data score {floors}."
    )
    return about, table.rows


if __name__ == "__main__":
    main()
