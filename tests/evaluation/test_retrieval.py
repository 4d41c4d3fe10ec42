"""Caption retrieval: eq. (2) against enumeration, chance, and a matcher that finds what there is to find."""

from __future__ import annotations

import itertools

import pytest
import torch

from kuosan.evaluation.found import Found
from kuosan.evaluation.retrieval import recall_at_one, recalled, train_matcher

END = 8


def test_it_is_the_mean_over_all_draws_of_candidates() -> None:
    scores = torch.tensor([[0.3, 0.9, 0.1, 0.3, 0.2], [0.5, 0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]])
    labels = torch.tensor([0, 3, 4])
    for k in range(1, 6):
        for row, own, found in zip(
            scores.tolist(), labels.tolist(), recall_at_one(scores, labels, k), strict=True
        ):
            others = [s for i, s in enumerate(row) if i != own]
            picks = []
            for drawn in itertools.combinations(others, k - 1):
                best = max(row[own], *drawn) if drawn else row[own]
                tied = 1 + sum(s == row[own] for s in drawn)
                picks.append((row[own] == best) / tied)
            assert float(found) == pytest.approx(sum(picks) / len(picks))


def test_scores_that_know_nothing_are_right_by_chance() -> None:
    scores = torch.randn(4000, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4000) % 30
    for k in (2, 10, 30):
        rows = recall_at_one(scores, labels, k)
        assert abs(float(rows.mean()) - 1 / k) < 4 * float(rows.std()) / 4000**0.5
        assert float(recall_at_one(torch.zeros(5, 30), labels[:5], k).mean()) == pytest.approx(1 / k)


def pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """8×8 items whose halves are as bright as the two tokens of their caption."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, (n, 2), generator=generator)
    x = torch.randn(n, 1, 8, 8, generator=generator) * 0.1
    x[:, :, :4] += (tokens[:, 0] / 2 - 0.75)[:, None, None, None]
    x[:, :, 4:] += (tokens[:, 1] / 2 - 0.75)[:, None, None, None]
    return x, torch.cat([tokens, torch.full((n, 2), END)], 1)


def test_it_finds_what_is_there_and_nothing_in_noise() -> None:
    train, val = pairs(256, 1), pairs(40, 2)
    again = []
    for shown in (pairs(40, 2)[0], val[0][torch.randperm(40, generator=torch.Generator().manual_seed(0))]):
        found = Found(torch.Generator().manual_seed(0))
        recalled(found, (shown, val[1]), train, val, end=END, size=9, seconds=0.4)
        again.append(found.metrics["caption_retrieval_10"])
    right, shuffled = again
    assert right.value == pytest.approx(right.floor) and right.floor is not None and right.floor > 0.7
    assert shuffled.value < 0.4 and shuffled.floor == right.floor
    assert "chance is 0.100" in right.note and right.n == 40


def test_the_same_arguments_give_the_same_bits() -> None:
    x, rows = pairs(96, 1)
    a, b = (train_matcher(x, rows, end=END, size=9, seed=3, seconds=0.05) for _ in range(2))
    assert torch.equal(a.scores(x, rows[:5]), b.scores(x, rows[:5]))


def test_what_cannot_be_measured_is_said() -> None:
    x, rows = pairs(40, 1)
    found = Found(torch.Generator().manual_seed(0))
    recalled(found, (x, rows), (x, rows), (x, rows), end=END, size=9)
    assert "needs 64 training items" in found.left_out["caption_retrieval"] and not found.metrics
