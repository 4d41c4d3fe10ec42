"""Items of different lengths: nothing of a neighbour is ever seen that an extent does not allow."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kuosan.core.random import Seeds
from kuosan.modalities import Ragged

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def positions(lengths: list[int], trailing: tuple[int, ...] = ()) -> Ragged:
    """Items whose every element is its own place in the stream."""
    total = sum(lengths)
    stream = torch.arange(total).reshape(-1, *(1 for _ in trailing)).expand(total, *trailing)
    stop = torch.tensor(lengths).cumsum(0)
    start = stop - torch.tensor(lengths)
    return Ragged(stream, start, stop, start, stop)


@given(LENGTHS, st.integers(1, 12), st.sampled_from([(), (3,), (2, 2)]))
def test_at_its_own_place_a_window_is_the_item_and_then_the_fill(
    lengths: list[int], length: int, trailing: tuple[int, ...]
) -> None:
    items = positions(lengths, trailing)
    x = items.windows(length, -1)
    assert x.shape == (len(lengths), length, *trailing)
    for i in range(len(lengths)):
        kept = min(length, lengths[i])
        assert torch.equal(x[i, :kept], items.item(i)[:kept]) and (x[i, kept:] == -1).all()


def test_items_are_kept_whole_and_in_their_type() -> None:
    parts = [torch.rand(n, 4, generator=torch.Generator().manual_seed(n)) for n in (3, 0, 5)]
    items = Ragged.of(parts)
    assert len(items) == 3 and items.lengths.tolist() == [3, 0, 5]
    assert all(torch.equal(items.item(i), part) for i, part in enumerate(parts))
    assert Ragged.of([torch.tensor([1], dtype=torch.uint8)]).windows(2, 0).dtype == torch.uint8
    with pytest.raises(ValueError, match="at least one item"):
        Ragged.of([])


@given(LENGTHS, st.data())
def test_an_index_takes_the_items_and_shares_the_stream(lengths: list[int], data: st.DataObject) -> None:
    items = positions(lengths)
    numbers = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    some = items[torch.tensor(numbers, dtype=torch.int64)]
    assert len(some) == len(numbers) and some.stream is items.stream
    assert all(torch.equal(some.item(k), items.item(i)) for k, i in enumerate(numbers))
    assert items[:2].lengths.tolist() == lengths[:2]
    assert items[torch.tensor([n > 3 for n in lengths])].lengths.tolist() == [n for n in lengths if n > 3]


def sliding(length: int = 4) -> Ragged:
    """A stream of 20: items at 4, 8 and 12 … 14, which may begin from 0, 5 and 9 on."""
    return Ragged(
        torch.arange(20),
        torch.tensor([4, 8, 12]),
        torch.tensor([8, 12, 14]),
        torch.tensor([0, 5, 9]),
        torch.tensor([11, 12, 14]),
    )


def test_windows_slide_uniformly_over_their_extent_and_never_leave_it() -> None:
    items, draws = sliding(), 3_000
    begins = [Counter[int]() for _ in range(3)]
    for i in range(3):
        many = items[torch.full((draws,), i)]
        x = many.windows(4, -1, Seeds.of(7 + i, draws))
        inside = x[x >= 0]
        assert inside.min() >= items.low[i] and inside.max() < items.high[i]
        assert (x[:, 1:] - x[:, :-1])[x[:, 1:] >= 0].eq(1).all(), "a window is a run of the stream"
        begins[i].update(x[:, 0].tolist())
    # the third ends at 14 whatever its window: the end of its work is seen from 9, …, 12
    assert [sorted(b) for b in begins] == [list(range(8)), list(range(5, 9)), list(range(9, 13))]
    for counts in begins:
        share = draws / len(counts)
        assert max(abs(n - share) for n in counts.values()) < 5 * share**0.5


def test_a_window_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    items, seeds = sliding(), Seeds.of(3, 3)
    together = items.windows(4, -1, seeds)
    for i in range(3):
        alone = items[i : i + 1].windows(4, -1, seeds[i : i + 1])
        assert torch.equal(alone[0], together[i])


@given(st.lists(st.booleans(), min_size=1, max_size=14), st.integers(1, 5), st.integers(0, 30))
def test_confined_items_see_only_what_they_cover(chosen: list[bool], size: int, reach: int) -> None:
    every = positions([size] * len(chosen))
    low = (every.start - reach).clamp_min(0)
    high = (every.stop + reach).clamp_max(len(every.stream))
    some = replace(every, low=low, high=high)[torch.tensor(chosen)]
    confined = some.confined()
    assert torch.equal(confined.start, some.start) and torch.equal(confined.stop, some.stop)
    covered = {place for i in range(len(some)) for place in some.item(i).tolist()}
    for i in range(len(some)):
        extent = set(range(int(confined.low[i]), int(confined.high[i])))
        assert extent <= covered and set(some.item(i).tolist()) <= extent
        # nothing is taken away that could have stayed
        for side, step in ((confined.low[i] - 1, -1), (confined.high[i], 1)):
            allowed = some.low[i] <= side < some.high[i]
            assert not (allowed and int(side) in covered), step
    again = confined.confined()
    assert torch.equal(again.low, confined.low) and torch.equal(again.high, confined.high)


def test_order_does_not_matter_to_what_is_confined() -> None:
    every = positions([3, 3, 3, 3, 3])
    wide = replace(every, low=torch.zeros(5, dtype=torch.int64), high=torch.full((5,), 15))
    order = torch.tensor([4, 0, 3])
    confined = wide[order].confined()
    assert confined.low.tolist() == [9, 0, 9] and confined.high.tolist() == [15, 3, 15]
