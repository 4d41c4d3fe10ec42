"""Objectives over tokens are the bounds of their processes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kuosan.core.curves import CosineSurvival, Curve, LinearSurvival
from kuosan.core.random import Seeds
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.networks.tokens import TokenTransformer
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import Masked, UniformNoise
from kuosan.training.tokens import MaskedTokens, NextToken, TokenBlocks, UniformTokens, hidden_nats

SIZE, LENGTH = 5, 8


def network(block: int = 0, timed: bool = False) -> TokenTransformer:
    net = TokenTransformer(
        SIZE, dim=32, depth=2, heads=2, block=block, timed=timed, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return net.double().eval()


def texts(n: int) -> Tensor:
    return torch.randint(SIZE, (n, LENGTH), generator=torch.Generator().manual_seed(1))


def times(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def test_masked_tokens_are_the_rate_of_the_process() -> None:
    x, u, seeds = texts(16), times(16), Seeds.of(0, 16)
    curves: list[Curve] = [LinearSurvival(), CosineSurvival()]
    for curve in curves:
        process = Masked(SIZE, curve)
        denoiser = TokenDenoiser(process, network())
        x_t = process.corrupt(x, u, seeds)
        rate = process.elbo_rate(x, x_t, denoiser(x_t, u), u)
        found = MaskedTokens("bound").at_quantiles(denoiser, x, u, seeds)
        torch.testing.assert_close(found.double(), rate / LENGTH, rtol=1e-5, atol=1e-6)


def test_the_even_weight_asks_the_same_tokens_alike() -> None:
    x, u, seeds = texts(16), times(16), Seeds.of(0, 16)
    denoiser = TokenDenoiser(Masked(SIZE, LinearSurvival()), network())
    bound = MaskedTokens("bound").at_quantiles(denoiser, x, u, seeds)
    even = MaskedTokens("even").at_quantiles(denoiser, x, u, seeds)
    torch.testing.assert_close(even.double(), 2 * bound.double() * u)  # the rate of κ = 1 - t is 1/t
    assert MaskedTokens("even").judged() == MaskedTokens("bound")


def test_one_block_for_all_is_the_masked_objective() -> None:
    x, u, seeds = texts(8), times(8), Seeds.of(0, 8)
    whole = network(block=LENGTH)
    blocks = TokenBlocks("bound").at_quantiles(
        TokenDenoiser(BlockMasked(SIZE, LinearSurvival(), LENGTH), whole), x, u, seeds
    )
    masked = MaskedTokens("bound").at_quantiles(
        TokenDenoiser(Masked(SIZE, LinearSurvival()), whole), x, u, seeds
    )
    torch.testing.assert_close(blocks, masked)


def test_blocks_all_at_once_have_the_mean_of_blocks_one_by_one() -> None:
    n = 4096
    x, seeds = texts(1).expand(n, LENGTH), Seeds.of(0, n)
    denoiser = TokenDenoiser(BlockMasked(SIZE, LinearSurvival(), 2), network(block=2))
    with torch.no_grad():
        at_once = TokenBlocks("bound").at_quantiles(denoiser, x, times(n), seeds).double()
        process, u = denoiser.process, times(n)
        x_t = process.corrupt(x, u, seeds)
        one = process.elbo_rate(x, x_t, denoiser(x_t, u), u) / LENGTH
    spread = math.hypot(float(at_once.std()), float(one.std())) / n**0.5
    assert abs(float(at_once.mean() - one.mean())) < 4 * spread
    assert float(at_once.std()) < 0.8 * float(one.std())  # and says more each time


def test_next_tokens_are_the_chain_rule_and_the_bound_of_blocks_of_one() -> None:
    x = texts(6)
    net = network(block=1)
    denoiser = TokenDenoiser(BlockMasked(SIZE, LinearSurvival(), 1), net)
    found = NextToken().at_quantiles(denoiser, x, times(6), Seeds.of(0, 6)).double()
    chain = torch.zeros(6, dtype=torch.float64)
    for i in range(LENGTH):  # reading no further than each token
        so_far = torch.cat([x[:, :i], torch.full((6, LENGTH - i), SIZE)], 1)
        q = denoiser(so_far, times(6)).mean[:, i]
        chain -= q.gather(1, x[:, i : i + 1])[:, 0].double().log()
    torch.testing.assert_close(found, chain / LENGTH, rtol=1e-5, atol=1e-6)


def test_uniform_tokens_are_the_rate_of_the_process() -> None:
    x, u, seeds = texts(8), times(8), Seeds.of(0, 8)
    process = UniformNoise(SIZE, LinearSurvival())
    denoiser = TokenDenoiser(process, network(timed=True))
    x_t = process.corrupt(x, u, seeds)
    rate = process.elbo_rate(x, x_t, denoiser(x_t, u), u)
    found = UniformTokens().at_quantiles(denoiser, x, u, seeds)
    torch.testing.assert_close(found.double(), rate.double() / LENGTH, rtol=1e-5, atol=1e-6)


class Spy(nn.Module):
    """Says at which positions it was asked for scores."""

    block = 0

    def forward(self, x: Tensor, t: Tensor, clean: Tensor | None, only: Tensor) -> Tensor:
        self.only = only
        return torch.zeros(int(only.sum()), SIZE)


def test_scores_are_asked_of_hidden_tokens_alone_and_cost_what_chance_does() -> None:
    x, spy = texts(4), Spy()
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    denoiser = TokenDenoiser(Masked(SIZE, LinearSurvival()), spy)
    nats = hidden_nats(denoiser, torch.where(hidden, SIZE, x), x, hidden, times(4))
    assert torch.equal(spy.only, hidden)
    torch.testing.assert_close(nats, torch.where(hidden, math.log(SIZE), 0.0))
