"""Models of sounds: are classes recognised, how near are samples to real sounds, and what does the round trip leave?

    python -m benchmarks.audio DATA [DATA …]     trains on each (--budget, --seeds, --set) and measures -n samples
    python -m benchmarks.audio --run RUN         measures a run that is there

Either writes results/audio.md: values with their errors over samples (over seeds, where there are several), beside what
real sounds score. Accuracy is measured twice: by the encoder of the evaluation, which shares training items with
the model, and by a second classifier of another shape that is trained here on real sounds as they are played.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kuosan
from benchmarks import table
from benchmarks.runs import HEADER, leaves_of, rows, trained
from kuosan.core.random import Seeds
from kuosan.modalities import Dataset
from kuosan.recipes.evaluate import data_of

SHOWN = (
    "class_accuracy", "fd_encoder", "kd_encoder", "fd_mel", "kd_mel", "loudness_overlap", "silence_overlap",
    "brightness_overlap", "seconds_overlap", "copies", "nearest_distance",
)  # fmt: skip
ROUND_TRIP = ("codec_log_spectral_distance", "codec_si_sdr", "codec_class_accuracy", "codec_fd_encoder")
JUDGED = ("judge_accuracy", "judge_accuracy_round_trip")


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
def judged(run: kuosan.Run, data: Dataset, n: int) -> dict[str, Any]:
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
    told = ((right, error, len(played)), (trip, spread, len(x)))
    return {
        name: {"value": value, "stderr": stderr, "floor": real[0], "n": count}
        for name, (value, stderr, count) in zip(JUDGED, told, strict=True)
    }


def measured(run: kuosan.Run, n: int) -> dict[str, Any]:
    """Everything, of ``n`` samples."""
    found = run.evaluate(n=n)
    return found["metrics"] | found.get("codec", {}) | judged(run, data_of(run), n)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--set", nargs="*", default=[], dest="leaves", metavar="part.key=value")
    asked = parser.parse_args()
    shown, lines = (*SHOWN, *ROUND_TRIP, *JUDGED), []
    if asked.run:
        lines += rows(asked.run.name, shown, [measured(kuosan.load(asked.run), asked.n)])
    for data in asked.data:
        runs = []
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                run = trained(data, asked.budget, seed, leaves_of(asked.leaves), out)
                runs.append(measured(run, asked.n))
        lines += rows(data.name, shown, runs)
    said = ", ".join([f"budget {asked.budget}", f"{asked.n} samples", *asked.leaves])
    table.write("audio", "Sounds", f"{said}. Real: held-out sounds.", HEADER, lines)


if __name__ == "__main__":
    main()
