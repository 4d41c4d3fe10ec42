"""Laws of the aggregated posterior: it is the Gaussians that it was fitted to, per condition, and draws from them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from kuosan.core.random import Seeds
from kuosan.rivals.prior import Aggregated

MEANS = torch.tensor([[2.0, 0.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
SPREADS = torch.stack(
    [torch.diag(torch.tensor(d)) for d in ([1.0, 0.2, 0.5], [0.3, 1.5, 0.5], [0.6, 0.6, 0.1])]
)


def latents(n: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Three classes with a middle and a covariance each."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.arange(n) % 3
    eps = torch.randn(n, 3, 1, generator=generator)
    return MEANS[c] + (SPREADS[c] @ eps).squeeze(-1), {"class": c}


def test_it_is_the_gaussian_of_every_class() -> None:
    prior = Aggregated(3, {"class": 3})
    prior.fit(*latents(6_000, 0), *latents(900, 1), seed=0)
    z, cond = latents(3_000, 2)
    exact = torch.stack([
        MultivariateNormal(MEANS[c], scale_tril=SPREADS[c]).log_prob(x) for x, c in zip(z, cond["class"], strict=True)
    ])  # fmt: skip
    found = prior.log_prob(z, cond)
    assert 0 <= float((exact - found).mean()) < 0.02  # a Kullback–Leibler divergence
    drawn = prior.draw(cond, Seeds.of(5, 3_000))
    for c in range(3):
        mine = drawn[cond["class"] == c]
        assert torch.allclose(mine.mean(0), MEANS[c], atol=0.15)
        assert torch.allclose(mine.T.cov(), SPREADS[c] @ SPREADS[c].T, atol=0.25)


def test_what_has_too_few_latents_has_a_middle_of_its_own_and_the_covariance_of_all() -> None:
    z, cond = latents(900, 0)
    prior = Aggregated(3, {"class": 3, "hue": 2})
    hue = torch.zeros(900, dtype=torch.int64)
    hue[0] = 1  # once
    prior.fit(z, cond | {"hue": hue}, *(latents(900, 1)[0], latents(900, 1)[1] | {"hue": hue * 0}), seed=0)
    assert sorted(prior.keys.tolist()) == [[0, 0], [1, 0], [2, 0]]
    rare = {"class": torch.tensor([0]), "hue": torch.tensor([1])}
    assert prior._of(rare, 1)[1].item() == 3
    off = prior._of(rare, 1)[0] - prior._of({"class": torch.tensor([0]), "hue": torch.tensor([0])}, 1)[0]
    assert (
        float((off - (z[0] - MEANS[0]) / 4).norm()) < 0.2
    )  # one latent against three that say there is none


def test_without_conditions_several_parts_are_found() -> None:
    z, _ = latents(3_000, 0)
    prior = Aggregated(3, {})
    prior.fit(z, {}, latents(900, 1)[0], {}, seed=0)
    assert len(prior.weights) > 1 and abs(float(prior.weights.sum()) - 1) < 1e-5
    assert torch.allclose(prior.draw({}, Seeds.of(3, 4_000)).mean(0), z.mean(0), atol=0.12)


def test_before_it_is_fitted_it_is_the_standard_normal() -> None:
    z = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    exact = MultivariateNormal(torch.zeros(4), torch.eye(4)).log_prob(z)
    cond = {"class": torch.zeros(50, dtype=torch.int64)}
    assert torch.allclose(Aggregated(4, {"class": 2}).log_prob(z, cond), exact, atol=1e-5)
