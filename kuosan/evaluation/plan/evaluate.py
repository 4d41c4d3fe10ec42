"""Everything about a set of plans, beside real ones, from their portraits.

Histograms of samples and of real plans overlap by Σ min(p, q) (`music.histograms`, eq. 1): how many rooms a plan has,
what they are for, how large they are (a share of the plan, by category), how large the whole is where there is a scale,
and which categories doors join. `graph_distance` is the mean number of changes, over the size of both graphs, to the
nearest of real plans, `graph_variety` that between two of the set. `valid` is the share of states that keep all laws as
the model wrote them; what is written to files keeps them always, as the rest is mended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Measurement, subsets
from kuosan.evaluation.copies import Honest, Nearest
from kuosan.evaluation.found import Evaluation, Found, Sides, copied
from kuosan.evaluation.music.histograms import Overlap
from kuosan.evaluation.plan.graphs import edit_distance, nearest_graphs
from kuosan.evaluation.plan.portraits import Portrait, nearest_pictures
from kuosan.evaluation.roles import roles

MOST_ROOMS = 24
AREAS = 12  # bins of a room's share of the plan, each half as large again as the one before
SMALLEST = 0.005
WHOLE = 24
MOST_SEARCHED, MOST_GRAPHS, PAIRS = 5_000, 400, 400
FEWEST = 10

Rows = Callable[[Sequence[Portrait]], Float[Tensor, "n d"]]


def room_counts(plans: Sequence[Portrait]) -> Tensor:
    """One where a plan has so many rooms."""
    found = torch.zeros(len(plans), MOST_ROOMS + 1, dtype=torch.float64)
    for row, plan in zip(found, plans, strict=True):
        row[min(MOST_ROOMS, len(plan.rooms))] = 1
    return found


def categories(plans: Sequence[Portrait], names: Sequence[str]) -> Tensor:
    """Rooms of each category."""
    return torch.tensor([[plan.rooms.count(name) for name in names] for plan in plans], dtype=torch.float64)


def room_areas(plans: Sequence[Portrait], names: Sequence[str]) -> Tensor:
    """Rooms of each category by their share of the plan."""
    found = torch.zeros(len(plans), len(names), AREAS, dtype=torch.float64)
    for row, plan in zip(found, plans, strict=True):
        for name, area in zip(plan.rooms, plan.areas, strict=True):
            share = max(SMALLEST, area / plan.area)
            row[names.index(name), min(AREAS - 1, int(math.log(share / SMALLEST) / math.log(1.5)))] += 1
    return found.flatten(1)


def whole_areas(plans: Sequence[Portrait]) -> Tensor:
    """One where a plan is so large, each bin a fifth larger than the one before."""
    found = torch.zeros(len(plans), WHOLE, dtype=torch.float64)
    logs = [math.log(max(1.0, plan.area)) / math.log(1.2) for plan in plans]
    for row, value in zip(found, logs, strict=True):
        row[int(value) % WHOLE] = 1
    return found


def doors(plans: Sequence[Portrait], names: Sequence[str]) -> Tensor:
    """Doors and openings by the categories that they join."""
    place = {name: k for k, name in enumerate(("outside", *names))}
    found = torch.zeros(len(plans), len(place), len(place), dtype=torch.float64)
    for row, plan in zip(found, plans, strict=True):
        for a, b in plan.graph.edges:
            i, j = sorted((place[plan.graph.rooms[a]], place[plan.graph.rooms[b]]))
            row[i, j] += 1
    return found.flatten(1)


def evaluate_plans(
    samples: Sequence[Portrait], train: Sequence[Portrait], val: Sequence[Portrait], names: Sequence[str], *,
    scaled: bool = False, out: Path | None = None, seed: int = 0,
) -> Evaluation:  # fmt: skip
    """Every measurement that these plans allow; the same bits for the same arguments.

    Args:
        names: of all categories. scaled: whether areas are of one scale. out: a folder for evaluation.json.
    """
    generator = torch.Generator().manual_seed(seed)
    found = Found(generator)
    parts = roles(len(train), len(val), len(samples), generator)
    reference = [*val, *(train[i] for i in parts.borrowed.tolist())]
    pool = [train[i] for i in parts.pool.tolist()]
    found.attempt("valid", partial(_valid, samples, val))
    histograms: dict[str, Rows] = {
        "room_count_overlap": room_counts, "room_use_overlap": lambda p: categories(p, names),
        "room_area_overlap": lambda p: room_areas(p, names), "door_overlap": lambda p: doors(p, names),
    }  # fmt: skip
    if scaled:
        histograms["plan_area_overlap"] = whole_areas
    else:
        found.left_out["plan_area_overlap"] = "nothing says how large the plans are"
    for name, rows in histograms.items():
        of, other, spare = (_rows(rows, side) for side in (samples, reference, pool))
        sides = Sides(of, other, spare, parts.note)
        found.compare(name, Overlap(), sides, "plans")
    found.attempt("graph_distance", partial(_graph_distance, samples, val, train, generator))
    found.attempt("graph_variety", partial(_variety, samples, [*val, *pool], generator))
    table = _copies(found, samples, train, val)
    counts = {"samples": len(samples), "train": len(train), "val": len(val)}
    evaluation = Evaluation(found.metrics, table, found.left_out, found.spaces, counts)
    if out is not None:
        evaluation.write(out)
    return evaluation


def _rows(rows: Rows, plans: Sequence[Portrait]) -> Tensor:
    return rows(plans) if len(plans) else torch.zeros(0, 1, dtype=torch.float64)


def _valid(samples: Sequence[Portrait], val: Sequence[Portrait]) -> Measurement:
    """The share of states without flaws, and which flaws the others have."""
    if not samples:
        raise ValueError("no samples")
    good = [not plan.flaws for plan in samples]
    real = [not plan.flaws for plan in val]
    share = sum(good) / len(good)
    words = [f"{name} {sum(name in plan.flaws for plan in samples) / len(samples):.0%}"
             for name in sorted({name for plan in samples for name in plan.flaws})]  # fmt: skip
    return Measurement(
        name="valid", value=share, stderr=math.sqrt(share * (1 - share) / len(good)), n=len(good), space="plans",
        floor=sum(real) / len(real) if real else None, floor_stderr=0.0 if real else None, better="higher",
        note="before repair; " + (", ".join(words) or "none has a flaw"),
    )  # fmt: skip


def _graph_distance(
    samples: Sequence[Portrait],
    val: Sequence[Portrait],
    train: Sequence[Portrait],
    generator: torch.Generator,
) -> Measurement:
    """Mean distance to the nearest training graph, of samples and of held-out plans."""
    if min(len(samples), len(val), len(train)) < FEWEST:
        raise ValueError(f"needs {FEWEST} samples, held-out and training plans")
    some = subsets(len(train), min(len(train), MOST_GRAPHS), generator, 1)[0].tolist()
    graphs = [train[i].graph for i in some]
    sides = []
    for plans in (samples, val):
        part = subsets(len(plans), min(len(plans), MOST_GRAPHS), generator, 1)[0].tolist()
        sides.append(
            torch.tensor([d for _, d in nearest_graphs([plans[i].graph for i in part], graphs)]).double()
        )
    (value, error), (floor, spread) = ((float(s.mean()), float(s.std() / math.sqrt(len(s)))) for s in sides)
    return Measurement(
        name="graph_distance", value=value, stderr=error, n=len(sides[0]), space="graphs of doors", floor=floor,
        floor_stderr=spread, better="lower",
        note=f"changes to the nearest of {len(graphs)} training plans, over the size of both; floor: {len(sides[1])} "
        "held-out plans",
    )  # fmt: skip


def _variety(
    samples: Sequence[Portrait], real: Sequence[Portrait], generator: torch.Generator
) -> Measurement:
    """Mean distance between two graphs of a set."""
    if min(len(samples), len(real)) < FEWEST:
        raise ValueError(f"needs {FEWEST} samples and real plans, got {len(samples)} and {len(real)}")
    sides = []
    for plans in (samples, real):
        pairs = torch.randint(0, len(plans), (PAIRS, 2), generator=generator).tolist()
        sizes = [(plans[i].graph, plans[j].graph) for i, j in pairs if i != j]
        sides.append(torch.tensor([edit_distance(a, b) / max(1, a.size + b.size) for a, b in sizes]).double())
    n = [len(samples), len(real)]
    (value, error), (floor, spread) = (
        (float(s.mean()), float(s.std() / math.sqrt(min(len(s), k)))) for s, k in zip(sides, n, strict=True)
    )
    return Measurement(
        name="graph_variety", value=value, stderr=error, n=len(samples), space="graphs of doors", floor=floor,
        floor_stderr=spread, better="higher", note=f"{PAIRS} pairs; floor: pairs of {len(real)} real plans",
    )  # fmt: skip


def _copies(
    found: Found, samples: Sequence[Portrait], train: Sequence[Portrait], val: Sequence[Portrait]
) -> tuple[Nearest, ...]:
    """The nearest training plan of each sample, in any view, and how near held-out ones come."""
    if not train:
        found.left_out["copies"] = "no training plans"
        return ()
    index = subsets(len(train), min(len(train), MOST_SEARCHED), found.generator, 1)[0]
    some = [train[i] for i in index.tolist()]
    where, distance = nearest_pictures(samples, some)
    honest = nearest_pictures(val, some)[1] if val else torch.zeros(0, dtype=torch.float64)
    honest = honest[honest > 0]
    found.spaces["pictures"] = {"name": "pictures", "what": "share of the area whose room is another"}
    usual = Honest(honest[:, None], f"{len(honest)} held-out plans")
    note = f"{len(some)} training plans, each in 8 views; {np.prod(some[0].picture.shape)} pixels"
    return copied(found, "pictures", index[where], distance, usual, note)
