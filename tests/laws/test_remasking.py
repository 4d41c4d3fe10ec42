"""Laws of the solver that masks again what it wrote."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import CosineSurvival, LinearSurvival
from kuosan.core.posteriors import Categorical, Posterior
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import TableDenoiser
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import Masked
from kuosan.solvers import Ancestral, ReMDM, sample, trajectory

from .test_tokens import agrees
from .words import F64, MASK, PROCESS, WORDS, Fixed, K, L, N, P, even, prior


@pytest.mark.parametrize("cap", [0.1, 1.0])
@pytest.mark.parametrize("given", [False, True])
@torch.no_grad()
def test_remasking_keeps_the_marginals(cap: float, given: bool) -> None:
    """One token, with the exact posterior: the law of the pair (x_t, x_s) after two steps has x_t's and x_s's own laws
    as its margins, and the share of tokens that are masked again is σ. A given neighbour is never touched."""
    p, (t, s) = torch.tensor([0.5, 0.3, 0.2], dtype=F64), (0.6, 0.25)
    x = prior(N, 2)
    if given:
        x[:, 1] = 1
    grid, seen = torch.tensor([1.0, t, s], dtype=F64), []
    for step in trajectory(Fixed(PROCESS, p.log()), ReMDM(cap), grid, x, Seeds.of(11, N)):
        assert not given or bool((step.x[:, 1] == 1).all())
        seen.append(step.x[:, 0])
    keep_t, keep_s = 1 - t, 1 - s
    sigma = min(cap, (1 - keep_s) / keep_t)
    lifted = (keep_s - (1 - sigma) * keep_t) / (1 - keep_t)
    pair = torch.zeros(K + 1, K + 1, dtype=F64)
    pair[:K, :K] = torch.diag(p) * keep_t * (1 - sigma)
    pair[:K, MASK] = p * keep_t * sigma
    pair[MASK, :K] = p * (1 - keep_t) * lifted
    pair[MASK, MASK] = (1 - keep_t) * (1 - lifted)
    assert torch.allclose(pair.sum(0), torch.cat([p * keep_s, torch.tensor([1 - keep_s])]), atol=1e-15)
    counts = (seen[0] * (K + 1) + seen[1]).bincount(minlength=(K + 1) ** 2).double()
    possible = torch.where(pair > 1e-12, pair, 0.0)  # at the largest σ no mask stays one
    assert agrees(counts, possible.flatten())


class Knows(Denoiser):
    """Each example's datum."""

    process = Masked(K, CosineSurvival())

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Posterior:
        return Categorical(torch.nn.functional.one_hot(self.x, K).double().log())


@torch.no_grad()
def test_remasking_keeps_the_law_of_the_whole_state_given_the_data() -> None:
    """q(x_s | x): every position is whole with κ_s, independently of the others, after any number of steps; from
    masks at an earlier time, with κ_s relative to that."""
    x = WORDS[Seeds.of(1, N).uniforms().mul(len(WORDS)).long()]
    begin = 0.9
    x_s = sample(Knows(x), ReMDM(0.3), begin * even(10)[:8], prior(N), Seeds.of(2, N))
    seen = x_s != MASK
    assert torch.equal(x_s[seen], x[seen])
    gone = 1 - CosineSurvival()(begin * even(10)[[0, 7]])
    keep = 1 - float(gone[1] / gone[0])
    patterns = (seen.long() * 2 ** torch.arange(L)).sum(1).bincount(minlength=2**L).double()
    law = torch.tensor([keep ** i.bit_count() * (1 - keep) ** (L - i.bit_count()) for i in range(2**L)])
    assert agrees(patterns, law.double())


@torch.no_grad()
def test_without_remasking_it_is_ancestral_sampling() -> None:
    for process in (Masked(K, CosineSurvival()), BlockMasked(K, LinearSurvival(), 3)):
        denoiser, seeds = TableDenoiser(process, WORDS, P), Seeds.of(0, 500)
        x = prior(500)
        x[:250, 2] = 1
        ours = sample(denoiser, ReMDM(0.0), even(7), x, seeds)
        assert torch.equal(ours, sample(denoiser, Ancestral(), even(7), x, seeds))
    with pytest.raises(ValueError, match="lies in 0 … 1"):
        ReMDM(1.5)


class Echo(Denoiser):
    """A letter is likely where others of its kind are: words want to be of one letter, and early draws break them."""

    process = PROCESS

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Posterior:
        counts = torch.stack([(x_t == k).sum(1) for k in range(K)], 1).double()
        return Categorical((2 * counts)[:, None].expand(len(x_t), L, K))


@torch.no_grad()
def test_remasking_mends_what_early_draws_broke() -> None:
    n = 2000
    ends = [sample(Echo(), ReMDM(cap), even(32), prior(n), Seeds.of(0, n)) for cap in (0.0, 0.5)]
    whole = [float((end == end[:, :1]).all(1).double().mean()) for end in ends]
    assert whole[1] - whole[0] > 4 * math.sqrt(2 * 0.25 / n)
