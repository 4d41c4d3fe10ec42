"""Known answers: what every metric says of samples whose fault is known.

    python -m benchmarks.known_answers [--seconds 4]

Real items stand in for the samples of a model, and one thing is done to them. A metric that is meant to see it must
move, and one that is not meant to must not: the table has how far each moved, in standard errors of both sides
together, `Measurement.sigmas`. Digits (1,797 of 8×8 pixels, in ten classes, which scikit-learn brings) are measured by
all that `kuosan evaluate` measures of pictures, drifting discs by all that it measures of clips. A further table holds
metrics against closed forms of Gaussians. Writes results/known_answers.md.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import table
from kuosan.evaluation import METRICS, evaluate_samples
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Found
from kuosan.evaluation.video import evaluate_clips, shuffled_frames

TRAIN, HELD_OUT = 900, 350
CLIPS, FRAMES = 200, 8


@dataclass(frozen=True)
class Digits:
    """Samples, training and held-out items, each with their classes."""

    samples: tuple[Tensor, Tensor]
    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


def digits() -> Digits:
    """A third of them as samples."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    y = torch.tensor(found.target, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    parts = [(x[i], y[i]) for i in order.split([TRAIN, HELD_OUT, len(x) - TRAIN - HELD_OUT])]
    return Digits(parts[2], parts[0], parts[1])


def blurred(x: Tensor) -> Tensor:
    """Averaged with its neighbours."""
    return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def faults(data: Digits) -> Mapping[str, tuple[Tensor, Tensor]]:
    """What is done to the samples, by name: the states, and the classes that are said to be asked for."""
    x, y = data.samples
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(x.shape, generator=g)
    few = torch.where(y < 5)[0]
    few = few[torch.randint(len(few), (len(x),), generator=g)]
    fifth = len(x) // 5
    copied = [
        torch.cat([real[:fifth], own[fifth:]]) for real, own in zip(data.train, data.samples, strict=True)
    ]
    labels = torch.cat([(y[:fifth] + 1) % 10, y[fifth:]])
    few_kinds = torch.arange(len(x)) % 20
    return {
        "none": (x, y),
        "brightness + 0.2": ((x + 0.2).clamp(-1, 1), y),
        "noise 0.4": ((x + 0.4 * noise).clamp(-1, 1), y),
        "blur": (blurred(x), y),
        "half of the classes": (x[few], y[few]),
        "20 items repeated": (x[few_kinds], y[few_kinds]),
        "contrast 0.7": (0.7 * x, y),
        "a fifth copied from training": (copied[0], copied[1]),
        "a fifth of wrong classes": (x, labels),
    }


def of_pictures(seconds: float) -> dict[str, dict[str, Measurement]]:
    """All measurements of each fault."""
    data, found = digits(), {}
    for name, (x, y) in faults(data).items():
        measured = evaluate_samples(
            x, data.train[0], data.held_out[0], labels=y, train_labels=data.train[1], val_labels=data.held_out[1],
            free=x, seconds=seconds,
        )  # fmt: skip
        found[name] = dict(measured.metrics)
    return found


def clips(n: int, seed: int) -> Tensor:
    """A bright disc that drifts over 8×8 pixels, at a speed and in a direction of its own."""
    g = torch.Generator().manual_seed(seed)
    start, angle = 2 + 3 * torch.rand(n, 2, generator=g), 2 * math.pi * torch.rand(n, generator=g)
    speed = 0.3 + 0.3 * torch.rand(n, generator=g)
    t = torch.arange(FRAMES)[:, None]
    step = speed[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    way = start[:, None] + t * step[:, None]
    grid = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"), -1)
    apart = (grid[None, None] - way[:, :, None, None]).square().sum(-1)
    return 2 * torch.exp(-apart / 2)[:, None] - 1


def of_clips() -> dict[str, dict[str, Measurement]]:
    """The same of clips, with what is measured of how they move."""
    x, reference, other = (clips(n, seed) for n, seed in ((CLIPS, 1), (CLIPS, 2), (4 * CLIPS, 3)))
    g = torch.Generator().manual_seed(4)
    flicker = torch.randn(CLIPS, 1, FRAMES, 1, 1, generator=g)
    done = {
        "none": x,
        "frames shuffled": shuffled_frames(x, g),
        "twice as fast": clips(2 * CLIPS, 5)[:CLIPS, :, ::2].repeat_interleave(2, 2),
        "brightness flickers": (x + 0.2 * flicker).clamp(-1, 1),
        "brightness + 0.2": (x + 0.2).clamp(-1, 1),
    }
    found = {}
    for name, made in done.items():
        here = Found(torch.Generator().manual_seed(0))
        evaluate_clips(here, made, reference, other, "")
        found[name] = {k: m for k, m in here.metrics.items() if not k.startswith("shuffled")}
    return found


def beyond(found: Mapping[str, Mapping[str, Measurement]]) -> list[list[object]]:
    """A row per metric: by how many standard errors it is worse than its floor, under each fault."""
    rows: list[list[object]] = []
    for metric in found["none"]:
        cells = [m.sigmas if (m := each.get(metric)) is not None else None for each in found.values()]
        rows.append(
            [f"`{metric}`", *("–" if z is None else f"**{z:.1f}**" if z > 2 else f"{z:.1f}" for z in cells)]
        )
    return rows


def gaussians() -> list[list[object]]:
    """Metrics of two Gaussians in d = 4 dimensions beside what they are in closed form."""
    d, n, shift, scale = 4, 5000, 0.5, 1.3
    x, y = (
        torch.randn(n, d, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (1, 2)
    )
    moved = scale * x + shift
    unit = 2 * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    distance = d * (shift**2 + (scale - 1) ** 2)
    asked: list[tuple[str, str, Tensor, int, float]] = [
        ("fd", "d (shift² + (scale - 1)²)", moved, 5000, distance),
        ("fd_inf", "the same", moved, 5000, distance),
        ("swd", "a d-th of it", moved, 5000, distance / d),
        ("pairwise", "2 scale Γ((d+1)/2)/Γ(d/2)", moved, 2000, scale * unit),
        ("kd", "0 for one law", x, 3000, 0.0),
        ("kd_rbf", "0 for one law", x, 3000, 0.0),
        ("c2st", "½ for one law", x, 3000, 0.5),
    ]
    rows: list[list[object]] = []
    for name, form, samples, most, known in asked:
        m = METRICS[name](samples[:most], y[:most])
        assert m.stderr is not None
        off = (m.value - known) / m.stderr
        rows.append(
            [f"`{name}`", form, f"{known:.4f}", f"{m.value:.4f} ± {m.stderr:.4f}", f"{m.n:,}", f"{off:+.1f}"]
        )
    return rows


def markdown(header: list[str], rows: list[list[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="for the feature space of each fault")
    asked = parser.parse_args()
    exact, moving, found = gaussians(), of_clips(), of_pictures(asked.seconds)
    n = len(digits().samples[0])
    notes = f"""
Real items in place of samples, with one known fault each. A number is by how many standard errors (of the samples and
of the floor together) the metric is worse than what as many untouched items score; **bold** beyond two of them.
{len(METRICS)} metrics and those of clips; {time.process_time():.0f} s of a core in all.

## Gaussians, in closed form

{markdown(["metric", "closed form", "is", "measured", "n", "standard errors off"], exact)}

Under a shift of 0.5 in every dimension and a scale of 1.3, or one law for both sides.

## Clips

{CLIPS} clips of {FRAMES} frames: a disc that drifts.

{markdown(["metric", *moving], beyond(moving))}

## Pictures

{n} digits as samples, {TRAIN} to train the feature space and to look for copies in, {HELD_OUT} held out."""
    table.write("known_answers", "Known answers of every metric", notes, ["metric", *found], beyond(found))


if __name__ == "__main__":
    main()
