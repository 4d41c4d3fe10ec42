"""Notes on a grid of steps, each in a lane: what is between scores and tokens.

The grid's step is a part 1/s of a quarter, the coarsest of s = 1, 2, 3, 4, 6, 8, 12 that keeps 99 % of the onsets in
their places, to 1/48 of a quarter. Music that was played, not written, keeps to none of them: it is rounded to
sixteenth notes (s = 4), and how far its onsets move is said.

A *lane* holds one note at a time. A part has as many as 99 of 100 of its notes need, counting those that sound when a
note begins; of notes that begin together the highest gets the first free lane. Where none is free, the note that
sounds longest ends early (it is *shortened*); of more notes at once than lanes, the highest and the lowest stay and
others are *lost*. Both are counted. Parts that would take more than 8 lanes together share 8 as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.music_score import Score

STEPS = (1, 2, 3, 4, 6, 8, 12)
KEPT = 0.99  # of onsets, and of notes that find a lane
TOLERANCE = 1 / 48  # of a quarter
PLAYED = 4  # steps of a quarter for music that keeps to no grid
MOST_LANES = 8


@dataclass(frozen=True)
class Line:
    """A part as arrays: starts and ends in quarters, and pitches, of n notes."""

    name: str
    program: int
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    pitch: NDArray[np.int16]


@dataclass(frozen=True)
class Loss:
    """Of so many notes, how many are not as they were."""

    notes: int = 0
    shortened: int = 0
    lost: int = 0

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.notes + other.notes, self.shortened + other.shortened, self.lost + other.lost)


def lines_of(score: Score) -> list[Line]:
    """Its parts as arrays, in order."""
    found = []
    for part in score.parts:
        table = np.array([(n.start, n.start + n.length, n.pitch) for n in part.notes], dtype=np.float64)
        table = table.reshape(-1, 3)
        found.append(Line(part.name, part.program, table[:, 0], table[:, 1], table[:, 2].astype(np.int16)))
    return found


def pooled(lines: Sequence[Line]) -> list[Line]:
    """All of them as one."""
    starts, ends, pitches = (
        np.concatenate(v) for v in zip(*((p.start, p.end, p.pitch) for p in lines), strict=True)
    )
    return [Line("", lines[0].program, starts, ends, pitches)]


def choose_step(starts: NDArray[np.float64]) -> tuple[int, float, float]:
    """Steps of a quarter for onsets at these times, the share of them that the grid keeps, and how far the mean onset
    moves, in quarters."""
    if not len(starts):
        return 1, 1.0, 0.0
    for step in STEPS:
        off = np.abs(starts * step - np.round(starts * step)) / step
        share = float((off <= TOLERANCE).mean())
        if share >= KEPT:
            return step, share, float(off.mean())
    off = np.abs(starts * PLAYED - np.round(starts * PLAYED)) / PLAYED
    return PLAYED, float((off <= TOLERANCE).mean()), float(off.mean())


def on_grid(line: Line, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First step, step after the last, and pitch of every note: sorted by start, the highest first; no two alike."""
    on = np.floor(line.start * step + 0.5).astype(np.int64)
    off = np.maximum(on + 1, np.floor(line.end * step + 0.5).astype(np.int64))
    pitch = line.pitch.astype(np.int64)
    order = np.lexsort((-off, -pitch, on))
    on, off, pitch = on[order], off[order], pitch[order]
    fresh = np.ones(len(on), dtype=bool)
    fresh[1:] = (on[1:] != on[:-1]) | (pitch[1:] != pitch[:-1])
    return on[fresh], off[fresh], pitch[fresh]


def sounding(on: NDArray[np.int64], off: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many notes sound when each begins, itself included (``on`` is sorted)."""
    begun = np.searchsorted(on, on, side="right")
    return begun - np.searchsorted(np.sort(off), on, side="right")


def lanes_needed(counts: NDArray[np.int64]) -> int:
    """The fewest lanes in which all but 1 % of these numbers of sounding notes have room."""
    if not len(counts):
        return 0
    return int(np.sort(counts)[int(np.ceil(KEPT * len(counts))) - 1])


def into_lanes(
    on: NDArray[np.int64], off: NDArray[np.int64], pitch: NDArray[np.int64], lanes: int
) -> tuple[list[tuple[int, int, int, int]], Loss]:
    """(lane, first step, step after the last, pitch) of notes as `on_grid` gives them."""
    if lanes == 1 and bool((on[1:] >= off[:-1]).all()):  # one voice, as most are
        line = zip(on.tolist(), off.tolist(), pitch.tolist(), strict=True)
        return [(0, a, b, p) for a, b, p in line], Loss(len(on))
    found: list[list[int]] = []
    last = [-1] * lanes  # of each lane, the index of its latest note
    lost = 0
    shortened: set[int] = set()
    bounds = np.flatnonzero(np.diff(on, prepend=-1, append=-1)).tolist() if len(on) else []
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        at = int(on[begin])
        chord = list(range(begin, end))
        if len(chord) > lanes:
            lost += len(chord) - lanes
            chord = [*chord[: lanes - 1], chord[-1]] if lanes > 1 else chord[:1]
        free = [k for k in range(lanes) if last[k] < 0 or found[last[k]][2] <= at]
        held = sorted((k for k in range(lanes) if k not in free), key=lambda k: found[last[k]][1])
        while len(free) < len(chord):
            k = held.pop(0)
            shortened.add(last[k])
            found[last[k]][2] = at
            free.append(k)
        for k, i in zip(sorted(free), chord, strict=False):
            last[k] = len(found)
            found.append([k, at, int(off[i]), int(pitch[i])])
    notes = [(k, a, b, p) for k, a, b, p in found]
    return notes, Loss(len(on), len(shortened), lost)
