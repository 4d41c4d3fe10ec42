"""Averages after the fact: what they cost, how near they come, and what an early one is worth as a guide.

    python -m benchmarks.averages cost
    python -m benchmarks.averages error RUN      a run of pictures, whose network is trained anew
    python -m benchmarks.averages guide RUN      a run of pictures

Each writes a table to benchmarks/results.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.table import write
from kuosan.core.curves import Curve, Interval
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.evaluation import METRICS
from kuosan.evaluation.features import pixels
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.average import chosen
from kuosan.recipes.evaluate import data_of, states
from kuosan.recipes.run import Run
from kuosan.recipes.variant import Variant
from kuosan.training.averages import FOLDER, TRACKED, Averages, Basis, Kept
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising
from kuosan.training.optimizer import Optimizers
from kuosan.training.settings import Settings
from kuosan.training.validation import difference

STEPS = 240  # of the run that lengths are compared on
LENGTHS = (0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20, 0.25)
REPEATS, N = 4, 500  # of samples


def cost(pairs: int = 15) -> None:
    """A training step beside the update of one average and of two, in turns, in processor time."""
    rows = []
    for name, spec in {
        "transformer, 32×32×3, patch 4, dim 192, depth 6": {
            "kind": "transformer", "patch": 4, "dim": 192, "depth": 6, "heads": 6,
        },
        "U-Net, 32×32×3, base 32, levels 1 2 2": {
            "kind": "unet", "base": 32, "mults": [1, 2, 2], "blocks": 1, "attention": [2],
        },
    }.items():  # fmt: skip
        shape = {"channels": 3, "sides": [32, 32]}
        network = build_network({**spec, **shape}, torch.Generator().manual_seed(0))
        denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)
        one, two = Averages(denoiser, 0.1), Averages(denoiser, None)
        optimizers = Optimizers(denoiser, "adamw", lr=1e-4, betas=(0.9, 0.99), weight_decay=0.01)
        x, seeds = torch.zeros(32, 3, 32, 32), Seeds.of(0, 32)
        taken: dict[str, list[float]] = {"step": [], "one": [], "two": []}
        for k in range(1, pairs + 2):
            started = time.process_time()
            Denoising()(denoiser, x, seeds.fold(k)).mean().backward()
            optimizers.step(1e-4)
            optimizers.zero_grad()
            marks = [started, time.process_time()]
            for averages in (one, two):
                averages.update(denoiser, k)
                marks.append(time.process_time())
            if k > 1:
                for what, a, b in zip(taken, marks, marks[1:], strict=False):
                    taken[what].append(b - a)
        step, single, both = (statistics.median(v) for v in taken.values())
        count = sum(p.numel() for p in denoiser.parameters())
        shares = [f"{1e3 * s:.1f} ms, {100 * s / step:.2f} %" for s in (single, both)]
        rows.append(
            [name, f"{count:,}", f"{1e3 * step:.0f} ms", *shares, f"{100 * (both - single) / step:.2f} %"]
        )
    write(
        "averages_cost",
        "What a second average costs",
        f"`python -m benchmarks.averages cost`. Medians of {pairs} turns, processor time of one thread, batches of 32.",
        ["network", "weights", "step", "one average", "two", "the second alone, of a step"],
        rows,
    )


def error(path: Path, steps: int = STEPS) -> None:
    """Lengths made of files beside the same lengths tracked all along one training."""
    run = Run(path)
    data, part = data_of(run), run.facts.recipe.training
    network = build_network(run.facts.network, torch.Generator().manual_seed(0))
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(batch=int(part.batch), lr=float(part.lr), decay=part.decay, steps=steps, ema=None)
        training = Training(
            denoiser, Denoising(), data.train, data.val, settings, Path(folder), null=run.facts.null
        )
        tracked = {std: Averages(denoiser, std) for std in LENGTHS}
        for event in training.run():
            for average in tracked.values():
                average.update(denoiser, event.step)
        basis = Basis.of(Kept(Path(folder) / FOLDER), Path(folder) / "last", TRACKED)
        rows = []
        for std, average in tracked.items():
            wanted = average.models[0]
            found = training.averages.models[0]
            tensors = basis.combined(std)
            norm = apart(wanted.state_dict(), None)
            off, far = (apart(wanted.state_dict(), other) for other in (tensors, denoiser.state_dict()))
            a = training.judge(wanted)
            found.load_state_dict(tensors)
            more, stderr = difference(training.judge(found).each, a.each)
            shares = [f"{1e3 * off / norm:.3f} ‰", f"{1e3 * far / norm:.1f} ‰"]
            losses = [f"{a.loss:.4f} ± {a.stderr:.4f}", f"{1e4 * more:.2f} ± {1e4 * stderr:.2f}"]
            rows.append([f"{std:g}", *shares, *losses])
    count = sum(p.numel() for p in denoiser.parameters())
    notes = (
        f"`python -m benchmarks.averages error RUN`. {steps:,} steps of batches of {part.batch} on the "
        f"{len(data.train):,} digits of the demo, {count:,} weights, 16 files of two lengths in half precision. The "
        "error is that of all weights, relative to the norm of the tracked average; the distance from there to the "
        "last weights stands beside it. The loss is the held-out one of the tracked average "
        f"(n = {a.n}), and how much higher that of the one made afterwards is, in units of 10⁻⁴, item by item."
    )
    header = ["length", "error", "to the last weights", "held-out loss", "difference, 10⁻⁴"]
    write("averages_error", "Averages made afterwards beside averages tracked all along", notes, header, rows)


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor] | None) -> float:
    """The distance of all weights, or their norm."""
    return math.sqrt(
        sum(
            float((v - (b[k] if b else 0)).double().square().sum())
            for k, v in a.items()
            if v.is_floating_point()
        )
    )


def guide(path: Path, n: int = N, repeats: int = REPEATS) -> None:
    """Samples of a run under autoguidance, the same noise for every weight."""
    run = Run(path)
    data = data_of(run)
    space = pixels(run.shape)  # type: ignore[arg-type]
    train, val = space(states(data.train)), space(states(data.val))
    weights: dict[str, float | Curve] = {f"{w:g}": w for w in (1.0, 1.25, 1.5, 2.0)}
    weights |= {"2, t from 0.2 to 0.7": Interval(0.2, 0.7, 2.0)}
    found: dict[str, list[list[float]]] = {}
    for name, w in weights.items():
        other = run.autoguided(w)
        assert isinstance(other, Variant)
        for seed in range(repeats):
            samples = other.sample(n, seed=1_000 + seed).x
            rows = space(run.modality.encode(run.modality.decode(samples)))
            found.setdefault(name, []).append([METRICS[m].value(rows, r) for m, r in measured(train, val)])
    plain, table = found["1"], []
    for name, values in found.items():
        cells = []
        for k in range(len(plain[0])):
            mine = [row[k] for row in values]
            apart = [row[k] - base[k] for row, base in zip(values, plain, strict=True)]
            spread = statistics.stdev(apart) / repeats**0.5
            cells.append(f"{statistics.mean(mine):.3f} ({statistics.mean(apart):+.3f} ± {spread:.3f})")
        table.append([name, *cells])
    real = [
        f"{METRICS[m].value(train[:: max(1, len(train) // len(val))], r):.3f}"
        for m, r in measured(train, val)[:1]
    ]
    count = sum(p.numel() for p in run.model.parameters())
    facts, kind = run.facts, run.facts.network["kind"]
    notes = (
        f"`python -m benchmarks.averages guide RUN`. The demo's {facts.items:,} digits, {kind} of {count:,} weights, "
        f"{training_steps(run):,} steps; the guide is the average at an eighth of them. {repeats} times {n:,} samples "
        f"of {facts.recipe.sampling.steps} steps, the same noise for every weight; in brackets the difference to w = 1 "
        f"with its standard error over the repeats. In pixels; held out are {len(val):,} items, and as many training "
        f"items lie {real[0]} from them. Precision, recall and coverage are against the training items."
    )
    header = ["w", "Fréchet, held out", "Fréchet, training", "precision", "recall", "coverage"]
    write("averages_guide", "An early average as the guide", notes, header, table)


def training_steps(run: Run) -> int:
    """Of the weights that it samples with."""
    found = chosen(run.path)
    return found["step"] if found else 0


def measured(train: Tensor, val: Tensor) -> list[tuple[str, Tensor]]:
    """Metrics with what samples are compared with."""
    return [("fd", val), ("fd", train), ("precision", train), ("recall", train), ("coverage", train)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["cost", "error", "guide"])
    parser.add_argument("run", type=Path, nargs="?")
    asked = parser.parse_args()
    if asked.what == "cost":
        cost()
    elif asked.run is None:
        parser.error(f"{asked.what} needs a RUN")
    else:
        {"error": error, "guide": guide}[asked.what](asked.run)


if __name__ == "__main__":
    main()
