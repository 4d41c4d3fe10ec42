"""What a network says (x or v), and how its errors are weighed: distances in the features of an encoder and in pixels.

    python -m benchmarks.outputs rows.jsonl --data ../shared/data/fashion_mnist [--seconds 240] [--seed 0] [--arms v x]
    python -m benchmarks.outputs rows.jsonl --report

All arms are trained in one process, a step of the one that has used the least after the other, for as many processor
seconds of one thread each. The encoder is a classifier of the same training items; samples are of the data's classes,
and *as asked* is the share in which it recognises theirs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.efficiency import Clock, begin, conditions, in_turn, real_of, samples
from benchmarks.table import write
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.evaluation.encoder import Encoder
from kuosan.evaluation.encoder_training import train_encoder
from kuosan.evaluation.features import pixels
from kuosan.evaluation.frechet import frechet_distance
from kuosan.modalities import Dataset
from kuosan.recipes.facts import Facts
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe

SIZE = {"network": "transformer", "network.patch": 4, "network.dim": 96, "network.depth": 4}
ARMS: dict[str, dict[str, Any]] = {
    "v": {"objective.output": "v"},
    "x": {"objective.output": "x"},
    "v, weight sigmoid": {"objective.output": "v", "objective.weight": "sigmoid"},
    "v, weight min_snr": {"objective.output": "v", "objective.weight": "min_snr"},
    "x, weight min_snr": {"objective.output": "x", "objective.weight": "min_snr"},
    "x, weight edm": {"objective.output": "x", "objective.weight": "edm"},
}
STEPS, SAMPLES, ENCODER_SECONDS = (4, 10, 20), 1000, 60.0
NOTES = """
`python -m benchmarks.outputs rows.jsonl --data DATA --seconds S --seed K`, then `… --report`. A transformer of patch 4,
width 96 and depth 4, batches of 128; all arms of a row's seconds and seed in one process, a step of the one that has
used the least after the other, and a second such process on the other core. {n} samples in 4, 10 and 20 steps of deis
on karras:7, from the same noise for all. FD in features of a classifier of the training items and, last, in pixels;
*as asked*: the share of samples in which it recognises the class, of 10 steps. *weight 1* is that of errors of x, *cut
at c* the weight min(1 + SNR, c) of errors of x, that of v without its end: neither is in the project, as nothing was
gained by it on both sets. The rows of seed 0 are of the day before, of 10 steps alone.
"""


def compete(source: Path, seconds: float, seed: int, names: list[str]) -> Iterator[dict[str, Any]]:
    """A row of every arm."""
    asked: dict[str, Any] = {"budget": "1000steps", "data.max_side": 64, **SIZE}
    plan = settle(source, None, Recipe().updated(asked), asked)
    facts, data = plan.facts, plan.data
    x, cond = data.train.batch(torch.arange(len(data.train)))
    encoder = train_encoder(x, next(iter(cond.values())), seconds=ENCODER_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        clocks = {arm: Clock(seconds) for arm in names}
        runs = {
            arm: begin(facts, data, ARMS[arm], seed, clocks[arm], Path(folder) / str(i))
            for i, arm in enumerate(names)
        }
        in_turn(runs, clocks)
        for arm, run in runs.items():
            row = {"data": source.stem, "arm": arm, "seed": seed, "seconds": seconds}
            row |= {"steps": run.count.step, "batch": run.settings.batch}
            model = run.average.eval()
            yield row | {"found": {k: judged(model, facts, data, encoder, k) for k in STEPS}}


@torch.inference_mode()
def judged(
    model: NetworkDenoiser, facts: Facts, data: Dataset, encoder: Encoder, steps: int
) -> dict[str, float]:
    """Distances of samples of so many steps, as pictures of 8 bits."""
    real = real_of(data)[:4000]
    space = pixels(tuple(real.shape[1:]))
    x = samples(model, facts, SAMPLES, steps)
    x = ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    seen = torch.tensor(encoder.classes)[encoder.logits(x).argmax(1)]
    asked = next(iter(conditions(facts, SAMPLES).values()))
    return {
        "as_asked": float((seen == asked).double().mean()),
        "features": frechet_distance(encoder(x).double(), encoder(real).double()),
        "pixels": frechet_distance(space(x).double(), space(real).double()),
    }


def report(rows: list[dict[str, Any]]) -> None:
    """The table of all rows."""
    table = [
        [
            r["data"], f"{r['seconds']:g}", r["seed"], r["arm"], f"{r['steps'] * r['batch']:,}",
            *(f"{r['found'][k]['features']:.2f}" if k in r["found"] else "" for k in map(str, STEPS)),
            f"{r['found']['10']['as_asked']:.3f}", f"{r['found']['10']['pixels']:.1f}",
        ]
        for r in sorted(rows, key=lambda r: (r["data"], r["seconds"], r["seed"]))
    ]  # fmt: skip
    header = ["data", "processor s", "seed", "arm", "samples", *(f"FD, {k} steps" for k in STEPS), "as asked",
              "FD, pixels"]  # fmt: skip
    write("outputs", "What a network says", NOTES.format(n=f"{SAMPLES:,}"), header, table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["v", "x"])
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.report:
        return report([json.loads(line) for line in asked.rows.read_text(encoding="utf-8").splitlines()])
    for row in compete(asked.data, asked.seconds, asked.seed, asked.arms):
        print(row, flush=True)
        with asked.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
