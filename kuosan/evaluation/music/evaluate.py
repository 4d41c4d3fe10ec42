"""Measures a set of windows of music against real ones, in every way that the data allow.

    pitch_class_overlap, interval_overlap, duration_overlap, onset_overlap      histograms (histograms.py)
    groove, notes_per_bar, voice_range                                          beside real music (statistics.py)
    parallel_fifths, … , faults_per_bar                                         voice leading (faults.py)
    copies, nearest_distance                                                    copied, in any key? (copying.py)
    key_accuracy                                                                is it in the key that was asked for?

What cannot be measured is left out with its reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from kuosan.evaluation.base import Measurement, subsets
from kuosan.evaluation.copies import FEWEST, Honest, Nearest
from kuosan.evaluation.found import Evaluation, Found, Sides, copied
from kuosan.evaluation.music.bars import Bars
from kuosan.evaluation.music.copying import nearest_windows
from kuosan.evaluation.music.histograms import HISTOGRAMS, Overlap
from kuosan.evaluation.music.statistics import STATISTICS
from kuosan.evaluation.roles import roles
from kuosan.evaluation.writing.statistics import measure_texts

MOST_REAL = 2_000  # windows of each side
MOST_SEARCHED = 4_000  # training windows that copies are looked for in


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows as bars and as tokens; ``right`` says which are in the key that they should be in."""

    bars: Bars
    tokens: Int64[Tensor, "n l"]
    right: Bool[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Tensor) -> Windows:
        return Windows(
            self.bars[index], self.tokens[index], None if self.right is None else self.right[index]
        )


def evaluate_music(
    samples: Windows, train: Windows, val: Windows, *, notes: int, out: Path | None = None, seed: int = 0
) -> Evaluation:
    """Every measurement that these windows allow; the same bits for the same arguments.

    Args:
        notes: the first token that is a note. out: a folder for evaluation.json.
    """
    generator = torch.Generator().manual_seed(seed)
    found = Found(generator)
    parts = roles(len(train), len(val), len(samples), generator)
    reference = Bars.joined([val.bars, train.bars[parts.borrowed]])
    pool = train.bars[parts.pool]
    _histograms(found, samples.bars, reference, pool, parts.note)
    _statistics(found, samples.bars, val.bars, pool)
    table = _copies(found, samples, train, val, notes)
    for what, windows in (("asked", samples), ("held-out", val)):
        if windows.right is None or not len(windows):
            found.left_out["key_accuracy"] = f"no keys of {what} windows"
    if "key_accuracy" not in found.left_out:
        found.attempt("key_accuracy", partial(_keys, samples, val))
    counts = {"samples": len(samples), "train": len(train), "val": len(val)}
    evaluation = Evaluation(found.metrics, table, found.left_out, found.spaces, counts)
    if out is not None:
        evaluation.write(out)
    return evaluation


def measure_bars(found: Found, samples: Bars, reference: Bars, floor: Bars, note: str) -> None:
    """What is measured of notes, whatever states they come from: against a ``reference``, beside a ``floor``."""
    _histograms(found, samples, reference, floor, note)
    _statistics(found, samples, reference, floor)


def _histograms(found: Found, samples: Bars, reference: Bars, floor: Bars, note: str) -> None:
    for name, histogram in HISTOGRAMS.items():
        rows = [histogram(bars) for bars in (samples, reference, floor)]
        found.compare(name, Overlap(), Sides(rows[0], rows[1], rows[2], note), "notes")


def _statistics(found: Found, samples: Bars, val: Bars, pool: Bars) -> None:
    """Beside held-out windows, and training windows where these are fewer than the samples."""
    real = val if len(val) >= len(samples) else Bars.joined([val, pool])
    both = Bars.joined([samples, real])
    mine, theirs = range(len(samples)), range(len(samples), len(both))
    note = "" if real is val else f"{len(val)} held-out and {len(real) - len(val)} training windows are real"
    for statistic in STATISTICS:
        call = partial(
            measure_texts,
            statistic.of(both),
            mine,
            theirs,
            generator=found.generator,
            note=note,
            noun="windows",
        )
        found.attempt(statistic.name, call)


def _copies(found: Found, samples: Windows, train: Windows, val: Windows, notes: int) -> tuple[Nearest, ...]:
    """The nearest training window of each sample, and how near held-out ones come."""
    if not len(train):
        found.left_out["copies"] = "no training windows"
        return ()
    index = subsets(len(train), min(len(train), MOST_SEARCHED), found.generator, 1)[0]
    tokens = train.tokens[index]
    where, distance = nearest_windows(samples.tokens, tokens, notes)
    held = val.tokens
    if len(held) > len(samples):
        held = held[subsets(len(held), max(len(samples), FEWEST), found.generator, 1)[0]]
    honest = nearest_windows(held, tokens, notes)[1] if len(held) else torch.zeros(0, dtype=torch.float64)
    honest = honest[honest > 0]
    found.spaces["tokens"] = {"name": "tokens", "what": "share of tokens that differ, in the best of 13 keys"}
    usual = Honest(honest[:, None], f"{len(honest)} held-out windows")
    note = f"{len(tokens)} training windows, each in 13 keys"
    return copied(found, "tokens", index[where], distance, usual, note)


def _keys(samples: Windows, val: Windows) -> Measurement:
    """Share of windows in which the key that was asked for is found, beside held-out windows and their pieces' keys."""
    assert samples.right is not None and val.right is not None
    rows = [w.right.double() for w in (samples, val) if w.right is not None]
    (value, error), (ceiling, spread) = (
        (float(r.mean()), math.sqrt(float(r.mean()) * (1 - float(r.mean())) / max(1, len(r)))) for r in rows
    )
    return Measurement(
        name="key_accuracy", value=value, stderr=error, n=len(samples), space="keys", floor=ceiling,
        floor_stderr=spread, better="higher", note=f"ceiling: {len(val)} held-out windows, by the keys of their pieces",
    )  # fmt: skip
