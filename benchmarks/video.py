"""Models of clips: do they show what was asked, move as real clips do, and look like them?

    python -m benchmarks.video DATA [--budget 20m] [--where axis1] [--set data.size=64 …]     trains and measures
    python -m benchmarks.video DATA --run RUN                   measures a run that is there

Of every condition of the data (or those of --where) the accuracy of a classifier that was trained on real clips, on
samples and on held-out clips; and everything that `kuosan evaluate` measures, beside real clips at the same count. For
the sprites of the Liberated Pixel Cup, axis1 is the direction, axis0 the character and class the action:

    python -m benchmarks.video lpc_sprites
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import kuosan
from benchmarks.runs import leaves_of
from benchmarks.table import write
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.conditions import NAME, Asked, recognise
from kuosan.evaluation.found import Found
from kuosan.modalities import Dataset
from kuosan.recipes.evaluate import data_of, measure, states
from kuosan.recipes.run import Samples

SEED = 1_000_000


def conditions(
    run: kuosan.Run, data: Dataset, samples: Samples, names: list[str], seconds: float
) -> dict[str, Measurement]:
    """Accuracy of each condition; the classifiers have ``seconds`` of two slow cores each."""
    found, train, val = Found(torch.Generator().manual_seed(0)), states(data.train), states(data.val)
    written = samples.modality.encode(samples.raws())
    for name in names:
        asked = Asked(name, samples.cond[name], data.train.labels[name], data.val.labels[name])
        recognise(found, asked, written, train, val, axes=run.modality.axes, seconds=seconds)
    return found.metrics


def rows(run: kuosan.Run, n: int, names: list[str], seconds: float) -> list[list[str]]:
    """A line for every measure, those of the conditions first."""
    data = data_of(run)
    names = names or [name for name, words in run.facts.columns.items() if len(words) > 1]
    samples = run.sample(n, seed=SEED)
    metrics = conditions(run, data, samples, names, seconds)
    for name, found in measure(
        run, data, samples, seconds=seconds, out=run.path / "evaluation"
    ).metrics.items():
        if not name.startswith(NAME):  # which had less time
            metrics[name] = found

    def shown(value: float | None, error: float | None) -> str:
        return "" if value is None else f"{value:.4g}" + (f" ± {error:.2g}" if error else "")

    return [
        [name, shown(m.value, m.stderr), shown(m.floor, m.floor_stderr), f"{m.n:,}"]
        for name, m in metrics.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=512)
    parser.add_argument("--where", nargs="*", default=[], help="conditions that are judged; all unless given")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a classifier's training")
    parser.add_argument(
        "--set", nargs="*", default=[], dest="leaves", help="leaves of the recipe, part.leaf=value"
    )
    parser.add_argument("--results", default="video", help="name of the page of results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.run:
            run = kuosan.load(asked.run)
        else:
            run = kuosan.train(
                asked.data, out=Path(folder) / "run", budget=asked.budget, seed=asked.seed,
                data__modality="video", **leaves_of(asked.leaves),
            )  # fmt: skip
        network = ", ".join(
            f"{k} {v}" for k, v in run.facts.network.items() if k in ("kind", "patch", "dim", "depth")
        )
        notes = (
            f"`{asked.data.name}`, budget {run.facts.recipe.budget}: {run.modality.described_form()}, {network}. "
            "Real clips: the same measure of them; of accuracies, of held-out ones."
        )
        write(
            asked.results, "Models of clips", notes, ["measure", "samples", "real clips", "n"],
            rows(run, asked.n, asked.where, asked.seconds),
        )  # fmt: skip


if __name__ == "__main__":
    main()
