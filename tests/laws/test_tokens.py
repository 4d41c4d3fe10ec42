"""Laws of every process of tokens.

Tables of data are so small that every expectation is a sum over all states; only where a draw itself is
tested is there anything random.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kuosan.core.curves import CosineSurvival, LinearSurvival, PolynomialSurvival, derivative
from kuosan.core.posteriors import Categorical, draw
from kuosan.core.random import Seeds
from kuosan.denoisers.exact import TableDenoiser
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import DiscreteProcess, Masked, UniformNoise

F64 = torch.float64
K = 3
DISCRETE: dict[str, DiscreteProcess] = {
    f"{kind.__name__}-{type(keep).__name__}": kind(K, keep)
    for kind in (Masked, UniformNoise)
    for keep in (LinearSurvival(), CosineSurvival())
} | {
    f"BlockMasked-{block}": BlockMasked(K, keep, block)
    for block, keep in ((1, LinearSurvival()), (2, CosineSurvival()), (5, PolynomialSurvival(1.5)))
}
P = torch.tensor([0.5, 0.3, 0.2], dtype=F64)


def kinds(base: type) -> Iterator[type]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_process_of_tokens_is_a_case() -> None:
    assert set(kinds(DiscreteProcess)) == {type(p) for p in DISCRETE.values()}


def noise_law(process: DiscreteProcess) -> Tensor:
    """π over the values of x_t (the mask last)."""
    if isinstance(process, Masked):
        return torch.tensor([0.0] * K + [1.0], dtype=F64)
    return torch.full((K,), 1 / K, dtype=F64)


def kernel(process: DiscreteProcess, keep: float | Tensor) -> Tensor:
    """q(x_t | x) as a matrix (values of x_s or x, values of x_t) when a share ``keep`` survives."""
    noise = noise_law(process)
    return keep * torch.eye(len(noise), dtype=F64) + (1 - keep) * noise


def kept(process: DiscreteProcess, t: float, length: int) -> list[float]:
    """κ of each position; of blocks, by their definition: each has its own stretch of time, the last block first."""
    block = process.block if isinstance(process, BlockMasked) else length
    blocks = math.ceil(length / block)
    times = [min(max(t * blocks - (blocks - 1 - i // block), 0.0), 1.0) for i in range(length)]
    return process.keep(torch.tensor(times, dtype=F64)).tolist()


def agrees(counts: Tensor, probabilities: Tensor) -> bool:
    """χ² of counts against a law; what is impossible must not occur."""
    possible = probabilities > 0
    if counts[~possible].sum() > 0:
        return False
    counts, probabilities = counts[possible], probabilities[possible]
    return (
        len(counts) == 1
        or stats.chisquare(counts.numpy(), (probabilities * counts.sum()).numpy()).pvalue > 1e-3
    )


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_tokens_survive_with_the_stated_probability(name: str) -> None:
    process, n = DISCRETE[name], 20_000
    x = torch.arange(n).remainder(K)[:, None].repeat(1, 2)
    t = torch.tensor([0.3, 0.8], dtype=F64).repeat_interleave(n // 2)  # one time per example
    x_t = process.corrupt(x, t, Seeds.of(0, n))
    for half, time in ((slice(0, n // 2), 0.3), (slice(n // 2, n), 0.8)):
        for value, position in itertools.product(range(K), range(2)):
            q = kernel(process, kept(process, time, 2)[position])
            seen = x_t[half, position][x[half, position] == value]
            assert agrees(seen.bincount(minlength=len(q)).double(), q[value])


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_the_prior_is_the_noise(name: str) -> None:
    process, n = DISCRETE[name], 6_000
    x = process.prior(torch.zeros(n, 2, dtype=torch.long), Seeds.of(1, n))
    for position in range(2):
        assert agrees(x[:, position].bincount(minlength=K).double(), noise_law(process))
    assert (
        process.corrupt(torch.zeros(5, 2, dtype=torch.long), torch.zeros(5, dtype=F64), Seeds.of(0, 5)).sum()
        == 0
    )


@pytest.mark.parametrize("name", sorted(DISCRETE))
@pytest.mark.parametrize(("t", "s"), [(0.8, 0.5), (1.0, 0.3), (0.6, 0.0), (0.3, 0.2)])
def test_bridge_after_corruption_has_the_joint_law_of_a_token(name: str, t: float, s: float) -> None:
    """Not x_s alone but the pair (x_s, x_t): q(x_s) q(x_t | x_s)."""
    process, n = DISCRETE[name], 20_000
    denoiser = TableDenoiser(process, torch.arange(K)[:, None], P)
    x = (Seeds.of(1, n).uniforms()[:, None] > P.cumsum(0)).sum(1, keepdim=True)
    times, ends = (torch.tensor(v, dtype=F64).expand(n) for v in (t, s))
    x_t = process.corrupt(x, times, Seeds.of(2, n))
    x_s = process.bridge(x_t, denoiser(x_t, times), times, ends, Seeds.of(3, n))
    (keep_t,), (keep_s,) = kept(process, t, 1), kept(process, s, 1)
    law_s = P @ kernel(process, keep_s)[:K]
    joint = law_s[:, None] * kernel(process, keep_t / keep_s)
    size = len(law_s)
    counts = (x_s * size + x_t).flatten().bincount(minlength=size**2).double()
    assert agrees(counts.reshape(size, size).sum(1), law_s)
    assert agrees(counts, joint.flatten())


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_a_step_of_no_length_changes_nothing(name: str) -> None:
    process = DISCRETE[name]
    x_t = process.corrupt(
        torch.arange(60).remainder(K).reshape(6, 10), torch.full((6,), 0.5).double(), Seeds.of(0, 6)
    )
    q = Categorical(torch.zeros(6, 10, K, dtype=F64))
    t = torch.full((6,), 0.5, dtype=F64)
    assert torch.equal(process.bridge(x_t, q, t, t, Seeds.of(1, 6)), x_t)


def test_masks_are_lifted_once_and_for_all() -> None:
    process = Masked(K, LinearSurvival())
    x_t = torch.tensor([[0, 3, 2, 3, 1, 3]]).repeat(500, 1)
    q = Categorical(torch.zeros(500, 6, K, dtype=F64))
    times, middle, end = (torch.tensor(v, dtype=F64).expand(500) for v in (0.7, 0.4, 0.0))
    x_s = process.bridge(x_t, q, times, middle, Seeds.of(0, 500))
    seen = x_t != K
    assert torch.equal(x_s[seen], x_t[seen])
    left = float((x_s[~seen] == K).double().mean())
    assert abs(left - 0.4 / 0.7) < 4 * math.sqrt(0.25 / 1500)
    assert int(process.bridge(x_t, q, times, end, Seeds.of(0, 500)).max()) < K


def test_only_what_is_hidden_costs() -> None:
    """At κ = ½ with κ' = -1 the rate is 2, times the nats of the masked tokens alone."""
    process, t = Masked(K, LinearSurvival()), torch.tensor([0.5], dtype=F64)
    probabilities = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]]], dtype=F64)
    q, x = Categorical(probabilities.log()), torch.tensor([[1, 0, 1]])
    with torch.no_grad():
        rate = process.elbo_rate(x, torch.tensor([[K, 0, K]]), q, t)
    assert float(rate) == pytest.approx(2 * (-math.log(0.25) - math.log(0.7)))


def test_a_draw_needs_no_normalised_weights() -> None:
    n, weights = 6_000, torch.tensor([3.0, 0.0, 1.0, 4.0], dtype=F64)
    values = draw(weights.expand(n, 4), Seeds.of(0, n))
    assert agrees(values.bincount(minlength=4).double(), weights / 8)


TABLES = {
    1: ([[0], [1], [2]], [0.5, 0.3, 0.2]),
    2: ([[0, 0], [0, 2], [1, 1], [2, 1]], [0.4, 0.1, 0.3, 0.2]),
    3: ([[0, 0, 1], [0, 2, 1], [1, 1, 0], [2, 0, 0], [2, 2, 2]], [0.35, 0.05, 0.2, 0.3, 0.1]),
}


def bounds(process: DiscreteProcess, items: Tensor, model: Tensor) -> Tensor:
    """∫ E[elbo_rate] dt of every datum over all its corrupted states, for the exact denoiser of ``model``."""
    values, length = len(noise_law(process)), items.shape[1]
    states = torch.tensor(list(itertools.product(range(values), repeat=length)))
    denoiser = TableDenoiser(process, items, model)
    u, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(60))
    u, w = (1 + u) / 2, w / 2
    times, weights = u**2 * (3 - 2 * u), w * 6 * u * (1 - u)  # the ends, where logarithms grow, are resolved
    pieces = process.blocks(length) if isinstance(process, BlockMasked) else 1  # rates jump between them
    times = torch.cat([(piece + times) / pieces for piece in range(pieces)])
    total = torch.zeros(len(items), dtype=F64)
    for t, weight in zip(times.tolist(), (weights / pieces).repeat(pieces).tolist(), strict=True):
        laws = [kernel(process, keep) for keep in kept(process, t, length)]
        each = torch.stack([q[items[:, i]][:, states[:, i]] for i, q in enumerate(laws)]).prod(
            0
        )  # q(x_t | x)
        i, j = each.nonzero(as_tuple=True)
        t_ = torch.tensor(t, dtype=F64).expand(len(i))
        rate = process.elbo_rate(items[i], states[j], denoiser(states[j], t_), t_)
        assert bool((rate > -1e-12).all())
        total.index_add_(0, i, weight * each[i, j] * rate)
    return total


@pytest.mark.parametrize("length", sorted(TABLES))
@pytest.mark.parametrize("name", sorted(DISCRETE))
@torch.no_grad()
def test_the_bound_of_the_exact_denoiser_is_the_entropy(name: str, length: int) -> None:
    """Tokens change one at a time in continuous time, so a posterior of independent positions loses nothing;
    with the exact denoiser of another law the bound is the cross entropy, larger by the divergence."""
    items, p = torch.tensor(TABLES[length][0]), torch.tensor(TABLES[length][1], dtype=F64)
    model = torch.linspace(1, 2, len(p), dtype=F64)
    model /= model.sum()
    for law in (p, model):
        bound = float(p @ bounds(DISCRETE[name], items, law))
        assert bound == pytest.approx(float(-(p * law.log()).sum()), abs=1e-6)


@pytest.mark.parametrize("name", sorted(DISCRETE))
@torch.no_grad()
def test_any_guess_costs_something_and_the_truth_the_least(name: str) -> None:
    """Pointwise in t and x_t: E_{x ~ q} rate(q') ≥ E_{x ~ q} rate(q), and no rate is negative."""
    process, t = DISCRETE[name], torch.tensor([0.4], dtype=F64)
    guesses = Seeds.of(0, 40).normal(torch.empty(40, 1, K, dtype=F64))
    states = torch.arange(len(noise_law(process)))
    truth = TableDenoiser(process, torch.arange(K)[:, None], P)
    for x_t in states[:, None, None]:
        q = truth(x_t, t)

        def expected(logits: Tensor, x_t: Tensor = x_t, q: Categorical = q) -> float:
            rates = [process.elbo_rate(torch.tensor([[x]]), x_t, Categorical(logits), t) for x in range(K)]
            assert min(float(r) for r in rates) > -1e-12
            return sum(float(p * r) for p, r in zip(q.mean.flatten(), rates, strict=True) if p > 0)

        least = expected(q.logits)
        assert all(expected(guess[None]) >= least for guess in guesses)


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_log_kernel_is_the_log_of_the_kernel(name: str) -> None:
    process, t = DISCRETE[name], torch.tensor([0.3, 0.8], dtype=F64)
    items = torch.tensor(TABLES[3][0])
    seen = torch.tensor([[0, 2, 1], [2, 0, 0]])
    if isinstance(process, Masked):
        seen = torch.tensor([[0, K, 1], [K, 0, K]])
    if isinstance(process, BlockMasked):  # whose masks are never to the left of a whole block
        seen = torch.tensor([[0, 2, 1], [K, K, K]])
    got = process.log_kernel(items, seen, t).softmax(1)
    for i in range(2):
        laws = [kernel(process, keep) for keep in kept(process, float(t[i]), 3)]
        q = torch.stack([law[items[:, k], seen[i, k]] for k, law in enumerate(laws)]).prod(0)
        assert torch.allclose(got[i], q / q.sum(), rtol=1e-12, atol=1e-15)


BLOCKED = sorted(name for name in DISCRETE if name.startswith("BlockMasked"))


@torch.no_grad()
def test_a_block_as_long_as_the_state_is_the_masked_process() -> None:
    x = torch.arange(60).remainder(K).reshape(6, 10)
    t, s = torch.linspace(0.2, 1, 6, dtype=F64), torch.linspace(0.1, 0.6, 6, dtype=F64)
    plain, blocks = Masked(K, CosineSurvival()), BlockMasked(K, CosineSurvival(), 10)
    x_t, q = (
        plain.corrupt(x, t, Seeds.of(0, 6)),
        Categorical(Seeds.of(1, 6).normal(torch.empty(6, 10, K).double())),
    )
    assert torch.equal(blocks.corrupt(x, t, Seeds.of(0, 6)), x_t)
    assert torch.equal(
        blocks.bridge(x_t, q, t, s, Seeds.of(2, 6)), plain.bridge(x_t, q, t, s, Seeds.of(2, 6))
    )
    for terms in (lambda p: p.elbo_rate(x, x_t, q, t), lambda p: p.step_divergence(x, x_t, q, t, s)):
        assert torch.allclose(terms(blocks), terms(plain), rtol=1e-12)


@torch.no_grad()
def test_blocks_are_lifted_from_left_to_right() -> None:
    """Seven positions in blocks of three: at 2/3 and 1/3 the first and the second block are just whole."""
    process, n = BlockMasked(K, LinearSurvival(), 3), 400
    x, q = torch.full((n, 7), K), Categorical(torch.zeros(n, 7, K, dtype=F64))
    times = [torch.tensor(t, dtype=F64).expand(n) for t in (1.0, 5 / 6, 2 / 3, 1 / 3, 0.0)]
    shares = []
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        x = process.bridge(x, q, t, s, Seeds.of(i, n))
        shares.append((x != K).double().mean(0))
    assert bool(((shares[0][:3] - 0.5).abs() < 0.1).all()) and not shares[0][3:].any()
    for share, whole in zip(shares[1:], (3, 6, 7), strict=True):
        assert share.tolist() == [1.0] * whole + [0.0] * (7 - whole)


def test_what_should_be_whole_by_now_is_made_whole() -> None:
    """Masks in a block whose time is over: states of others' making are finished, not left with holes."""
    process, q = BlockMasked(K, LinearSurvival(), 2), Categorical(torch.zeros(9, 4, K, dtype=F64))
    t, s = (torch.tensor(v, dtype=F64).expand(9) for v in (0.5, 0.4))
    x_s = process.bridge(torch.full((9, 4), K), q, t, s, Seeds.of(0, 9))
    assert bool((x_s[:, :2] != K).all()) and bool((x_s[:, 2:] == K).any())


@pytest.mark.parametrize("name", BLOCKED)
@torch.no_grad()
def test_the_rate_of_each_position_is_the_slope_of_its_survival(name: str) -> None:
    process, x = DISCRETE[name], torch.zeros(9, 7, dtype=torch.long)
    t = torch.linspace(0.03, 0.96, 9, dtype=F64)
    for i in range(7):
        slope = derivative(lambda t, i=i: process.keep_at(t, x)[:, i], t)
        assert torch.allclose(process.rate_at(t, x)[:, i], -slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", ["true", "other"])
@torch.no_grad()
def test_blocks_of_one_are_autoregressive(model: str) -> None:
    """The bound of each datum is its -log p, the chain rule from left to right: in continuous time, and in steps that
    end where blocks do, which leave nothing to chance."""
    items, p = torch.tensor(TABLES[3][0]), torch.tensor(TABLES[3][1], dtype=F64)
    p = p if model == "true" else p.flip(0)
    process = BlockMasked(K, CosineSurvival(), 1)
    assert torch.allclose(bounds(process, items, p), -p.log(), atol=1e-6)
    denoiser, total = TableDenoiser(process, items, p), 0
    for t, s in ((1.0, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 0.0)):
        t_, s_ = (torch.tensor(v, dtype=F64).expand(len(items)) for v in (t, s))
        x_t = process.corrupt(items, t_, Seeds.of(0, len(items)))
        total = total + process.step_divergence(items, x_t, denoiser(x_t, t_), t_, s_)
    assert torch.allclose(total, -p.log(), rtol=1e-12)


def test_a_block_needs_a_position() -> None:
    with pytest.raises(ValueError, match="one position or more"):
        BlockMasked(K, LinearSurvival(), 0)
