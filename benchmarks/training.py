"""Training throughput beside diffusers' example loop, and what each option gains.

    python -m benchmarks.training [--rounds 7] [--batch 32] [--compile] [--only unet|transformer]

Pictures of 32×32 in colour (made up unless --data names an .npz with ``images``), networks of about 1.7 and 2.8
million parameters, all arms in one process on one thread, a leg of a few steps each in turn, timed by the processor's
own clock, so that whatever else the machine does strikes all alike; ratios are of legs of one round. Peak memory is
that of a process of its own for each arm, with the same libraries loaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.table import write
from benchmarks.training_loops import BEST, Options, bare, built, example, kuosan, parameters, theirs
from kuosan.training.speed import Way

NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"kind": "unet", "base": 32, "mults": [1, 2, 2, 2], "blocks": 1, "attention": [2, 3]},
    "transformer": {"kind": "transformer", "patch": 4, "dim": 192, "depth": 4, "heads": 6},
}
BEST_WAY = {"unet": Way("bfloat16", "channels_last"), "transformer": Way("bfloat16")}
STEPS = {"unet": 1, "transformer": 2}  # of a leg
Arm = Callable[[], Iterator[float]]


def pictures(path: Path | None, count: int = 512) -> np.ndarray:
    """(n, 32, 32, 3) bytes: those of a file, or smooth made-up ones."""
    if path is not None:
        with np.load(path, allow_pickle=False) as file:
            return np.ascontiguousarray(file["images"][:count])
    rng = np.random.Generator(np.random.Philox(key=0))
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2))


def contest(name: str, x: np.ndarray, batch: int, folder: Path, compiles: bool) -> dict[str, Arm]:
    """Whole loops; the first is what the others are held against."""
    spec, way = NETWORKS[name], BEST_WAY[name]

    def ours(run: str, how: Way) -> Arm:
        def make() -> Iterator[float]:
            np.savez(folder / "pictures.npz", images=x)
            return kuosan(folder / "pictures.npz", folder / run, spec, batch, how)

        return make

    arms: dict[str, Arm] = {"example's loop, this network": lambda: example(x, built(spec), batch)}
    if name == "unet":
        arms["example's loop, diffusers' own U-Net"] = lambda: example(x, theirs(32), batch)
    else:
        slow = spec | {"activation": "gelu-approximate"}
        arms["example's loop, with DiT's own GELU"] = lambda: example(x, built(slow), batch)
    arms["bare loop, best options"] = lambda: bare(x, built(spec), batch, Options(way, **BEST))
    arms["Kuosan, plain way"] = ours("plain", Way())
    arms["Kuosan"] = ours("run", way)
    if compiles:
        fast = replace(way, compile=True)
        arms["bare loop, best options, compiled"] = lambda: bare(x, built(spec), batch, Options(fast, **BEST))
        arms["Kuosan, compiled"] = ours("compiled", fast)
    return arms


def options(name: str, x: np.ndarray, batch: int, compiles: bool) -> dict[str, Arm]:
    """Bare loops, each with one option more than the first; then the best, and the best with one option less."""
    spec, way = NETWORKS[name], BEST_WAY[name]
    tried = {"none": Options()} | {
        "bfloat16": Options(Way("bfloat16")),
        "bfloat16, attention too": Options(Way("bfloat16"), wide_attention=False),
        "channels last": Options(Way(layout="channels_last")),
        "fused AdamW": Options(fused=True),
        "averages in one call": Options(foreach=True),
        "bytes, decoded at the step": Options(bytes=True),
        "compiled": Options(Way(compile=True)),
        "all that gain": Options(way, **BEST),
    }
    if name == "unet":
        del tried["bfloat16, attention too"]  # its attention is diffusers' own
    else:
        del tried["channels last"]
    if not compiles:
        del tried["compiled"]
    return {key: (lambda o=o: bare(x, built(spec), batch, o)) for key, o in tried.items()}  # type: ignore[misc]


def race(arms: dict[str, Arm], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each leg, a step's."""
    running = {name: make() for name, make in arms.items()}
    for loop in running.values():
        for _ in range(2):
            next(loop)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, loop in running.items():
            started = time.process_time()
            for _ in range(steps):
                next(loop)
            times[name].append((time.process_time() - started) / steps)
    return times


def ratio(of: list[float], over: list[float]) -> str:
    """The median of pairs, and its standard error from the quartiles."""
    pairs = [b / a for a, b in zip(of, over, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4)
    return f"{middle:.2f} ± {1.253 * (high - low) / 1.349 / len(pairs) ** 0.5:.2f}"


def peak(name: str, arm: str, asked: argparse.Namespace) -> float:
    """MiB of a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training", "--leg", name, arm]
    command += ["--batch", str(asked.batch)]
    command += ["--data", str(asked.data)] if asked.data else []
    out = subprocess.run(
        command + ["--compile"] * asked.compile, capture_output=True, check=True, text=True
    ).stdout
    return float(json.loads(out.splitlines()[-1]))


def leg(name: str, arm: str, x: np.ndarray, asked: argparse.Namespace) -> None:
    """Three steps of one arm, and what its process took at the most."""
    for library in ("diffusers.training_utils", "diffusers.optimization", "tensorboardX"):
        import_module(library)  # whoever needs it
    with tempfile.TemporaryDirectory() as folder:
        loop = contest(name, x, asked.batch, Path(folder), asked.compile)[arm]()
        for _ in range(3):
            next(loop)
        # Not getrusage: that counts what a parent held when it made this process.
        (line,) = (v for v in Path("/proc/self/status").read_text().splitlines() if v.startswith("VmHWM"))
        print(json.dumps(int(line.split()[1]) / 1024))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument(
        "--compile", action="store_true", help="compiled arms too, of the transformer: minutes"
    )
    parser.add_argument("--only", choices=list(NETWORKS), default=None)
    parser.add_argument("--part", choices=list(PARTS), default=None, help="one part alone")
    parser.add_argument("--keep", type=Path, default=None, help="folder in which parts wait for each other")
    parser.add_argument("--leg", nargs=2, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = parse()
    torch.set_num_threads(1)
    x = pictures(asked.data)
    if asked.leg:
        leg(*asked.leg, x, asked)
        return
    folder = asked.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for name in [asked.only] if asked.only else NETWORKS:
        for part in [asked.part] if asked.part else PARTS:
            rows = PARTS[part](name, x, asked)
            (folder / f"{name}-{part}.json").write_text(json.dumps(rows))
        table(name, folder, asked)


def loops(name: str, x: np.ndarray, asked: argparse.Namespace) -> dict[str, list[str]]:
    """Size and speed of whole loops."""
    size = parameters(built(NETWORKS[name])) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        arms = contest(name, x, asked.batch, Path(folder), asked.compile and name == "transformer")
        times = race(arms, asked.rounds, STEPS[name])
    first, rows = times[next(iter(arms))], {}
    for arm, taken in times.items():
        own = parameters(theirs(32)) / 1e6 if "own U-Net" in arm else size
        rows[arm] = [f"{own:.2f} M", *_speeds(taken, first, asked)]
    return rows


def gains(name: str, x: np.ndarray, asked: argparse.Namespace) -> dict[str, list[str]]:
    """What one option brings."""
    arms = options(name, x, asked.batch, asked.compile and name == "transformer")
    times = race(arms, asked.rounds, STEPS[name])
    return {option: _speeds(taken, times["none"], asked) for option, taken in times.items()}


def memories(name: str, x: np.ndarray, asked: argparse.Namespace) -> dict[str, list[str]]:
    """Peaks of the whole loops, but for compiled ones."""
    return {arm: [f"{peak(name, arm, asked):,.0f}"] for arm in contest(name, x, asked.batch, Path(), False)}


PARTS: dict[str, Callable[[str, np.ndarray, argparse.Namespace], dict[str, list[str]]]] = {
    "loops": loops,
    "gains": gains,
    "memories": memories,
}


def table(name: str, folder: Path, asked: argparse.Namespace) -> None:
    """One network's results, once all parts are there."""
    files = {part: folder / f"{name}-{part}.json" for part in PARTS}
    if not all(file.is_file() for file in files.values()):
        return
    found = {part: json.loads(file.read_text()) for part, file in files.items()}
    rows = [[arm, *row, *found["memories"].get(arm, ["–"])] for arm, row in found["loops"].items()]
    listed = "\n".join(f"| {option} | {' | '.join(row)} |" for option, row in found["gains"].items())
    given = f" --data {asked.data.name}" if asked.data else ""
    told = f"--only {name} --rounds {asked.rounds} --batch {asked.batch}{' --compile' * asked.compile}"
    notes = f"""`python -m benchmarks.training{given} {told}`.
Pictures of 32×32 in colour, batches of {asked.batch}, one thread, the arms in turn, {asked.rounds} rounds of {STEPS[name]} step(s).
Times are of the processor, because others used the machine meanwhile; ratios are medians over rounds, ± the standard error
of the median. Kuosan's arms are whole sessions: data, loss, averages, finite checks, metrics.jsonl and TensorBoard;
checkpoints, one in 30 s, are left out, as the example has none within an epoch. The example's is diffusers' train_unconditional.py in float32, as it comes, without Accelerate's wrapper.
denoising-diffusion-pytorch needs torchvision, which the environment does not have, and is left out.

| one option, in a bare loop | images/s | over none |
|---|---|---|
{listed}
"""  # noqa: E501
    head = ["loop", "parameters", "images/s", "over the example's loop", "peak MiB"]
    write(f"training_{name}", f"Training throughput: {name}", notes, head, rows)


def _speeds(taken: list[float], over: list[float], asked: argparse.Namespace) -> list[str]:
    return [f"{asked.batch / statistics.median(taken):.1f}", ratio(taken, over)]


if __name__ == "__main__":
    main()
