"""Data whose every quantity is known, for the laws."""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from kuosan.core.schedules import (
    EDM,
    Cosine,
    Learned,
    Rectified,
    Schedule,
    Shifted,
    Sigmoid,
    Tabulated,
    VPLinear,
)
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.processes.gaussian import GaussianProcess


def learned() -> Learned:
    schedule = Learned()
    bend = torch.linspace(-1, 1, len(schedule.fall.log_density), dtype=torch.float64)
    schedule.fall.log_density.data = bend.square()
    return schedule


def tabulated() -> Tabulated:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return Tabulated((1 - betas).cumprod(0))


SCHEDULES: dict[str, Schedule] = {
    "rectified": Rectified(),
    "vp_linear": VPLinear(),
    "cosine": Cosine(),
    "sigmoid": Sigmoid(),
    "edm": EDM(),
    "shifted_cosine": Shifted(Cosine(), 2.0),
    "shifted_rectified": Shifted(Rectified(), 0.5),
    "shifted_edm": Shifted(EDM(), 3.0),
    "learned": learned(),
    "tabulated": tabulated(),
}


def mixture(schedule: Schedule) -> MixtureDenoiser:
    """Three Gaussians in the plane."""
    means = torch.tensor([[-1.0, 0.5], [1.0, 0.2], [0.3, -1.0]], dtype=torch.float64)
    variances = torch.tensor([[0.3, 0.2], [0.25, 0.4], [0.35, 0.3]], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
    return MixtureDenoiser(GaussianProcess(schedule), means, variances, weights)


def flow(denoiser: MixtureDenoiser, x: Tensor, start: float, stop: float) -> Tensor:
    """The probability-flow ODE from ``start`` to ``stop`` to thirteen digits, by an eighth-order method that
    shares no code with the solvers."""
    schedule = denoiser.process.schedule

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(y.reshape(x.shape))
        time = torch.full((len(x),), t, dtype=torch.float64)
        alpha, sigma = schedule.alpha(time)[:, None], schedule.sigma(time)[:, None]
        alpha_rate, sigma_rate = (r[:, None] for r in schedule.rates(time))
        with torch.no_grad():
            mean = denoiser(state, time).mean
        return (alpha_rate * mean + sigma_rate * (state - alpha * mean) / sigma).detach().numpy().ravel()

    end = solve_ivp(velocity, (start, stop), x.numpy().ravel(), method="DOP853", rtol=1e-13, atol=1e-13)
    return torch.from_numpy(end.y[:, -1].reshape(x.shape))
