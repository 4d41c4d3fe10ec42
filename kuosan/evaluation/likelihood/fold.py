"""One half of the held-out items, measured with what was fitted to the other half.

Variances, decoder, times, grids and dequantisation are fitted. To training items they would be too sure of
themselves, as the model has seen those; to the items that are measured they would flatter. So each half lends itself to
the other (cross-fitting), and every item counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.calibrated import hand_made
from kuosan.evaluation.likelihood.bound import Terms, bound, finite_bound, plan
from kuosan.evaluation.likelihood.decoder import Batch, Decoder, fit_decoder
from kuosan.evaluation.likelihood.dequantise import NORMAL, Dequantisation
from kuosan.evaluation.likelihood.effort import CHOSEN, Effort
from kuosan.evaluation.likelihood.flow import Flow, choose_dequantisation, flow_likelihood
from kuosan.evaluation.likelihood.times import NOISIEST, Times
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.data import Items

CHUNK = 64
Found = TypeVar("Found")
Fit = Callable[[Items], Denoiser]


@dataclass(frozen=True)
class Chosen:
    """Items in another order, or some of them."""

    items: Items
    numbers: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.items.batch(self.numbers[index])


def shuffled(items: Items, most: int, seed: int) -> Chosen:
    """Up to ``most`` items at random: files stand in the order of their names, often one class after the other."""
    generator = torch.Generator().manual_seed(Seeds.of(seed, 1).fold("items").number())
    return Chosen(items, torch.randperm(len(items), generator=generator)[:most])


@dataclass(frozen=True)
class Rounds:
    """Items in batches on a device, each example with a seed of its own; ``tell`` is told what goes on."""

    device: torch.device
    seed: int
    tell: Callable[[str], None]

    def __call__(self, what: str, items: Items, n: int, one: Callable[..., Found]) -> list[Found]:
        """``one(x, seeds, **conditions)`` of the first ``n`` items."""
        self.tell(what)
        found, n = [], min(n, len(items))
        for low in range(0, n, CHUNK):
            index = range(low, min(low + CHUNK, n))
            x, cond = items.batch(torch.tensor(index))
            cond = {k: v.to(self.device) for k, v in cond.items()}
            found.append(one(x.to(self.device), Seeds.of(self.seed, index), **cond))
        return found


@dataclass(frozen=True)
class Fold:
    """See the module; every measurement is in nats per example."""

    mine: Items
    denoiser: Denoiser
    batches: Sequence[Batch]
    times: Times
    dequantisation: Dequantisation
    level: float | None
    effort: Effort
    rounds: Rounds

    @classmethod
    def of(
        cls, held_out: Items, side: int, fit: Fit, level: float | None, effort: Effort, rounds: Rounds
    ) -> Fold:
        """The even (side 0) or the odd items, with all that is fitted to the others."""
        mine, other = (Chosen(held_out, torch.arange(k, len(held_out), 2)) for k in (side, 1 - side))
        rounds.tell("fitting variances")
        denoiser = fit(Chosen(other, torch.arange(min(effort.fitted, len(other)))))
        batches = rounds("choosing times", other, effort.planned, lambda x, seeds, **cond: (x, cond))
        seeds = Seeds.of(rounds.seed, CHUNK).fold("plan")
        times = plan(denoiser, batches, seeds, level=level, cells=effort.cells)
        noise = NORMAL
        if effort.flow and level is not None:

            def choose(x: Tensor, seeds: Seeds, **cond: Any) -> Dequantisation:
                return choose_dequantisation(denoiser, x, seeds.fold("choice"), level, **cond)

            (noise,) = rounds("choosing the dequantisation", other, CHOSEN, choose)
        return cls(mine, denoiser, batches, times, noise, level, effort, rounds)

    def bound(self, what: str = "bound", items: Items | None = None) -> Terms:
        """The bound in continuous time, of this half or of other items."""

        def one(x: Tensor, seeds: Seeds, **cond: Any) -> Terms:
            return bound(
                self.denoiser, x, seeds, self.times, count=self.effort.count, level=self.level, **cond
            )

        count = -(-self.effort.n // 2) if items is None else self.effort.train
        return Terms.join(self.rounds(what, items or self.mine, count, one))

    def steps(self, k: int) -> dict[str, Tensor]:
        """The bound of ancestral sampling in k steps, by reverse variance."""
        self.rounds.tell(f"{k} steps: choosing a grid")
        grid, decoder = self.grid(k)

        def one(arm: Denoiser, x: Tensor, seeds: Seeds, **cond: Any) -> Tensor:
            return finite_bound(arm, x, seeds.fold(k), grid, level=self.level, decoder=decoder, **cond).total

        arms, count = hand_made(self.denoiser) | {"optimal": self.denoiser}, -(-self.effort.step_items // 2)
        return {
            name: torch.cat(self.rounds(f"{k} steps, {name} variance", self.mine, count, partial(one, arm)))
            for name, arm in arms.items()
        }

    def flow(self) -> Flow:
        """The probability-flow ODE's."""

        def one(x: Tensor, seeds: Seeds, **cond: Any) -> Flow:
            return flow_likelihood(
                self.denoiser, x, seeds.fold("flow"), level=self.level, dequantisation=self.dequantisation,
                probes=self.effort.probes, tolerance=self.effort.tolerance, **cond,
            )  # fmt: skip

        return Flow.join(self.rounds("flow", self.mine, -(-self.effort.flow // 2), one))

    def grid(self, k: int) -> tuple[Tensor, Decoder]:
        """The times of k steps and the decoder after the last: the best of three, even in t or in λ down to t0, where
        decoding pays, and even in t all the way."""
        process, seeds = self.denoiser.process, Seeds.of(self.rounds.seed, CHUNK).fold("grid", k)
        assert isinstance(process, GaussianProcess)
        even = torch.linspace(0, 1, k, dtype=torch.float64)
        t0 = self.times.edges[:1].clamp_min(1e-6)
        ends = process.schedule.log_snr(torch.cat([torch.ones_like(t0), t0])).clamp_min(NOISIEST)
        options = (
            1 + even * (t0 - 1),
            process.schedule.time_of(ends[0] + even * (ends[1] - ends[0])).clamp(0, 1),
            1 - torch.arange(k, dtype=torch.float64) / k,
        )
        found = []
        for times in options:
            grid = torch.cat([times, torch.zeros(1, dtype=torch.float64)]).detach()
            decoder, nats = fit_decoder(self.denoiser, self.batches, float(grid[-2]), seeds, self.level)
            x, cond = self.batches[0]
            here: Any = {"level": self.level, "decoder": decoder, **cond}
            terms = finite_bound(self.denoiser, x, seeds[: len(x)], grid, **here)
            found.append((float((terms.prior + terms.diffusion).mean()) + nats, grid, decoder))
        _, grid, decoder = min(found, key=lambda option: option[0])
        return grid, decoder
