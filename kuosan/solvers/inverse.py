"""The deterministic flow walked both ways: data to noise, and back to the same data.

DDIM's path between two times is that of one estimate m of the data and one e of the noise,

    x_u = α_u m + σ_u e                                                                        (1)

through whichever state it starts from. DDIM asks the denoiser for m at the start, and so comes back on another
path when it is turned round: the two differ by the error of a step (the usual "DDIM inversion" and its
reconstructions). Here m is what the denoiser says at a time c in the *middle* of the step, of the state (1) itself:

    m = x̂(α_c m + σ_c e, c)                                                                    (2)

It is the implicit midpoint rule for the probability-flow ODE, with DDIM's exact treatment of schedule and noise.
Nothing in (1) and (2) says in which direction the step goes. So a step and the step back solve one equation: they are
each other's inverse, to rounding, however few the steps and whatever the network, wherever (2) has one solution. The
order, even as of every symmetric method, is two (Hairer, Lubich & Wanner 2006, ch. II.3 and V.2). One state is all
there is: methods that are explicit and reversible (EDICT, Wallace et al. 2023; BDIA, Zhang et al. 2023) carry two, and
their inverse is exact only for the pair.

(2) is solved by putting the estimate in again until the state at c rests, in the variable that contracts: going down,
m, by the factor (1 - ρ_c/ρ_t) j; going up, e, by (1 - ρ_s/ρ_c)(1 - j), with j an eigenvalue of SNR · Var[x | x_c]
(Tweedie's second formula). For log-concave data j is in [0, 1], and both factors are below one for every step. Between
two modes j is larger. There steps are relaxed, example by example (Aitken's secant; Irons & Tuck 1969), and where the
first factor passes one, a long step down may find a second solution, which leads to the other mode. Shorter steps
have one: with 40 from ρ = 80 to 0.0005, at worst j may be 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Level, Schedule
from kuosan.core.shapes import Time, at, per_example
from kuosan.denoisers.base import Denoiser
from kuosan.processes.additive import AdditiveProcess
from kuosan.processes.base import Process
from kuosan.solvers.base import Solver, shared_times

MOST = 40  # calls per step
REST = 64  # units of the last place of the state, root mean square, that count as rest


@dataclass(frozen=True)
class Midpoint(Solver[Tensor]):
    """Eqs. 1 and 2 downwards. ``calls`` is the least; it is as many as it takes, about 3 in short steps."""

    order: ClassVar[int] = 2
    calls: ClassVar[int] = 2
    needs: ClassVar[type[Process]] = AdditiveProcess

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Time,
        s: Time,
        memory: Tensor | None,
        seeds: Seeds,
        **cond: Tensor,
    ) -> tuple[Tensor, Posterior, Tensor]:
        return _cross(denoiser, x_t, t, s, memory, up=False, **cond)


def invert(denoiser: Denoiser, grid: Float[Tensor, " n+1"], x: Tensor, **cond: Tensor) -> Tensor:
    """The state at ``grid[0]`` from which `Midpoint` arrives at ``x``, without gradients.

    Args:
        denoiser: over an additive process.
        grid: falling times, with noise at all of them; walked from its end to its start.
        x: the state at ``grid[-1]`` (b, ...).
        cond: conditions (b, ...).

    Raises:
        ValueError: the grid ends without noise, where many noises lead to one datum.
    """
    process = denoiser.process
    assert isinstance(process, AdditiveProcess)
    grid = grid.to(dtype=torch.float64, device="cpu")
    if not bool((process.schedule.sigma(grid[-1:]) > 0).all()):
        raise ValueError("a flow is inverted from a state with noise in it: end the grid where σ > 0")
    times, memory = shared_times(tuple(grid.flip(0).tolist()), len(x)), None
    with torch.no_grad():
        for s, t in zip(times[:-1], times[1:], strict=True):
            x, _, memory = _cross(denoiser, x, s, t, memory, up=True, **cond)
    return x


def _middle(schedule: Schedule, a: Level, b: Level) -> Time:
    """Half-way in λ; in t where one end has no signal; at the noisier end where the other has no noise, so that
    the step ends on the denoiser's own estimate."""
    c = schedule.time_of((a.log_snr + b.log_snr) / 2)
    c = torch.where((a.log_snr + b.log_snr).isfinite(), c, (a.t + b.t) / 2)
    return torch.where((a.sigma == 0) | (b.sigma == 0), torch.maximum(a.t, b.t), c)


def _cross(
    denoiser: Denoiser, x: Tensor, a: Time, b: Time, guess: Tensor | None, *, up: bool, **cond: Tensor
) -> tuple[Tensor, Posterior, Tensor]:
    """One step from ``x`` at ``a`` to ``b``: the state there, the posterior at c, and the estimate in use (of the
    noise going up, of the data going down), a first guess for the next step."""
    schedule = denoiser.process.schedule  # type: ignore[attr-defined]
    start, stop = schedule.level(a), schedule.level(b)
    c = _middle(schedule, start, stop)
    middle = schedule.level(c)

    def path(end: Level) -> tuple[Tensor, Tensor]:
        """(p, r): x_u = p x + r times the estimate."""
        if up:
            p = end.alpha / start.alpha
            return at(p, x), at(end.sigma - start.sigma * p, x)
        p = end.sigma / start.sigma
        return at(p, x), at(end.alpha - start.alpha * p, x)

    alpha, sigma = at(middle.alpha, x), at(middle.sigma, x)

    def ask(x_c: Tensor, time: Time, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Posterior]:
        q = denoiser(x_c, time, **cond)
        return ((x_c - alpha * q.mean) / sigma if up else q.mean), q

    if guess is None:
        guess, q = ask(x, a, at(start.alpha, x), at(start.sigma, x))
    p, r = path(middle)
    x_c, estimate = p * x + r * guess, guess
    rest = REST * torch.finfo(x.dtype).eps
    relax = torch.ones(len(x), device=x.device, dtype=x.dtype)
    off: Tensor | None = None
    done = torch.zeros_like(relax, dtype=torch.bool)
    for _ in range(MOST):
        said, q = ask(x_c, c, alpha, sigma)
        # What rests is left alone, so that it does not depend on how long its neighbours take.
        estimate = torch.where(at(done, x), estimate, said)
        before: Tensor | None = off
        off = p * x + r * estimate - x_c
        done = done | (per_example(off.square()) <= rest**2 * per_example(x_c.square()))
        if bool(done.all()):
            break
        if before is not None:
            turn = off - before
            secant = -relax * per_example(before * turn) / per_example(turn.square()).clamp_min(1e-38)
            relax = secant.clamp(0.1, 2.0)
        x_c = torch.where(at(done, x), x_c, x_c + at(relax, x) * off)
    p, r = path(stop)
    return p * x + r * estimate, q, estimate
