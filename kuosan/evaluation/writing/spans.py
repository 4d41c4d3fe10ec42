"""The longest passage that a text copies out of the training texts, word for word.

A model of texts that copies does so in passages, not in whole items. So for every text this finds the longest run of
characters that stands just so in a training text, and where. Honest texts share runs with training too (idioms, names,
refrains): what is usual is what held-out texts share.

All suffixes of the training texts, joined, and of the other texts are sorted by prefix doubling (Manber & Myers
1993): whoever shares the longest prefix with a suffix is its neighbour in that order. As no shared run is longer than
the longest text asked about, doubling ends there, and time grows as N log N of all characters. The first few characters
are packed in one number, which saves the first three doublings.

The rows of the metrics of copying are 1 − longest run / length: 0 for a text that stands in training as a whole. Equal
distances are common here, so the share of honest texts below the threshold is at most the one expected, never more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.copies import Honest

MOST_AT_ONCE = 2**23  # training characters sorted at once: about 1 GB

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Span:
    """`length` characters from `start` of a sample, which stand from `train_start` in training text `train`.

    A length of 0 says that not even one character is shared; the places then say nothing.
    """

    sample: int
    start: int
    length: int
    train: int
    train_start: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _codes(texts: Sequence[str]) -> Ints:
    """Code points of all texts, each ended by −1."""
    joined = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return np.insert(joined, np.cumsum(lengths), -1)


def _dense(keys: Ints) -> tuple[Ints, Ints, bool]:
    """The order of the keys, their ranks (equal where equal), and whether all differ."""
    order = np.argsort(keys, kind="stable")
    line = keys[order]
    steps = np.r_[0, np.cumsum(line[1:] != line[:-1])]
    rank = np.empty_like(keys)
    rank[order] = steps
    return order, rank, bool(steps[-1] == len(keys) - 1)


def _suffix_order(codes: Ints, longest: int) -> Ints:
    """Places sorted by at least their next `longest` codes (0 … max); beyond the end stands what is below all."""
    bits = int(codes.max() + 1).bit_length()
    packed = max(1, 62 // bits)
    padded = np.r_[codes + 1, np.zeros(packed, dtype=np.int64)]
    keys = np.zeros(len(codes), dtype=np.int64)
    for i in range(packed):
        keys = (keys << bits) | padded[i : i + len(codes)]
    order, rank, done = _dense(keys)
    reach = packed
    while reach < longest and not done:
        later = np.zeros_like(rank)
        later[: max(0, len(rank) - reach)] = rank[reach:] + 1
        order, rank, done = _dense(rank * (len(rank) + 1) + later)
        reach *= 2
    return order


def _shared(codes: Ints, a: Ints, b: Ints) -> Ints:
    """Length of the common prefix at places a and b; an end never matches, as the two kinds of end differ."""
    length = np.zeros(len(a), dtype=np.int64)
    open_ = np.flatnonzero((a >= 0) & (b >= 0))
    while len(open_):
        same = codes[a[open_] + length[open_]] == codes[b[open_] + length[open_]]
        open_ = open_[same]
        length[open_] += 1
    return length


def longest_spans(texts: Sequence[str], training: Sequence[str]) -> tuple[Span, ...]:
    """The longest run of every text that stands in a training text; of several the first in the text."""
    best = [Span(i, 0, 0, 0, 0) for i in range(len(texts))]
    first = 0
    while texts and first < len(training):
        # In parts of bounded memory; a single long text stays whole.
        last, size = first + 1, len(training[first])
        while last < len(training) and size + len(training[last]) <= MOST_AT_ONCE:
            size += len(training[last])
            last += 1
        for span in _longest(texts, training[first:last]):
            known = best[span.sample]
            if (span.length, -span.start) > (known.length, -known.start):
                best[span.sample] = replace(span, train=first + span.train)
        first = last
    return tuple(best)


def _longest(texts: Sequence[str], training: Sequence[str]) -> tuple[Span, ...]:
    theirs, mine = _codes(training), _codes(texts)
    alphabet, codes = np.unique(np.r_[theirs, mine], return_inverse=True)
    t = len(theirs)
    # −1 is number 0, an end in training; ends of the texts get a number of their own.
    codes[t:][mine < 0] = len(alphabet)
    order = _suffix_order(codes, max(map(len, texts)))
    slots, inside = np.arange(len(order)), order < t
    before = np.maximum.accumulate(np.where(inside, slots, -1))
    after = np.minimum.accumulate(np.where(inside, slots, len(order))[::-1])[::-1]
    asked = np.flatnonzero(~inside)
    place = order[asked]
    found = []
    for neighbour in (before[asked], after[asked]):
        real = (neighbour >= 0) & (neighbour < len(order))
        at = np.where(real, order[np.clip(neighbour, 0, len(order) - 1)], -1)
        found.append((_shared(codes, place, at), at))
    (low, low_at), (high, high_at) = found
    length, at = np.zeros(len(mine), dtype=np.int64), np.zeros(len(mine), dtype=np.int64)
    length[place - t] = np.maximum(low, high)
    at[place - t] = np.where(low >= high, low_at, high_at)
    starts = np.r_[0, np.cumsum([len(text) + 1 for text in texts])]
    origins = np.r_[0, np.cumsum([len(text) + 1 for text in training])]
    spans = []
    for i, (start, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        best = int(start + length[start:end].argmax())
        train = max(0, int(np.searchsorted(origins, at[best], side="right")) - 1)
        where = int(at[best] - origins[train])
        spans.append(Span(i, best - int(start), int(length[best]), train, where))
    return tuple(spans)


def outside(texts: Sequence[str], spans: Sequence[Span]) -> Float[Tensor, " n"]:
    """The share of each text that lies outside its longest span: the distance of the metrics of copying."""
    rows = [1 - span.length / len(texts[span.sample]) if texts[span.sample] else 1.0 for span in spans]
    return torch.tensor(rows, dtype=torch.float64)


def honest_spans(texts: Sequence[str], spans: Sequence[Span]) -> Honest:
    """Distances of held-out texts; those that stand in training as a whole are taken out, as duplicates."""
    found = outside(texts, spans)
    distinct = found[found > 0]
    doubles = len(found) - len(distinct)
    source = f"{len(distinct)} held-out texts"
    source += f", {doubles} that stand in training as a whole taken out" if doubles else ""
    return Honest(distinct[:, None], source)


def worst_spans(texts: Sequence[str], spans: Sequence[Span], k: int = 16) -> list[dict[str, Any]]:
    """The k longest spans, longest first, with what they say, in plain JSON."""
    ranked = sorted(spans, key=lambda span: -span.length)[:k]
    return [
        {**span.to_json(), "text": texts[span.sample][span.start : span.start + span.length]}
        for span in ranked
        if span.length
    ]
