"""Music as tokens: every lane has one token per step.

    0            silence
    1            after the end of the piece
    2 + 2 (p - low)      the note p begins
    3 + 2 (p - low)      the note p is held                                                         (1)

so that held and repeated notes are told apart, and a token says what sounds without looking at others. A held note
that nothing begins, which a model may write, begins where it stands first.

Steps are counted from a bar line. A pick-up is preceded by silence up to a full bar, and the last bar is filled up,
so that every bar is whole; in reading back, silence at the very beginning is a bar's that the pick-up lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.music_lanes import Line, Loss, into_lanes, on_grid, pooled
from kuosan.modalities.music_score import TEMPO, Metre, Note, Part, Score, quarters

SILENCE, END = 0, 1

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Instrument:
    """A part of the corpus: its name, its sound (General MIDI, from 0), and its lanes."""

    name: str
    program: int
    lanes: int


@dataclass(frozen=True)
class Form:
    """How scores become tokens.

    Args:
        step: steps of a quarter. low, high: pitches that there are.
        parts: in order. one: whether all parts of a score are taken as one.
        ranges: lowest and highest pitch of every lane in the data.
        metre, tempo: of what does not say.
        repeats: whether a note may be struck again while it sounds; or else such notes are one.
    """

    step: int
    low: int
    high: int
    parts: tuple[Instrument, ...]
    one: bool = False
    ranges: tuple[tuple[int, int], ...] = ()
    metre: Metre | None = None
    tempo: float = TEMPO
    repeats: bool = True

    kind = "voices on a grid"
    exact = True

    @property
    def size(self) -> int:
        """Values of a token."""
        return 2 + 2 * (self.high - self.low + 1)

    @property
    def end(self) -> int:
        return END

    @property
    def lanes(self) -> int:
        return sum(part.lanes for part in self.parts)

    @property
    def part_names(self) -> list[str]:
        """A word for every part."""
        return [part.name or f"part {k + 1}" for k, part in enumerate(self.parts)]

    @property
    def names(self) -> list[str]:
        """A word for every lane."""
        found = []
        for name, part in zip(self.part_names, self.parts, strict=True):
            found += [name] if part.lanes == 1 else [f"{name} {i + 1}" for i in range(part.lanes)]
        return found

    def cycle(self, metre: Metre | None) -> int:
        """Steps after which the metre is where it was: of a bar; of a quarter where there is none."""
        bar = quarters(metre) * self.step if metre else self.step
        return int(bar) if float(bar).is_integer() else self.step

    def bar(self, metre: Metre | None) -> int:
        """Steps of what is counted as a bar."""
        return self.cycle(metre) if metre else 4 * self.step

    def lead(self, metre: Metre | None, pickup: float) -> int:
        """Steps of silence before a pick-up."""
        cycle = self.cycle(metre)
        return -int(np.floor(pickup * self.step + 0.5)) % cycle

    def rows(
        self, lines: Sequence[Line], metre: Metre | None, pickup: float, length: float
    ) -> tuple[Rows, Loss]:
        """Tokens (steps, lanes) of a piece of so many quarters, and what is not as it was."""
        lead, cycle = self.lead(metre, pickup), self.cycle(metre)
        placed: list[tuple[int, int, int, int]] = []
        total, first, last = Loss(), 0, 0
        used = pooled(lines) if self.one and lines else lines
        for line, part in zip(used, self.parts, strict=False):
            on, off, pitch = on_grid(line, self.step)
            inside = (pitch >= self.low) & (pitch <= self.high)
            notes, loss = into_lanes(on[inside], off[inside], pitch[inside], part.lanes)
            placed += [(first + k, a, b, p) for k, a, b, p in notes]
            total += loss + Loss(int((~inside).sum()), 0, int((~inside).sum()))
            first, last = first + part.lanes, max(last, int(off.max(initial=0)))
        beyond = sum(len(line.start) for line in used[len(self.parts) :])
        total += Loss(beyond, 0, beyond)
        steps = max(last, int(np.ceil(length * self.step - 1e-6))) + lead
        out = np.full((-(-steps // cycle) * cycle, self.lanes), SILENCE, dtype=np.int64)
        for lane, a, b, p in placed:
            out[lead + a + 1 : lead + b, lane] = 3 + 2 * (p - self.low)
            out[lead + a, lane] = 2 + 2 * (p - self.low)
        return (out if self.repeats else out + struck_again(out)), total

    def score(self, rows: Rows, metre: Metre | None, **about: Any) -> Score:
        """The score of tokens; what is after the end, or still masked, is silence."""
        rows = np.where((rows < 0) | (rows >= self.size), SILENCE, rows)
        sounds = np.flatnonzero((rows != END).any(1))
        rows = rows[: int(sounds[-1]) + 1 if len(sounds) else 0]
        heard = np.flatnonzero((rows > END).any(1))
        lead = int(heard[0]) if len(heard) and int(heard[0]) < self.cycle(metre) else 0
        rows = rows[lead:]
        parts, first = [], 0
        for part in self.parts:
            notes = [n for k in range(part.lanes) for n in self._notes(rows[:, first + k])]
            parts.append(Part(tuple(sorted(notes)), part.name, part.program))
            first += part.lanes
        pickup = (self.cycle(metre) - lead) / self.step if lead else 0.0
        return Score(tuple(parts), metre, pickup, end=len(rows) / self.step, **about)

    def _notes(self, lane: NDArray[np.int64]) -> list[Note]:
        """What a lane sounds: (1) read."""
        found: list[Note] = []
        pitch = np.where(lane > END, self.low + (lane - 2) // 2, -1)
        begins = (pitch >= 0) & (lane % 2 == 0)
        begins[1:] |= pitch[1:] != pitch[:-1]
        begins[:1] = True
        edges = [*np.flatnonzero(begins).tolist(), len(lane)]
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            if pitch[a] >= 0:
                found.append(Note(a / self.step, (b - a) / self.step, int(pitch[a])))
        return found

    def pitches(self, rows: Rows) -> Rows:
        """What sounds, (steps, lanes); -1 is silence."""
        return np.where((rows > END) & (rows < self.size), self.low + (rows - 2) // 2, -1)

    def to_json(self) -> dict[str, Any]:
        tree = asdict(self)
        return tree | {"parts": [list(vars(p).values()) for p in self.parts], "metre": list(self.metre or ()),
                       "ranges": [list(r) for r in self.ranges]}  # fmt: skip

    @classmethod
    def of_json(cls, tree: dict[str, Any]) -> Form:
        metre = tuple(int(v) for v in tree["metre"])
        return cls(
            int(tree["step"]), int(tree["low"]), int(tree["high"]),
            tuple(Instrument(str(n), int(p), int(k)) for n, p, k in tree["parts"]), bool(tree["one"]),
            tuple((int(a), int(b)) for a, b in tree["ranges"]), metre if len(metre) == 2 else None,
            float(tree["tempo"]), bool(tree.get("repeats", True)),
        )  # fmt: skip


def struck_again(rows: Rows) -> NDArray[np.bool_]:
    """Which tokens (steps, lanes) begin a note whose pitch sounds just before."""
    found = np.zeros(rows.shape, dtype=bool)
    found[1:] = (rows[1:] > END) & (rows[1:] % 2 == 0) & ((rows[1:] - 2) // 2 == (rows[:-1] - 2) // 2)
    return found
