"""Feature spaces: sizes and averages of pixels; the encoder's determinism, quality and round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.errors import UserError
from kuosan.evaluation import encoder_training
from kuosan.evaluation.encoder import EncoderNetwork, load_encoder, make_network
from kuosan.evaluation.encoder_training import batches, contrastive_loss, steps_for, train_encoder, view
from kuosan.evaluation.features import pixels, states


def bars(n: int, seed: int, shape: tuple[int, int, int] = (1, 8, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures of one horizontal (0) or vertical (1) bar at a random place."""
    generator = torch.Generator().manual_seed(seed)
    c, h, w = shape
    x, labels = torch.full((n, c, h, w), -1.0), torch.randint(2, (n,), generator=generator)
    for i in range(n):
        where = int(torch.randint(1, min(h, w) - 1, (1,), generator=generator))
        if labels[i]:
            x[i, :, :, where] = 1
        else:
            x[i, :, where, :] = 1
    return x + 0.2 * torch.randn(x.shape, generator=generator), labels


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (3, 32, 32), (3, 40, 90), (1, 4, 2000), (5, 300, 7), (2000, 2, 2)]
)
def test_pixels_stay_within_their_limit_and_keep_constants(shape: tuple[int, int, int]) -> None:
    space = pixels(shape)
    rows = space(torch.full((2, *shape), 0.3))
    c, h, w = shape
    assert rows.shape[1] == space.describe()["dimensions"] <= max(1024, c)
    assert torch.allclose(rows, torch.full_like(rows, 0.3), atol=1e-6)
    if c * h * w > 1024 and c == 3:
        assert rows.shape[1] > 0.75 * 1024, "no more is thrown away than needed"
        assert space.size[0] / space.size[1] == pytest.approx(h / w, rel=0.15)
        assert "area-averaged" in space.describe()["what"]
    if c * h * w <= 1024:
        x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(space(x), x.flatten(1))


def test_pixel_averages_keep_the_mean() -> None:
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    # 64 = 18 areas of unequal size; on a divisor each output is the plain mean of its area.
    space = pixels((3, 64, 64), most=3 * 16 * 16)
    assert space.size == (16, 16)
    expected = x.view(4, 3, 16, 4, 16, 4).mean((3, 5)).flatten(1)
    assert torch.allclose(space(x), expected, atol=1e-6)


@pytest.mark.parametrize("supervised", [True, False])
def test_the_encoder_is_its_seed_to_the_bit_and_leaves_global_state_alone(supervised: bool) -> None:
    x, labels = bars(150, 0)
    before = torch.get_rng_state()
    a, b, other = (
        train_encoder(x, labels if supervised else None, seed=seed, seconds=0.1) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), other(x))


def test_the_classifier_learns_and_says_how_well(tmp_path: Path) -> None:
    x, labels = bars(400, 0)
    val, val_labels = bars(200, 1)
    encoder = train_encoder(x, labels * 7 - 3, val=val, val_labels=val_labels * 7 - 3, seconds=1)
    assert encoder.classes == (-3, 4)
    assert encoder.quality["value"] > 0.97 and encoder.quality["n"] == 200
    right = (encoder.logits(val).argmax(1) == val_labels).double().mean()
    assert encoder.quality["value"] == pytest.approx(float(right))
    rows = encoder(x)
    assert torch.allclose(rows.mean(0), torch.zeros(64), atol=1e-4)
    assert torch.allclose(rows.std(0), torch.ones(64), atol=1e-3)
    encoder.save(tmp_path)
    again = load_encoder(tmp_path)
    assert torch.equal(again(val), encoder(val)) and torch.equal(again.logits(val), encoder.logits(val))
    assert again.describe() == encoder.describe()
    (tmp_path / "encoder.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="evaluate again"):
        load_encoder(tmp_path)


def test_the_contrastive_space_separates_without_labels() -> None:
    """Nearest neighbours in the space share their class, though it never saw a class."""
    x, labels = bars(300, 0)
    encoder = train_encoder(x, val=bars(100, 1)[0], seconds=1.5)
    assert encoder.quality["value"] > 8 * encoder.quality["chance"]
    rows = encoder(x)
    apart = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    assert (labels[apart.argmin(1)] == labels).double().mean() > 0.9
    with pytest.raises(ValueError, match="without labels"):
        encoder.logits(x)


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 5, 31), (7, 64, 9), (3, 100, 130)])
def test_any_shape(shape: tuple[int, int, int]) -> None:
    """A row does not depend on its batch, and pictures that differ get rows that differ."""
    x, labels = bars(40, 0, shape)
    encoder = train_encoder(x, labels, seconds=0.05)
    rows = encoder(x)
    assert rows.shape == (40, 64)
    assert torch.allclose(rows[3:5], encoder(x[3:5]), atol=1e-3)
    assert torch.pdist(rows).min() > 0


def test_initial_weights_have_the_variance_of_he() -> None:
    network = make_network(3, (32, 32), 10, torch.Generator().manual_seed(0))
    weight = network.convolutions[-1][0].weight
    assert float(weight.detach().std()) == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.02)


def test_views_of_strength_zero_are_the_picture_and_all_rotate_rigidly() -> None:
    x, _ = bars(6, 3, (2, 12, 20))
    generator = torch.Generator().manual_seed(0)
    assert torch.allclose(view(x, generator, 0.0), x, atol=1e-5)
    # A disc stays a disc: a non-square picture must not be sheared by turning.
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(81.0) - 40, indexing="ij")
    disc = torch.sigmoid(12 - (rows**2 + columns**2).sqrt())[None, None].expand(8, 1, 41, 81)
    seen = view(disc, generator, 1.0)
    weight = seen / seen.sum((2, 3), keepdim=True)
    centre_r, centre_c = (weight * rows).sum((2, 3)), (weight * columns).sum((2, 3))
    var_r = (weight * (rows - centre_r[..., None, None]) ** 2).sum((2, 3))
    var_c = (weight * (columns - centre_c[..., None, None]) ** 2).sum((2, 3))
    assert torch.allclose(var_r / var_c, torch.ones(8, 1), atol=0.02)


def test_contrastive_loss_has_its_known_values() -> None:
    """Equal rows everywhere: log(2n − 1). Orthogonal pairs: −1/T + log(e^{1/T} + 2n − 2)."""
    n, same = 8, torch.ones(8, 16)
    assert float(contrastive_loss(same, same)) == pytest.approx(
        torch.log(torch.tensor(15.0)).item(), rel=1e-5
    )
    apart = torch.eye(8, 16)
    expected = -5 + torch.log(torch.exp(torch.tensor(5.0)) + 2 * n - 2).item()
    assert float(contrastive_loss(apart, apart)) == pytest.approx(expected, rel=1e-4)


def test_batches_are_whole_passes() -> None:
    found = torch.cat(list(batches(300, 75, torch.Generator().manual_seed(0))))
    assert len(found) == 75 * 128 and torch.equal(found.bincount(), torch.full((300,), 32))


def test_more_seconds_buy_more_steps_up_to_enough_passes() -> None:
    with torch.device("meta"):
        network = EncoderNetwork(1, (28, 28), 10)
    assert steps_for(0, network, 1000, 1) == encoder_training.FEWEST_STEPS
    few, many = steps_for(5, network, 10**6, 1), steps_for(10, network, 10**6, 1)
    assert many == pytest.approx(2 * few, abs=1)
    assert steps_for(1e9, network, 1280, 1) == 60 * 10


def test_large_pictures_are_taught_small_and_measured_whole() -> None:

    seen: list[tuple[int, ...]] = []
    plain = encoder_training.view

    def spy(x: torch.Tensor, *options: Any) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        return plain(x, *options)

    x = torch.rand(24, 3, 150, 300, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[:12, :, :75] += 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_training, "view", spy)
        encoder = encoder_training.train_encoder(x, val=x[:4], seconds=0.1)
    assert set(seen) == {(48, 96)} and encoder.shape == (3, 150, 300)
    rows = encoder(x)
    assert float(rows.mean(0).abs().max()) < 0.2 and float((rows.std(0) - 1).abs().max()) < 0.2


@pytest.mark.parametrize("sides", [(40,), (6, 10, 10)])
def test_views_of_what_is_no_picture_shift_and_scale_each_side(sides: tuple[int, ...]) -> None:
    """A ramp along a side becomes a ramp of another slope and place; nothing moves where the strength is none."""
    axes, n = ("time", "height", "width")[-len(sides) :] if len(sides) == 3 else ("time",), 200
    for k, side in enumerate(sides):
        ramp = ((2 * torch.arange(side) + 1) / side - 1).view(-1, *(1,) * (len(sides) - 1 - k)).expand(sides)
        x = ramp.expand(n, 1, *sides)
        generator = torch.Generator().manual_seed(k)
        torch.testing.assert_close(view(x, generator, 0.0, axes), x, atol=1e-6, rtol=0)
        y = view(x, generator, 1.0, axes)
        inner = y.movedim(2 + k, 1)[:, side // 3 : side - side // 3].reshape(n, side - 2 * (side // 3), -1)
        slope = inner.diff(dim=1).mean((1, 2)) * side / 2
        middle = inner.mean((1, 2))
        assert 0.87 < float(slope.min()) < 0.9 and 1.1 < float(slope.max()) < 1.13
        assert -0.21 < float(middle.min()) < -0.17 and 0.17 < float(middle.max()) < 0.21
        torch.testing.assert_close(inner, inner[:, :, :1].expand_as(inner))  # other sides stay what they were


@pytest.mark.parametrize("shape", [(3, 500), (2, 9, 12, 12), (70, 64)])
def test_states_of_other_kinds_are_averaged_and_told_apart(shape: tuple[int, ...]) -> None:
    axes = ("time", "height", "width")[: len(shape) - 1]
    space = states(shape, axes)
    assert space.name == "raw" and space.dimensions <= 1024
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    rows = space(x)
    assert rows.shape == (5, space.dimensions)
    constant = torch.full((1, *shape), 0.25)
    torch.testing.assert_close(space(constant), torch.full((1, space.dimensions), 0.25))
    labels = torch.arange(96) % 2
    signs = (2 * labels - 1).view(-1, *(1,) * len(shape)) * torch.linspace(-1, 1, shape[-1])
    noise = torch.randn(96, *shape, generator=torch.Generator().manual_seed(1))
    encoder = train_encoder(signs + 0.3 * noise, labels, axes=axes, seconds=0.5)
    assert (encoder.logits(signs[:2].expand(2, *shape)).argmax(1) == labels[:2]).all()
