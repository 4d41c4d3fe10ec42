"""Solvers that decide which masks to lift, for the masked process.

Ancestral sampling lifts each mask in a step t → s with the probability (κ_s - κ_t)/(1 - κ_t), whoever it is. Here the
number is set beforehand, and only the positions are chosen: of the positions i that were masked when the walk began, at
t_0,

    M_s = round( Σ_i (1 - κ_i(s))/(1 - κ_i(t_0)) )                                              (1)

are left at s, so that the count follows the survival curve to half a token however many steps there are, from any
state: a text with gaps keeps what is given, and the last step lifts all. Where positions have curves of their own,
those go first that should have gone by then: a `BlockMasked` process is decoded block by block.

All values of a step are one joint draw of the posterior, of which those at the chosen positions are kept. The choice:

| solver          | first go                                               | source                            |
|-----------------|--------------------------------------------------------|-----------------------------------|
| `FirstHitting`  | any, at random                                         | Zheng et al. 2024                 |
| `Spaced`        | those that lie far apart, from a place at random        | eq. 2                             |
| `ByConfidence`  | those whose value is the likeliest, log q(x̂_i)         | Chang et al. 2022; Nie et al. 2025 |
| `ByEntropy`     | those whose law has the least entropy                  | Ye et al. 2025                    |
| `ByMargin`      | those whose best value is the furthest ahead of the second | Kim et al. 2025               |

What steps lose is that their tokens are drawn as if the others of the step were not there, and in what people write it
is neighbours that hang together. `Spaced` goes through the hidden positions p = 0 … n - 1 by van der Corput's sequence
(1935), whose first m terms divide a circle into nearly equal parts for every m,

    k-th position = ⌊n rev(k)⌋ + r mod n,      rev(Σ_i b_i 2^i) = Σ_i b_i 2^(-i-1),                (2)

with r uniform, so that every position is as likely to be the k-th. No order has the law of more steps in fewer; this
one comes closer to it than a random one wherever dependence falls with distance.

In continuous time masks go one by one and in random order, so with one step per mask `FirstHitting` has the law of
ancestral sampling with infinitely many steps, which is that of the data where the posterior is exact; more than that
are of no use. The times at which ancestral sampling would have lifted them are random and do not matter to a posterior
that is a function of the state alone, as the exact one is; a network that is told the time hears that of the grid.

`Spaced`, `ByEntropy` and `ByMargin` choose without a look at what is drawn, so at one step per mask they too have the
law of an exact posterior, by the chain rule in their order. `ByConfidence` looks at the draw: a position waits until
its value is likely, which is another law, sharper and less diverse than the model's. Perplexity under another model
praises that; print the samples' own entropy beside it. ``choice`` adds Gumbel noise to the scores (MaskGIT's
temperature), up to `FirstHitting` at infinity. Scores and draws are in float64: Gumbel noise in float32 is a
temperature below 1 in disguise (Zheng et al. 2024).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from kuosan.core.curves import Curve, curve
from kuosan.core.posteriors import Categorical, Posterior, draw
from kuosan.core.random import Seeds
from kuosan.core.shapes import Time, at, per_example
from kuosan.denoisers.base import Denoiser
from kuosan.processes.base import Process
from kuosan.processes.discrete import Masked
from kuosan.solvers.base import Solver


class Start(NamedTuple):
    """Where a walk began: which positions were masked (b, ...), 1 - κ in a shape that broadcasts to theirs, and seeds
    that are the walk's."""

    hidden: Bool[Tensor, "b ..."]
    gone: Float64[Tensor, "b ..."]
    seeds: Seeds

    @classmethod
    def of(cls, process: Masked, x_t: Tensor, t: Time, seeds: Seeds) -> Start:
        return cls(x_t == process.size, 1 - process.keep_at(t, x_t), seeds.fold("walk"))

    def left(self, process: Masked, t: Time) -> Float64[Tensor, "b ..."]:
        """The probability that a position which was masked at the start still is at t."""
        gone = 1 - process.keep_at(t, self.hidden)
        share = (gone / self.gone.clamp_min(1e-300)).clamp(0, 1)
        return torch.where(self.gone > 0, share, torch.zeros_like(share))


def log_probabilities(q: Posterior) -> Float64[Tensor, "b ... k"]:
    """log q(x_i) of every value, normalised in float64."""
    return q.logits.double().log_softmax(-1) if isinstance(q, Categorical) else q.mean.double().log()


@dataclass(frozen=True)
class Unmasking(Solver[Start]):
    """Eq. 1, with `score` to choose by.

    Args:
        temperature: of the values; 1 draws from the posterior, 0 takes the likeliest.
        choice: of the positions; 0 takes the best scores, above it Gumbel noise of this scale is added to them.
            A number or a curve of time.
    """

    temperature: float = 1.0
    choice: float | Curve = 0.0

    needs: ClassVar[type[Process]] = Masked
    draws: ClassVar[bool] = True
    spread: ClassVar[bool] = True
    carries: ClassVar[bool] = True
    of_state: ClassVar[bool] = True
    """Whether the scores are those of the state alone, whatever values are drawn."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"a temperature is 0 or more, not {self.temperature}")

    @abstractmethod
    def score(self, q: Posterior, values: Int64[Tensor, "b ..."], start: Start) -> Float64[Tensor, "b ..."]:
        """The higher, the sooner a position is revealed, with these drawn ``values``, on a walk from ``start``."""

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Time,
        s: Time,
        memory: Start | None,
        seeds: Seeds,
        **cond: Tensor,
    ) -> tuple[Tensor, Posterior, Start]:
        q = denoiser(x_t, t, **cond)
        process = denoiser.process
        assert isinstance(process, Masked)
        start = Start.of(process, x_t, t, seeds) if memory is None else memory
        masked, left = x_t == process.size, start.left(process, s)
        wanted = (per_example(left * start.hidden) - 0.5 - 1e-9).ceil().long()  # halves go, on any device
        values = None if self.of_state else self._values(q, seeds.fold("x"), masked)
        score = self.score(q, x_t if values is None else values, start)
        noise = at(curve(self.choice)(t), score)
        if bool((noise > 0).any()):
            u = seeds.fold("choice").uniform(score).clamp_min(1e-300)
            score = score - noise * (-u.log()).log()
        order = ranks(masked, left, score, seeds.fold("ties"))
        chosen = masked & (order < at(per_example(masked.long()) - wanted, order))
        if values is None:  # only those that are kept need to be drawn
            values = self._values(q, seeds.fold("x"), chosen)
        return torch.where(chosen, values, x_t), q, start

    def _values(self, q: Posterior, seeds: Seeds, where: Bool[Tensor, "b ..."]) -> Int64[Tensor, "b ..."]:
        if self.temperature == 1:
            return q.sample_at(seeds, where)
        if not isinstance(q, Categorical):
            raise TypeError(
                f"a temperature of {self.temperature} needs positions that are drawn independently, not a "
                f"{type(q).__name__}: set it to 1, or cool the denoiser within"
            )
        if self.temperature == 0:
            return q.logits.argmax(-1)
        return draw((q.logits.double() / self.temperature).softmax(-1), seeds)


def random_order(hidden: Bool[Tensor, "b ..."], seeds: Seeds) -> Float64[Tensor, "b ..."]:
    """Numbers that sort the positions of every example at random."""
    return seeds.uniform(hidden.double())


def ranks(
    masked: Bool[Tensor, "b ..."],
    left: Float64[Tensor, "b ..."],
    score: Float64[Tensor, "b ..."],
    seeds: Seeds,
) -> Int64[Tensor, "b ..."]:
    """Each position's place in its example's order: masked ones first, of these what should be left least, of these
    the highest scores, and what is still equal at random."""
    flat = score.reshape(len(score), -1)
    order = seeds.uniform(flat).argsort(1)
    for key in (-score, left.expand_as(score), (~masked).to(score)):
        key = key.reshape(flat.shape)
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order.argsort(1).reshape(score.shape)


@dataclass(frozen=True)
class FirstHitting(Unmasking):
    """Positions at random."""

    def score(self, q: Posterior, values: Tensor, start: Start) -> Tensor:
        return torch.zeros(values.shape, dtype=torch.float64, device=values.device)


@dataclass(frozen=True)
class Spaced(Unmasking):
    """Eq. 2."""

    def score(self, q: Posterior, values: Tensor, start: Start) -> Tensor:
        return -spaced(start.hidden, start.seeds).double()


def spaced(hidden: Bool[Tensor, "b ..."], seeds: Seeds) -> Int64[Tensor, "b ..."]:
    """Numbers that sort the hidden positions of every example by eq. 2, others anyhow."""
    flat = hidden.reshape(len(hidden), -1)
    count = flat.sum(1, keepdim=True).clamp_min(1)
    first = (seeds.uniforms()[:, None] * count.cpu()).long().to(count)
    place = (flat.cumsum(1) - 1 + first) % count
    # Of the k below 2^bits ≥ n those with ⌊n rev(k)⌋ = p are, reversed, the one or two m with ⌊n m / 2^bits⌋ = p.
    bits = sum((count > 2**i).long() for i in range(flat.shape[1].bit_length()))
    m = ((place << bits) + count - 1) // count
    also = (((m + 1) * count) >> bits) == place
    first_k = _reversed(m, bits)
    return torch.where(also, torch.minimum(first_k, _reversed(m + 1, bits)), first_k).reshape(hidden.shape)


def _reversed(m: Int64[Tensor, "b n"], bits: Int64[Tensor, "b 1"]) -> Int64[Tensor, "b n"]:
    """The last ``bits`` binary digits from right to left."""
    found = torch.zeros_like(m)
    for i in range(int(bits.max())):
        found = torch.where(i < bits, found << 1 | (m >> i) & 1, found)
    return found


ORDERS = {"first-hitting": random_order, "spaced": spaced}
"""The solvers whose order is known beforehand, by name: numbers that sort hidden positions."""


@dataclass(frozen=True)
class ByConfidence(Unmasking):
    """The value's log-probability, before any temperature."""

    of_state: ClassVar[bool] = False

    def score(self, q: Posterior, values: Tensor, start: Start) -> Tensor:
        return log_probabilities(q).gather(-1, values[..., None])[..., 0]


@dataclass(frozen=True)
class ByEntropy(Unmasking):
    """Minus the entropy of the position's law, in nats."""

    def score(self, q: Posterior, values: Tensor, start: Start) -> Tensor:
        p = log_probabilities(q).exp()
        return torch.xlogy(p, p).sum(-1)


@dataclass(frozen=True)
class ByMargin(Unmasking):
    """The probability of the likeliest value minus that of the second."""

    def score(self, q: Posterior, values: Tensor, start: Start) -> Tensor:
        best = log_probabilities(q).exp().topk(2, -1).values
        return best[..., 0] - best[..., 1]


@dataclass(frozen=True)
class ReMDM(Solver[Start]):
    """Ancestral sampling that masks some of what it wrote again, and so can mend it (Wang et al. 2025).

    In a step t → s a written token is masked with the probability σ, and a mask lifted with
    (κ_s - (1 - σ) κ_t)/(1 - κ_t),

        σ = min(cap, (1 - κ_s)/κ_t),                                                            (3)

    which leaves q(x_s | x) as it was for any σ up to the second term. κ is relative to the start, as in eq. 1: what was
    given then is never masked, and the rest has the marginals of a process that masks the rest alone. It draws more
    tokens in parallel than ancestral sampling in as many steps, which costs where the posterior is good and mends
    where it is not.

    Args:
        cap: the largest σ; 0 is ancestral sampling.
    """

    cap: float = 0.02

    needs: ClassVar[type[Process]] = Masked
    draws: ClassVar[bool] = True
    spread: ClassVar[bool] = True
    carries: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.cap <= 1:
            raise ValueError(f"the cap of a probability lies in 0 … 1, not {self.cap}")

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Time,
        s: Time,
        memory: Start | None,
        seeds: Seeds,
        **cond: Tensor,
    ) -> tuple[Tensor, Posterior, Start]:
        q = denoiser(x_t, t, **cond)
        process = denoiser.process
        assert isinstance(process, Masked)
        start = Start.of(process, x_t, t, seeds) if memory is None else memory
        left_t, left_s = start.left(process, t), start.left(process, s)
        keep_t = 1 - left_t
        sigma = (left_s / keep_t.clamp_min(1e-300)).clamp_max(self.cap)
        lifted = 1 - (left_s - sigma * keep_t) / left_t.clamp_min(1e-300)
        u = seeds.fold("reveal").uniform(start.gone.expand(x_t.shape))
        written = torch.where(lift := u < lifted, q.sample_at(seeds.fold("x"), lift), x_t)
        wiped = torch.where(start.hidden & (u < sigma), process.size, x_t)
        return torch.where(x_t == process.size, written, wiped), q, start
