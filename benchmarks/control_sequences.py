"""Learned control sequences against diffusers' samplers: the same frozen network, the same noises, the same calls.

    python -m benchmarks.control_sequences [--runs RUN …] [--mixtures] [--kept FILE.json]

Every arm makes k calls per sample from the same noise. The measure is the distance to the end of the model's own
flow, per number, on noises that no arm was chosen or fitted on. Peers are diffusers' own code at every spacing that
they offer (`peers`), the best of them taken for each k on noises of its own; set-ups that diffusers' code refuses at a
k are left out of that k. Ours are what `kuosan tune` keeps. `equal` is the fewest calls (up to 20) with which the best
peer of that many calls comes as close.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import Peer, peers
from benchmarks.peers import run as run_peer
from benchmarks.table import write
from kuosan.adapt.candidates import distances
from kuosan.adapt.fit import Effort
from kuosan.adapt.flow import Flow
from kuosan.adapt.rollout import Pairs, walk
from kuosan.adapt.tune import Stages, Tuned, make_pairs, tune
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Schedule, VPLinear
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.evaluation.frechet import frechet_distance, frechet_stderr
from kuosan.evaluation.kernel import GaussianKernelDistance
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.run import Run

CALLS, CHECKED = (4, 5, 6, 8, 10), (15, 20)
HELD, CHOOSE, TEST = 192, 32, 512
# A call of a mixture costs next to nothing, and a few noises lie between its modes: more pairs, more batches.
FIT, EXACT_FIT = 512, 3072
STAGES, EXACT_STAGES = Stages(), Stages(full=Effort(200, 128))
FINALISTS = 10  # set-ups of the nearest k that are tried where only `equal` asks
SEED = 20251
REAL = 1000
MIXTURES = {"2-d, 5 modes": (2, 5, VPLinear()), "8-d, 6 modes": (8, 6, Cosine()),
            "32-d, 10 modes": (32, 10, VPLinear()), "64-d, 20 modes": (64, 20, Cosine())}  # fmt: skip


def mixture(d: int, k: int, schedule: Schedule) -> Denoiser:
    """Unit variance in all, modes a tenth to three tenths wide."""
    g = torch.Generator().manual_seed(d)
    means = torch.randn(k, d, generator=g, dtype=torch.float64)
    widths = 0.1 + 0.2 * torch.rand(k, d, generator=g, dtype=torch.float64)
    means = means - means.mean(0)
    scale = (means.square().mean() + widths.square().mean()).sqrt()
    return MixtureDenoiser(GaussianProcess(schedule), means / scale, (widths / scale).square())


def peer_ends(denoiser: Denoiser, pairs: Pairs, k: int, found: list[Peer]) -> dict[str, Tensor]:
    """Where each peer that runs at k calls ends."""
    out = {}
    for peer in found:
        try:
            ends = []
            for low in range(0, len(pairs), 64):
                part = pairs[low : low + 64]
                ends.append(run_peer(peer, denoiser, part.z, k, **part.cond))
            out[str(peer)] = torch.cat(ends)
        except (IndexError, AssertionError, ValueError):
            continue  # diffusers' own code cannot make this grid
    return out


def quality(x: Tensor, real: Tensor) -> dict[str, tuple[float, float]]:
    """Fréchet distance in the states themselves and MMD² with a Gaussian kernel, with standard errors."""
    a, b = x.clamp(-1, 1).flatten(1).double(), real.flatten(1).double()
    fd = frechet_distance(a, b), frechet_stderr(a, b)
    kd = GaussianKernelDistance().estimate(a, b)
    return {"fd": fd, "kd": (kd.value, kd.stderr)}


def interval(ours: Tensor, theirs: Tensor, turns: int = 2000) -> tuple[float, float, float]:
    """Ratio of mean distances, theirs over ours, with a paired bootstrap interval of 95 %."""
    g = np.random.Generator(np.random.Philox(key=0))
    index = g.integers(0, len(ours), (turns, len(ours)))
    a, b = ours.numpy()[index].mean(1), theirs.numpy()[index].mean(1)
    low, high = np.quantile(b / a, [0.025, 0.975])
    return float(theirs.mean() / ours.mean()), float(low), float(high)


@torch.no_grad()
def measure(name: str, flow: Flow, shape: tuple[int, ...], conditions: Callable[[int], Mapping[str, Tensor]],
            tell: Callable[[str], None], real: Tensor | None = None) -> list[dict[str, Any]]:  # fmt: skip
    """All rows of one model; ``real`` are items of its data that it was not trained on."""
    exact = isinstance(flow.denoiser, MixtureDenoiser)
    fitted, stages = (EXACT_FIT, EXACT_STAGES) if exact else (FIT, STAGES)
    n = fitted + HELD + CHOOSE + TEST
    torch.set_default_dtype(torch.float64 if exact else torch.float32)
    pairs, floor = make_pairs(flow, shape, n, Seeds.of(SEED, n), conditions(n), few=20)
    torch.set_default_dtype(torch.float32)  # in double, diffusers' UniPC mixes both
    spent = flow.calls * fitted // n
    fit, rest = pairs[:fitted], pairs[fitted:]
    held, choose, test = rest[:HELD], rest[HELD : HELD + CHOOSE], rest[HELD + CHOOSE :]
    everyone = list(peers(flow.schedule))
    best: dict[int, tuple[str, Tensor]] = {}
    finalists: dict[int, list[Peer]] = {}

    def peer(k: int) -> tuple[str, Tensor]:
        if k not in best:
            asked = k in (*CALLS, *CHECKED)
            near = everyone if asked else finalists[max(c for c in finalists if c < k)]
            chosen = peer_ends(flow.denoiser, choose, k, near)
            mean = {
                p: float(distances(end, choose.end).mean()) if bool(end.isfinite().all()) else math.inf
                for p, end in chosen.items()
            }
            order = sorted(mean, key=mean.__getitem__)
            if asked:
                finalists[k] = [p for p in everyone if str(p) in order[:FINALISTS]]
            winner = [p for p in everyone if str(p) == order[0]]
            best[k] = order[0], peer_ends(flow.denoiser, test, k, winner)[order[0]]
        return best[k]

    rows = []
    for k in (*CALLS, *CHECKED):
        started = time.monotonic()
        tuned: Tuned = tune(
            flow, k, fit, held, Seeds.of(0, 1).fold(k), floor=floor, spent=spent, stages=stages, even=False
        )
        seconds = time.monotonic() - started
        label, end = peer(k)
        ends = {
            "ours": walk(flow, tuned.best.candidate.controls, test).end,
            "stock": walk(flow, tuned.stock.candidate.controls, test).end,
            "peer": end,
            "flow": test.end,
        }
        ours, stock, theirs = (distances(ends[arm], test.end) for arm in ("ours", "stock", "peer"))
        ratio = interval(ours, theirs)
        equal = (
            next(
                (
                    c
                    for c in range(k, 21)
                    if float(distances(peer(c)[1], test.end).mean()) <= float(ours.mean())
                ),
                None,
            )
            if k in CALLS
            else None
        )
        rows.append({
            "model": name, "k": k, "kept": tuned.best.candidate.kind, "ours": float(ours.mean()),
            "ours_se": float(ours.std() / TEST**0.5), "ours_median": float(ours.median()), "stock": float(stock.mean()),
            "stock_name": str(tuned.stock.candidate), "peer": float(theirs.mean()),
            "peer_se": float(theirs.std() / TEST**0.5), "peer_median": float(theirs.median()), "peer_name": label,
            "ratio": ratio, "equal": equal, "seconds": seconds, "calls": tuned.calls, "floor": floor,
            "quality": {} if real is None else {arm: quality(x, real) for arm, x in ends.items()},
        })  # fmt: skip
        tell(json.dumps(rows[-1]))
    return rows


def table_of(rows: list[dict[str, Any]]) -> list[list[str]]:
    out = []
    for r in rows:
        ratio, low, high = r["ratio"]
        equal = (
            "–"
            if r["k"] in CHECKED
            else f"{r['equal']} ({r['k'] / r['equal']:.2f})"
            if r["equal"]
            else "> 20"
        )
        out.append([
            r["model"], str(r["k"]), f"{r['ours']:.4f} ± {r['ours_se']:.4f}", f"{r['ours_median']:.4f}", r["kept"],
            f"{r['stock']:.4f}", f"{r['peer']:.4f} ± {r['peer_se']:.4f}", f"{r['peer_median']:.4f}", r["peer_name"],
            f"{ratio:.1f} ({low:.1f} … {high:.1f})", equal, f"{r['seconds']:.0f}", f"{r['floor']:.4f}",
        ])  # fmt: skip
    return out


def quality_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    out = []
    for r in rows:
        if r.get("quality"):
            cells = [
                f"{r['quality'][arm][what][0]:.{digits}f} ± {r['quality'][arm][what][1]:.{digits}f}"
                for what, digits in (("fd", 3), ("kd", 4))
                for arm in ("ours", "stock", "peer", "flow")
            ]
            out.append([r["model"], str(r["k"]), *cells])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--mixtures", action="store_true")
    parser.add_argument("--kept", type=Path, help="rows measured so far, gone on with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--about", default="", help="a sentence on the runs, for the table")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows: list[dict[str, Any]] = (
        json.loads(asked.kept.read_text()) if asked.kept and asked.kept.exists() else []
    )
    known = {r["model"] for r in rows}

    def keep(more: list[dict[str, Any]]) -> None:
        rows.extend(more)
        if asked.kept:
            asked.kept.write_text(json.dumps(rows))

    for name, (d, k, schedule) in MIXTURES.items() if asked.mixtures else ():
        title = f"mixture {name}, {type(schedule).__name__}"
        if title not in known:
            keep(measure(title, Flow(mixture(d, k, schedule)), (d,), lambda n: {}, print))
    for path in asked.runs:
        if path.name not in known:
            run = Run(path)
            val = data_of(run, None).val
            real = val.batch(torch.arange(min(REAL, len(val))))[0]
            keep(measure(path.name, Flow(run.denoiser), run.latent_shape,
                         lambda n, run=run: run.conditions(SEED, range(n)), print, real))  # fmt: skip
    write(
        "control_sequences",
        "Learned control sequences against diffusers' samplers",
        f"Mean distance to the end of the model's own flow, per number, on {TEST} noises that nothing was chosen or "
        f"fitted on, ± its standard error; medians beside it. Learned on {FIT} pairs ({EXACT_FIT} of a mixture), kept "
        f"by {HELD} more. "
        "Peers: "
        "diffusers' DDIM, DPM++ 2M and 3M, DEIS 2 and 3, UniPC 2 and 3 (bh1, bh2), Heun and IPNDM at every spacing "
        f"that each offers, the best for each number of calls by {CHOOSE} noises of its own. Ratio: peer over ours, "
        "with a paired bootstrap interval of 95 %. Equal: calls of the best peer that comes as close, and ours over "
        "it. Floor: error of the fine walk that stands for the flow. Seconds of fitting on one thread of a machine "
        "that other processes shared. Sequences that are learned know the mean of the data, which all samples of a "
        "condition share: one call for each condition (one of a mixture and of emoji, ten of digits and "
        "Fashion-MNIST) beside those of each sample, which are counted. "
        "`python -m benchmarks.control_sequences --mixtures --runs …` "
        + asked.about,
        ["model", "calls", "ours", "median", "kept", "best stock of ours", "best peer", "median", "which",
         "ratio", "equal", "s", "floor"],
        table_of(rows),
    )  # fmt: skip
    write(
        "control_sequences_quality",
        "Do samples of few calls differ from the data?",
        f"Of the same trained models and the same {TEST} samples: Fréchet distance of the states themselves, and MMD² "
        f"with a Gaussian kernel, to up to {REAL:,} held-out items, ± standard errors. Flow: the samples that all arms "
        "aim at. Where an arm is within its errors of the flow's, its distance from the flow no longer matters to "
        "these measures, and nothing is claimed. Fréchet distances of so few samples are too large, for all arms "
        "alike. `python -m benchmarks.control_sequences --runs …` "
        + asked.about,
        ["model", "calls", *(f"{what}, {arm}" for what in ("Fréchet", "MMD²")
                             for arm in ("ours", "our best stock", "best peer", "flow"))],
        quality_table(rows),
    )  # fmt: skip


if __name__ == "__main__":
    main()
