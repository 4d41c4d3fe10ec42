"""A network as a denoiser: preconditioning on the way in, eq. 2 of `outputs` on the way out.

    F = network( x_t / √(α²σ_d² + σ²),  label )      the input always has unit variance         (1)
    label = 1000 t - 1                               the index of a 1000-step table             (2)

The label is the one that diffusers' models are given (index i stands for t = (i + 1)/1000), so that a
network trained here can be opened there, and one trained there called here. With σ_d = 1 and a
variance-preserving schedule, eq. 1 is the identity.

A network with twice the channels also says how uncertain its estimate of x is, element by element:

    Var[x | x_t] = v exp r,   v = (σ_d σ)² / (α²σ_d² + σ²)      (F, r) = network(…)             (3)

where v is the variance that Gaussian data of variance σ_d² would have. r = 0 is therefore the larger of the
two variances of the reverse step that Ho et al. 2020 choose from, and r → -∞ the smaller: the learned reverse
variances of Improved DDPM (Nichol & Dhariwal 2021, eq. 15), but free of the grid of steps.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from kuosan.core.posteriors import Gaussian, Point, Posterior
from kuosan.core.shapes import Time, at, is_shared
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.outputs import Output, data_terms
from kuosan.networks.view import View
from kuosan.processes.additive import AdditiveProcess

LABELS = 1000
WIDEST = 16.0  # |r| in eq. 3 at most: the variance of a pixel that never changes would fall without end


class NetworkDenoiser(Denoiser):
    """A trained (or trainable) network over numbers.

    Args:
        process: the process that it was trained for.
        network: ``network(x, label, **cond) -> F``, F in the shape of x; in training on parts of pictures also
            ``network(x, label, view, **cond)``.
        output: what F is.
        sigma_data: standard deviation of the data, σ_d.
        variance: the network says r too, eq. 3, in a second half of its channels.
    """

    process: AdditiveProcess
    alone = True

    def __init__(
        self,
        process: AdditiveProcess,
        network: nn.Module,
        output: Output = "v",
        sigma_data: float = 1.0,
        variance: bool = False,
    ):
        super().__init__()
        self.process, self.network = process, network
        self.schedule = process.schedule  # registered, so that a learned one is trained and moved along
        self.output, self.sigma_data, self.variance = output, sigma_data, variance
        # A sampler walks the same grid again and again, batch after batch. A tensor is its own key.
        self._kept = lru_cache(16)(lambda times, like: self._ahead(times, *like))

    def curves(self) -> list[nn.Parameter]:
        return list(self.schedule.parameters())

    def along(self, times: tuple[Time, ...], like: Tensor) -> Denoiser:
        if not is_shared(times[0]) or times[0].requires_grad:
            return self
        return self._kept(times, (like.dtype, like.device))

    def _ahead(self, times: tuple[Time, ...], dtype: torch.dtype, device: torch.device) -> Denoiser:
        learned = any(True for _ in self.schedule.parameters())
        return self if learned or not all(map(is_shared, times)) else _Along(self, times, dtype, device)

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        return self.seen(x_t, t, None, cond)

    def seen(self, x_t: Tensor, t: Time, view: View | None, cond: Mapping[str, Tensor]) -> Posterior:
        """`forward` of what training shows of each example, by a view of it."""
        scales, labels, fs, gs, vs = self.terms(t)
        shown = () if view is None else (view,)
        out = self.network(x_t * at(scales, x_t), labels.to(x_t), *shown, **cond)
        if self.variance:
            out, r = out.chunk(2, dim=1)
            mean = at(fs, x_t) * out + at(gs, x_t) * x_t
            return Gaussian(mean, at(vs, x_t) * r.clamp(-WIDEST, WIDEST).exp())
        return Point(at(fs, x_t) * out + at(gs, x_t) * x_t)

    def __deepcopy__(self, memo: dict[int, object]) -> NetworkDenoiser:
        network = copy.deepcopy(self.network, memo)
        process = dataclasses.replace(self.process, schedule=copy.deepcopy(self.schedule, memo))
        twin = NetworkDenoiser(process, network, self.output, self.sigma_data, self.variance)
        return twin.train(self.training)

    def terms(self, t: Time) -> tuple[Time, Time, Time, Time, Time]:
        """Input scale and label (eqs. 1 and 2), (f, g) with x̂ = f F + g x_t, and v of eq. 3."""
        level = self.schedule.level(t)
        scale = ((level.alpha * self.sigma_data).square() + level.sigma.square()).rsqrt()
        f, g = data_terms(self.output, self.schedule, level, self.sigma_data)
        return scale, LABELS * t - 1, f, g, (self.sigma_data * level.sigma * scale).square()


class _Along(Denoiser):
    """A network's denoiser at times known ahead: its coefficients are plain numbers in a table."""

    alone = True

    def __init__(
        self, denoiser: NetworkDenoiser, times: tuple[Time, ...], dtype: torch.dtype, device: torch.device
    ):
        super().__init__()
        self.process, self.denoiser = denoiser.process, denoiser
        self._network, self._variance = denoiser.network.__call__, denoiser.variance
        self._times = times  # kept alive, so that no other tensor can take over their identities
        with torch.inference_mode(False), torch.no_grad():
            columns = denoiser.terms(torch.stack([t[0] for t in times]).clone())
            rows = zip(*(c.tolist() for c in columns), strict=True)
            self._rows = {
                # Rounding apart, a variance-preserving schedule needs no scaling: spare the call.
                id(t): (
                    None if abs(scale - 1) < 1e-12 else scale,
                    torch.full((len(t),), label, dtype=dtype, device=device),
                    f,
                    g,
                    v,
                )
                for t, (scale, label, f, g, v) in zip(times, rows, strict=True)
            }

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Posterior:
        row = self._rows.get(id(t))
        if row is None:
            return self.denoiser(x_t, t, **cond)
        scale, label, f, g, v = row
        out = self._network(x_t if scale is None else x_t * scale, label, **cond)
        if self._variance:
            out, r = out.chunk(2, dim=1)
            return Gaussian((x_t * g).add_(out, alpha=f), r.clamp(-WIDEST, WIDEST).exp() * v)
        return Point((x_t * g).add_(out, alpha=f))

    __call__ = forward  # no hooks here: spare the loop their look-up
