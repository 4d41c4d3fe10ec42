"""Laws of the measured choice of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kuosan.recipes import calibrate
from kuosan.recipes.calibrate import Threads


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A machine of two threads, whose count is only written down."""
    now = [2]
    monkeypatch.setattr(calibrate, "most_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: now.__setitem__(0, n))
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    yield now


@pytest.mark.parametrize("one, two, best", [(1.0, 0.6, 2), (1.0, 3.0, 1), (1.0, 0.99, 1), (0.99, 1.0, 2)])
@pytest.mark.parametrize("start", [1, 2])
def test_the_faster_count_is_kept_and_a_near_tie_changes_nothing(
    two_cores: list[int], one: float, two: float, best: int, start: int
) -> None:
    two_cores[0] = start
    threads = Threads(every=-1.0)
    for _ in range(12):
        threads.after_step(one if two_cores[0] == 1 else two)
        if threads._trial is None and threads._recent == []:
            break
    assert two_cores[0] == (best if abs(one - two) > 0.05 else start)


def test_one_core_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "most_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: pytest.fail("there is nothing to choose"))
    threads = Threads(every=-1.0)
    for _ in range(30):
        threads.after_step(1.0)


def test_a_measurement_leaves_the_threads_that_it_names() -> None:
    before = torch.get_num_threads()
    try:
        speed = calibrate.calibrate(torch.device("cpu"))
        assert torch.get_num_threads() == speed.threads and speed.ratio > 0
    finally:
        torch.set_num_threads(before)
