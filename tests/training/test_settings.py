"""Budgets as people write them, progress, and the learning rate that follows from it."""

from __future__ import annotations

import math

import pytest

from kuosan.errors import UserError
from kuosan.training.budget import Budget, clock
from kuosan.training.settings import Settings


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", Budget(seconds=90)),
        ("10m", Budget(seconds=600)),
        ("2h", Budget(seconds=7200)),
        ("1d", Budget(seconds=86400)),
        ("1h30m", Budget(seconds=5400)),
        ("1.5h", Budget(seconds=5400)),
        (" 10 m ", Budget(seconds=600)),
        ("5000steps", Budget(steps=5000)),
        ("1step", Budget(steps=1)),
        ("5ksteps", Budget(steps=5000)),
        ("5Ksteps", Budget(steps=5000)),
        ("1_000 steps", Budget(steps=1000)),
        ("3Mimages", Budget(images=3_000_000)),
        ("0.5Mimages", Budget(images=500_000)),
        ("2Gitems", Budget(images=2_000_000_000)),
        ("7examples", Budget(images=7)),
        ("1image", Budget(images=1)),
    ],
)
def test_a_budget_is_what_it_says(text: str, wanted: Budget) -> None:
    assert Budget.parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "soon", "-5m", "10min", "10x", "0s", "0m", "1.2.3m", "1..5h", ".m", "0steps", "0.4steps"]
    + ["-5steps", "1.2.3steps", "1e3steps", "5steps3m", "nansteps", "9" * 400 + "s", "9" * 400 + "steps"],
)
def test_what_is_no_budget_is_told_in_a_sentence_with_examples(text: str) -> None:
    with pytest.raises(UserError, match="steps"):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(1000, 128, 8), (1024, 128, 8), (1, 128, 1), (129, 128, 2)]
)
def test_images_are_steps_rounded_up(images: int, batch: int, steps: int) -> None:
    assert Budget(images=images).steps_of(batch) == steps
    assert Budget(steps=images).steps_of(batch) == images
    assert Budget(seconds=5).steps_of(batch) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(48.4, "48 s"), (59.6, "1 min"), (250, "4 min 10 s"), (7500, "2 h 5 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_progress_is_the_share_of_the_budget_that_is_used_up() -> None:
    by_steps, by_clock = Settings(steps=200), Settings(seconds=50.0)
    assert [by_steps.progress(k, 1e9) for k in (0, 50, 200, 300)] == [0, 0.25, 1, 1]
    assert [by_clock.progress(10**9, s) for s in (0.0, 5.0, 50.0, 51.0)] == [0, 0.1, 1, 1]
    assert Settings(steps=200, seconds=50.0).progress(100, 45.0) == 0.9


@pytest.mark.parametrize("steps", [5, 30, 1000, 20_000])
@pytest.mark.parametrize(("warmup", "decay"), [(0.02, 0.5), (0.0, 0.0), (0.1, 0.6), (0.0, 1.0), (0.3, 0.7)])
def test_the_rate_rises_stays_and_falls_to_zero(steps: int, warmup: float, decay: float) -> None:
    s = Settings(lr=0.02, warmup=warmup, decay=decay, steps=steps)
    rates = [s.rate(k / steps, k) for k in range(steps + 1)]
    top = max(range(steps + 1), key=rates.__getitem__)
    assert all(a <= b + 1e-15 for a, b in zip(rates[:top], rates[1 : top + 1], strict=True))
    assert all(a >= b - 1e-15 for a, b in zip(rates[top:-1], rates[top + 1 :], strict=True))
    assert max(rates) <= s.lr
    assert rates[-1] == (
        pytest.approx(0, abs=1e-15) if decay else pytest.approx(s.lr * min(1, (steps + 1) / 10))
    )
    if steps >= 1000 and warmup + decay < 1:
        assert max(rates) == s.lr
        assert rates[int(steps * (warmup + 1 - decay) / 2)] == s.lr


def test_the_fall_is_half_a_cosine() -> None:
    s = Settings(lr=1.0, warmup=0.0, decay=0.4, steps=1000)
    for part in (0.1, 0.25, 0.5, 0.9):
        wanted = (1 + math.cos(math.pi * part)) / 2
        assert s.rate(0.6 + 0.4 * part, 700) == pytest.approx(wanted, abs=1e-12)


def test_the_first_steps_are_careful_however_short_the_warm_up() -> None:
    s = Settings(lr=1.0, warmup=0.0, decay=0.0, steps=1000)
    assert [s.rate(k / 1000, k) for k in range(12)] == pytest.approx(
        [min(1, (k + 1) / 10) for k in range(12)]
    )
