"""The same seed, the same sample: alone, in a batch, from two processes, to 1e-5; with --exact, to the bit.

    python -m benchmarks.same_seed

A small conditional model is trained on scikit-learn's digits; then 64 samples of one seed are drawn in several
ways, with the run's own sampler, without and with guidance, and compared with the 64 drawn in one call.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

import kuosan
from benchmarks.kill_resume import write_data
from benchmarks.table import write

N, SEED, STEPS = 64, 5, 300
LIMIT = 1e-5  # what the contract promises
WAYS = ("alone", "in batches of 7", "in reverse, by halves", "within a batch of 100", "two processes at once")


def in_parts(run: kuosan.Run, sizes: list[int], exact: bool, w: float) -> Tensor:
    """The samples in consecutive calls of these sizes, the last call first."""
    parts, first = [], N
    for size in reversed(sizes):
        first -= size
        parts.append(run.sample(size, first=first, seed=SEED, exact=exact, w=w).x)
    return torch.cat(parts[::-1])


def in_processes(path: Path, home: Path, exact: bool, w: float) -> Tensor:
    """Each half from the command line, both at the same time."""
    half, outs, processes = N // 2, [], []
    for first in (0, half):
        out = home / f"{first}-{exact}-{w}"
        words = [
            "sample",
            str(path),
            "-n",
            str(half),
            "--first",
            str(first),
            "--seed",
            str(SEED),
            "--w",
            str(w),
        ]
        words += ["--out", str(out), *(["--exact"] if exact else [])]
        quiet = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        command = [sys.executable, "-m", "kuosan", *words]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=quiet))
        outs.append(out / "samples.safetensors")
    if any(process.wait() for process in processes):
        raise SystemExit("a process could not sample; see above")
    return torch.cat([load_file(out)["x"] for out in outs])


def drawn(way: str, run: kuosan.Run, home: Path, exact: bool, w: float) -> Tensor:
    """The 64 samples in one of the `WAYS`."""
    match way:
        case "alone":
            return in_parts(run, [1] * N, exact, w)
        case "in batches of 7":
            return in_parts(run, [7] * 9 + [1], exact, w)
        case "in reverse, by halves":
            return in_parts(run, [N // 2, N // 2], exact, w)
        case "within a batch of 100":
            return run.sample(100, seed=SEED, exact=exact, w=w).x[:N]
    return in_processes(run.path, home, exact, w)


def main() -> None:
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    kept = True
    with tempfile.TemporaryDirectory(prefix="kuosan-") as folder:
        home = Path(folder)
        leaves = {"network__dim": 64, "network__depth": 2, "network__heads": 2, "network__patch": 2}
        run = kuosan.train(
            write_data(home / "digits.npz"),
            out=home / "run",
            budget=f"{STEPS}steps",
            network="transformer",
            **leaves,
        )
        for w in (1.0, 2.0):
            for exact in (False, True):
                wanted = run.sample(N, seed=SEED, exact=exact, w=w).x
                for way in WAYS:
                    got = drawn(way, run, home, exact, w)
                    apart, same = float((got - wanted).abs().max()), torch.equal(got, wanted)
                    kept = kept and apart < LIMIT and (same or not exact)
                    rows.append([way, "--exact" if exact else "", w, f"{apart:.1e}", "yes" if same else "no"])
        size = float(wanted.abs().max())
    write(
        "same_seed",
        "The same seed drawn in different ways",
        f"{N} samples of 1×8×8 in {run.facts.recipe.sampling.steps} steps ({run.facts.recipe.sampling.solver}, "
        f"{run.facts.recipe.sampling.grid} grid; the largest number in a state is {size:.2f}), compared with the same "
        f"{N} drawn in one call. Promised: {LIMIT:g}, and the same bits with --exact. `python -m benchmarks.same_seed`",
        ["drawn", "flag", "guidance w", "largest difference", "same bits"],
        rows,
    )
    if not kept:
        raise SystemExit("the promise is not kept")


if __name__ == "__main__":
    main()
