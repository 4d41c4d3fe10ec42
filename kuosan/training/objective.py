"""Objectives: one loss per example, unreduced.

For Gaussian states every loss in use is a weight times the squared error of the data estimate,

    L(x) = E_t c(t) ‖x - x̂(x_t)‖²/d,        t ~ p                                              (1)

so the weight c is written once, for x, and works for every output of the network:

| weight    | c(t)                                    | source                                     |
|-----------|-----------------------------------------|--------------------------------------------|
| output    | plain squared error of what is predicted | Ho et al. 2020                             |
| min_snr   | min(SNR, 5)                             | Hang et al. 2023                           |
| edm       | (ρ² + σ_d²)/(ρ σ_d)²                    | Karras et al. 2022, table 1                |
| sigmoid   | SNR · sigmoid(b - λ) · (-λ')/p(t), b = -1 | Kingma & Gao 2023; Hoogeboom et al. 2024   |
| uniform   | SNR · (-λ')/(2 p(t)): the bound         | Kingma et al. 2021, eq. 17                 |

The last two divide by the density of the times, so their expectation does not depend on it. What the others ask for is
c p, so another density is another objective, and one that learns (`EntropyTiming`) moves it as it goes: there are no
importance weights p₀/p to keep it at that of the usual density p₀ (benchmarks/results/timing.md has both). `Bound` is
the last for any bridged process, discrete ones included, in nats per element.

A denoiser that learns its variance too has the hybrid loss of Improved DDPM (Nichol & Dhariwal 2021, eq. 16),

    L(x) + κ E_t ½ (log(u²V) + (x - x̂)²/V),      V = Var[x | x_t], x̂ held fixed                (2)

The second term is the divergence of the bound for the one step from t to 0 (u turns errors of x into errors of
what the network predicts, so that every level of noise counts alike). Each finite step's term has the same
minimum, V = E[(x - x̂)² | x_t], hence no grid of steps has to be chosen, and x̂ learns from L alone.

What moves can have its velocity weighed too, the differences Δ of neighbouring frames (Tevet et al. 2023, eq. 5),

    ‖x - x̂‖² + κ ‖Δ(x - x̂)‖²                                                                  (3)

in the place of the error in (1). The minimum is the same, E[x | x_t], whatever κ: a quadratic form of the error; but
the last of it to go, small errors that change from frame to frame and are seen as trembling, go first.

Where states come to something that is watched, V(x), its errors can be weighed beside theirs,

    ‖x - x̂‖² + κ min(SNR, 1) ‖V(x) - V(x̂)‖²                                                   (4)

as Tevet et al. 2023 do of bodies (eq. 3 and 4, at all times alike): V are the velocities of feet, which hang on chains
of joints, so that small errors add up there. V is not linear, so where much is open yet the minimum is drawn from
E[x | x_t] towards what has the expected V: hence the second factor, as little of a state is watched while noise hides
most of it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.schedules import Level
from kuosan.core.shapes import GIVEN, State, Time, as_time, at, leaves, per_example
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.outputs import weight_of_output
from kuosan.networks.given import told
from kuosan.networks.view import View
from kuosan.processes.base import Bridged
from kuosan.training.coupling import Coupling, Independent
from kuosan.training.given import NOTHING, Masks
from kuosan.training.timing import Timing, UniformTiming
from kuosan.training.views import EVERYTHING, Views

MIN_SNR_GAMMA = 5.0
SIGMOID_BIAS = -1.0
# δ of `EntropyTiming` at which every level has the same loss, for weights whose mean the density leaves alone
RESOLUTIONS = {"uniform": 0.0, "sigmoid": math.exp(-SIGMOID_BIAS / 2)}


class Found(NamedTuple):
    """What a batch says, each (b,): losses; and the levels λ with the squared errors of x there, averaged over
    elements and detached, on the data's device, where there is such a thing."""

    losses: Float[Tensor, " b"]
    errors: tuple[Time, Time] | None = None


class Objective(ABC):
    """A loss per example of a denoiser on clean data."""

    timing: Timing

    @abstractmethod
    def at_quantiles(
        self, denoiser: Any, x: State, u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        """The loss at the times of quantiles ``u`` (b,)."""

    def look(self, denoiser: Any, x: State, u: Time, seeds: Seeds, **cond: Tensor) -> Found:
        """`at_quantiles` with what a density of times can learn from."""
        return Found(self.at_quantiles(denoiser, x, u, seeds, **cond))

    def draw(
        self, denoiser: Denoiser, x: State, seeds: Seeds, u: Time | None = None, **cond: Tensor
    ) -> Found:
        """`look` at stratified times; the mean of a batch's losses estimates the expectation. Of a part of a batch,
        ``u`` are its times among those of the whole."""
        u = self.timing.draw(seeds) if u is None else u
        return self.look(denoiser, x, u, seeds.fold("noise"), **cond)

    def __call__(self, denoiser: Denoiser, x: State, seeds: Seeds, **cond: Tensor) -> Float[Tensor, " b"]:
        """The losses of `draw`."""
        return self.draw(denoiser, x, seeds, **cond).losses

    def timed(self, timing: Timing) -> Objective:
        """The same objective at times of another density, where it has a choice."""
        return self

    def stage(self, progress: float) -> Objective:
        """The objective at this share of a training, where it changes along it."""
        return self

    def judged(self) -> Objective:
        """What held-out items are asked: this, at times that never change."""
        return self.timed(self.timing.fixed)

    judges: ClassVar[int] = 2**40
    """Elements of held-out items that are looked at, at most: those of pictures cost little."""

    axis: ClassVar[str] = "log-SNR"
    """What tells levels of noise apart."""

    def place(self, denoiser: Any, u: float) -> float:
        """Where on that axis the times of quantile ``u`` are."""
        t = self.timing.quantile(denoiser.schedule, as_time(u, 1))
        return float(denoiser.schedule.log_snr(t))


Weight = Callable[[NetworkDenoiser, Level, Time], Time]


def _output(denoiser: NetworkDenoiser, level: Level, density: Time) -> Time:
    return weight_of_output(denoiser.output, denoiser.schedule, level, denoiser.sigma_data)


def _min_snr(denoiser: NetworkDenoiser, level: Level, density: Time) -> Time:
    return level.log_snr.exp().clamp_max(MIN_SNR_GAMMA)


def _edm(denoiser: NetworkDenoiser, level: Level, density: Time) -> Time:
    return level.log_snr.exp() + denoiser.sigma_data**-2


def _sigmoid(denoiser: NetworkDenoiser, level: Level, density: Time) -> Time:
    slope = -denoiser.schedule.log_snr_rate(level.t) / density
    return level.log_snr.exp() * torch.sigmoid(SIGMOID_BIAS - level.log_snr) * slope


def _uniform(denoiser: NetworkDenoiser, level: Level, density: Time) -> Time:
    return level.log_snr.exp() * -denoiser.schedule.log_snr_rate(level.t) / (2 * density)


WEIGHTS: dict[str, Weight] = {
    "output": _output,
    "min_snr": _min_snr,
    "edm": _edm,
    "sigmoid": _sigmoid,
    "uniform": _uniform,
}


@dataclass(frozen=True)
class Denoising(Objective):
    """Eq. 1 with the named weight and density, for a `NetworkDenoiser`, of data and noise as they are coupled."""

    weight: str = "output"
    timing: Timing = UniformTiming()
    balance: float = 0.0  # κ of eq. 2
    coupling: Coupling = Independent()
    views: Views = EVERYTHING
    given: Masks = NOTHING
    velocity: float = 0.0  # κ of eq. 3
    time: int = 0  # the side along which it is taken, from 0
    feet: float = 0.0  # κ of eq. 4
    watched: Callable[[Tensor], Tensor] | None = None  # its V

    def at_quantiles(
        self, denoiser: NetworkDenoiser, x: Tensor, u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        return self.look(denoiser, x, u, seeds, **cond).losses

    def look(self, denoiser: NetworkDenoiser, x: Tensor, u: Time, seeds: Seeds, **cond: Tensor) -> Found:
        if self.views.everything:
            return self._look(denoiser, x, u, seeds, None, cond)
        losses, errors = x.new_empty(len(x)), []
        for index, shown, view in self.views.parts(x, u, seeds.fold("view"), denoiser.network):
            here = index.to(x.device)
            part = {name: value[here] for name, value in cond.items()}
            found = self._look(denoiser, shown, u[index], seeds.take(index.tolist()), view, part)
            losses = losses.index_put((here,), found.losses)
            assert found.errors
            # Where there is little noise, those of crops are nearly those of the data: what tells a pixel lies near it.
            errors.append(found.errors)
        levels, squared = (torch.cat(values) for values in zip(*errors, strict=True))
        return Found(losses, (levels, squared))

    def _look(
        self,
        denoiser: NetworkDenoiser,
        x: Tensor,
        u: Time,
        seeds: Seeds,
        view: View | None,
        cond: dict[str, Tensor],
    ) -> Found:
        schedule = denoiser.schedule
        drawn = self.timing.quantile(schedule, u)
        t, density = schedule.clip(drawn), self.timing.density(schedule, u)
        # Times beyond the clip would be counted at its ends, and a density's mean would depend on its tails.
        density = torch.where(t == drawn, density, torch.inf)
        process = denoiser.process
        x_t = process.between(x, self.coupling.draw(x, process.noise, seeds, cond), t)
        free: Tensor | None = None  # examples without given parts, by number
        if self.given.share:
            some, mask = self.given.draw(x, seeds.fold("given"))
            free, mask = (~some).nonzero()[:, 0].to(x.device), mask.to(x.device)
            cond = cond | {GIVEN: told(x, mask)}
        # Through `forward` wherever there is no view: a denoiser may have hooks.
        posterior: Any = denoiser(x_t, t, **cond) if view is None else denoiser.seen(x_t, t, view, cond)
        level = schedule.level(t)
        error = x - posterior.mean
        if free is not None:
            error = error.masked_fill(mask, 0)
        squared = error.square()
        weight = WEIGHTS[self.weight](denoiser, level, density)
        total = per_example(squared)
        loss = total * weight.to(squared)
        if self.velocity:
            moved = per_example(error.diff(dim=2 + self.time).square())
            loss = loss + self.velocity * moved * weight.to(squared)
        if self.feet and self.watched:
            missed = per_example((self.watched(x) - self.watched(x - error)).square())
            seen = level.log_snr.exp().clamp_max(1)
            loss = loss + self.feet * missed * (weight * seen).to(squared)
        if self.balance:
            u = at(_output(denoiser, level, density).sqrt(), x)
            spread = posterior.variance
            surprise = (u * u * spread).log() + squared.detach() / spread
            surprise = surprise if free is None else surprise.masked_fill(mask, 0)
            loss = loss + self.balance * per_example(surprise) / 2
        size = x[0].numel()
        levels, errors = level.log_snr.detach(), total.detach() / size
        if free is not None:  # what is given tells of the rest, so these are not the errors of the data
            levels, errors = levels[free.to(levels.device)], errors[free]
        return Found(loss / size, (levels, errors))

    def timed(self, timing: Timing) -> Denoising:
        return replace(self, timing=timing)

    def stage(self, progress: float) -> Denoising:
        return replace(self, views=self.views.at(progress))

    def judged(self) -> Denoising:
        return replace(
            self, timing=self.timing.fixed, coupling=Independent(), views=EVERYTHING, given=NOTHING
        )


@dataclass(frozen=True)
class Bound(Objective):
    """The diffusion term of the evidence bound, in nats per element, of any bridged process, at even times.

    On Gaussian states `Denoising` with the weight ``uniform`` is the same at times of any density.
    """

    timing: Timing = field(default=UniformTiming(), init=False)

    def at_quantiles(
        self, denoiser: Denoiser, x: State, u: Time, seeds: Seeds, **cond: Tensor
    ) -> Float[Tensor, " b"]:
        process = denoiser.process
        assert isinstance(process, Bridged)
        rate = process.elbo_rate(x, x_t := process.corrupt(x, u, seeds), denoiser(x_t, u, **cond), u)
        return rate / sum(leaf[0].numel() for leaf in leaves(x))
