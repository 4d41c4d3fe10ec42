"""What clips are measured by: known answers, and each fault is noticed by the number that should notice it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.conditions import Asked, recognise
from kuosan.evaluation.found import Found, recognised
from kuosan.evaluation.video import (
    STATISTICS,
    Movement,
    WassersteinDistance,
    evaluate_clips,
    shuffled_frames,
)

N, T, SIDE = 60, 8, 12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(n: int, seed: int) -> Tensor:
    """Soft discs that come from the left at speeds of their own."""
    g = generator(seed)
    place, speed, height = (
        torch.rand(n, 1, generator=g),
        torch.rand(n, 1, generator=g),
        torch.rand(n, 1, generator=g),
    )
    t = torch.arange(T)[None]
    x = -2 + 4 * place + (0.5 + 0.5 * speed) * t
    y = (3 + 6 * height).expand(n, T)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    square = (row - y[..., None, None]) ** 2 + (column - x[..., None, None]) ** 2
    disc = 2 * torch.exp(-square / 6) - 1
    return disc[:, None].expand(n, 3, T, SIDE, SIDE).contiguous()


def measured(samples: Tensor, **more: object) -> dict[str, Measurement]:
    found = Found(generator(1))
    evaluate_clips(found, samples, clips(N, 2), clips(3 * N, 3), "", **more)  # type: ignore[arg-type]
    assert not found.left_out
    return found.metrics


def flash(values: list[float]) -> Tensor:
    """One grey clip whose frames are each of one shade from 0 to 1."""
    return (2 * torch.tensor(values) - 1)[None, None, :, None, None].expand(1, 1, len(values), 4, 4)


def test_known_numbers() -> None:
    ramp, blink, still = flash([0, 0.1, 0.2, 0.3]), flash([0, 1, 0, 1]), flash([0.3] * 4)
    motion, flicker, spectrum = (STATISTICS[name] for name in ("motion", "flicker", "spectrum"))
    assert (
        motion(ramp).item() == pytest.approx(0.1) and motion(blink).item() == 1 and motion(still).item() == 0
    )
    assert flicker(ramp).item() == pytest.approx(0, abs=1e-6) and flicker(blink).item() == 2
    assert spectrum(blink).item() == pytest.approx(1) and spectrum(still).item() == 0
    assert flicker(flash([0, 1])).item() == 0
    for cycles, share in ((1, 0.0), (2, 0.0), (3, 1.0)):  # of 8 frames: above a quarter of the rate from 3 on
        wave = [0.5 + 0.5 * math.cos(2 * math.pi * cycles * i / 8) for i in range(8)]
        assert spectrum(flash(wave)).item() == pytest.approx(share, abs=1e-6)
    both = [0.5 + 0.2 * math.cos(2 * math.pi * i / 8) + 0.1 * math.cos(math.pi * i) for i in range(8)]
    # Parseval: powers of a cosine are halves of squared amplitudes, but of the fastest one the whole
    assert spectrum(flash(both)).item() == pytest.approx(0.01 / (0.01 + 0.02), abs=1e-6)


def test_channels_mean_the_same_clip() -> None:
    x = clips(4, 0)
    grey, opaque = x[:, :1], torch.cat([x, torch.ones_like(x[:, :1])], 1)
    clear = torch.cat([x, -torch.ones_like(x[:, :1])], 1)
    for statistic in STATISTICS.values():
        assert torch.allclose(statistic(grey), statistic(x), atol=1e-5)
        assert torch.allclose(statistic(opaque), statistic(x), atol=1e-5)
        assert statistic(clear).abs().max() < 1e-6  # nothing of it is seen


@pytest.mark.parametrize("name", STATISTICS)
def test_which_numbers_know_of_order_and_direction(name: str) -> None:
    x, statistic = clips(8, 0), STATISTICS[name]
    assert torch.allclose(statistic(x.flip(2)), statistic(x), atol=1e-5)
    assert (statistic(shuffled_frames(x, generator(0))) > 1.3 * statistic(x)).float().mean() > 0.7
    assert torch.equal(
        Movement()(x.flip(2))[:, 7 * 16 :].sort(1).values, Movement()(x)[:, 7 * 16 :].sort(1).values
    )


def test_movement_knows_what_comes_from_what_goes() -> None:
    up = flash([0, 0.1, 0.2, 0.3])
    signed, sizes = Movement()(up).chunk(2, 1)
    assert torch.allclose(signed, torch.full_like(signed, 0.1)) and torch.allclose(sizes, signed)
    back = Movement()(up.flip(2))
    assert torch.allclose(back, torch.cat([-signed, sizes], 1), atol=1e-6)


def test_shuffling_keeps_every_frame() -> None:
    x = torch.arange(6.0)[None, None, :, None, None].expand(5, 1, 6, 2, 2)
    y = shuffled_frames(x, generator(0))
    assert torch.equal(y.sort(2).values, x) and not torch.equal(y, x)
    assert len({tuple(row[0, :, 0, 0].tolist()) for row in y}) > 1


FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], set[str], set[str]]] = {
    "real": (lambda x: x, set(), {"fd_movement", "fd_frames", *(f"{s}_distance" for s in STATISTICS)}),
    "shuffled": (
        lambda x: shuffled_frames(x, generator(5)),
        {"fd_movement", "motion_distance", "flicker_distance", "spectrum_distance"},
        {"fd_frames"},
    ),
    "reversed": (
        lambda x: x.flip(2),
        {"fd_movement"},
        {"fd_frames", "motion_distance", "flicker_distance", "spectrum_distance"},
    ),
    "frozen": (
        lambda x: x[:, :, 3:4].expand_as(x),
        {"fd_movement", "motion_distance", "flicker_distance"},
        set(),
    ),
    "twice as fast": (
        lambda x: x[:, :, ::2].repeat(1, 1, 2, 1, 1),
        {"fd_movement", "motion_distance"},
        set(),
    ),
    "darker": (lambda x: (x - 1) / 2, {"fd_frames"}, set()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_seen_by_what_should_see_it(fault: str) -> None:
    make, seen, unseen = FAULTS[fault]
    metrics = measured(make(clips(N, 4)))
    for name in seen:
        assert (metrics[name].sigmas or 0) > 3, (name, metrics[name])
    for name in unseen:
        assert abs(metrics[name].sigmas or 0) < 3, (name, metrics[name])
    for metric in metrics.values():
        assert metric.n == N and metric.floor is not None and metric.stderr is not None


def test_the_control_tells_a_space_that_is_blind_to_time() -> None:
    class Content(Movement):
        """The mean of all frames."""

        name = "content"

        def __call__(self, x: Tensor) -> Tensor:
            return x.mean(2).flatten(1)[:, :20]

    metrics = measured(clips(N, 4), encoder=Content())
    assert (metrics["shuffled_movement"].sigmas or 0) > 3
    assert metrics["shuffled_movement"].value > 5 * (metrics["shuffled_movement"].floor or 1)
    assert abs(metrics["shuffled_content"].sigmas or 0) < 2


def test_the_distance_of_shifted_numbers() -> None:
    metric, x = WassersteinDistance(), torch.rand(200, 1, generator=generator(0))
    assert metric.value(x, x) == 0
    assert metric.value(x + 0.3, x) == pytest.approx(0.3 / float(x.mean()), rel=1e-5)
    assert metric.value(2 * x, x) == pytest.approx(1, rel=1e-5)
    assert metric.value(10 * x, 10 * x.flip(0) + 2) == pytest.approx(2 / float((10 * x + 2).mean()), rel=1e-4)


def test_its_error_covers() -> None:
    values, errors = [], []
    for seed in range(40):
        x, y = (torch.rand(80, 1, generator=generator(2 * seed + k)) for k in (0, 1))
        found = WassersteinDistance().estimate(x + 0.4, y)
        values.append(found.value)
        errors.append(found.stderr or 0)
    spread = torch.tensor(values).std().item()
    assert 0.7 * spread < sum(errors) / len(errors) < 1.5 * spread


def test_a_classifier_that_only_guesses_is_no_judge() -> None:
    true = torch.arange(30) % 3 // 2  # twenty of one class, ten of the other
    for says, judged in ((torch.zeros(30), False), (true.roll(1), False), (true, True)):
        scores = one_hot(says.long(), 2).float()
        found = Found(generator(0))
        recognised(found, "x", (0, 1), lambda m, s=scores: s[m], lambda m, s=scores: s[m], true, true)
        assert ("class_accuracy" in found.metrics) is judged
        assert judged or "the commonest class is 67% of them" in found.left_out["class_accuracy"]


def test_every_condition_is_judged() -> None:
    """Direction and brightness, two conditions of one clip: each by a classifier of its own."""
    x = clips(160, 7)[:, :1, ::2, ::2, ::2]
    way, bright = torch.arange(160) % 2, torch.arange(160) // 2 % 2
    x = torch.where(way[:, None, None, None, None] > 0, x, x.flip(2))
    x = torch.where(bright[:, None, None, None, None] > 0, x, (x - 1) / 2)
    found = Found(generator(0))
    axes = ("time", "height", "width")
    for name, labels, asked in (("way", way, way), ("bright", bright, 1 - bright)):
        condition = Asked(name, asked[100:130], labels[:100], labels[130:])
        recognise(found, condition, x[100:130], x[:100], x[130:], axes=axes, seconds=2.0)
    assert found.metrics["accuracy_way"].value > 0.8 and found.metrics["accuracy_way"].n == 30
    assert found.metrics["accuracy_bright"].value < 0.2  # asked for the other one
    recognise(found, Asked("one", way[:30], way[:100] * 0, way[:30]), x[:30], x[:100], x[:30], axes=axes)
    assert "one value" in found.left_out["accuracy_one"]
