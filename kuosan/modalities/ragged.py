"""Items of different lengths in one stream: the storage of text, music, motion and sound.

All items lie one after another in one tensor, the *stream*; item i is stream[start_i : stop_i] and may be seen
through windows that stay inside its *extent* [low_i, high_i) ⊇ [start_i, stop_i).  A window of L places

    begins at start_i and ends at min(start_i + L, stop_i)                    at the item's own place     (1)
    begins at low_i, … or max(start_i, high_i - L), uniformly, and
    ends at min(begin + L, high_i)                                            sliding                     (2)

and is filled up to L with a value of the caller's.  Extents let one long document be seen at every offset:
with low_i = start_i - L + 1 and high_i = stop_i the beginnings of neighbouring items touch without a gap and
without an overlap, so that an epoch gives every offset the same chance, and the end of a document is seen too.

`confined` shrinks extents to what the items themselves cover: of items chosen for training, none can then
look at a place that belongs to a held-out item only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds


@dataclass(frozen=True, eq=False)
class Ragged:
    """n items of one stream (N …); `start`, `stop`, `low` and `high` count places of the stream.

    With a `stride`, windows of an item begin at multiples of it behind `low` only (bars of music).
    """

    stream: Tensor
    start: Int64[Tensor, " n"]
    stop: Int64[Tensor, " n"]
    low: Int64[Tensor, " n"]
    high: Int64[Tensor, " n"]
    stride: Int64[Tensor, " n"] | None = None

    @classmethod
    def of(cls, items: Sequence[Tensor]) -> Ragged:
        """Items (n_i …) of one type and one trailing shape, each its own extent."""
        if not items:
            raise ValueError("a ragged storage needs at least one item, which tells its type and its shape")
        stop = torch.tensor([len(item) for item in items], dtype=torch.int64).cumsum(0)
        start = torch.cat([stop.new_zeros(1), stop[:-1]])
        return cls(torch.cat(list(items)), start, stop, start, stop)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: Tensor | slice) -> Ragged:
        """The items at `index` (an int64 tensor, a mask or a slice); the stream is shared, not copied."""
        start, stop, low, high = (part[index] for part in (self.start, self.stop, self.low, self.high))
        stride = None if self.stride is None else self.stride[index]
        return Ragged(self.stream, start, stop, low, high, stride)

    @property
    def lengths(self) -> Int64[Tensor, " n"]:
        return self.stop - self.start

    def item(self, i: int) -> Tensor:
        """One item (n_i …), whole."""
        return self.stream[int(self.start[i]) : int(self.stop[i])]

    def windows(self, length: int, fill: float | None, seeds: Seeds | None = None, ahead: int = 0) -> Tensor:
        """A window of every item, (n, length, …) in the stream's type: equation (1), with `seeds` (2); and,
        from the same beginnings, ``ahead`` places more of what follows within the extent.  Where ``fill`` is None,
        what is behind the end holds its last value."""
        begin, high = self.start, self.stop
        if seeds is not None:
            last = torch.maximum(self.start, self.high - length)
            stride = 1 if self.stride is None else self.stride
            choices = (last - self.low) // stride + 1
            step = (seeds.uniforms() * choices).floor().long() * stride  # float64: exact below 2^53 places
            begin, high = self.low + step, self.high
        high = self.high if ahead else high
        place = begin[:, None] + torch.arange(length + ahead)
        if fill is None:
            return self.stream[torch.minimum(place, high[:, None] - 1)]
        inside = place < high[:, None]
        out = self.stream.new_full((len(self), length + ahead, *self.stream.shape[1:]), fill)
        out[inside] = self.stream[place[inside]]
        return out

    def confined(self) -> Ragged:
        """The same items, whose extents end where the places covered by these items end.

        A gap in what they cover is a place of somebody else's: no window reaches into it or beyond.
        """
        if not len(self):
            return self
        order = torch.argsort(self.start, stable=True)
        start, reach = self.start[order], self.stop[order].cummax(0).values
        fresh = torch.ones_like(start, dtype=torch.bool)
        fresh[1:] = start[1:] > reach[:-1]
        run = fresh.long().cumsum(0) - 1
        first = start[fresh]
        last = reach[torch.cat([fresh[1:], fresh.new_ones(1)])]
        of = torch.empty_like(run)
        of[order] = run
        low, high = torch.maximum(self.low, first[of]), torch.minimum(self.high, last[of])
        if self.stride is not None:  # still at a multiple
            low = low + (self.low - low) % self.stride
        return Ragged(self.stream, self.start, self.stop, low, high, self.stride)

    def joined(self) -> list[Tensor]:
        """Items that follow one another within an extent of one of them as one, in the order of the stream."""
        out: list[Tensor] = []
        begin = stop = high = -1
        for i in torch.argsort(self.start, stable=True).tolist():
            first, last = int(self.start[i]), int(self.stop[i])
            if begin >= 0 and first <= stop and (first < high or int(self.low[i]) < first):
                stop, high = max(stop, last), max(high, int(self.high[i]))
                continue
            if begin >= 0:
                out.append(self.stream[begin:stop])
            begin, stop, high = first, last, int(self.high[i])
        return [*out, self.stream[begin:stop]] if begin >= 0 else out
