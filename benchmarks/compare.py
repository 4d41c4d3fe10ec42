"""Diffusion beside its rivals on real data: `kuosan compare` on each folder, as one table.

    python -m benchmarks.compare ../shared/data/fashion_mnist ../shared/data/jsb_chorales --budget 10m
    python -m benchmarks.compare ../shared/data/flowers/flowers32.npz --budget 10m
    python -m benchmarks.compare --false-alarms 200

The last form is the share of comparisons of real with real that the classifier two-sample test rejects at 5 %. With
`--out FOLDER` the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.table import write
from kuosan.evaluation.report_words import error, number
from kuosan.evaluation.two_sample import two_sample_test
from kuosan.recipes.compare import compare
from kuosan.recipes.schema import read_value

SHOWN = (
    "fd_encoder", "fd_pixels", "precision", "recall", "coverage", "class_accuracy", "copies", "bits_", "nll_",
    "pitch_class", "interval_o", "duration_o", "onset_o", "groove", "notes_per", "faults_per", "nearest",
)  # fmt: skip
NOTES = """
`python -m benchmarks.compare {command}`: a budget of {budget} for each training, on
{threads} of the machine's threads (another such command beside it); trainings of each method: {seeds}, samples of
each: {n}. ± is the standard error
of the mean over trainings, which covers the measurements' own. *processor s* are seconds of a core that a training
used.

{words}
{published}
"""
PUBLISHED = """
What experts reach with rivals of this kind, in features of Inception and with far more work, so that only the order can
be compared: on Fashion-MNIST the best of wide searches are 21.5 to 30.7 for seven GANs and 58.7 for a VAE (Lucic et al.
2018, Table 2); the GAN that ours follows reaches 1.96 on CIFAR-10 and 1.27 on ImageNet at 32×32 (Huang et al. 2024).
Neighbours of our rivals' settings: compare_rivals.md.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", default="")
    parser.add_argument("--false-alarms", type=int, default=0)
    asked = parser.parse_args()
    if asked.false_alarms:
        false_alarms(asked.false_alarms)
    leaves = {k: read_value(v) for k, _, v in (pair.partition("=") for pair in asked.set)}
    for data in asked.data:
        name = Path(data).stem
        out = Path(asked.out or tempfile.mkdtemp()) / name
        found = compare(data, out=out, budget=asked.budget, seeds=asked.seeds, n=asked.n, **leaves)
        metrics = {m: about["metrics"] for m, about in found["methods"].items()}
        heads = list(dict.fromkeys(m for each in metrics.values() for m in each if m.startswith(SHOWN)))
        rows = []
        for method, about in found["methods"].items():
            cells = [_cell(about["metrics"].get(m)) for m in heads]
            modes = found["mixture"].get(method, {}).get("modes", "–")
            rows.append([method, f"{about['parameters']:,}", f"{about['steps']:,.0f}",
                         f"{about['processor_seconds']:,.0f}", *cells, f"{1000 * about['seconds_per_sample']:.3g}",
                         modes])  # fmt: skip
        one = {m: next(each[m] for each in metrics.values() if m in each) for m in heads}
        real = [
            "–" if one[m].get("floor") is None else number(one[m]["floor"], one[m].get("floor_stderr"))
            for m in heads
        ]
        rows.append(["real items", "", "", "", *real, "", ""])
        words = "\n".join(f"- {a['sentence']}" for a in found["answers"].values())
        write(
            f"compare_{name}",
            f"Diffusion beside its rivals: {name}",
            NOTES.format(budget=asked.budget, seeds=asked.seeds, n=next(iter(found["arms"]))["n"], words=words,
                         threads=torch.get_num_threads(), command=f"{data} --budget {asked.budget}",
                         published=PUBLISHED if "gan" in metrics else ""),
            ["method", "parameters", "steps", "processor s", *heads, "ms per sample", "modes of 25"],
            rows,
        )  # fmt: skip


def false_alarms(count: int, n: int = 500, d: int = 16) -> None:
    """How often real is told from real at the level of 5 %."""

    def rows(seed: int) -> torch.Tensor:
        return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    found = sum(two_sample_test(rows(2 * s), rows(2 * s + 1)).p < 0.05 for s in range(count))
    share = found / count
    write(
        "compare_false_alarms", "False alarms of the classifier two-sample test",
        f"Sets of {n} items of one law in {d} dimensions; level 5 %.",
        ["comparisons", "rejected", "share"], [[count, found, f"{share:.1%} ± {(0.05 * 0.95 / count) ** 0.5:.1%}"]],
    )  # fmt: skip


def _cell(m: dict[str, float] | None) -> str:
    return "–" if m is None else f"{number(m['value'], m['stderr'])} ± {error(m['stderr'])}"


if __name__ == "__main__":
    main()
