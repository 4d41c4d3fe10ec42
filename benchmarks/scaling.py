"""How training speeds up with processes: 1, 2 and 4 of them on this machine, and what follows for more of them.

    python -m benchmarks.scaling [--rounds 5] [--steps 4]

The same total batch is trained on by one, two and four processes (gloo, one thread each), in turn, round after round;
the table shows medians over the rounds. On a machine that others use the clock tells of them too, so beside it stands
the processor time of a step, summed over the processes: what dividing the work costs in work. From the processor time
of the share of a batch that each of W processes has, the last rows are computed, not measured:

    T(W) = T(share of 1/W) + 2 (W - 1)/W · bytes / bandwidth                                        (1)

for machines of this kind, each with its own process, whose sums go by a ring (Patarasuk & Yuan 2009) at a stated
bandwidth and hide behind nothing: what overlaps in reality makes it faster, and what waits for the slowest slower.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.table import write
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training import parallel
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising
from kuosan.training.settings import Settings

BATCH, SIDE = 64, 32
WORLDS = (1, 2, 4)
FURTHER = (2, 4, 8, 16)
NETWORKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}
SPEC = {
    "kind": "transformer", "channels": 3, "sides": [SIDE, SIDE], "patch": 4, "dim": 192, "depth": 5, "heads": 6,
    "conditions": {}, "dropout": 0.0,
}  # fmt: skip


class Noise:
    """As many pictures as a batch has."""

    def __init__(self) -> None:
        self.x = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def batch(
        self, index: torch.Tensor, seeds: object = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.x[index], {}


def work(steps: int) -> dict[str, float]:
    """One process's part of one arm of one round: medians of so many steps, after two that do not count."""
    torch.set_num_threads(1)
    world = parallel.join()
    denoiser = NetworkDenoiser(
        GaussianProcess(Cosine()), build_network(SPEC, torch.Generator().manual_seed(0))
    )
    settings = Settings(batch=BATCH, steps=10**6, validations=1, save_seconds=1e9)
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Training(denoiser, Denoising(), Noise(), [], settings, Path(folder), world=world)  # type: ignore[arg-type]
        began = time.perf_counter(), time.process_time()
        for event in run.run():
            now = time.perf_counter(), time.process_time()
            wall.append(now[0] - began[0])
            cpu.append(now[1] - began[1])
            began = now
            if event.step == steps + 2:
                break
    mine = statistics.median(cpu[2:])
    weights = sum(p.numel() for p in run.parameters)
    all_of = float(world.add(torch.tensor(mine, dtype=torch.float64)))
    return {
        "step": statistics.median(wall[2:]),
        "work": all_of,
        "share": all_of / world.size,
        "weights": weights,
    }


def launched(size: int, steps: int) -> dict[str, float]:
    """What process 0 of ``size`` measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", "--work", "--steps", str(steps)],
            env=os.environ | own | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in started]
    found: dict[str, float] = json.loads(said[0].splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(args.steps)))
        return
    torch.set_num_threads(1)  # which the table is to say
    rounds: dict[int, list[dict[str, float]]] = {size: [] for size in WORLDS}
    for k in range(args.rounds):
        for size in WORLDS:
            rounds[size].append(launched(size, args.steps))
            print(k, size, rounds[size][-1], file=sys.stderr, flush=True)

    def middle(size: int, what: str) -> float:
        return statistics.median(found[what] for found in rounds[size])

    rows: list[list[Any]] = []
    for size in WORLDS:
        ratios = [one["step"] / many["step"] for one, many in zip(rounds[1], rounds[size], strict=True)]
        works = [many["work"] / one["work"] for one, many in zip(rounds[1], rounds[size], strict=True)]
        rows.append(
            [f"{size}, measured", f"{BATCH / middle(size, 'step'):.1f}", f"{statistics.median(ratios):.2f}",
             f"{min(ratios):.2f} to {max(ratios):.2f}", f"{middle(size, 'work'):.2f} s",
             f"{statistics.median(works):.2f}"]
        )  # fmt: skip
    weights = rounds[1][0]["weights"]
    whole = middle(1, "work")
    # A share's time is a line in its size: what a step costs anyway, and what each item does.
    sizes = [BATCH // size for size in WORLDS]
    times = [middle(size, "share") for size in WORLDS]
    slope = statistics.covariance(sizes, times) / statistics.variance(sizes)
    offset = max(0.0, statistics.mean(times) - slope * statistics.mean(sizes))
    for size in FURTHER:
        for name, rate in NETWORKS.items():
            step = offset + slope * BATCH / size + 2 * (size - 1) / size * 4 * weights / rate
            rows.append(
                [
                    f"{size} machines at {name}, computed",
                    f"{BATCH / step:.1f}",
                    f"{whole / step:.2f}",
                    "",
                    "",
                    "",
                ]
            )
    write(
        "scaling",
        "Training by several processes",
        f"A patch transformer of {weights / 1e6:.1f} M weights on {SIDE}×{SIDE} colour pictures, float32, {BATCH} "
        f"items a step in all, one thread per process, gloo over loopback; medians of {args.rounds} rounds of "
        f"{args.steps} steps, all arms in turn within a round, speed-up over one process of the same round. "
        f"{len(os.sched_getaffinity(0))} cores that others used as well (load {os.getloadavg()[1]:.0f}): items/s and "
        "speed-up tell of them too, processor time hardly. Computed rows: eq. 1 of `benchmarks/scaling.py`, from a "
        f"line through the processor time of shares of a batch, {1000 * offset:.0f} ms a step and {1000 * slope:.1f} "
        "ms an item; nobody has run them. `python -m benchmarks.scaling`",
        ["processes", "items/s", "speed-up", "its range", "processor time of a step", "over one process's"],
        rows,
    )


if __name__ == "__main__":
    main()
