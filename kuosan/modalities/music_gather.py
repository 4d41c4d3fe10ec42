"""All music of a folder as passages of one form.

Every piece of one metre is a work: where the metre changes, a new one begins. A work of at most T steps is one passage;
a longer one is cut into passages that begin at bar lines. In training they slide back by bars (`ragged`). Works that
are of one tune stay together on one side of the split, and of the same ones one is kept (`music_copies`).

The rule of `length="auto"`: T is the most of 8, 4, 2 or 1 bars of the commonest metre that has at most 96 steps; where
no metre is known, 4 bars of four quarters count.

The rule of `transpose="auto"`: by up to 6 semitones where training passes over the music more than 20 times, or nobody
knows how often; not at all where all of it is new for long anyway, and twelve keys are more to learn than a few.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.music_copies import find_copies
from kuosan.modalities.music_files import Piece, read_scores
from kuosan.modalities.music_form import Form, Instrument, Rows
from kuosan.modalities.music_key import find_key, transposed_key
from kuosan.modalities.music_lanes import (
    MOST_LANES,
    Line,
    Loss,
    choose_step,
    lanes_needed,
    lines_of,
    on_grid,
    pooled,
    sounding,
)
from kuosan.modalities.music_passages import Passages
from kuosan.modalities.music_score import Metre, metre_name
from kuosan.modalities.passages import powers, sections, spread
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.sides import LEFT, settle

if TYPE_CHECKING:
    from kuosan.modalities.music import MusicModality

LONGEST = 96  # steps of the automatic window
TRANSPOSE, MANY = 6, 20.0  # semitones at most, and passes from which they are of use
DENSITIES = ("sparse", "medium", "dense")


Passes = Callable[[Form, int, int], float]


@dataclass(frozen=True)
class _Work:
    """A piece of one metre, in arrays: a corpus of any size fits."""

    name: str
    lines: list[Line]
    metre: Metre | None
    pickup: float
    length: float
    tempo: float
    key: str
    side: str
    columns: dict[str, str | None]

    @property
    def notes(self) -> int:
        return sum(len(line.pitch) for line in self.lines)


def gather_music(
    folder: Folder,
    kind: type[MusicModality],
    like: MusicModality | None = None,
    *,
    length: int | str = "auto",
    transpose: int | str = "auto",
    passes: Passes | None = None,
) -> Gathered:
    """Every piece of `folder` as passages in the form of `like`, or in one chosen from the data.

    Args:
        length: steps of a window, or "auto".
        transpose: semitones that training windows are moved by at most, or "auto".
        passes: how often training will see so many steps of music in windows of a form and a length.

    Raises `UserError` where there is no music, or an option cannot be.
    """
    works, failed, left_out, choices, lost = _works(folder)
    if not works:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (failed + left_out)[:3])
        raise UserError(
            f"No music in {folder.root} can be read ({reasons or 'there is none'}); mend it and try again."
        )
    if like is None:
        form, chosen = _form(works)
        steps, why = _steps(length, works, form)
        modality = kind(form, steps)
        choices += [*chosen, ("window", f"{steps} steps of {form.lanes} voices", why)]
    else:
        modality, form = like, like.form
    rows, total = [], Loss()
    for work in works:
        found, loss = form.rows(work.lines, work.metre, work.pickup, work.length)
        rows.append(found)
        total += loss
    if like is None:
        form = replace(form, ranges=_ranges(rows, form))
        most, chosen = _transposed(transpose, passes, form, modality.steps, sum(map(len, rows)))
        modality = kind(form, modality.steps, most)
        choices += chosen
    choices += _loss(total, lost)

    cycles = [form.cycle(work.metre) for work in works]
    strides = [max(1, modality.steps // cycle) * cycle for cycle in cycles]
    counts = [max(1, math.ceil(len(r) / stride)) for r, stride in zip(rows, strides, strict=True)]
    held = [work.side == "val" for work in works]
    copies = find_copies([work.lines for work in works], [work.name for work in works], held, form.step)
    section, together = sections(counts, not any(held), "piece")
    choices += together
    groups, hashes, names = [], [], []
    for i, (work, count) in enumerate(zip(works, counts, strict=True)):
        for k in range(count):
            part = b"" if section == 0 else (k * math.ceil(count / section) // count).to_bytes(4, "big")
            groups.append(hashlib.sha256(copies.together[i] + part).digest())
            hashes.append(hashlib.sha256(copies.same[i] + k.to_bytes(4, "big")).digest())
            names.append(work.name if count == 1 else f"{work.name}:{k}")
    keys = dict.fromkeys(key for work in works for key in work.columns)
    columns = {key: spread([w.columns.get(key) for w in works], counts) for key in keys}
    moves = np.array([_moves(r, form, modality.transpose) for r in rows], dtype=np.int64).reshape(-1, 2)
    reached = [
        transposed_key(w.key, n) for w, (down, up) in zip(works, moves.tolist(), strict=True)
        for n in range(-down, up + 1) if w.key
    ]  # fmt: skip
    totals: dict[str, float] = {
        "pieces": len(works), "notes": total.notes, "bars": int(sum(len(r) / form.bar(w.metre)
        for r, w in zip(rows, works, strict=True))), "steps of a quarter": form.step, "voices": form.lanes,
    }  # fmt: skip
    return Gathered(
        modality, _storage(rows, counts, cycles, strides, moves, modality), hashes, names, columns,
        frozenset({CLASS, "key"}), spread([w.side for w in works], counts), [""] * len(names),
        {"lengths": powers([len(r) for r in rows])}, failed, left_out, choices, groups=groups,
        firsts=[0, *np.cumsum(counts)[:-1].tolist()], totals=totals,
        duplicates=copies.told, reached={"key": sorted(set(reached))},
    )  # fmt: skip


def _works(folder: Folder) -> tuple[list[_Work], list[Skip], list[Skip], list[Choice], Counter[str]]:
    """Every work of a folder, what failed, what was left out, what was decided, and what its files lost in reading."""
    works: list[_Work] = []
    failed: list[Skip] = []
    left_out: list[Skip] = []
    lost: Counter[str] = Counter()
    found: list[tuple[Entry, list[Piece]]] = []
    for entry in folder.entries:
        try:
            found.append((entry, read_scores(entry.path)))
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    voiced = any(piece.voiced for _, pieces in found for piece in pieces)
    divided = 0
    for entry, pieces in found:
        if voiced and not any(piece.voiced for piece in pieces):
            left_out.append(
                (entry.name, "chords without voices, beside music with voices; give it alone to use it")
            )
            continue
        sides = settle({str(i): piece.side for i, piece in enumerate(pieces)})
        for i, piece in enumerate(pieces):
            side = sides[str(i)] or entry.side
            if side == LEFT:
                continue
            lost.update(piece.score.lost)
            name = f"{entry.name}#{piece.name}" if piece.name else entry.name
            parts = piece.score.sections()
            divided += len(parts) > 1
            for k, score in enumerate(parts):
                key = find_key(score)
                columns = dict(entry.columns) | {"metre": metre_name(score.metre), "key": key or None}
                label = name if len(parts) == 1 else f"{name}/{k + 1}"
                works.append(_Work(label, lines_of(score), score.metre, score.pickup, score.length, score.tempo,
                                   key, side, columns))  # fmt: skip
    _add_density(works)
    choices: list[Choice] = []
    if divided:
        choices.append(("changes of metre", f"in {divided:,} pieces", "a new work begins at each"))
    return works, failed, left_out, choices, lost


def _add_density(works: list[_Work]) -> None:
    """A third of all works each is sparse, medium and dense, in notes per quarter."""
    if len(works) < 3:
        return
    values = np.array([work.notes / max(1.0, work.length) for work in works])
    edges = np.quantile(values, [1 / 3, 2 / 3])
    for work, value in zip(works, values, strict=True):
        work.columns["density"] = DENSITIES[int((value > edges).sum())]


def _form(works: list[_Work]) -> tuple[Form, list[Choice]]:
    """The grid, the parts and their lanes, as `music_lanes` has it."""
    starts = np.concatenate([line.start for work in works for line in work.lines])
    step, share, moved = choose_step(starts)
    why = f"the coarsest grid that keeps {share:.1%} of the onsets in their places"
    if share < 0.99:
        why = f"no grid keeps 99 % of the onsets ({share:.0%} here): they move by {moved:.3f} quarters on average"
    choices: list[Choice] = [("grid", f"{step} steps of a quarter", why)]

    def needed(lines: list[list[Line]]) -> list[int]:
        most = max(map(len, lines))
        counts: list[list[Any]] = [[] for _ in range(most)]
        for piece in lines:
            for k, line in enumerate(piece):
                on, off, _ = on_grid(line, step)
                counts[k].append(sounding(on, off))
        return [max(1, lanes_needed(np.concatenate(found))) for found in counts]

    lanes = needed([work.lines for work in works])
    one = sum(lanes) > MOST_LANES
    if one:
        lanes = [min(MOST_LANES, *needed([pooled(work.lines) for work in works]))]
        why = f"its parts would need more than {MOST_LANES} voices together: they share these as one"
    else:
        why = "as many as 99 % of the notes need"
    names: list[Counter[str]] = [Counter() for _ in lanes]
    programs: list[Counter[int]] = [Counter() for _ in lanes]
    for work in works:
        for k, line in enumerate(work.lines[: len(lanes)]):
            names[k][line.name] += 1
            programs[k][line.program] += 1
    usual = [
        "" if one or not n or n.most_common(1)[0][1] < 0.5 * len(works) else n.most_common(1)[0][0]
        for n in names
    ]
    parts = tuple(
        Instrument(name, program.most_common(1)[0][0], lane)
        for name, program, lane in zip(usual, programs, lanes, strict=True)
    )
    words = ", ".join(f"{part.name or f'part {k + 1}'}: {part.lanes}" for k, part in enumerate(parts))
    choices.append(("voices", words, why))
    pitches = np.concatenate([line.pitch for work in works for line in work.lines])
    metres = Counter(work.metre for work in works)
    tempo = float(np.median([work.tempo for work in works]))
    form = Form(
        step, int(pitches.min()), int(pitches.max()), parts, one, (), metres.most_common(1)[0][0], tempo
    )
    named = ", ".join(f"{metre_name(m)} ({n:,})" for m, n in metres.most_common(5))
    choices.append(
        ("metres", named, "of every piece; “free” where the file has none: then a beat is all that is known")
    )
    return form, choices


def _steps(length: int | str, works: list[_Work], form: Form) -> tuple[int, str]:
    if length != "auto":
        if not isinstance(length, int) or length < 2:
            raise UserError(f"A window of {length} steps cannot be; give a whole number from 2 on, or auto.")
        return length, "as asked for"
    metre = Counter(work.metre for work in works).most_common(1)[0][0]
    bar = form.bar(metre)
    bars = next((n for n in (8, 4, 2, 1) if n * bar <= LONGEST), 1)
    longest = max(math.ceil(work.length * form.step) for work in works)
    while bars > 1 and bars // 2 * bar >= longest:
        bars //= 2
    return bars * bar, f"{bars} bars of {metre_name(metre) if metre else 'four quarters'}"


def _transposed(
    wanted: int | str, passes: Passes | None, form: Form, steps: int, total: int
) -> tuple[int, list[Choice]]:
    """Semitones at most, and why, of windows of so many ``steps`` of ``total``."""
    if wanted != "auto":
        most, why = int(wanted), "as asked for"
    elif passes is None:
        most, why = (
            TRANSPOSE,
            f"where training passes over the music more than {MANY:.0f} times; if not, none",
        )
    else:
        times = passes(form, steps, total)
        most = TRANSPOSE if times > MANY else 0
        why = f"about {times:,.0f} passes over the music: " + (
            "in other keys it is heard anew" if most else "other keys pay from some twenty on"
        )
    return most, [("transposition", f"up to {most} semitones" if most else "none", why)]


def _ranges(rows: list[Rows], form: Form) -> tuple[tuple[int, int], ...]:
    """Lowest and highest pitch of every lane; of one that never sounds, those of all."""
    found = np.concatenate([form.pitches(r) for r in rows])
    lanes = []
    for k in range(form.lanes):
        heard = found[:, k][found[:, k] >= 0]
        lanes.append((int(heard.min()), int(heard.max())) if len(heard) else (form.low, form.high))
    return tuple(lanes)


def _moves(rows: Rows, form: Form, most: int) -> tuple[int, int]:
    """Semitones down and up that keep every lane within its range."""
    pitches = form.pitches(rows)
    down = up = max(0, most)
    for k, (low, high) in enumerate(form.ranges):
        heard = pitches[:, k][pitches[:, k] >= 0]
        if len(heard):
            down, up = min(down, int(heard.min()) - low), min(up, high - int(heard.max()))
    return max(0, down), max(0, up)


def _loss(total: Loss, lost: Counter[str]) -> list[Choice]:
    found: list[Choice] = []
    kept = 1 - (total.lost + total.shortened) / max(1, total.notes)
    why = f"of {total.notes:,} notes {total.lost:,} find no voice, and {total.shortened:,} end early"
    found.append(("notes kept", f"{kept:.2%}", why))
    found += [
        (what, f"{n:,} left out", "they have no place in voices of pitches") for what, n in lost.items() if n
    ]
    return found


def _storage(
    rows: list[Rows], counts: list[int], cycles: list[int], strides: list[int], moves: Any, modality: MusicModality
) -> Any:  # fmt: skip
    """The stream of all works, the place of each passage, and how far it may be moved."""
    dtype = np.uint8 if modality.form.size <= 1 << 8 else np.int16
    stream = torch.from_numpy(np.concatenate(rows).astype(dtype))
    of = np.repeat(np.arange(len(rows)), counts)
    ends = np.cumsum([len(r) for r in rows])
    begins = ends - np.array([len(r) for r in rows])
    number = np.concatenate([np.arange(count) for count in counts])
    stride, cycle = np.array(strides)[of], np.array(cycles)[of]
    start = begins[of] + number * stride
    stop = np.minimum(start + modality.steps, ends[of])
    low = np.maximum(begins[of], start - stride + cycle)
    parts = [torch.from_numpy(part.astype(np.int64)) for part in (start, stop, low, stop, cycle)]
    down, up = (torch.from_numpy(moves[of, k].copy()) for k in (0, 1))
    return Passages(Ragged(stream, *parts), down, up)
