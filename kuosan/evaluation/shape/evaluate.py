"""Everything that is measured of shapes beside what holds for every dense state.

Sets are thinned to `MOST` items a side, for the distances of all pairs; whether a shape is closed, and its size, is
looked at for up to `SOLIDS`. Copies are looked for among all of training: of each item the `LIKELY` training items with
the nearest states are compared by Chamfer distance. Held-out items tell what is usual, as everywhere (`copies`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.evaluation.base import Estimate, Measurement
from kuosan.evaluation.copies import FEWEST, Honest
from kuosan.evaluation.estimates import share_stderr
from kuosan.evaluation.found import FEWEST_ROWS, Found, Sides, copied
from kuosan.evaluation.shape.chamfer import POINTS, chamfer, chamfer_matrix, surface_points
from kuosan.evaluation.shape.sets import coverage, mmd, nna
from kuosan.evaluation.shape.solids import Gap, Solids, solids, spacings
from kuosan.modalities import Shape, ShapesModality

MOST, SOLIDS, LIKELY = 48, 100, 6
SPACE = "chamfer"


def evaluate_shapes(
    found: Found,
    modality: ShapesModality,
    samples: Sequence[Shape],
    reference: Sequence[Shape],
    floor: Sequence[Shape],
    training: Float[Tensor, "t c *sides"],
    heldout: Float[Tensor, "v c *sides"],
    note: str,
) -> None:
    """Fills `found`: samples against the `reference`, beside real items of the `floor` against it; and samples against
    the states of all `training` items, beside the `heldout` ones."""
    seed = int(torch.randint(1 << 31, (1,), generator=found.generator))
    unit = "cells" if modality.solid else "standard deviations of the data's positions"
    found.spaces[SPACE] = {"points": POINTS, "unit": f"squared {unit}", "most items a side": MOST}
    _sets(found, samples, reference, floor, seed, modality.ruler, note)
    few = [shapes[:SOLIDS] for shapes in (samples, reference, floor)]
    if modality.solid:
        parts = [solids(shapes, modality.ruler) for shapes in few]
        _solids(found, parts[0], parts[1], parts[2], note)
    else:
        found.left_out.update(dict.fromkeys(("watertight", "one_piece"), "points have no surface"))
        x, y, z = (spacings(shapes, modality.ruler)[:, None] for shapes in few)
        found.compare("spacing_gap", Gap(), Sides(x, y, z, note), "spacing")
    _copies(found, modality, samples, training, heldout, seed)


def _sets(
    found: Found, samples: Sequence[Shape], reference: Sequence[Shape], floor: Sequence[Shape], seed: int,
    cell: float, note: str,
) -> None:  # fmt: skip
    n = min(MOST, len(samples), len(reference), len(floor))
    names = ("nna_chamfer", "coverage_chamfer", "mmd_chamfer")
    if n < FEWEST_ROWS:
        why = f"needs {FEWEST_ROWS} each of samples, reference and spare real items; the fewest are {n}"
        found.left_out.update(dict.fromkeys(names, why))
        return
    x, y, z = (
        surface_points(shapes[:n], Seeds.of(seed, n).fold(k), cell)
        for k, shapes in enumerate((samples, reference, floor))
    )
    within = chamfer_matrix(y)
    across, real = chamfer_matrix(x, y), chamfer_matrix(z, y)
    rows = (
        ("lower", nna(chamfer_matrix(x), across, within), nna(chamfer_matrix(z), real, within)),
        ("higher", coverage(across), coverage(real)),
        ("lower", mmd(across), mmd(real)),
    )
    for name, (better, value, usual) in zip(names, rows, strict=True):
        words = f"{n} of each; {note}"
        found.metrics[name] = _measurement(name, value, usual, n, SPACE, better, words)


def _solids(found: Found, samples: Solids, reference: Solids, floor: Solids, note: str) -> None:
    real = [torch.cat([r, f]) for r, f in ((reference.closed, floor.closed), (reference.whole, floor.whole))]
    for name, own, others in (("watertight", samples.closed, real[0]), ("one_piece", samples.whole, real[1])):
        value, usual = (
            Estimate(share := float(x.double().mean()), share_stderr(share, len(x))) for x in (own, others)
        )
        words = f"floor: {len(others)} real items, brought on the grid"
        found.metrics[name] = _measurement(name, value, usual, len(own), "surface", "higher", words)
    for name, values in (
        ("volume_gap", (samples.volume, reference.volume, floor.volume)),
        ("area_gap", (samples.area, reference.area, floor.area)),
    ):
        x, y, z = (v[:, None] for v in values)
        found.compare(name, Gap(), Sides(x, y, z, note), name.split("_")[0])


def _measurement(
    name: str, value: Estimate, usual: Estimate, n: int, space: str, better: str, note: str
) -> Measurement:
    return Measurement(
        name=name, value=value.value, stderr=value.stderr, n=n, space=space, floor=usual.value,
        floor_stderr=usual.stderr, better="higher" if better == "higher" else "lower", note=note,
    )  # fmt: skip


def _copies(
    found: Found,
    modality: ShapesModality,
    samples: Sequence[Shape],
    training: Tensor,
    heldout: Tensor,
    seed: int,
) -> None:
    few = list(samples[:SOLIDS])
    others = heldout[:SOLIDS]
    source = f"{len(others)} held-out items"
    own = len(others) < FEWEST
    if own:
        others = training[:SOLIDS]
        source = f"{len(others)} training items (each to the rest)"
    index, distance = _nearest(modality, few, modality.encode(few), training, seed, False)
    _, honest = _nearest(modality, modality.decode(others), others, training, seed, own)
    distinct = honest[honest > 0]
    note = (
        f"nearest of all {len(training)} training items, by Chamfer distance of the {LIKELY} nearest states"
    )
    more = Found(found.generator)
    copied(more, SPACE, index, distance.sqrt(), Honest(distinct.sqrt()[:, None], source), note)
    for table in ("metrics", "left_out"):
        getattr(found, table).update(
            {f"{name}_{SPACE}": value for name, value in getattr(more, table).items()}
        )


def _nearest(
    modality: ShapesModality,
    shapes: Sequence[Shape],
    x: Tensor,
    training: Tensor,
    seed: int,
    own: bool,
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Training item and Chamfer distance of each shape's nearest; `own`: x is the beginning of training, and an item
    is not its own nearest."""
    k = min(LIKELY, len(training) - own)
    if not len(x) or k < 1:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    rows, others = (modality.compared(states).flatten(1) for states in (x, training))
    apart = torch.cat([torch.cdist(part, others) for part in rows.split(64)])
    if own:
        apart.fill_diagonal_(torch.inf)
    likely = apart.topk(k, largest=False).indices
    wanted = likely.unique()
    unit = modality.ruler
    there = surface_points(modality.decode(training[wanted]), Seeds.of(seed, [0] * len(wanted)), unit)
    here = surface_points(shapes, Seeds.of(seed, [0] * len(shapes)), unit)  # one draw for all: a copy is at 0
    place = {item: i for i, item in enumerate(wanted.tolist())}
    distance = torch.tensor(
        [
            [chamfer(here[i].numpy(), there[place[j]].numpy()) for j in row]
            for i, row in enumerate(likely.tolist())
        ],
        dtype=torch.float64,
    )
    best = distance.min(1)
    return likely.gather(1, best.indices[:, None])[:, 0], best.values
