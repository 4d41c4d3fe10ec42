"""Small things to train: seconds for a whole run, and data whose every loss is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Schedule
from kuosan.core.shapes import Time, at
from kuosan.denoisers.network import LABELS, NetworkDenoiser
from kuosan.denoisers.outputs import Output
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising, Objective
from kuosan.training.parallel import World
from kuosan.training.settings import Settings

CLASSES, WIDTH = 3, 4


class Points:
    """Items of a Gaussian in four dimensions, in three classes."""

    def __init__(self, count: int, seed: int = 0, mean: float = 1.0):
        seeds = Seeds.of(seed, count)
        self.x = mean + 0.3 * seeds.normal(torch.empty(count, WIDTH))
        self.labels = torch.arange(count) % CLASSES

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {"class": self.labels[index]}


class Net(nn.Module):
    """Two layers with the noise label and the class."""

    def __init__(self, seed: int = 0, hidden: int = 16):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.inner = nn.Parameter(0.3 * torch.randn(WIDTH + 2, hidden, generator=g))
        self.outer = nn.Parameter(0.3 * torch.randn(hidden, WIDTH, generator=g))
        self.rows = nn.Parameter(0.1 * torch.randn(CLASSES + 1, hidden, generator=g))

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        angle = label[:, None] / 200
        h = torch.cat([x, angle.cos(), angle.sin()], 1) @ self.inner
        return torch.tanh(h + self.rows[cond["class"]]) @ self.outer


class Implied(nn.Module):
    """The network of any output whose denoiser is the exact one for x ~ N(0, scale²)."""

    def __init__(self, schedule: Schedule, output: Output, scale: float = 1.0):
        super().__init__()
        self.output, self.scale = output, scale
        self._schedule = (schedule,)  # the denoiser's, so not registered again

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        t = ((label.double() + 1) / LABELS).clamp(0, 1)
        schedule = self._schedule[0]
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_t = x * at((alpha.square() + sigma.square()).sqrt(), x)  # σ_data of the denoiser is 1
        mean = at(self.scale**2 * alpha / ((self.scale * alpha).square() + sigma.square()), x) * x_t
        eps = (x_t - at(alpha, x) * mean) / at(sigma, x)
        match self.output:
            case "x":
                return mean
            case "eps":
                return eps
            case "v":
                return at(alpha, x) * eps - at(sigma, x) * mean
            case "velocity":
                alpha_rate, sigma_rate = schedule.rates(t)
                return at(alpha_rate, x) * mean + at(sigma_rate, x) * eps
            case "score":
                return -eps / at(sigma, x)
            case "edm":
                m2 = alpha.square() + sigma.square()
                return (mean - at(alpha / m2, x) * x_t) * at(m2.sqrt() / sigma, x)


def exact(schedule: Schedule, output: Output, scale: float = 1.0) -> NetworkDenoiser:
    """`Implied` as a denoiser."""
    return NetworkDenoiser(GaussianProcess(schedule), Implied(schedule, output, scale), output)


class Given(nn.Module):
    """A network that answers the same, whatever it is asked."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.register_buffer("answer", answer)

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        return self.answer


def training(
    folder: Path,
    *,
    objective: Objective | None = None,
    train: Any = None,
    val: Any = None,
    seed: int = 0,
    denoiser: NetworkDenoiser | None = None,
    identity: dict[str, Any] | None = None,
    world: World = World(),  # noqa: B008 (frozen)
    **settings: Any,
) -> Training:
    """A small run of 24 steps that saves when it ends."""
    leaves = {"batch": 8, "lr": 1e-2, "steps": 24, "validations": 6, "save_seconds": 1e9, "seed": seed}
    return Training(
        denoiser or NetworkDenoiser(GaussianProcess(Cosine()), Net(seed)),
        objective or Denoising(),
        Points(37) if train is None else train,
        Points(9, seed=1) if val is None else val,
        Settings(**(leaves | settings)),
        folder,
        null={"class": CLASSES},
        identity=identity,
        world=world,
    )


def walk(run: Training, stop: int | None = None) -> list[Any]:
    """Events up to and with step ``stop``; as after a kill, what that step would have saved is lost."""
    events, seen = run.run(), []
    for event in events:
        seen.append(event)
        if event.step == stop:
            break
    events.close()  # type: ignore[attr-defined]
    return seen


def state(run: Training) -> dict[str, Any]:
    """All that a run holds: tensors as bytes, and its counters but for the clock's."""
    out: dict[str, Any] = {f"model.{k}": v for k, v in run.denoiser.state_dict().items()}
    out |= {f"average.{k}": v for k, v in run.average.state_dict().items()}
    for prefix, part, p in run.optimizers.states():
        out |= {f"{prefix}{k}": v for k, v in part.state[p].items()}
    bits = {k: (v.dtype, tuple(v.shape), v.numpy().tobytes()) for k, v in out.items()}
    return bits | {k: v for k, v in vars(run.count).items() if k != "seconds"}


def midpoints(count: int) -> Time:
    """The middles of equal parts of [0, 1]."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count
