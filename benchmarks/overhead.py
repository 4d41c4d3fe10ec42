"""What a sampling loop costs beside the bare network calls: ours and diffusers', in one run.

    python -m benchmarks.overhead [--rounds 40]

Every arm makes the same ten calls of the same network at the same times, in turn with all others (A B C … A B
C …), on one thread; the table shows the median of each arm's processor time over the bare calls' of the same
round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.table import write
from kuosan.core.grids import LogSNR
from kuosan.core.random import Seeds
from kuosan.core.schedules import Tabulated
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import SOLVERS, trajectory

STEPS, REPEATS = 10, 4
NETWORKS = {
    "demo (8×8, width 128, 4 blocks), batch 64": ({"patch": 4, "dim": 128, "depth": 4, "heads": 4}, 64),
    "tiny (8×8, width 64, 2 blocks), batch 1": ({"patch": 2, "dim": 64, "depth": 2, "heads": 2}, 1),
}


def arms(network: nn.Module, batch: int) -> dict[str, Callable[[], None]]:
    """Functions that sample once, by name; the first makes the bare calls."""
    import diffusers

    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    schedule = Tabulated((1 - betas).cumprod(0))
    denoiser = NetworkDenoiser(GaussianProcess(schedule), network, "eps").eval()
    grid = LogSNR()(schedule, STEPS)
    x = torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seeds = Seeds.of(0, batch)
    labels = [torch.full((batch,), float(1000 * t - 1)) for t in grid[:-1]]

    def bare() -> None:
        for label in labels:
            network(x, label)

    def ours(name: str) -> Callable[[], None]:
        solver = SOLVERS[name]()

        def run() -> None:
            for _ in trajectory(denoiser, solver, grid, x, seeds):
                pass

        return run

    def theirs(make: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            scheduler = make()
            scheduler.set_timesteps(STEPS)  # type: ignore[attr-defined]
            state = x
            for t in scheduler.timesteps:  # type: ignore[attr-defined]
                inputs = scheduler.scale_model_input(state, t)  # type: ignore[attr-defined]
                out = network(inputs, t.expand(batch).float())
                state = scheduler.step(out, t, state).prev_sample  # type: ignore[attr-defined]

        return run

    table = {"trained_betas": betas.tolist()}
    return {
        "bare calls": bare,
        **{f"Kuosan {n}": ours(n) for n in ("ddim", "dpm++2m", "unipc2", "unipc3", "ipndm", "deis")},
        "diffusers DDIM": theirs(lambda: diffusers.DDIMScheduler(clip_sample=False, **table)),
        "diffusers DPM++ 2M": theirs(lambda: diffusers.DPMSolverMultistepScheduler(**table)),
        "diffusers UniPC": theirs(lambda: diffusers.UniPCMultistepScheduler(**table)),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = []
    for title, (leaves, batch) in NETWORKS.items():
        spec = {
            "kind": "transformer",
            "channels": 1,
            "sides": [8, 8],
            "conditions": {},
            "dropout": 0.0,
            **leaves,
        }
        network = build_network(spec, torch.Generator().manual_seed(0)).eval()
        found = arms(network, batch)
        times: dict[str, list[float]] = {name: [] for name in found}
        for turn in range(rounds + 3):
            for name, run in found.items():
                run()  # brings this arm's code and data back into the processor's caches
                started = time.process_time()
                for _ in range(REPEATS):
                    run()
                if turn >= 3:
                    times[name].append((time.process_time() - started) / REPEATS)
        for name in list(found)[1:]:
            ratios = [a / b for a, b in zip(times[name], times["bare calls"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append(
                [
                    title,
                    name,
                    f"{1e3 * statistics.median(times[name]):.2f}",
                    f"{100 * (middle - 1):+.1f} %",
                    f"{100 * (low - 1):+.1f} … {100 * (high - 1):+.1f} %",
                ]
            )
    write(
        "overhead",
        "Overhead of the sampling loop over bare network calls, 10 steps",
        f"Median over {rounds} rounds of each arm's processor time over the bare calls' of the same round (one thread, "
        "arms in turn), and the quartiles. `python -m benchmarks.overhead`",
        ["network", "loop", "ms", "overhead", "quartiles"],
        rows,
    )


if __name__ == "__main__":
    main()
