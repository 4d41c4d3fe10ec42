"""Where the latents of a trained autoencoder lie, given conditions: the aggregated posterior, as a density.

Latents never quite fill the N(0, 1) that they are paid to fill, and they tell conditions apart that the decoder is told
anyway. So once training is over the latents of training items are described by

    z = μ + m_c + L_c r,      r ~ Σ_k w_k N( μ_k, Σ_k )                                                       (1)

m_c is a sum over conditions, by ridge regression; L_c L_cᵀ is the covariance of what is left, for all or, where they
have latents enough, for each combination of values by itself, drawn towards that of all; r has a mixture of normals
(Ghosh et al. 2020, section 4). Own covariances or one, and how many parts: as held-out latents like best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.rivals.base import Cond

LOG_2PI = math.log(2 * math.pi)
NOISE = 1e-4  # on the diagonal of covariances


class Aggregated(nn.Module):
    """Eq. 1; N(0, 1) until it is fitted.

    Args:
        latent: numbers of z.
        conditions: column → number of values n; n itself is null, and has no middle.
    """

    PARTS: ClassVar[tuple[int, ...]] = (1, 8, 32)  # of the mixture
    PER_PART: ClassVar[int] = 20  # latents that each part needs
    RIDGE: ClassVar[float] = 3.0  # latents' worth of evidence that a value has no middle of its own

    weights: Tensor
    means: Tensor
    scales: Tensor
    middles: Tensor
    centre: Tensor
    keys: Tensor
    spreads: Tensor

    def __init__(self, latent: int, conditions: Mapping[str, int]) -> None:
        super().__init__()
        self.latent, self.values = latent, dict(conditions)
        one = torch.eye(latent)[None]
        self._set("weights", torch.ones(1))
        self._set("means", torch.zeros(1, latent))
        self._set("scales", one)
        self._set("middles", torch.zeros(sum(n + 1 for n in conditions.values()), latent))
        self._set("centre", torch.zeros(latent))
        self._set("keys", torch.zeros(0, len(conditions)))
        self._set("spreads", one)  # of each key, and at the end of all others

    def _set(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.float())

    def _values(self, cond: Cond, count: int) -> Int64[Tensor, "b k"]:
        """The value of every column; null where it is not given."""
        columns = [
            cond[name].cpu() if name in cond else torch.full((count,), n) for name, n in self.values.items()
        ]
        return torch.stack(columns, 1) if columns else torch.zeros(count, 0, dtype=torch.int64)

    def _marks(self, values: Int64[Tensor, "b k"]) -> Float[Tensor, "b v"]:
        """1 at the value of every column, 0 elsewhere and for null."""
        parts = [
            F.one_hot(v, n + 1) * (v < n)[:, None]
            for v, n in zip(values.T, self.values.values(), strict=True)
        ]
        return torch.cat(parts, 1).double() if parts else torch.zeros(len(values), 0, dtype=torch.float64)

    def _of(self, cond: Cond, count: int) -> tuple[Tensor, Tensor]:
        """The middles (b, z) and the places (b) of the spreads of these conditions."""
        values = self._values(cond, count)
        middle = self._marks(values).to(self.middles) @ self.middles + self.centre
        same = (values[:, None] == self.keys.cpu().long()).all(2) if len(self.keys) else torch.zeros(count, 0)
        place = (
            torch.where(same.any(1), same.int().argmax(1), len(self.keys)) if len(self.keys) else same.sum(1)
        )
        return middle, place.long().to(self.spreads.device)

    def log_prob(self, z: Float[Tensor, "b z"], cond: Cond) -> Float[Tensor, "b"]:
        """Its logarithm, by eq. 1."""
        middle, place = self._of(cond, len(z))
        spread = self.spreads[place]
        r = torch.linalg.solve_triangular(spread, (z - middle)[..., None], upper=False).squeeze(-1)
        apart = torch.linalg.solve_triangular(self.scales, (r[:, None] - self.means)[..., None], upper=False)
        logs = -0.5 * apart.square().sum((2, 3)) - _log_det(self.scales) - 0.5 * self.latent * LOG_2PI
        return torch.logsumexp(logs + self.weights.log(), 1) - _log_det(spread)

    def draw(self, cond: Cond, seeds: Seeds) -> Float[Tensor, "b z"]:
        """A latent per seed."""
        u = seeds.fold("part").uniforms().to(self.weights)
        part = torch.searchsorted(self.weights.cumsum(0), u * self.weights.sum()).clamp_max(
            len(self.weights) - 1
        )
        eps = seeds.fold("z").normal(torch.empty(len(seeds), self.latent, device=self.weights.device))
        middle, place = self._of(cond, len(seeds))
        r = self.means[part] + (self.scales[part] @ eps[..., None]).squeeze(-1)
        return middle + (self.spreads[place] @ r[..., None]).squeeze(-1)

    @torch.no_grad()
    def fit(self, z: Tensor, cond: Cond, held_out: Tensor, held_cond: Cond, seed: int) -> None:
        """To latents (n, z) under their conditions; of what it can be, held-out latents choose.

        Args:
            cond, held_cond: a value per latent.
        """
        device = self.weights.device
        z, held_out = z.cpu().double(), held_out.cpu()
        values = self._values(cond, len(z))
        marks, centre = self._marks(values), z.mean(0)
        gram = marks.T @ marks + self.RIDGE * torch.eye(marks.shape[1], dtype=torch.float64)
        middles = torch.linalg.solve(gram, marks.T @ (z - centre))
        self._set("centre", centre)
        self._set("middles", middles)
        y = z - centre - marks @ middles
        best, kept = -math.inf, self.state_dict()
        for keys, spreads, place in self._spreads(y, values):
            self._set("keys", keys)
            self._set("spreads", spreads)
            r = torch.linalg.solve_triangular(spreads[place], y[..., None], upper=False).squeeze(-1)
            for parts in self.PARTS:
                if parts == 1 or len(z) >= self.PER_PART * parts:
                    self._mix(r, parts, seed)
                    score = float(self.log_prob(held_out.float(), held_cond).mean())
                    if score > best:
                        best, kept = score, {k: v.clone() for k, v in self.state_dict().items()}
        for name, value in kept.items():
            self._set(name, value)
        self.to(device)

    def _spreads(self, y: Tensor, values: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keys, the Cholesky factors of their covariances and of that of all, and each latent's place among them:
        one for all, and, where there are combinations with latents enough, one for each of those."""
        noise = NOISE * torch.eye(self.latent, dtype=torch.float64)
        pooled = y.T @ y / len(y) + noise
        whole = torch.linalg.cholesky(pooled)[None]
        out = [(values[:0], whole, torch.zeros(len(y), dtype=torch.int64))]
        if not self.values:
            return out
        rows, place, counts = values.unique(dim=0, return_inverse=True, return_counts=True)
        often = (counts >= self.latent).nonzero()[:, 0]
        if not len(often):
            return out
        factors = []
        for k in often.tolist():
            mine = y[place == k]
            own = (mine.T @ mine + self.latent * pooled) / (len(mine) + self.latent)
            factors.append(torch.linalg.cholesky(own + noise))
        at = torch.full((len(rows),), len(often)).scatter(0, often, torch.arange(len(often)))
        return [*out, (rows[often], torch.cat([torch.stack(factors), whole]), at[place])]

    def _mix(self, r: Tensor, parts: int, seed: int) -> None:
        from sklearn.mixture import GaussianMixture

        fit = GaussianMixture(parts, random_state=seed % 2**31, reg_covar=NOISE).fit(r.numpy())
        self._set("weights", torch.from_numpy(fit.weights_))
        self._set("means", torch.from_numpy(fit.means_))
        self._set("scales", torch.linalg.cholesky(torch.from_numpy(fit.covariances_)))


def _log_det(factors: Float[Tensor, "k z z"]) -> Float[Tensor, "k"]:
    return factors.diagonal(dim1=1, dim2=2).log().sum(1)
