"""A run that is killed again and again: is any checkpoint ever unreadable, and does it end with the same bits?

    python -m benchmarks.kill_resume [--kills 200] [--steps 1500] [--data pictures|texts] [--processes 1]

One run trains undisturbed. Others, of the same seed on the same data, are killed with SIGKILL at random moments
and started again by the same command, until they are done; then the next one begins, until all kills are spent.
A third of the kills wait for a checkpoint being written, which takes milliseconds and would hardly ever be hit
by chance. After each kill all checkpoints are loaded; at the end of each run all its tensors are compared with
the undisturbed run's. Last, a run is stopped by SIGINT and SIGTERM in turn, and the time to its exit measured.

With more than one process `torchrun` starts them, and a kill ends all of them at once or one of them, which ends the
others.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.table import write
from kuosan.errors import UserError
from kuosan.training import checkpoint

ITEMS = 320
ABOUT = {"pictures": f"{ITEMS} digits", "texts": "four pages of text"}
TENSORS = ("model.safetensors", "last", "best")
STAGES = ("start-up", "training", "saving", "finishing")
FINISHING_KILLS = 2  # in one run, or none would ever be done
SMALL = ("network=transformer", "network.dim=32", "network.depth=1", "network.heads=1", "network.patch=2")
QUICK = ("network.dropout=0.1", "training.batch=16", "training.save_seconds=0.3")
LEAVES = {
    "pictures": SMALL,
    "texts": ("network.dim=32", "network.depth=1", "network.heads=1", "data.length=32"),
}


@dataclass(frozen=True)
class Plan:
    """What every life of every run is."""

    data: Path
    kind: str
    steps: int
    processes: int

    def command(self, run: Path) -> list[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(self.processes)]
        leaves = (word for leaf in (*LEAVES[self.kind], *QUICK) for word in ("--set", leaf))
        return [
            sys.executable, *(launcher if self.processes > 1 else ()), "-m", "kuosan", "train", str(self.data),
            "--out", str(run), "--budget", f"{self.steps}steps", *leaves,
        ]  # fmt: skip


def write_data(folder: Path, kind: str) -> Path:
    """Some of scikit-learn's digits, with their classes; or the descriptions that come with its data sets."""
    from sklearn import datasets

    if kind == "texts":
        path = folder / "descriptions"
        path.mkdir()
        for load in (
            datasets.load_iris,
            datasets.load_wine,
            datasets.load_breast_cancer,
            datasets.load_digits,
        ):
            (path / f"{load.__name__}.txt").write_text(load().DESCR, encoding="utf-8")
        return path
    path = folder / "digits.npz"

    digits = datasets.load_digits()
    images = np.rint(digits.images[:ITEMS] * (255 / 16)).astype(np.uint8)
    np.savez(path, images=images, labels=digits.target[:ITEMS])
    return path


@dataclass
class Life:
    """One process of a run."""

    process: subprocess.Popen[bytes]
    run: Path
    boards: int

    @classmethod
    def begin(cls, plan: Plan, run: Path) -> Life:
        command = plan.command(run)
        boards = len(list(run.glob("tensorboard/*")))
        log = (run.parent / f"{run.name}.log").open("ab")
        quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=quiet)
        return cls(process, run, boards)

    def kill(self, rng: random.Random) -> None:
        """All at once, or one of several, and see the end of all."""
        workers = children(self.process.pid)
        if workers and rng.random() < 0.5:
            doomed = [rng.choice(workers)]  # torchrun ends the others and itself
        else:
            doomed = [self.process.pid, *workers]
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        while any(alive(pid) for pid in workers):
            time.sleep(0.01)

    def working(self) -> bool:
        """Whether start-up is over: each session opens its own TensorBoard file."""
        return len(list(self.run.glob("tensorboard/*"))) > self.boards

    def saving(self) -> bool:
        return any(self.run.glob("checkpoints/*/.*.tmp"))

    def wait(self, for_what: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true within the time, while the process lived."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if for_what():
                return True
            time.sleep(0.0005)
        return False

    def stage(self) -> str:
        """Where the process was when it ended, as its folder shows."""
        if self.saving():
            return "saving"
        if not self.working():
            return "start-up"
        return "finishing" if finished(self.run) else "training"


def children(pid: int) -> list[int]:
    """The processes that one has started (Linux)."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process is there and not a mere entry of one."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False


def finished(run: Path) -> bool:
    """Whether the last checkpoint is that of the last step."""
    last = run / "checkpoints" / "last"
    return checkpoint.exists(last) and bool(checkpoint.load(last)[1]["counters"]["finished"])


def unreadable(run: Path) -> int:
    """How many checkpoints there are that do not load."""
    count = 0
    for folder in run.glob("checkpoints/*"):
        try:
            if checkpoint.exists(folder):
                checkpoint.load(folder)
        except UserError as error:
            print(f"unreadable: {error}", file=sys.stderr)
            count += 1
    return count


def bits(run: Path) -> dict[str, dict[str, bytes]]:
    """All tensors that a run leaves, as bytes."""
    out = {}
    for name in TENSORS:
        weights = name.endswith(".safetensors")
        tensors = (
            checkpoint.load_weights(run / name) if weights else checkpoint.load(run / "checkpoints" / name)[0]
        )
        out[name] = {
            k: f"{v.dtype}{tuple(v.shape)}".encode() + v.numpy().tobytes() for k, v in tensors.items()
        }
    return out


def undisturbed(plan: Plan, run: Path) -> None:
    """Run to the end."""
    life = Life.begin(plan, run)
    if life.process.wait():
        log = (run.parent / f"{run.name}.log").read_text(encoding="utf-8")
        said = [line for line in log.splitlines() if line.startswith("kuosan:")]
        raise SystemExit("\n".join(said) or log[-2000:])


def strike(life: Life, rng: random.Random, startup: float) -> None:
    """Wait for a random moment of a life: during start-up, at a save, or within two seconds of work."""
    kind = rng.random()
    if kind < 0.15:
        life.wait(lambda: False, rng.uniform(0, startup))
    elif life.wait(life.working, 300):
        saves = kind < 0.5 and not finished(life.run)
        life.wait(lambda: False, rng.uniform(0, 1.0 if saves else 2.0))
        if saves:
            life.wait(life.saving, 1.5)


def killed_run(
    plan: Plan, run: Path, kills: int, rng: random.Random, startup: float, struck: Counter[str]
) -> tuple[int, int]:
    """A run with at most so many kills, to its end: how many there were, and unreadable checkpoints."""
    used = finishing = bad = 0
    while used < kills and finishing < FINISHING_KILLS:
        life = Life.begin(plan, run)
        strike(life, rng, startup)
        if life.process.poll() is not None:
            break  # done before the moment came, or failed: the last life will tell
        life.kill(rng)
        used += 1
        bad += unreadable(run)
        stage = life.stage()
        finishing += stage == "finishing"
        struck[stage] += 1
        print(f"{run.name}: killed in {stage}", file=sys.stderr, flush=True)
    undisturbed(plan, run)
    return used, bad


def signals(plan: Plan, run: Path, rng: random.Random) -> list[list[object]]:
    """A run that is stopped by signals: at its start, three times in training, at its end; then finished."""
    rows: list[list[object]] = []
    both = (signal.SIGINT, signal.SIGTERM)
    moments = [(s, stage) for stage in ("start-up", *["training"] * 3, "finishing") for s in both]
    for signum, stage in moments:
        life = Life.begin(plan, run)
        if stage == "start-up":
            life.wait(lambda: False, 1.0)
        else:
            life.wait(life.working, 300)
        if stage == "finishing":
            life.wait(lambda: finished(run), 120)
        life.wait(lambda: False, rng.uniform(0.05, 0.8))
        sent = time.monotonic()
        life.process.send_signal(signum)
        status = life.process.wait()
        rows.append([signum.name, stage, status, f"{time.monotonic() - sent:.2f}", unreadable(run)])
    undisturbed(plan, run)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", choices=sorted(LEAVES), default="pictures")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    # A shell starts what runs in its background with SIGINT ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng, began = random.Random(args.seed), time.monotonic()
    struck: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="kuosan-") as folder:
        home = Path(folder)
        plan = Plan(write_data(home, args.data), args.data, args.steps, args.processes)
        undisturbed(plan, home / "undisturbed")
        wanted = bits(home / "undisturbed")
        probe = Life.begin(plan, home / "run-1")
        started = time.monotonic()
        probe.wait(probe.working, 300)
        startup = time.monotonic() - started
        probe.kill(rng)
        struck[probe.stage()] += 1
        left, runs, same, bad = args.kills - 1, 0, 0, unreadable(home / "run-1")
        while left > 0:
            runs += 1
            used, found = killed_run(plan, home / f"run-{runs}", left, rng, startup, struck)
            left, bad = left - used, bad + found
            same += bits(home / f"run-{runs}") == wanted
            if not used:
                raise SystemExit("a run ended before it could be killed: give more --steps")
        rows = signals(plan, home / "stopped", rng)
        stopped = bits(home / "stopped") == wanted
    name = "_".join(
        [
            "kill_resume",
            *([args.data] if args.data != "pictures" else []),
            *(["processes"] if args.processes > 1 else []),
        ]
    )
    summary = [
        ["kills", args.kills],
        *[[f"of them in {stage}", struck[stage]] for stage in STAGES],
        ["runs", runs],
        ["unreadable checkpoints", bad],
        [f"runs bit-equal to the undisturbed one ({', '.join(TENSORS)})", f"{same} of {runs}"],
        *[
            [f"{s} in {stage}: exit status, seconds to exit, unreadable", f"{a}, {b}, {c}"]
            for s, stage, a, b, c in rows
        ],
        ["run stopped by these signals bit-equal", "yes" if stopped else "no"],
    ]
    write(
        name,
        "Runs that are killed, resumed and compared",
        f"{args.steps} steps of a small transformer on {ABOUT[args.data]}, in {args.processes} process"
        f"{'es' if args.processes > 1 else ''}, checkpoints every 0.3 s, SIGKILL at random moments (seed {args.seed}); "
        f"{time.monotonic() - began:.0f} s in all, start-up {startup:.1f} s. `python -m benchmarks.kill_resume "
        f"--kills {args.kills} --steps {args.steps} --data {args.data} --processes {args.processes}`",
        ["what", "found"],
        summary,
    )
    if bad or same != runs or not stopped:
        raise SystemExit("not all runs are equal, or a checkpoint was unreadable")


if __name__ == "__main__":
    main()
