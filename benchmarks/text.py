"""Models of texts at equal time: masked, in blocks, autoregressive, beside n-grams and compressors.

    python -m benchmarks.text DATA [--budget 10m] [--arms masked,blocks,autoregressive] [--set part.key=value …]

All arms are `kuosan train` with one leaf changed, one after the other, with the same data, time, seed and machine. Bits
per character are an upper bound for all but the autoregressive one, where they are exact; the standard error is over
held-out passages. Quality of samples stands beside their entropy, as either alone can be had for nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import kuosan
from benchmarks.table import write
from kuosan.recipes.run import Run
from kuosan.recipes.schema import read_value

ARMS: dict[str, dict[str, Any]] = {
    "masked": {},
    "masked, weight of the bound": {"objective.weight": "bound"},
    "masked, AdamW": {"training.optimizer": "adamw"},
    "blocks": {"process": "blocks"},
    "autoregressive": {"process": "autoregressive"},
    "uniform": {"process": "uniform"},
}
SAMPLES = (
    "entropy_characters",
    "known_words",
    "distinct_2",
    "self_bleu",
    "longest_span",
    "fd_ngrams",
    "mauve",
)
HEAD = (
    "model", "bits per character", "on training text", "parameters", "steps", "tokens seen", "samples", *SAMPLES
)  # fmt: skip


def row(name: str, run: Run) -> list[str]:
    """One arm."""
    metrics = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["metrics"]
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    batch, length = run.facts.recipe.training.batch, run.latent_shape[0]
    assert isinstance(batch, int)
    held, train = metrics["bits_per_character"], metrics.get("bits_per_character_train")
    sign = "" if held["note"] == "exact" else "≤ "
    cells = [
        name,
        f"{sign}{held['value']:.3f} ± {held['stderr']:.3f} (n {held['n']})",
        f"{sign}{train['value']:.3f}" if train else "–",
        f"{sum(p.numel() for p in run.model.parameters()):,}",
        f"{summary['steps']:,}",
        f"{summary['steps'] * batch * length / 1e6:.1f} M",
    ]
    cells.append(f"{metrics[SAMPLES[0]]['n']}")
    for metric in SAMPLES:
        m = metrics.get(metric)
        cells.append("–" if m is None else f"{m['value']:.3g} (real {m['floor']:.3g})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--arms", default="masked,blocks,autoregressive")
    parser.add_argument("--set", nargs="*", default=[], dest="leaves")
    parser.add_argument("--name", default="text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="keep the runs here")
    asked = parser.parse_args()
    common = {k: read_value(v) for k, _, v in (pair.partition("=") for pair in asked.leaves)}
    rows, others = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.arms.split(","):
            leaves = {k.replace(".", "__"): v for k, v in {**common, **ARMS[name]}.items()}
            out = (asked.out or Path(scratch)) / name.replace(" ", "-").replace(",", "")
            run = kuosan.train(asked.data, out=out, budget=asked.budget, seed=asked.seed, **leaves)
            rows.append(row(name, run))
            evaluation = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
            others = evaluation["baselines"]
            print(rows[-1], flush=True)
    listed = ", ".join(
        f"{k.replace('_', ' ')} {v:.3f}" for k, v in sorted(others.items(), key=lambda kv: -kv[1])
    )
    told = " ".join(f"--set {pair}" for pair in asked.leaves)
    command = (
        f'python -m benchmarks.text {asked.data.name} --budget {asked.budget} --arms "{asked.arms}" {told}'
    )
    notes = f"""`{command.strip()}`.
Time is that of the whole command, report included. The autoregressive model writes one token per step, the others 32
steps. Beside each number of samples stands what real held-out texts score at the same count.

The same held-out text under models without training (bits per character): {listed}."""
    write(asked.name, f"Models of texts at equal time: {asked.data.name}", notes, HEAD, rows)


if __name__ == "__main__":
    main()
