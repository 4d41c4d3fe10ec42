"""Pictures of real size: distances beside floors, variety, and what enlarging is worth beside bicubic interpolation.

    python -m benchmarks.pictures DATA [DATA …] [--budget 30m] [--enlarge 4] [--seeds 0] [-n 1000] [--set KEY=VALUE]

Trains on each folder or file with each seed, draws and measures; with --enlarge also (or with --only-enlarge alone) a
model that enlarges, and another that was never trained to and does so by averages alone. Writes results/pictures.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

import kuosan
from benchmarks import table
from benchmarks.runs import HEADER, leaves_of, plain, rows, trained
from kuosan.evaluation.enlarged import judge_enlarged
from kuosan.evaluation.features import states
from kuosan.evaluation.found import Found
from kuosan.guidance.averages import averaged
from kuosan.modalities.beside import Enlarging
from kuosan.recipes.evaluate import data_of

SHOWN = (
    "fd_encoder", "kd_encoder", "fd_pixels", "swd_pixels", "c2st_encoder", "precision", "recall", "coverage", "copies",
    "class_accuracy", "map_accuracy", "map_by_chance",
)  # fmt: skip
ENLARGED = tuple(f"{way}_{what}" for what in ("psnr", "ssim", "fd") for way in ("enlarged", "bicubic"))
HELD_OUT = 64  # pictures that are enlarged


def by_averages(run: kuosan.Run, factor: int, n: int) -> dict[str, Any]:
    """What a model that was never trained to enlarge makes of the averages of held-out pictures."""
    data = data_of(run)
    split = data.val if len(data.val) else data.train
    count = min(n, len(split))
    x, _ = split.batch(torch.arange(count) * len(split) // count)
    height, width = (side // factor * factor for side in x.shape[2:])
    x = x[:, :, :height, :width]
    small = averaged(x, factor)
    if level := run.modality.level:
        small = ((small + 1) / level).round() * level - 1
    made = run.sample(count, steering=run.steer(enlarge=small, factor=factor)).x
    others, _ = data.train.batch(torch.arange(min(1000, len(data.train))))
    found, space = Found(torch.Generator().manual_seed(0)), states(x.shape[1:], run.modality.axes)
    bicubic = Enlarging(factor, x.shape[1]).raised(small)
    off = float((averaged(made.double(), factor) - small).abs().max()) / (run.modality.level or 1.0)
    judge_enlarged(found, made, bicubic, x, others[:, :, :height, :width], off, space)
    return plain(found.metrics)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--enlarge", type=int, default=0)
    parser.add_argument("--only-enlarge", action="store_true")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    parser.add_argument("--set", nargs="*", default=[], dest="leaves", metavar="part.key=value")
    parser.add_argument("--out", help="where the runs lie; what is finished is not made again")
    parser.add_argument("--name", default="pictures", help="of the page of results")
    asked = parser.parse_args()
    leaves = leaves_of(asked.leaves)
    lines: list[list[object]] = []
    place = Path(asked.out or tempfile.mkdtemp())
    for data in asked.data:
        whole, averages, enlarged = [], [], []
        for seed in asked.seeds:
            out = place / f"{data.stem}-{seed}"
            if not asked.only_enlarge:
                run = trained(data, asked.budget, seed, leaves, out)
                whole.append(run.evaluate(n=asked.n)["metrics"])
                if asked.enlarge:
                    averages.append(by_averages(run, asked.enlarge, asked.held_out))
            if asked.enlarge:
                more = leaves | {"data__enlarge": asked.enlarge}
                run = trained(data, asked.budget, seed, more, out.with_name(f"{out.name}-enlarge"))
                enlarged.append(run.evaluate(n=asked.n)["metrics"])
        lines += rows(data.stem, SHOWN, whole)
        lines += rows(f"{data.stem} ×{asked.enlarge}, by averages alone", ENLARGED, averages)
        lines += rows(f"{data.stem} ×{asked.enlarge}, trained for it", ENLARGED, enlarged)
    said = ", ".join([f"budget {asked.budget}", f"{asked.n} samples", *asked.leaves])
    notes = (
        f"{said}; seeds {', '.join(map(str, asked.seeds))}. Real: held-out pictures against others, as many; of "
        "enlarged pictures, the true ones. Distances of enlarged pictures are in the encoder's space where they were "
        "trained for it, else in pixels."
    )
    table.write(asked.name, "Pictures of real size", notes, HEADER, lines)


if __name__ == "__main__":
    main()
