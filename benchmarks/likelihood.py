"""Bits per dimension of held-out pictures: ways to train a diffusion model, beside PNG, LZMA and a PixelCNN++.

    python -m benchmarks.likelihood ../shared/data/fashion_mnist ../shared/data/mnist [--seconds 300] [--out DIR]

Kuosan's arms share one network and one number of steps, which is about what the default arm gets done in so many
seconds of one processor core; PixelCNN++ has the seconds that the default arm then took. Held-out pictures are those
that the data keep apart. What is finished in DIR is not done again.

A second table holds each estimator's noise, measured by asking for the same pictures with other seeds, and the
processor time that one picture would take to a stated standard error.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.autoregressive import train as train_pixelcnn
from benchmarks.table import write
from kuosan.core.random import Seeds
from kuosan.evaluation.likelihood import Effort, bound, finite_bound, flow_likelihood
from kuosan.evaluation.likelihood.fold import Fold, Rounds, shuffled
from kuosan.modalities import Dataset
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.likelihood import fit_variances, likelihood
from kuosan.recipes.opening import prepare
from kuosan.recipes.run import Run
from kuosan.recipes.schema import Recipe

NETWORK = {"network": "transformer", "network.patch": 4, "network.dim": 96, "network.depth": 3}
ARMS: dict[str, dict[str, Any]] = {
    "default: v, cosine schedule": {},
    "learned variance": {"objective.variance": "learned"},
    "learned schedule": {"schedule": "learned"},
    "trained to the bound": {"objective": "elbo"},
    "trained to the bound, learned schedule": {"objective": "elbo", "schedule": "learned"},
}
EFFORT = Effort(n=1000, train=256, step_items=96, flow=48, planned=64)
PIECE, ERROR = 64, 0.01  # pictures that an estimator's noise is measured on; bits per dimension


def session(data: str, steps: int, folder: Path, leaves: dict[str, Any]) -> Any:
    asked = {"budget": f"{steps}steps", "seed": 0, "init": "", **NETWORK, **leaves}
    return prepare(data, out=folder, recipe=Recipe().updated(asked), asked=asked)


def trained(data: str, steps: int, folder: Path, leaves: dict[str, Any]) -> float:
    """Trains a run of so many steps, without the usual measuring; the processor seconds that it took."""
    started, begun = time.process_time(), session(data, steps, folder, leaves)
    for _ in begun.steps():
        pass
    begun.write_weights("best")
    return time.process_time() - started


def steps_worth(data: str, seconds: float) -> int:
    """How many steps of the default arm fit, from a hundred of them."""
    with tempfile.TemporaryDirectory() as folder:
        spent = trained(data, 100, Path(folder) / "trial", {})
    return int(100 * seconds / spent)


def measured(run: Run) -> dict[str, Any]:
    found = likelihood(run, data_of(run), EFFORT)
    return {"metrics": {k: m.to_json() for k, m in found.metrics.items()}, "likelihood": found.to_json()}


def rivals(data: Dataset, seconds: float) -> dict[str, Any]:
    """PNG of each picture, LZMA of all of them, and PixelCNN++."""
    train, held_out = data.train.x, data.val.x
    sizes = torch.tensor([float(_png(x)) for x in held_out]) * 8 / held_out[0].numel()
    model = train_pixelcnn(train, seconds)
    with torch.no_grad():
        bits = torch.cat([model.nats(x) for x in held_out[:1000].split(50)]) / held_out[0].numel() / 0.6931472
    return {"png": _mean(sizes), "pixelcnn": _mean(bits)}


def estimators(run: Run) -> list[list[str]]:
    """Rows of the second table, of one run."""
    data = data_of(run)
    rounds = Rounds(torch.device("cpu"), 0, lambda what: None)
    chosen = shuffled(data.val, 4 * PIECE, 0)
    fold = Fold.of(chosen, 0, lambda items: fit_variances(run, items), run.modality.level, EFFORT, rounds)
    x, cond = fold.mine.batch(torch.arange(PIECE))
    unit = x[0].numel() * 0.6931472
    grids = {k: fold.grid(k) for k in (10, 50)}
    level = run.modality.level

    def bounded(seeds: Seeds) -> torch.Tensor:
        return bound(fold.denoiser, x, seeds, fold.times, count=16, level=level, **cond).total

    def stepped(k: int, seeds: Seeds) -> torch.Tensor:
        grid, decoder = grids[k]
        how: Any = {"level": level, "decoder": decoder, **cond}
        return finite_bound(fold.denoiser, x, seeds, grid, **how).total

    def flowed(probes: int, seeds: Seeds) -> torch.Tensor:
        how: Any = {"level": level, "dequantisation": fold.dequantisation, "probes": probes, **cond}
        return flow_likelihood(fold.denoiser, x, seeds, **how).nats

    ways: dict[str, Callable[[Seeds], torch.Tensor]] = {
        "bound, 16 calls": bounded,
        **{f"bound of {k} steps": partial(stepped, k) for k in grids},
        **{f"flow, {p} probe{'s' * (p > 1)}": partial(flowed, p) for p in (1, 4)},
    }
    rows = []
    for name, way in ways.items():
        started = time.process_time()
        tries = torch.stack([way(Seeds.of(seed, PIECE).fold("again")) for seed in range(3)]) / unit
        spent = (time.process_time() - started) / 3 / PIECE
        noise = float(tries.var(0).mean().sqrt())
        numbers = (f"{float(tries.mean()):.3f}", f"{noise:.4f}", f"{1e3 * spent:.0f}")
        share = f"{1e3 * spent * (noise / ERROR) ** 2:.0f}"
        rows.append([Path(run.facts.recipe.data.path).name, name, *numbers, share])
    return rows


def _png(x: torch.Tensor) -> int:
    buffer = io.BytesIO()
    Image.fromarray(x[0].numpy()).save(buffer, format="PNG", optimize=True)
    return len(buffer.getvalue())


def _mean(values: torch.Tensor) -> dict[str, float]:
    return {
        "value": float(values.mean()),
        "stderr": float(values.std()) / len(values) ** 0.5,
        "n": len(values),
    }


def _cell(m: dict[str, Any] | None) -> str:
    return "" if m is None else f"{m['value']:.3f} ± {m['stderr']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(asked.out or tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)

    def once(name: str, make: Callable[[], Any]) -> Any:
        path = out / f"{name}.json"
        if not path.is_file():
            path.write_text(json.dumps(make()), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    rows: list[list[str]] = []
    noise: list[list[str]] = []
    for data in asked.data:
        name = Path(data).name
        steps = once("steps", lambda data=data: steps_worth(data, asked.seconds))
        for i, (arm, leaves) in enumerate(ARMS.items()):
            folder = out / f"{name}-{i}"
            seconds = once(f"{folder.name}-seconds", lambda: trained(data, steps, folder, leaves))  # noqa: B023
            found = once(folder.name, lambda: measured(Run(folder)))  # noqa: B023
            m = found["metrics"]
            rows.append([
                name, arm, f"{seconds:.0f}", *(_cell(m.get(f"bits_{k}")) for k in
                ("bound", "train", "10_steps", "25_steps", "50_steps", "flow")),
            ])  # fmt: skip
        spent = once(f"{name}-0-seconds", float)
        others = once(f"{name}-rivals", lambda: rivals(data_of(Run(out / f"{name}-0")), spent))  # noqa: B023
        lzma = found["likelihood"]["lzma"]
        rows.append([name, "PixelCNN++ (exact)", f"{spent:.0f}", _cell(others["pixelcnn"]), *[""] * 5])
        rows.append([name, "LZMA, all pictures together", "", f"{lzma:.3f}", *[""] * 5])
        rows.append([name, "PNG, each picture", "", _cell(others["png"]), *[""] * 5])
        noise += once(f"{name}-estimators", lambda: estimators(Run(out / f"{name}-0")))  # noqa: B023
    write(
        "likelihood",
        "Bits per dimension of held-out pictures",
        f"28×28 pictures of 8 bits, {steps} steps of 128 of one transformer (patch 4, width 96, 3 blocks) for each arm "
        "of Kuosan; seconds are those of one core. Value ± standard error over items: bound n = "
        f"{EFFORT.n} held-out items, training items {EFFORT.train}, steps {EFFORT.step_items}, flow {EFFORT.flow}; the "
        "same items for all arms. The bound is the column to compare by; an autoregressive model's and a compressor's "
        "value is exact. Kuosan's models are told the class of a picture, which is worth at most log₂ 10 / 784 = 0.004 "
        "bits; the others are not. `python -m benchmarks.likelihood`",
        ["data", "model", "s", "bound", "training items", "10 steps", "25 steps", "50 steps", "flow"],
        rows,
    )
    write(
        "likelihood_estimators",
        "What an estimate of the likelihood costs",
        f"The default arm's model, {PIECE} held-out pictures, three seeds each, one core. Noise: what chance does to "
        f"one picture's value (bits per dimension). Last column: processor time per picture for a noise of {ERROR:g}, "
        "were it averaged down. The estimators differ in what they estimate, see the first column of values.",
        ["data", "estimator", "bits/dim", "noise", "ms per picture", f"ms for a noise of {ERROR:g}"],
        noise,
    )


if __name__ == "__main__":
    main()
