"""Eq. 1 of `networks.spectrum`: known spectra, invertibility, other sizes, and the network behind it."""

from __future__ import annotations

import pytest
import torch

from kuosan.networks.spectrum import LONGEST, Shaping, cosines, gains_of, kernel
from kuosan.networks.transformer import Transformer


def drawn(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walks(n: int = 400, sides: tuple[int, ...] = (24,), seed: int = 0) -> torch.Tensor:
    """Sums of noise along the first side, about a mean that is not zero."""
    return drawn(n, 2, *sides, seed=seed).cumsum(2) + torch.linspace(0, 5, sides[0]).view(
        -1, *[1] * (len(sides) - 1)
    )


def power(x: torch.Tensor, side: int = 2) -> torch.Tensor:
    n = x.shape[side]
    return (x.movedim(side, -1) @ cosines(n).T).square().flatten(0, -2).mean(0)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_the_cosines_are_orthonormal_and_the_first_is_level(n: int) -> None:
    d = cosines(n)
    assert torch.allclose(d @ d.T, torch.eye(n, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(d[0], torch.full((n,), n**-0.5, dtype=torch.float64))


def test_white_noise_comes_out_with_the_spectrum_of_the_data() -> None:
    x = walks()
    [gains] = gains_of(x, [2], 1.0)
    assert gains is not None
    shaped = drawn(4000, 1, 24, seed=1) @ kernel(gains, 24)
    away = x - x.mean(0)
    expected = power(away) / power(away).mean()
    assert torch.allclose(power(shaped), expected, rtol=0.12)
    assert sum(g * g for g in gains) / 24 == pytest.approx(1, rel=1e-3)  # as large on the whole as it was


def test_the_mean_of_the_data_is_no_part_of_their_spectrum() -> None:
    x = walks()
    assert gains_of(x, [1], 1.0) == gains_of(x + 100 * torch.sin(torch.arange(24.0)), [1], 1.0)


def test_half_the_power_is_the_root_of_the_gains_and_none_is_one() -> None:
    x = walks(400, (16, 12))
    whole, half, none = (gains_of(x, [2, 3], p) for p in (1.0, 0.5, 0.0))
    for g, h, one in zip(whole, half, none, strict=True):
        assert g and h and one
        assert h == pytest.approx([v**0.5 for v in g], rel=1e-3)
        assert set(one) == {1.0}
    assert whole[0][0] > 10 * whole[0][-1]  # smooth along the first side only
    assert max(whole[1]) < 1.5 * min(whole[1])


def test_sides_of_one_patch_and_very_long_ones_are_left_alone() -> None:
    x = drawn(3, 1, 8, LONGEST + 8)
    assert gains_of(x, [8, 4], 1.0) == [None, None]
    still = Shaping([None, None])
    y = drawn(2, 1, 8, 5)
    assert torch.equal(still(y), y)


def test_data_that_never_change_are_left_alone_and_smooth_ones_can_still_tremble() -> None:
    assert gains_of(torch.ones(5, 2, 6), [2], 1.0) == [None]
    level = drawn(50, 2, 1).expand(-1, -1, 6)
    assert gains_of(level, [2], 1.0) == [pytest.approx([6**0.5, *[6**0.5 / 1000] * 5], rel=1e-3)]


def test_it_can_be_undone_and_knows_no_direction() -> None:
    [gains] = gains_of(walks(), [2], 1.0)
    assert gains is not None
    k = kernel(gains, 24)
    assert torch.allclose(k, k.T, atol=1e-12)
    assert float(torch.linalg.cond(k)) == pytest.approx(max(gains) / min(gains), rel=1e-6)
    assert torch.allclose(k.flip(0, 1), k, atol=1e-12)  # backwards is forwards


def test_another_size_has_the_same_gain_at_the_same_frequency() -> None:
    gains = [(1 + k / 3) ** -1.5 for k in range(24)]
    for n in (24, 48, 17):
        d, k = cosines(n), kernel(gains, n)
        found = torch.diagonal(d @ k @ d.T)
        own = torch.arange(n, dtype=torch.float64) / n * 24
        within = own <= 23
        assert torch.allclose(found[within], ((1 + own / 3) ** -1.5)[within], rtol=0.02)
        level = torch.ones(n, dtype=torch.float64)
        assert torch.allclose(k @ level, gains[0] * level)


def network(gains: object = None, **more: object) -> Transformer:
    made = Transformer(
        2,
        [24],
        patch=2,
        dim=16,
        depth=1,
        heads=2,
        gains=gains,
        generator=torch.Generator().manual_seed(0),
        **more,
    )  # type: ignore[arg-type]
    with torch.no_grad():
        made.out.weight.normal_(generator=torch.Generator().manual_seed(1))
    return made


def test_a_transformer_says_what_it_would_have_said_shaped() -> None:
    gains = gains_of(walks(), [2], 1.0)
    x, label = drawn(3, 2, 24).float(), torch.tensor([1.0, 400.0, 900.0])
    plain, shaped = network(), network(gains)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {
        k: v.shape for k, v in shaped.state_dict().items()
    }
    expected = plain(x, label) @ kernel(gains[0] or [], 24).float()
    assert torch.allclose(shaped(x, label), expected, atol=1e-5)
    both = network(gains, out_channels=4)
    y, z = both(x, label), network(None, out_channels=4)(x, label)
    assert torch.allclose(y[:, :2], z[:, :2] @ kernel(gains[0] or [], 24).float(), atol=1e-5)
    assert torch.equal(y[:, 2:], z[:, 2:])  # the variances are not shaped
    some = network(gains, shaped=[1, 2])(x, label)
    assert torch.equal(some[:, :1], plain(x, label)[:, :1])
    assert torch.allclose(some[:, 1:], shaped(x, label)[:, 1:], atol=1e-6)
    one = torch.compile(shaped, backend="eager", fullgraph=True)
    assert torch.equal(one(x, label), shaped(x, label))
    coarse = shaped.to(torch.bfloat16)
    assert coarse(x.bfloat16(), label.bfloat16()).dtype == torch.bfloat16


def test_under_autocast_neighbours_are_not_rounded_apart() -> None:
    gains = gains_of(walks(), [2], 1.0)
    shape = Shaping(gains)
    y = drawn(4, 2, 24).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = shape(y)
    assert found.dtype == torch.float32
    assert torch.equal(found, shape(y))
