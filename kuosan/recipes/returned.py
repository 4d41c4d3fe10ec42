"""What came back, measured: how far from the items, and how normal the noise in between is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from kuosan.evaluation.report_words import error, number, usable
from kuosan.modalities import Modality
from kuosan.recipes.inverse import Items, Noise
from kuosan.recipes.run import Samples

_GAP = 10  # pixels between one pair of rows and the next


def errors(items: Items, noise: Noise, back: Samples) -> dict[str, dict[str, Any]]:
    """Each as ``value``, ``stderr`` and ``n`` items, and what exact noise would have as ``floor``.

    ``return_rms`` is the root mean square of the difference of the states, in levels of the data where it has levels,
    before anything is rounded; its error is that of the mean square, carried through the root. ``identical`` is the
    share of items whose written form is the item's own. The noise's mean, variance and norm are taken per item.
    """
    modality, n = back.modality, len(items)
    level = modality.level
    scale, unit = (1 / level, f"of {2 / level:,.0f} levels") if level else (1.0, "of the state's -1 … 1")
    square = (scale * (back.x - items.x).double()).square().flatten(1).mean(1)
    rms = math.sqrt(float(square.mean()))
    same = [
        bool(torch.equal(one, two))
        for one, two in zip(_written(modality, items.x), _written(modality, back.x), strict=True)
    ]
    flat = noise.z.flatten(1).double()
    d = flat.shape[1]
    # E|z| = √2 Γ((d+1)/2)/Γ(d/2), and E|z|² = d.
    norm = math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    return {
        "return_rms": _row(rms, _stderr(square) / (2 * rms) if rms else 0.0, n, unit=unit),
        "identical": _row(sum(same) / n, _stderr(torch.tensor(same, dtype=torch.float64)), n),
        "noise_mean": _of(flat.mean(1), floor=0.0),
        "noise_variance": _of(flat.square().mean(1) - flat.mean() ** 2, floor=1.0),
        "noise_norm": _of(flat.norm(dim=1), floor=norm, spread=float(flat.norm(dim=1).std(correction=0)),
                          floor_spread=math.sqrt(d - norm**2)),
    }  # fmt: skip


def _written(modality: Modality[Any], x: Tensor) -> Tensor:
    """What is in the files: clipped, and rounded to their depth."""
    return modality.encode(modality.decode(x))


def _of(values: Tensor, **more: float) -> dict[str, Any]:
    return _row(float(values.mean()), _stderr(values), len(values), **more)


def _row(value: float, stderr: float, n: int, **more: Any) -> dict[str, Any]:
    return {"value": value, "stderr": stderr, "n": n, **more}


def _stderr(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def pairs(items: Items, back: Samples, columns: int = 12, most: int = 48) -> Image.Image:
    """Each item above what came back of it, ``columns`` of them beside each other."""
    modality, columns = back.modality, min(columns, len(items))
    count = min(most, len(items)) // columns * columns  # whole rows
    rows = []
    for low in range(0, count, columns):
        part = slice(low, low + columns)
        raws = [*modality.decode(items.x[part]), *modality.decode(back.x[part])]
        rows.append(modality.show(raws, columns))
    width, height = rows[0].width, sum(r.height for r in rows) + _GAP * (len(rows) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + _GAP
    return sheet


def sentence(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The error of what came back, in words."""
    rms, same = found["return_rms"], found["identical"]
    return (
        f"They come back within {_told(rms)} {rms['unit']} (root mean square, n = {rms['n']:,}); "
        f"{round(same['value'] * same['n']):,} of {same['n']:,} are the same to the last bit once written."
    )


def normality(found: Mapping[str, Mapping[str, Any]]) -> str:
    """How normal the noise is, in words."""
    mean, variance, norm = (found[f"noise_{k}"] for k in ("mean", "variance", "norm"))
    spread = f", spread {norm['spread']:.2g}" if norm["n"] > 1 else ""
    return (
        f"Their noise has mean {_told(mean)} and variance {_told(variance)}, where N(0, 1) has 0 and 1; norms are "
        f"{_told(norm)}{spread}, where it has {norm['floor']:.4g}, spread {norm['floor_spread']:.2g}."
    )


def _told(row: Mapping[str, Any]) -> str:
    spread = row["stderr"]
    return number(row["value"], spread) + (f" ± {error(spread)}" if usable(spread) else "")
