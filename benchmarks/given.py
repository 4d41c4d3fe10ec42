"""Given parts: what is made beside them, by each way of conditioning.

    python -m benchmarks.given exact            mixtures of Gaussians whose conditional law is known in closed form
    python -m benchmarks.given digits           8×8 digits that ship with scikit-learn, held-out ones, halves given
    python -m benchmarks.given digits --data ../shared/data/mnist --budget 10m

Ways: `replacement`, the mean put to what is given; `RePaint`, the same with every step gone back and made again
(Lugmayr et al. 2022); `corrected k`, with k conjugate gradients; `trained`, a network that was told of given parts in
training. At one cost: calls of the network, a backward pass counted as two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.table import write
from kuosan.core.grids import grid
from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.core.shapes import Time, as_time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import CorrelatedDenoiser
from kuosan.guidance.given import Given
from kuosan.processes.base import Process
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import DDIM, Solver, sample, solver

BACKWARD = 2  # calls that a backward pass costs


@dataclass(frozen=True)
class RePaint(Solver[None]):
    """A step of DDIM with full churn, gone back to t by the process and made again, ``times`` times in all."""

    times: int = 5
    needs: ClassVar[type[Process]] = GaussianProcess
    draws: ClassVar[bool] = True

    def step(
        self, denoiser: Denoiser, x_t: Tensor, t: Time, s: Time, memory: None, seeds: Seeds, **cond: Tensor
    ) -> tuple[Tensor, Posterior, None]:
        schedule, inner = denoiser.process.schedule, DDIM(eta=1.0)  # type: ignore[attr-defined]
        now, then = schedule.level(t), schedule.level(s)
        ratio = now.alpha / then.alpha
        noise = (now.sigma.square() - (ratio * then.sigma).square()).clamp_min(0).sqrt()
        for k in range(self.times):
            x_s, q, _ = inner.step(denoiser, x_t, t, s, None, seeds.fold("down", k), **cond)
            x_t = at(ratio, x_s) * x_s + at(noise, x_s) * seeds.fold("up", k).normal(x_s)
        return x_s, q, None


@dataclass(frozen=True)
class Arm:
    """A way of conditioning at a number of steps."""

    name: str
    corrections: int
    times: int = 1

    def steps(self, calls: int) -> int:
        """As many as so many calls pay for."""
        return max(1, calls // ((1 + BACKWARD * self.corrections) * self.times))

    def rule(self) -> Solver[Any]:
        return RePaint(self.times) if self.times > 1 else solver("dpm++2m")


ARMS = (
    Arm("replacement", 0), Arm("RePaint 2", 0, 2), Arm("RePaint 5", 0, 5), Arm("RePaint 10", 0, 10),
    Arm("corrected 1", 1), Arm("corrected 2", 2), Arm("corrected 3", 3), Arm("corrected 5", 5),
)  # fmt: skip


def laws(n: int, d: int, k: int) -> Iterator[tuple[CorrelatedDenoiser, Tensor, Tensor]]:
    """Mixtures of k Gaussians in d dimensions with half of the elements of a draw given: denoiser, datum, mask."""
    for i in range(n):
        g = torch.Generator().manual_seed(i)
        means = torch.randn(k, d, generator=g, dtype=torch.float64)
        a = torch.randn(k, d, d, generator=g, dtype=torch.float64)
        covariances = 0.15 * a @ a.mT / d + 0.01 * torch.eye(d, dtype=torch.float64)
        denoiser = CorrelatedDenoiser(GaussianProcess(Cosine()), means, covariances)
        one = int(torch.randint(k, (1,), generator=g))
        root = torch.linalg.cholesky(covariances[one])
        datum = means[one] + root @ torch.randn(d, generator=g, dtype=torch.float64)
        mask = torch.zeros(d, dtype=torch.bool)
        mask[torch.randperm(d, generator=g)[: d // 2]] = True
        yield denoiser, datum, mask


def energy(a: Tensor, b: Tensor) -> float:
    """The energy distance of two sets of rows (Székely & Rizzo 2013), without the pairs of a row with itself."""
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def exact(calls: list[int], n: int = 20, draws: int = 500, d: int = 6, k: int = 4) -> list[dict[str, Any]]:
    """Energy distance of each arm's draws of the hidden half to draws of the closed-form conditional law."""
    rows = []
    for count in calls:
        found: dict[str, list[float]] = {}
        for i, (denoiser, datum, mask) in enumerate(laws(n, d, k)):
            known, where = datum.expand(draws, d), mask.expand(draws, d)
            truth = denoiser.given(datum, mask)

            def drawn(model: Denoiser, rule: Solver[Any], steps: int, seed: int) -> Tensor:
                seeds = Seeds.of(seed, draws)
                times = grid("logsnr")(denoiser.process.schedule, steps)
                x = denoiser.process.prior(known, seeds.fold("prior")).to(torch.float64)
                return sample(model, rule, times, x, seeds)[:, ~mask]

            real = drawn(truth, solver("dpm++2m"), 60, 2 * i)
            again = drawn(truth, solver("dpm++2m"), 60, 2 * i + 1)
            found.setdefault("the law itself", []).append(energy(real, again))
            for arm in ARMS:
                model = Given(denoiser, known, where, corrections=arm.corrections)
                made = drawn(model, arm.rule(), arm.steps(count), 2 * i + 1)
                found.setdefault(arm.name, []).append(energy(made, real))
        for name, values in found.items():
            v = torch.tensor(values)
            rows.append(
                {
                    "calls": count,
                    "way": name,
                    "energy": float(v.mean()),
                    "stderr": float(v.std() / len(v) ** 0.5),
                }
            )
    return rows


if __name__ == "__main__":
    for row in exact([30, 120], n=6, draws=200):
        print(row)
