"""Captions: do samples show what they were asked for, beside what real held-out pictures reach?

    python -m benchmarks.captions --data ../shared/data/noto_emoji/emoji32.npz --budget 20m
    python -m benchmarks.captions --data … --encoder DIR          one more arm, heard through a text encoder
    python -m benchmarks.captions --data … --tiny                 a proof that it runs; nothing is written

Arms: `default`, which thins captions (in training leaves out three in ten of the parts between commas); `whole`,
captions as they stand; `unjoined`, without convolutions between the patches; `unet`. Each is trained for the budget on
the same items and asked for the held-out captions with several weights of guidance. A matcher of the real training
pairs judges them (`kuosan.evaluation.retrieval`). How good pictures are says the Fréchet distance in pixels of samples
without a wish.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import kuosan
from benchmarks.table import markdown, write
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.features import pixels
from kuosan.evaluation.frechet import frechet_distance
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.heard import with_recall
from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe

HEADER = ["arm", "w", "picked of", "samples", "real held-out", "chance", "n"]
WEIGHTS = (1.0, 2.0, 3.0)
QUALITY = ["arm", "parameters", "steps", "held-out error at the end", "distance"]
DRAWN = 600  # samples without a wish
NOTES = """
`python -m benchmarks.captions --data {data} --budget {budget}`: {items:,} items to train on, {held} held out, one seed.
`default` is what runs choose: captions thinned, convolutions between the patches; `whole` does not thin, `unjoined` has
no convolutions, `unet` is a U-Net.

{quality}

Samples are of the weights with the least held-out error. Distance: Fréchet, in pixels, of {drawn} of them without a
wish, to the training data. Below: share of samples
for held-out captions of which a matcher, trained on the real training pairs for {seconds:.0f} s, picks
the right caption from so many held-out ones; beside it real held-out items with their own captions, and chance. {steps}
steps of the run's own sampler.
"""


def trained(source: Path, out: Path, budget: str, leaves: dict[str, Any]) -> kuosan.Run:
    """A run with its weights alone, as nothing of its report is needed; or the one that is finished there."""
    done = out / "trained"  # weights are there before the end
    if done.exists():
        return kuosan.load(out)
    words = {"budget": budget, "seed": 0, "init": ""} | leaves
    session = prepare(source, out=out, recipe=Recipe().updated(words), asked=words)
    for _ in session.steps():
        pass
    session.write_weights("best")
    done.touch()
    return kuosan.load(out)


def rows_of(name: str, run: kuosan.Run, weights: tuple[float, ...], seconds: float) -> Iterator[list[str]]:
    data, nothing = data_of(run), Evaluation({}, (), {}, {}, {})
    for w in weights:
        found = with_recall(nothing, run, data, seconds=seconds, w=w)
        for metric, m in found.metrics.items():
            k = metric.rpartition("_")[2]
            yield [name, f"{w:g}", k, *told(m), f"{1 / int(k):.3f}", str(m.n)]
        for metric, why in found.left_out.items():
            print(f"{metric}: {why}")


def quality_of(run: kuosan.Run, n: int) -> list[str]:
    """Parameters, steps, held-out error, and the distance of ``n`` samples to the training data."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "val_loss" in line][-1]
    train = data_of(run).train
    real, _ = train.batch(torch.arange(len(train)))
    space = pixels(tuple(real.shape[1:]))
    drawn = run.sample(n, seed=1).x
    distance = frechet_distance(space(drawn).double(), space(real).double())
    parameters = sum(p.numel() for p in run.model.parameters())
    error = f"{last['val_loss']:.4f} ± {last['val_stderr']:.4f}"
    return [f"{parameters:,}", f"{lines[-1]['step']:,}", error, f"{float(distance):.1f}"]


def told(m: Measurement) -> tuple[str, str]:
    """The value and its ceiling, each with its standard error."""
    return f"{m.value:.3f} ± {m.stderr:.3f}", f"{m.floor:.3f} ± {m.floor_stderr:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="items with captions")
    parser.add_argument("--budget", default="20m", help="of training each arm")
    parser.add_argument(
        "--encoder", default="", help="folder of a Hugging Face text encoder, for an arm more"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="that the matcher is trained for")
    parser.add_argument("--out", default="", help="where the runs lie; what is finished is not made again")
    parser.add_argument("--tiny", action="store_true", help="a proof that it runs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    out, source = Path(asked.out or tempfile.mkdtemp()), Path(asked.data)
    arms: dict[str, dict[str, Any]] = {
        "default": {}, "whole": {"caption.thin": 0.0}, "unjoined": {"network.detail": 0}, "unet": {"network": "unet"},
    }  # fmt: skip
    if asked.encoder:
        arms["encoder"] = {"caption.encoder": asked.encoder}
    narrow = {"network": "transformer", "network.dim": 32, "network.depth": 1}
    least = {"training.batch": 8, "sampling.steps": 2}
    budget, weights = ("4steps", (2.0,)) if asked.tiny else (asked.budget, WEIGHTS)
    seconds = 1.0 if asked.tiny else asked.seconds
    if asked.tiny:
        arms = {
            name: least | (leaves if "network" in leaves else narrow | leaves)
            for name, leaves in arms.items()
        }
    runs = {name: trained(source, out / name, budget, leaves) for name, leaves in arms.items()}
    quality = [[name, *quality_of(run, 8 if asked.tiny else DRAWN)] for name, run in runs.items()]
    rows = [row for name, run in runs.items() for row in rows_of(name, run, weights, seconds)]
    if asked.tiny:
        for row in quality + rows:
            print(" | ".join(row))
        return
    facts = runs["default"].facts
    held = len(data_of(runs["default"]).val)
    notes = NOTES.format(
        data=asked.data, budget=budget, items=facts.items, held=held, seconds=seconds,
        steps=facts.recipe.sampling.steps, drawn=DRAWN, quality=markdown(QUALITY, quality),
    )  # fmt: skip
    write("captions", "Captions: what is asked for, found again", notes, HEADER, rows)


if __name__ == "__main__":
    main()
