"""A network as a denoiser: preconditioning on the way in, eq. 2 of `outputs` on the way out.

    F = network( x_t / √(α²σ_d² + σ²),  label )      the input always has unit variance         (1)
    label = 1000 t - 1                               the index of a 1000-step table             (2)

The label is the one that diffusers' models are given (index i stands for t = (i + 1)/1000), so that a
network trained here can be opened there, and one trained there called here. With σ_d = 1 and a
variance-preserving schedule, eq. 1 is the identity.
"""

from __future__ import annotations

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from kuosan.core.posteriors import Point
from kuosan.core.shapes import Time, at, is_shared
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.outputs import Output, data_terms
from kuosan.processes.gaussian import GaussianProcess

LABELS = 1000


class NetworkDenoiser(Denoiser):
    """A trained (or trainable) network over Gaussian states.

    Args:
        process: the Gaussian process that it was trained for.
        network: ``network(x, label, **cond) -> F``, F in the shape of x.
        output: what F is.
        sigma_data: standard deviation of the data, σ_d.
    """

    process: GaussianProcess

    def __init__(
        self, process: GaussianProcess, network: nn.Module, output: Output = "v", sigma_data: float = 1.0
    ):
        super().__init__()
        self.process, self.network = process, network
        self.schedule = process.schedule  # registered, so that a learned one is trained and moved along
        self.output, self.sigma_data = output, sigma_data
        # A sampler calls at the same few times again and again: what a time comes to is kept.
        self._kept = lru_cache(4096)(self._shared_terms)
        # A tensor is its own key; its version tells whether it was written to since.
        self._met = lru_cache(256)(
            lambda t, version, like, device: self._kept(t[0].item(), len(t), like, device)
        )
        self._fixed = next(process.schedule.parameters(), None) is None

    def forward(self, x_t: Tensor, t: Time, **cond: Tensor) -> Point:
        network = self._modules["network"]  # what `self.network` looks up, sooner
        assert network is not None
        if self._fixed and is_shared(t):
            if t.is_inference():  # has no version
                scale, label, f, g = self._kept(t[0].item(), len(t), x_t.dtype, x_t.device)
            else:
                scale, label, f, g = self._met(t, t._version, x_t.dtype, x_t.device)
            out = network(x_t if scale == 1.0 else x_t * scale, label, **cond)
            return Point((x_t * g).add_(out, alpha=f))
        scales, labels, fs, gs = self._terms(t)
        out = network(x_t * at(scales, x_t), labels.to(x_t), **cond)
        return Point(at(fs, x_t) * out + at(gs, x_t) * x_t)

    def __deepcopy__(self, memo: dict[int, object]) -> NetworkDenoiser:
        network = copy.deepcopy(self.network, memo)
        process = GaussianProcess(copy.deepcopy(self.schedule, memo))
        twin = NetworkDenoiser(process, network, self.output, self.sigma_data)
        return twin.train(self.training)

    def _terms(self, t: Time) -> tuple[Time, Time, Time, Time]:
        level = self.schedule.level(t)
        scale = ((level.alpha * self.sigma_data).square() + level.sigma.square()).rsqrt()
        f, g = data_terms(self.output, self.schedule, level, self.sigma_data)
        return scale, LABELS * t - 1, f, g

    def _shared_terms(
        self, t: float, batch: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[float, Tensor, float, float]:
        """The same for one time of a whole batch, as plain numbers, and the batch's labels."""
        with torch.inference_mode(False), torch.no_grad():
            scale, label, f, g = self._terms(torch.tensor([t], dtype=torch.float64))
            labels = torch.full((batch,), float(label), dtype=dtype, device=device)
        # Rounding apart, a variance-preserving schedule needs no scaling: spare the call.
        unit = 1.0 if abs(float(scale) - 1) < 1e-12 else float(scale)
        return unit, labels, float(f), float(g)
