"""Models of sounds: are classes recognised, how near are samples to real sounds, and what does the round trip leave?

    python -m benchmarks.audio DATA [DATA …]     trains on each (--budget, --seeds, --set) and measures -n samples
    python -m benchmarks.audio --run RUN         measures a run that is there

Each prints a table in Markdown: values with their errors over samples (over seeds, where there are several), beside
what real sounds score. Accuracy is measured twice: by the encoder of the evaluation, which shares training items with
the model, and by a second classifier of another shape that is trained here on real sounds as they are played.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kuosan
from kuosan.core.random import Seeds
from kuosan.modalities import Dataset
from kuosan.recipes.evaluate import data_of

SHOWN = (
    "class_accuracy", "fd_encoder", "kd_encoder", "fd_mel", "kd_mel", "loudness_overlap", "silence_overlap",
    "brightness_overlap", "seconds_overlap", "copies", "nearest_distance",
)  # fmt: skip
ROUND_TRIP = ("codec_log_spectral_distance", "codec_si_sdr", "codec_class_accuracy", "codec_fd_encoder")
Row = tuple[float, float | None, float | None, int]  # value, its error, real sounds, n


class Judge(nn.Module):
    """Convolutions over all bands at once, and the largest of each feature over time."""

    def __init__(self, channels: int, bands: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Conv1d(channels * bands, 128, 5, padding=2), nn.Conv1d(128, 128, 5, padding=2)]
        )
        self.out = nn.Linear(128, classes)
        with torch.no_grad():
            for p in self.parameters():
                if p.ndim > 1:
                    p.uniform_(-1, 1, generator=generator).mul_((3 / p[0].numel()) ** 0.5)
                else:
                    p.zero_()

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1, 2)
        for layer in self.layers:
            h = F.relu(layer(h))
        return self.out(h.amax(2))


def judge(data: Dataset, column: str, steps: int = 400, seed: int = 0) -> Judge:
    """Trained on real sounds, moved in time and in level."""
    x, labels = data.train.batch(torch.arange(len(data.train)))
    y, (channels, bands, _) = labels[column], data.modality.shape
    model = Judge(channels, bands, len(data.columns[column]), torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    for step in range(steps):
        draws = Seeds.of(seed, 64).fold("judge", step).uniform(torch.empty(64, 3, dtype=torch.float64))
        which = (draws[:, 0] * len(x)).long()
        moved = torch.stack(
            [
                torch.roll(x[i], int(8 * u) - 4, -1)
                for i, u in zip(which.tolist(), draws[:, 1].tolist(), strict=True)
            ]
        )
        level = (0.2 * (draws[:, 2] - 0.5)).float().view(-1, 1, 1, 1)
        loss = F.cross_entropy(model(torch.where(moved > -0.9, moved + level, moved)), y[which])
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def share(right: Tensor) -> tuple[float, float]:
    """Of what is right, and its standard error."""
    p = float(right.double().mean())
    return p, (p * (1 - p) / max(1, len(right))) ** 0.5


@torch.no_grad()
def judged(run: kuosan.Run, data: Dataset, n: int) -> dict[str, Row]:
    """Accuracy by a judge of samples, as they are played, beside held-out sounds and their round trips."""
    column = next((k for k, v in run.facts.columns.items() if len(v) > 1), None)
    if column is None or not len(data.val):
        return {}
    with torch.enable_grad():
        model = judge(data, column)
    modality, samples = run.modality, run.sample(n, seed=2_000_000)
    asked = samples.cond[column]
    known = asked < len(run.facts.columns[column])
    played = modality.encode(modality.decode(samples.x[known]))
    x, labels = data.val.batch(torch.arange(len(data.val)))
    trips = modality.encode(modality.decode(x))
    real = share(model(x).argmax(1) == labels[column])
    right, error = share(model(played).argmax(1) == asked[known])
    trip, spread = share(model(trips).argmax(1) == labels[column])
    return {
        "judge_accuracy": (right, error, real[0], len(played)),
        "judge_accuracy_round_trip": (trip, spread, real[0], len(x)),
    }


def measured(run: kuosan.Run, n: int) -> dict[str, Row]:
    """Everything, of ``n`` samples."""
    found = run.evaluate(n=n)
    rows: dict[str, Row] = {}
    tables: tuple[tuple[dict[str, Any], Sequence[str]], ...] = (
        (found["metrics"], SHOWN), (found.get("codec", {}), ROUND_TRIP),
    )  # fmt: skip
    for metrics, names in tables:
        for name in names:
            if m := metrics.get(name):
                rows[name] = (m["value"], m["stderr"], m.get("floor"), m["n"])
    return rows | judged(run, data_of(run), n)


def report(title: str, runs: Sequence[dict[str, Row]]) -> str:
    """A table: means over runs, with the spread between them where there are several."""
    lines = [f"**{title}**", "", "| measure | value | real sounds | n |", "|---|---|---|---|"]
    for name, (_, error, real, n) in runs[0].items():
        values = [run[name][0] for run in runs if name in run]
        spread = statistics.stdev(values) if len(values) > 1 else error
        shown = f"{statistics.mean(values):.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
        lines.append(f"| {name} | {shown} | {'' if real is None else f'{real:.3f}'} | {n:,} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--set", nargs="*", default=[], metavar="PART.KEY=VALUE")
    asked = parser.parse_args()
    if asked.run:
        print(report(str(asked.run), [measured(kuosan.load(asked.run), asked.n)]))
    leaves = {key.replace(".", "__"): value for key, _, value in (word.partition("=") for word in asked.set)}
    for data in asked.data:
        runs = []
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as folder:
                run = kuosan.train(data, out=Path(folder) / "run", budget=asked.budget, seed=seed, **leaves)
                runs.append(measured(run, asked.n))
        print(report(f"{data.name}, {asked.budget}, {asked.seeds} seeds", runs), "\n")


if __name__ == "__main__":
    main()
