"""Do samples suit what stands beside them? Held-out items are made again from that alone, and measured."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.shapes import BESIDE
from kuosan.evaluation.encoder import load_encoder
from kuosan.evaluation.enlarged import judge_enlarged
from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.features import states
from kuosan.evaluation.found import Found
from kuosan.evaluation.mapped import judge_mapped
from kuosan.evaluation.report_section import Section
from kuosan.guidance.averages import averaged, repeated
from kuosan.modalities import Dataset, ImageModality, Split
from kuosan.modalities.beside import Enlarging
from kuosan.recipes.measures import joined
from kuosan.recipes.run import Run
from kuosan.recipes.steering import Known, Steering

MOST, FEWEST, ITEMS = 64, 16, 6  # made again: to measure, with little time, and to show
OTHERS = 1000  # real items that they are held against
SEED = 2_000_000  # another stream than that of other samples
_COLOURS = (
    0x1B1B1F,
    0x3B82C4,
    0xE8A33D,
    0x5FAE6B,
    0xC8553D,
    0x8E6BBF,
    0xE3D26F,
    0x4FB3BF,
    0xB5B5B5,
    0xD46A9F,
)


class Again(NamedTuple):
    """Held-out items ``x`` and what a run ``made`` of what stands ``beside`` them; ``small`` of the first kind."""

    x: Float[Tensor, "n c h w"]
    made: Float[Tensor, "n c h w"]
    beside: Float[Tensor, "n k h w"]
    small: Float[Tensor, "n c i j"] | None


def again(run: Run, split: Split, n: int, seed: int = SEED) -> Again:
    """Up to ``n`` items of a split, evenly spread over it, made again."""
    modality = run.modality
    assert isinstance(modality, ImageModality)
    count = min(n, len(split))
    x, labels = split.batch(torch.arange(count) * len(split) // count)
    cond = {k: labels[k] for k in run.facts.columns}
    own, small, known = modality.beside, None, None
    if isinstance(own, Enlarging):
        level = modality.level
        small = averaged(x, own.factor)
        if level:  # as a small file has it
            small = ((small + 1) / level).round() * level - 1
        known = Known(repeated(small, own.factor), small, own.factor)
    steering = Steering(modality, modality.shape[1:], count, cond, beside=labels[BESIDE], averages=known)
    made = run.sample(count, seed=seed, steering=steering).x
    return Again(x, made, labels[BESIDE], small)


def with_beside(
    found: Evaluation, run: Run, data: Dataset, seconds: float, seed: int, out: Path | None = None
) -> Evaluation:
    """An evaluation with what only runs with something beside their pictures can be asked; as it is of others."""
    modality, split = run.modality, data.val if len(data.val) else data.train
    if not run.facts.network.get("beside") or not isinstance(modality, ImageModality):
        return found
    assert modality.beside is not None
    one = again(run, split, MOST if seconds >= 10 else FEWEST)
    # What is measured is what is written: clipped, and rounded to the depth of the files.
    made = modality.encode(modality.decode(one.made))
    more = Found(torch.Generator().manual_seed(seed))
    count = min(OTHERS, len(data.train))
    others, labels = data.train.batch(torch.arange(count) * len(data.train) // count)
    beside = modality.beside
    if isinstance(beside, Enlarging) and one.small is not None:
        encoder = load_encoder(out) if out is not None and "encoder" in found.spaces else None
        space = encoder or states(modality.shape, modality.axes)
        unit = 1 / modality.level if modality.level else 127.5
        off = float((averaged(made.double(), beside.factor) - one.small).abs().max()) * unit
        judge_enlarged(more, made, beside.raised(one.small), one.x, others, off, space)
    else:
        numbers = [_numbers(b) for b in (one.beside, labels[BESIDE])]
        judge_mapped(
            more, made, numbers[0], one.x, others, numbers[1], beside.channels, seed=seed, seconds=seconds / 3
        )
    return joined(found, more)


def _numbers(beside: Float[Tensor, "n k h w"]) -> Tensor:
    """The class of every place; one too many where nothing is known."""
    return torch.where(beside.amax(1) > 0, beside.argmax(1), beside.shape[1])


def beside_section(run: Run, split: Split) -> Section | None:
    """The section of a report that shows a few of them; None where nothing stands beside pictures."""
    modality = run.modality
    if not run.facts.network.get("beside") or not isinstance(modality, ImageModality) or not len(split):
        return None
    assert modality.beside is not None
    one = again(run, split, ITEMS)
    if isinstance(modality.beside, Enlarging) and one.small is not None:
        factor = modality.beside.factor
        rows = torch.cat([repeated(one.small, factor), modality.beside.raised(one.small), one.made, one.x])
        lead = (
            f"Held-out pictures, {factor} times smaller, and what the model makes of them. Averaged back, each of its "
            "pictures is the small one again; the details are its own, and may differ from the true ones."
        )
        under = "From above: the small pictures, bicubic interpolation, the model's, the true ones."
        picture = modality.show(modality.decode(rows), len(one.x))
        return Section("enlarged", "Enlarged", "Enlarged", [lead], [(under, picture)])
    other = again(run, split, ITEMS, SEED + 1)
    colours = _painted(_numbers(one.beside), modality.shape[0])
    rows = torch.cat([colours, one.made, other.made, one.x])
    lead = "Maps of held-out pictures, and what the model makes of them, twice each."
    named = ", ".join(f"{name} {_name(i)}" for i, name in enumerate(modality.beside.classes[: len(_COLOURS)]))
    under = f"From above: the maps ({named}), two samples for each, the true pictures."
    return Section(
        "mapped", "By maps", "By maps", [lead], [(under, modality.show(modality.decode(rows), len(one.x)))]
    )


def _painted(numbers: Tensor, channels: int) -> Float[Tensor, "n c h w"]:
    """Labels as colours, as states."""
    table = torch.tensor([[c >> 16, c >> 8 & 255, c & 255] for c in _COLOURS]).float() / 127.5 - 1
    x = table[numbers % len(table)].movedim(-1, 1)
    return x if channels == 3 else x.mean(1, keepdim=True).expand(-1, channels, -1, -1)


def _name(i: int) -> str:
    return f"#{_COLOURS[i]:06x}"
