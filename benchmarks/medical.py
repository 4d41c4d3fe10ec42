"""Do X-rays that a model made teach a classifier? Trained for a budget, judged by `tstr_accuracy`.

    python -m benchmarks.medical ../shared/data/pneumoniamnist --budget 30m
    python -m benchmarks.medical --run RUN         measures a run that is there

PneumoniaMNIST (Yang et al. 2023): 28×28 chest X-rays of children in two classes. The model is trained on the training
part alone; a classifier of samples with the training part's share of classes is tried on the validation part, beside
one of as many real training images. The goal is 90 % of that one's accuracy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import kuosan
from benchmarks.table import write
from kuosan.recipes.evaluate import data_of

ROWS = ("tstr_accuracy", "class_accuracy", "fd_encoder", "fd_pixels", "precision", "recall", "copies")


def main() -> None:
    """Train, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("-n", type=int, default=4000, help="samples")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="of measuring; half of it again to teach"
    )
    parser.add_argument("--out", type=Path, help="the run's folder; a temporary one unless given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.run:
            run = kuosan.load(args.run)
        else:
            run = kuosan.train(args.data, out=args.out or Path(folder, "run"), budget=args.budget)
        found = run.evaluate(n=args.n, seconds=args.seconds)
        items = len(data_of(run).val)
    table = []
    for name in ROWS:
        if (m := found["metrics"].get(name)) is None:
            continue
        ends = ["" if m[k] is None else f"{m[k]:.4g}" + (f" ± {m[e]:.2g}" if m[e] else "") for k, e in PAIRS]
        table.append([name, *ends, f"{m['value'] / m['floor']:.0%}" if m["floor"] else "", m["n"]])
    asked = run.facts.recipe
    notes = (
        f"{Path(asked.data.path).name}, budget {asked.budget}, a network that says {asked.objective.output}; "
        f"{args.n} samples, {items} held out. Real: floor or ceiling."
    )
    write("medical", "Medical images", notes, ("metric", "samples", "real", "share", "n"), table)


PAIRS = (("value", "stderr"), ("floor", "floor_stderr"))

if __name__ == "__main__":
    main()
