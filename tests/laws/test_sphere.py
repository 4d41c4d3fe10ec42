"""Laws of the great circle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.sphere import great_circle


def noise(seed: int, *shape: int) -> Tensor:
    return Seeds.of(seed, shape[0]).normal(torch.empty(*shape, dtype=torch.float64))


def angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1).acos()


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_direction_and_norm_change_evenly_and_the_way_back_is_the_same(seed: int, part: float) -> None:
    a, b = noise(seed, 4, 2, 5), 3 * noise(seed + 1, 4, 2, 5)
    s = torch.full((4,), part, dtype=torch.float64)
    g = great_circle(a, b, s)
    norms = torch.lerp(a.flatten(1).norm(dim=1), b.flatten(1).norm(dim=1), s)
    assert torch.allclose(g.flatten(1).norm(dim=1), norms, rtol=1e-12)
    assert torch.allclose(angle(a, g), s * angle(a, b), atol=1e-7)
    assert torch.allclose(angle(g, b), (1 - s) * angle(a, b), atol=1e-7)
    assert torch.allclose(g, great_circle(b, a, 1 - s), atol=1e-12)


@pytest.mark.parametrize("kind", ["any", "equal", "opposite", "nearly equal", "nearly opposite", "no length"])
def test_ends_are_the_very_ends_whatever_they_are(kind: str) -> None:
    a = noise(0, 3, 6).float()
    b = {
        "any": noise(1, 3, 6).float(), "equal": a.clone(), "opposite": -a, "nearly equal": a * (1 + 1e-7),
        "nearly opposite": -a + 1e-7, "no length": torch.zeros_like(a),
    }[kind]  # fmt: skip
    zero, half, one = (great_circle(a, b, torch.full((3,), s, dtype=torch.float64)) for s in (0.0, 0.5, 1.0))
    assert torch.equal(zero, a) and torch.equal(one, b)
    size = (a.norm(dim=1) + b.norm(dim=1)) / 2
    assert torch.allclose(half.norm(dim=1), size, rtol=1e-5)
    if "opposite" in kind:  # half-way round, at right angles to both
        assert torch.allclose(angle(a, half), torch.full((3,), math.pi / 2), atol=1e-4)
        assert torch.allclose(half, great_circle(b, a, torch.full((3,), 0.5).double()), atol=1e-5)


def test_noise_stays_noise() -> None:
    """Half-way between two draws the norm is theirs; on the straight line it falls by √2."""
    a, b = noise(2, 50, 400), noise(3, 50, 400)
    half = great_circle(a, b, torch.full((50,), 0.5, dtype=torch.float64))
    assert abs(float(half.norm(dim=1).mean()) / 20 - 1) < 0.02
    assert abs(float(((a + b) / 2).norm(dim=1).mean()) / 20 - math.sqrt(0.5)) < 0.02
