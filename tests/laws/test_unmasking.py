"""Laws of the solvers that choose which masks to lift: over words of four letters, sums over all paths."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kuosan.core.curves import CosineSurvival, LinearSurvival, Piecewise, PolynomialSurvival
from kuosan.core.posteriors import Categorical, Posterior
from kuosan.core.random import Seeds
from kuosan.core.unmasking import times_of_counts
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import TableDenoiser
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import Masked, UniformNoise
from kuosan.solvers import (
    SOLVERS,
    Ancestral,
    ByConfidence,
    FirstHitting,
    Solver,
    Unmasking,
    sample,
    trajectory,
)
from kuosan.solvers.unmasking import log_probabilities

from .test_tokens import agrees
from .words import DENOISER, F64, MASK, PROCESS, TOKENS, WORDS, Fixed, K, L, N, P, even, law_of, prior

STATES = torch.cartesian_prod(*(torch.arange(K + 1) for _ in range(L)))  # the mask is the last value
DIGITS = (K + 1) ** torch.arange(L - 1, -1, -1)
# q(x_i | x_t) of every state, with a column for the mask
POSTERIOR = torch.cat([DENOISER(STATES, torch.ones(1)).mean, torch.zeros(len(STATES), L, 1)], -1).double()
FAMILY = sorted(name for name, make in SOLVERS.items() if isinstance(make(), Unmasking))


def on_words(law: Tensor) -> Tensor:
    """A law over states as one over words; nothing may be left masked."""
    whole = (STATES != MASK).all(1)
    assert float(law[~whole].sum()) < 1e-12
    return law[whole]


def distance(law: Tensor) -> float:
    """Total variation from the data."""
    return float((law - P).abs().sum() / 2)


def law_of_counts(counts: tuple[int, ...]) -> Tensor:
    """The law of revealing random sets of these sizes, the members of a set independently, over all paths."""
    law = torch.zeros(len(STATES), dtype=F64)
    law[-1] = 1.0
    for size in counts:
        after = torch.zeros_like(law)
        for i in law.nonzero()[:, 0].tolist():
            masked = [k for k in range(L) if STATES[i, k] == MASK]
            sets = list(itertools.combinations(masked, size))
            for chosen in sets:
                for values in itertools.product(range(K), repeat=size):
                    state, p = STATES[i].clone(), float(law[i]) / len(sets)
                    for k, v in zip(chosen, values, strict=True):
                        state[k] = v
                        p *= float(POSTERIOR[i, k, v])
                    after[int(state @ DIGITS)] += p
        law = after
    return on_words(law)


def law_of_ancestral(steps: int) -> Tensor:
    """The law of ancestral sampling in even steps, by the matrices of its steps."""
    law, hot = torch.zeros(len(STATES), dtype=F64), torch.eye(K + 1, dtype=F64)
    law[-1] = 1.0
    for k in range(steps):
        reveal = 1 / (steps - k)
        one = torch.where(
            (STATES == MASK)[..., None], reveal * POSTERIOR + (1 - reveal) * hot[MASK], hot[STATES]
        )
        step = torch.einsum("ni,nj,nk,nl->nijkl", *one.unbind(1)).reshape(len(STATES), -1)
        law = law @ step
    return on_words(law)


@pytest.mark.parametrize("counts", [(1, 1, 1, 1), (2, 2), (4,), (1, 3)])
@torch.no_grad()
def test_first_hitting_has_the_law_of_its_counts(counts: tuple[int, ...]) -> None:
    """With a step per mask that is the data's; with fewer, that of parallel draws, on the grid of these counts."""
    law = law_of_counts(counts)
    assert (distance(law) < 1e-12) == (len(counts) == L)
    grid = times_of_counts(torch.tensor([0, *itertools.accumulate(counts)]), CosineSurvival())
    denoiser = TableDenoiser(Masked(K, CosineSurvival()), WORDS, P)
    seen = law_of(sample(denoiser, FirstHitting(), grid, prior(N), Seeds.of(len(counts), N)))
    assert agrees(seen, law)
    if len(counts) < L:
        assert not agrees(seen, P), "the test could not tell this law from the data's"


@pytest.mark.parametrize("name", FAMILY)
@torch.no_grad()
def test_an_order_by_the_state_is_exact_and_one_by_the_draw_is_not(name: str) -> None:
    """The chain rule in any order that does not look at what was drawn; confidence does, and its words are fewer."""
    end = law_of(sample(DENOISER, SOLVERS[name](), even(L), prior(N), Seeds.of(7, N)))
    assert agrees(end, P) == (name != "confidence")
    if name == "confidence":
        share = end / N
        assert float(-torch.xlogy(share, share).sum()) < float(-(P * P.log()).sum()) - 0.5


@torch.no_grad()
def test_ancestral_sampling_comes_to_the_law_of_first_hitting_at_first_order() -> None:
    far = {steps: distance(law_of_ancestral(steps)) for steps in (4, 32, 64, 128)}
    assert far[4] > 0.02 and abs(math.log2(far[64] / far[128]) - 1) < 0.05
    seen = law_of(sample(DENOISER, Ancestral(), even(4), prior(N), Seeds.of(0, N)))
    assert agrees(seen, law_of_ancestral(4)) and not agrees(seen, P)


@torch.no_grad()
def test_first_hitting_fills_gaps_by_the_conditional_law() -> None:
    x = torch.tensor([[2, MASK, 0, MASK]]).repeat(N, 1)
    end = sample(DENOISER, FirstHitting(), even(2), x, Seeds.of(0, N))
    assert bool((end[:, 0] == 2).all()) and bool((end[:, 2] == 0).all())
    fits = (WORDS[:, 0] == 2) & (WORDS[:, 2] == 0)
    assert agrees(law_of(end), torch.where(fits, P, 0.0) / P[fits].sum())


CURVES = {"linear": LinearSurvival(), "cosine": CosineSurvival(), "poly": PolynomialSurvival(2.0)}


def uneven(length: int) -> Tensor:
    """Laws that differ in confidence, entropy and margin from position to position."""
    return 3 * torch.randn(length, K, generator=torch.Generator().manual_seed(2), dtype=F64)


@pytest.mark.parametrize("curve", sorted(CURVES))
@pytest.mark.parametrize("name", FAMILY)
@torch.no_grad()
def test_the_count_follows_the_survival_curve_from_any_state(name: str, curve: str) -> None:
    """To half a token at every step, for fewer steps than tokens and for more, from any time; what is given stays."""
    n, length, keep = 6, 11, CURVES[curve]
    x = prior(n, length)
    for row in range(n):
        x[row, 2 : 2 + row] = row % K
    hidden = (x == MASK).sum(1)
    for steps, begin in ((1, 1.0), (3, 1.0), (11, 1.0), (40, 1.0), (3, 0.6), (40, 0.6)):
        seen, gone = x, 1 - keep(torch.tensor([begin], dtype=F64))
        denoiser, grid = Fixed(Masked(K, keep), uneven(length)), begin * even(steps)
        for step in trajectory(denoiser, SOLVERS[name](), grid, x, Seeds.of(0, n)):
            assert torch.equal(step.x[seen != MASK], seen[seen != MASK])
            seen = step.x
            expected = hidden * (1 - keep(step.s)) / gone
            assert bool((((seen == MASK).sum(1) - expected).abs() <= 0.5 + 1e-6).all())
        assert not bool((seen == MASK).any())


@pytest.mark.parametrize(
    "process", [Masked(K, CosineSurvival()), BlockMasked(K, CosineSurvival(), 4)], ids=["masked", "blocks"]
)
@pytest.mark.parametrize("name", FAMILY)
@torch.no_grad()
def test_a_grid_of_counts_reveals_these_counts(name: str, process: Masked) -> None:
    counts = torch.tensor([0, 1, 2, 5, 6, 9, 10])
    grid = times_of_counts(counts, process.survival(prior(1, 10)))
    steps = trajectory(Fixed(process, uneven(10)), SOLVERS[name](), grid, prior(3, 10), Seeds.of(0, 3))
    assert [(step.x != MASK).sum(1).tolist() for step in steps] == [[c] * 3 for c in counts[1:].tolist()]


@pytest.mark.parametrize("name", TOKENS)
@torch.no_grad()
def test_neighbours_change_nothing_and_every_example_may_have_its_times(name: str) -> None:
    """Many equal scores among them: ties are an example's own affair."""
    logits = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, 0]], dtype=F64)
    denoiser, seeds = Fixed(Masked(K, CosineSurvival()), logits), Seeds.of(5, 6)
    grids = torch.stack(
        [times_of_counts(torch.tensor([0, k, 4]), LinearSurvival()) for k in (1, 2, 3)] * 2, 1
    )
    x = prior(6)
    x[3, 1] = 0
    together = sample(denoiser, SOLVERS[name](), grids, x, seeds)
    for i in range(6):
        alone = sample(denoiser, SOLVERS[name](), grids[:, i], x[i : i + 1], seeds[i : i + 1])
        assert torch.equal(alone[0], together[i])
    turned = sample(denoiser, SOLVERS[name](), grids.flip(1), x.flip(0), Seeds(seeds.keys[::-1], seeds.root))
    assert torch.equal(turned.flip(0), together)


@dataclass(frozen=True)
class Agreed(Posterior):
    """All positions have one value: a joint law whose marginals are even."""

    like: Tensor

    @property
    def mean(self) -> Tensor:
        return torch.full((*self.like.shape, K), 1 / K, dtype=F64)

    def sample(self, seeds: Seeds) -> Tensor:
        return (seeds.uniforms() * K).long()[:, None].expand_as(self.like)


class Agreeing(Denoiser):
    process = PROCESS

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Posterior:
        return Agreed(x_t)


@pytest.mark.parametrize("name", TOKENS)
@torch.no_grad()
def test_the_values_of_a_step_are_one_joint_draw(name: str) -> None:
    """Whatever joint law a posterior has, of a step's draw some positions are kept and nothing else."""
    seeds, x = Seeds.of(0, 300), prior(300)
    for step in trajectory(Agreeing(), SOLVERS[name](), even(2), x, seeds):
        new = (x == MASK) & (step.x != MASK)
        drawn = Agreed(x).sample(seeds.fold(step.index).fold("x"))
        assert bool(new.any()) and torch.equal(step.x[new], drawn[new])
        x = step.x
    one = sample(Agreeing(), SOLVERS[name](), even(1), prior(300), seeds)
    assert bool((one == one[:, :1]).all()) and len(one.unique()) == K


@pytest.mark.parametrize("name", sorted(set(FAMILY) - {"first-hitting", "spaced"}))
@torch.no_grad()
def test_the_best_go_first(name: str) -> None:
    """Against the definitions, in plain arithmetic; a state of two axes is no different."""
    x, seeds = prior(50, 6).reshape(50, 2, 3), Seeds.of(1, 50)
    first = torch.tensor(
        [0.5, 0.45, 0.6, 0.55, 0.4, 0.8], dtype=F64
    )  # likeliest, second: three different orders
    second = torch.tensor([0.49, 0.29, 0.38, 0.24, 0.31, 0.11], dtype=F64)
    p = torch.stack([first, second, 1 - first - second], 1)
    solver, denoiser = SOLVERS[name](), Fixed(PROCESS, p.log().reshape(2, 3, K))
    for step in trajectory(denoiser, solver, even(3), x, seeds):
        values = step.q.sample(seeds.fold(step.index).fold("x")).reshape(50, 6)
        before, after = x.reshape(50, 6), step.x.reshape(50, 6)
        for row in range(50):
            score = {
                "confidence": [float(p[i, v]) for i, v in enumerate(values[row].tolist())],
                "entropy": [float((p[i] * p[i].log()).sum()) for i in range(6)],
                "margin": [float(p[i].sort().values[-1] - p[i].sort().values[-2]) for i in range(6)],
            }[name]
            masked = [i for i in range(6) if before[row, i] == MASK]
            new = {i for i in masked if after[row, i] != MASK}
            assert new == set(sorted(masked, key=lambda i, score=score: -score[i])[:2])
            assert all(after[row, i] == values[row, i] for i in new)
        x = step.x


@torch.no_grad()
def test_choice_is_the_temperature_of_positions() -> None:
    """One position of three by confidences c with Gumbel noise of scale τ: the softmax of (log c)/τ."""
    n, c = 8_000, torch.tensor([0.9, 0.6, 0.4], dtype=F64)
    logits = torch.stack([c, (1 - c) / 2, (1 - c) / 2], 1).log()
    grid = times_of_counts(torch.tensor([0, 1, 3]), LinearSurvival())[:2]
    for tau in (0.5, 2.0, 0.0):
        law = (c.log() / tau).softmax(0) if tau else torch.tensor([1.0, 0, 0], dtype=F64)
        for choice in (tau, Piecewise([(0.0, 9.0), (1.0, tau)])):  # a curve is read at the time of the call
            solver = ByConfidence(temperature=0.0, choice=choice)
            end = sample(Fixed(PROCESS, logits), solver, grid, prior(n, 3), Seeds.of(0, n))
            assert agrees((end != MASK).double().sum(0), law)


@torch.no_grad()
def test_temperature_is_that_of_the_values() -> None:
    n, p = 8_000, torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    for temperature in (1.0, 0.5, 3.0):
        solver = FirstHitting(temperature=temperature)
        end = sample(Fixed(PROCESS, p.log()), solver, even(1), prior(n, 1), Seeds.of(0, n))
        law = p ** (1 / temperature)
        assert agrees(end.flatten().bincount(minlength=K).double(), law / law.sum())
    greedy = sample(Fixed(PROCESS, p.log()), FirstHitting(temperature=0.0), even(2), prior(9), Seeds.of(0, 9))
    assert not greedy.any()
    with pytest.raises(TypeError, match="drawn independently"):
        sample(Agreeing(), FirstHitting(temperature=0.5), even(1), prior(9), Seeds.of(0, 9))
    with pytest.raises(ValueError, match="0 or more"):
        FirstHitting(temperature=-1.0)


def test_scores_are_in_double_precision() -> None:
    """Confidences that float32 rounds to 1 are still told apart."""
    logits = torch.tensor([[20.0, 0, 0], [21.0, 0, 0]], dtype=torch.float32)
    score = log_probabilities(Categorical(logits))[:, 0]
    assert score.dtype == F64 and score[0] < score[1] < 0


@pytest.mark.parametrize("name", FAMILY)
@torch.no_grad()
def test_blocks_are_decoded_from_left_to_right(name: str) -> None:
    """Never a token before everything in the blocks to its left, and by the survival of its own block within."""
    process = BlockMasked(K, LinearSurvival(), 3)
    for steps in (3, 7, 12):
        for step in trajectory(
            Fixed(process, uneven(8)), SOLVERS[name](), even(steps), prior(20, 8), Seeds.of(0, 20)
        ):
            seen = step.x != MASK
            for low in (3, 6):
                assert bool((seen[:, :low].all(1) | ~seen[:, low:].any(1)).all())
        assert bool(seen.all())


@pytest.mark.parametrize("name", TOKENS)
@torch.no_grad()
def test_blocks_of_one_sample_the_data_whatever_the_order(name: str) -> None:
    process = BlockMasked(K, CosineSurvival(), 1)
    end = sample(TableDenoiser(process, WORDS, P), SOLVERS[name](), even(L), prior(N), Seeds.of(3, N))
    assert agrees(law_of(end), P)


@pytest.mark.parametrize("name", TOKENS)
def test_only_masks_can_be_lifted(name: str) -> None:
    with pytest.raises(TypeError, match="needs a Masked"):
        sample(
            Fixed(UniformNoise(K, LinearSurvival()), uneven(L)),
            SOLVERS[name](),
            even(2),
            prior(2),
            Seeds.of(0, 2),
        )


def test_every_solver_of_tokens_says_that_it_draws() -> None:
    solvers: list[Solver] = [SOLVERS[name]() for name in TOKENS]
    assert len(solvers) == 6 and all(s.draws and s.spread and s.calls == 1 for s in solvers)
