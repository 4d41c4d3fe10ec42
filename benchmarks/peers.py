"""diffusers' own samplers around one of our denoisers: every solver, with every spacing that it offers.

The schedulers are diffusers' code untouched, at their own tables of 1000 steps; only the model that they call is
ours. They are asked for noise or for data, whichever the scheduler documents, and get what the denoiser's estimate
says, so no arm is worse off for its parametrisation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kuosan.core.schedules import Schedule
from kuosan.core.shapes import as_time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.diffusers_export import trained_betas

SPACINGS = ("linspace", "leading", "trailing")
SIGMAS: tuple[dict[str, bool], ...] = (
    {},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
)


@dataclass(frozen=True)
class Peer:
    """One set-up; ``make`` gives a fresh scheduler, ``steps_of`` its steps for so many calls."""

    family: str
    spacing: str
    make: Callable[[], Any]
    two_calls: bool = False

    def steps_of(self, calls: int) -> int:
        """The most steps that take no more than ``calls`` calls."""
        return (calls + 1) // 2 if self.two_calls else calls

    def __str__(self) -> str:
        return f"{self.family} ({self.spacing})"


def peers(schedule: Schedule) -> Iterator[Peer]:
    """All of them on this schedule."""
    import diffusers as d

    betas = trained_betas(schedule)
    common: dict[str, Any] = {"trained_betas": betas, "prediction_type": "sample"}

    def each(family: str, kind: Any, sigmas: Any, **options: Any) -> Iterator[Peer]:
        for more in sigmas:
            # Where σ is spaced by a rule of its own, the three spacings of t only set its ends.
            for spacing in SPACINGS if not more else ("linspace",):
                leaves = {**common, **options, **more, "timestep_spacing": spacing}
                name = next(iter(more), spacing).removeprefix("use_").removesuffix("_sigmas")
                yield Peer(family, name, lambda k=kind, v=leaves: k(**v), kind is d.HeunDiscreteScheduler)

    lu = ({"use_lu_lambdas": True},)
    yield from each("DDIM", d.DDIMScheduler, ({},), clip_sample=False)
    for order in (2, 3):
        yield from each(f"DPM++ {order}M", d.DPMSolverMultistepScheduler, (*SIGMAS, *lu), solver_order=order)
        yield from each(f"DEIS {order}", d.DEISMultistepScheduler, SIGMAS, solver_order=order)
        for variant in ("bh1", "bh2"):
            kind, options = d.UniPCMultistepScheduler, {"solver_order": order, "solver_type": variant}
            yield from each(f"UniPC {order} {variant}", kind, SIGMAS, final_sigmas_type="zero", **options)
    yield from each("Heun", d.HeunDiscreteScheduler, SIGMAS)
    yield Peer("IPNDM", "its own", d.IPNDMScheduler)


def run(peer: Peer, denoiser: Denoiser, z: Tensor, calls: int, **cond: Tensor) -> Tensor:
    """What the peer makes of the standard normal noise ``z`` in at most so many calls of the denoiser."""
    schedule: Schedule = denoiser.process.schedule  # type: ignore[attr-defined]
    scheduler = peer.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler.set_timesteps(peer.steps_of(calls))
    own = peer.family == "IPNDM"
    kind, z = z.dtype, z.float()  # diffusers' UniPC solves its systems in single precision
    state = z * float(getattr(scheduler, "init_noise_sigma", 1.0))
    made = 0
    for i, label in enumerate(scheduler.timesteps):
        if made == calls:
            break
        if own:  # α = cos, σ = sin of πt/2, and the model gives v
            alpha, sigma = float(scheduler.alphas[i]), float(scheduler.betas[i])
            t = schedule.time_of(torch.tensor([2 * torch.tensor(alpha / max(sigma, 1e-12)).log()]).double())
        else:
            t = torch.tensor([(float(label) + 1) / 1000], dtype=torch.float64)
        t = t.clamp(0, 1)
        inputs = scheduler.scale_model_input(state, label)
        a, s = schedule.alpha(t), schedule.sigma(t)
        if own:
            inputs = inputs * at((a.square() + s.square()).sqrt(), inputs)
        x = denoiser(inputs.to(kind), as_time(t[0], len(z)), **cond).mean.float()
        made += 1
        if own:  # v = (α x_t - x)/σ for α² + σ² = 1
            v = (alpha * state - x) / max(sigma, 1e-12)
            state = scheduler.step(v, label, state).prev_sample
        else:
            state = scheduler.step(x, label, state).prev_sample
    return state.to(kind)
