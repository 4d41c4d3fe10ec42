"""All music of a folder as passages of one form.

Every piece of one metre is a work: where the metre changes, a new one begins. A work of at most T steps is one passage;
a longer one is cut into passages that begin at bar lines. In training they slide back by bars (`ragged`). Works that
are of one tune stay together on one side of the split, and of the same ones one is kept (`music_copies`).

The rule of `length="auto"`: T is the most of 8, 4, 2 or 1 bars of the commonest metre that has at most 96 steps; where
no metre is known, 4 bars of four quarters count.

The rule of `form="auto"`: voices (`music_form`), unless more than 2 % of the notes find no voice or end early there;
then rolls (`music_roll_form`), in which any number of notes sounds at once.

The rule of `transpose="auto"`: by up to 6 semitones where training passes over the music more than 20 times, or nobody
knows how often; not at all where all of it is new for long anyway, and twelve keys are more to learn than a few.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Modality
from kuosan.modalities.folder import CLASS, Folder
from kuosan.modalities.music_copies import find_copies
from kuosan.modalities.music_form import Form, Instrument, struck_again
from kuosan.modalities.music_key import transposed_key
from kuosan.modalities.music_lanes import (
    MOST_LANES,
    Line,
    Loss,
    choose_step,
    lanes_needed,
    on_grid,
    pooled,
    sounding,
)
from kuosan.modalities.music_passages import Passages
from kuosan.modalities.music_roll_form import rolled
from kuosan.modalities.music_score import metre_name
from kuosan.modalities.music_works import Work, works_of
from kuosan.modalities.passages import powers, sections, spread
from kuosan.modalities.ragged import Ragged

if TYPE_CHECKING:
    from kuosan.modalities.music_scores import Scores

LONGEST = 96  # steps of the automatic window
TRANSPOSE, MANY = 6, 20.0  # semitones at most, and passes from which they are of use
FITS = 0.98  # of the notes: fewer in voices, and they become rolls
MOST_PARTS = 4  # of a roll


Passes = Callable[[Form, int, int], float]
Steps = NDArray[Any]  # of a piece: tokens (steps, lanes), or a roll (steps, parts, pitches)
Span = tuple[int, int] | None  # lowest and highest pitch of what is not silent


def gather_music(
    folder: Folder,
    kinds: Mapping[str, type[Scores]],
    like: Modality[Any] | None = None,
    *,
    form: str = "auto",
    length: int | str = "auto",
    transpose: int | str = "auto",
    passes: Passes | None = None,
) -> Gathered:
    """Every piece of `folder` as passages in the form of `like`, or in one chosen from the data.

    Args:
        kinds: modalities of voices and of rolls. form: which of them, "voices" or "roll", or "auto".
        length: steps of a window, or "auto".
        transpose: semitones that training windows are moved by at most, or "auto".
        passes: how often training will see so many steps of music in windows of a form and a length.

    Raises `UserError` where there is no music, or an option cannot be.
    """
    works, failed, left_out, choices, lost = works_of(folder)
    if not works:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (failed + left_out)[:3])
        raise UserError(
            f"No music in {folder.source} can be read ({reasons or 'there is none'}); mend it and try again."
        )
    modality: Any = like
    if like is not None:
        own, way = modality.form, next(way for way, kind in kinds.items() if kind.name == like.name)
        rows, total = _written(works, own, way)
        spans = _spans(rows, own, way)
    else:
        own, way, rows, total, chosen = _chosen(works, form)
        spans = _spans(rows, own, way)
        again = way == "roll" or any(struck_again(r).any() for r in rows)
        own = replace(own, ranges=_ranges(spans, own), repeats=again)
        steps, why = _steps(length, works, own)
        what = f"{own.lanes} voices" if way == "voices" else f"{own.high - own.low + 1} pitches"
        most, moved = _transposed(transpose, passes, own, steps, sum(map(len, rows)))
        modality = kinds[way](own, steps, most)
        choices += [*chosen, ("window", f"{steps} steps of {what}", why), *moved]
    choices += _loss(total, lost)

    cycles = [own.cycle(work.metre) for work in works]
    strides = [max(1, modality.steps // cycle) * cycle for cycle in cycles]
    counts = [max(1, math.ceil(len(r) / stride)) for r, stride in zip(rows, strides, strict=True)]
    held = [work.side == "val" for work in works]
    copies = find_copies([work.lines for work in works], [work.name for work in works], held, own.step)
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
    moves = np.array([_moves(one, own, modality.transpose) for one in spans], dtype=np.int64).reshape(-1, 2)
    reached = [
        transposed_key(w.key, n) for w, (down, up) in zip(works, moves.tolist(), strict=True)
        for n in range(-down, up + 1) if w.key
    ]  # fmt: skip
    totals: dict[str, float] = {
        "pieces": len(works), "notes": total.notes, "bars": int(sum(len(r) / own.bar(w.metre)
        for r, w in zip(rows, works, strict=True))), "steps of a quarter": own.step,
        **({"voices": own.lanes} if way == "voices" else {"parts": len(own.parts)}),
    }  # fmt: skip
    return Gathered(
        modality, _storage(rows, counts, cycles, strides, moves, modality), hashes, names, columns,
        frozenset({CLASS, "key"}), spread([w.side for w in works], counts), [""] * len(names),
        {"lengths": powers([len(r) for r in rows])}, failed, left_out, choices, groups=groups,
        firsts=[0, *np.cumsum(counts)[:-1].tolist()], totals=totals,
        duplicates=copies.told, reached={"key": sorted(set(reached))},
    )  # fmt: skip


def _written(works: list[Work], form: Form, way: str) -> tuple[list[Steps], Loss]:
    """Every work step by step, and what is not as it was."""
    rows, total = [], Loss()
    for work in works:
        told = (work.lines, work.metre, work.pickup, work.length)
        found, loss = form.rows(*told) if way == "voices" else rolled(form, *told)
        rows.append(found)
        total += loss
    return rows, total


def _chosen(works: list[Work], asked: str) -> tuple[Form, str, list[Steps], Loss, list[Choice]]:
    """The form and the way in which all works are told, the works in it, and why."""
    why = "asked for"
    if asked != "roll":
        form, chosen = _form(works)
        rows, total = _written(works, form, "voices")
        kept = _kept(total)
        if asked == "voices" or kept >= FITS:
            why = why if asked == "voices" else f"{kept:.1%} of the notes find one"
            return form, "voices", rows, total, [("form", "voices", why), *chosen]
        why = f"only {kept:.1%} of the notes would find one of {form.lanes} voices"
    form, chosen = _form(works, roll=True)
    rows, total = _written(works, form, "roll")
    return form, "roll", rows, total, [("form", "roll", why), *chosen]


def _form(works: list[Work], roll: bool = False) -> tuple[Form, list[Choice]]:
    """The grid, the parts and their lanes, as `music_lanes` has it; of a roll lanes are what its notes are measured
    in."""
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
    one = len(lanes) > MOST_PARTS if roll else sum(lanes) > MOST_LANES
    if one:
        lanes = [min(MOST_LANES, *needed([pooled(work.lines) for work in works]))]
        why = f"its parts would need more than {MOST_LANES} voices together: they share these as one"
    elif roll:
        lanes = [min(MOST_LANES, n) for n in lanes]
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
    if roll:
        named = ", ".join(part.name or f"part {k + 1}" for k, part in enumerate(parts))
        why = (
            f"more than {MOST_PARTS} parts share one" if one else "any number of notes of each sounds at once"
        )
        choices.append(("parts", named, why))
    else:
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


def _steps(length: int | str, works: list[Work], form: Form) -> tuple[int, str]:
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


def _spans(rows: Sequence[Steps], form: Form, way: str) -> list[list[Span]]:
    """What sounds in each lane of every work; in all lanes of a part of a roll what the part has."""

    def span(heard: Steps) -> Span:
        return (int(heard.min()), int(heard.max())) if len(heard) else None

    found = []
    for row in rows:
        if way == "voices":
            pitches = form.pitches(row)
            found.append([span(lane[lane >= 0]) for lane in pitches.T])
        else:
            parts = [span(np.flatnonzero(part.any(0)) + form.low) for part in row.swapaxes(0, 1)]
            found.append(
                [heard for heard, part in zip(parts, form.parts, strict=True) for _ in range(part.lanes)]
            )
    return found


def _ranges(spans: list[list[Span]], form: Form) -> tuple[tuple[int, int], ...]:
    """Lowest and highest pitch of every lane; of one that never sounds, those of all."""
    lanes = []
    for lane in zip(*spans, strict=True):
        heard = [one for one in lane if one is not None]
        ends = (min(a for a, _ in heard), max(b for _, b in heard)) if heard else (form.low, form.high)
        lanes.append(ends)
    return tuple(lanes)


def _moves(spans: list[Span], form: Form, most: int) -> tuple[int, int]:
    """Semitones down and up that keep every lane within its range."""
    down = up = max(0, most)
    ranges = form.ranges or [(form.low, form.high)] * len(spans)
    for heard, (low, high) in zip(spans, ranges, strict=True):
        if heard is not None:
            down, up = min(down, heard[0] - low), min(up, high - heard[1])
    return max(0, down), max(0, up)


def _kept(total: Loss) -> float:
    """Share of the notes that are as they were."""
    return 1 - (total.lost + total.shortened) / max(1, total.notes)


def _loss(total: Loss, lost: Counter[str]) -> list[Choice]:
    found: list[Choice] = []
    kept = _kept(total)
    why = f"of {total.notes:,} notes {total.lost:,} find no place, and {total.shortened:,} end early"
    found.append(("notes kept", f"{kept:.2%}", why))
    found += [(what, f"{n:,} left out", "they have no pitch") for what, n in lost.items() if n]
    return found


def _storage(
    rows: list[Steps], counts: list[int], cycles: list[int], strides: list[int], moves: Any, modality: Scores
) -> Any:  # fmt: skip
    """The stream of all works, the place of each passage, and how far it may be moved."""
    dtype = np.uint8 if modality.form.size <= 1 << 8 or rows[0].ndim == 3 else np.int16
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
