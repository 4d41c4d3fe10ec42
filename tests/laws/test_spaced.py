"""Laws of the solver that lifts masks far apart from one another."""

from __future__ import annotations

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.solvers import Spaced, trajectory
from kuosan.solvers.unmasking import spaced

from .test_tokens import agrees
from .words import F64, MASK, PROCESS, Fixed, K, even, prior


def places(hidden: Tensor, seeds: Seeds) -> list[list[int]]:
    """The hidden positions of every row in their order."""
    key = spaced(hidden, seeds)
    return [
        sorted(row.nonzero()[:, 0].tolist(), key=keys.__getitem__)
        for row, keys in zip(hidden, key, strict=True)
    ]


def test_so_many_parts_are_nearly_equal_whatever_the_length() -> None:
    """For every m: the first m of n positions divide the circle into parts of which none is over twice another."""
    for n in (1, 2, 3, 7, 12, 64, 100, 129):
        (order,) = places(torch.ones(1, n, dtype=torch.bool), Seeds.of(n, 1))
        assert sorted(order) == list(range(n))
        for m in range(1, n + 1):
            first = sorted(order[:m])
            parts = [(b - a) % n or n for a, b in zip(first, first[1:] + first[:1], strict=True)]
            assert max(parts) <= 2 * (min(parts) + 1)
            if n == 64 and m & (m - 1) == 0:
                assert set(parts) == {n // m}


def test_it_is_the_sequence_of_van_der_corput() -> None:
    """Against eq. 2 in plain arithmetic, skipping what came before."""
    for n in (5, 12, 33):
        (order,) = places(torch.ones(1, n, dtype=torch.bool), Seeds.of(3, 1))
        sequence = [int(n * int(f"{k:012b}"[::-1], 2) / 4096) for k in range(4096)]
        shift = (sequence[0] - order[0]) % n
        assert [(p + shift) % n for p in order] == list(dict.fromkeys(sequence))


def test_every_position_is_as_likely_to_be_any() -> None:
    n, count = 6000, 7
    orders = torch.tensor(places(torch.ones(n, count, dtype=torch.bool), Seeds.of(0, n)))
    for k in range(count):
        assert agrees(
            orders[:, k].bincount(minlength=count).double(), torch.full((count,), 1 / count, dtype=F64)
        )


def test_what_is_given_takes_no_place() -> None:
    """The hidden positions of a text with gaps are ordered as those of one without, and rows do not see each other."""
    hidden = torch.zeros(3, 20, dtype=torch.bool)
    where = [torch.tensor([1, 2, 5, 11, 12, 13, 19]), torch.arange(20), torch.tensor([4])]
    for row, at in enumerate(where):
        hidden[row, at] = True
    seeds = Seeds.of(5, 3)
    for row, order in enumerate(places(hidden, seeds)):
        (alone,) = places(torch.ones(1, len(where[row]), dtype=torch.bool), seeds[row : row + 1])
        assert order == where[row][alone].tolist()


def test_a_walk_keeps_its_order() -> None:
    """Whatever the steps; and other walks have others."""
    seeds, x = Seeds.of(2, 40), prior(40, 16)
    seen: list[list[int]] = [[] for _ in range(40)]
    for step in trajectory(Fixed(PROCESS, torch.zeros(16, K)), Spaced(), even(16), x, seeds):
        new = (x == MASK) & (step.x != MASK)
        for row, at in zip(seen, new, strict=True):
            row += at.nonzero()[:, 0].tolist()
        x = step.x
    assert all(sorted(row) == list(range(16)) for row in seen) and len({row[0] for row in seen}) > 8
    # The second is across the circle from the first, the next two half-way between.
    assert all(
        (row[1] - row[0]) % 16 == 8 and {(p - row[0]) % 16 for p in row[2:4]} == {4, 12} for row in seen
    )
