"""One set of shapes learned in three forms: distances on a grid, voxels, points; all measured by one rule.

    python -m benchmarks.forms DATA [--budget 10m] [--seed 0] [-n 200] [--forms distance voxels]
        [--set data.size=16]

Trains each form on the folder for the same time, one after the other, draws, and holds the samples against the same
real shapes: of each 512 points of its surface (of a cloud its points), in the files' unit, standing on the origin,
so that no form is measured on its own grid. Real shapes are held-out ones, and where these are few training ones too;
the floor is what other training shapes score against them. Leaves are for all forms, but data.size not for points, of
which it is the number. Writes results/shapes_forms.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import kuosan
from benchmarks import table
from benchmarks.runs import leaves_of, trained
from kuosan.core.random import Seeds
from kuosan.evaluation.base import Estimate
from kuosan.evaluation.roles import roles
from kuosan.evaluation.shape import chamfer_matrix, coverage, mmd, nna, surface_points
from kuosan.modalities import PointsModality, Shape
from kuosan.modalities.points_form import stood
from kuosan.recipes.evaluate import data_of, states

HEADER = ("measure", "better")
MOST = 48  # shapes a side, as `evaluate` takes
SEED = 7


def standing(shapes: Sequence[Shape], name: str) -> Tensor:
    """Points (n, 512, 3) of each, in units."""
    found = surface_points(shapes, Seeds.of(SEED, len(shapes)).fold(name), 1.0).numpy()
    return torch.stack([torch.from_numpy(stood(points, (points.min(0), points.max(0)))) for points in found])


def measured(x: Tensor, y: Tensor) -> list[Estimate]:
    """1-NNA, coverage and Chamfer distance of x against the real y."""
    n = min(len(x), len(y), MOST)
    x, y = x[:n], y[:n]
    across = chamfer_matrix(x, y)
    return [nna(chamfer_matrix(x), across, chamfer_matrix(y)), coverage(across), mmd(across)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--forms", nargs="+", default=["distance", "voxels"], help="beside points")
    parser.add_argument("--set", nargs="*", default=[], dest="leaves", metavar="part.key=value")
    parser.add_argument("--out", help="where the runs lie; what is finished is not made again")
    asked = parser.parse_args()
    folder = Path(asked.out or tempfile.mkdtemp())
    runs: dict[str, kuosan.Run] = {}
    took: dict[str, str] = {}
    for form in dict.fromkeys(("points", *asked.forms)):
        leaves = {k: v for k, v in leaves_of(asked.leaves).items() if form != "points" or k != "data__size"}
        began = time.monotonic()
        runs[form] = trained(
            asked.data,
            asked.budget,
            asked.seed,
            {"data__form": form, "data__scale": "common"} | leaves,
            folder / form,
        )
        took[form] = f"{time.monotonic() - began:.0f} s"
    like = runs["points"]
    assert isinstance(like.modality, PointsModality)
    data = data_of(like)
    train, val = states(data.train), states(data.val)
    parts = roles(len(train), len(val), asked.n, torch.Generator().manual_seed(asked.seed))
    real = standing(like.modality.decode(torch.cat([val, train[parts.borrowed]])), "real")
    columns = {form: measured(standing(run.sample(asked.n).raws(), form), real) for form, run in runs.items()}
    columns["real"] = measured(standing(like.modality.decode(train[parts.pool]), "floor"), real)
    names = [
        ("nearest-neighbour test", "½"),
        ("coverage", "higher"),
        ("minimal Chamfer distance, squared units", "lower"),
    ]
    lines: list[list[object]] = [
        [*name, *(f"{found[i].value:.3g} ± {found[i].stderr:.2g}" for found in columns.values())]
        for i, name in enumerate(names)
    ]
    lines.append(["whole command", "", *(took.get(form, "") for form in columns)])
    said = ", ".join([f"budget {asked.budget}", f"{asked.n} samples", f"seed {asked.seed}", *asked.leaves])
    counts = f"{len(train)} shapes to train on, {len(val)} held out, {min(MOST, len(real), asked.n)} of each compared"
    table.write("shapes_forms", "Shapes in three forms", f"{asked.data.name}: {said}; {counts}; {parts.note}.",
                (*HEADER, *columns), lines)  # fmt: skip


if __name__ == "__main__":
    main()
