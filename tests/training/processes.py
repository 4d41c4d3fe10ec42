"""What several processes do together, as a program: each runs `work`, and what they found is a file of plain data."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorboardX  # noqa: F401 (here once, and not in every process)
import torch
import torch._dynamo
import torch.distributed.checkpoint
import torch.distributed.fsdp
from torch import Tensor

from kuosan.cli import main
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training import parallel
from kuosan.training.interrupt import Interrupted
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising, Found
from kuosan.training.parallel import World
from kuosan.training.timing import EntropyTiming
from tests.recipes import small as folders
from tests.training.small import CLASSES, Points, state, training, walk

BATCH, STEPS = 10, 10  # shares of unequal size


class Pictures(Points):
    """The same points as pictures of 8×8."""

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        x, cond = super().batch(index)
        return x.repeat_interleave(16, 1).reshape(-1, 1, 8, 8), cond


def plain(folder: Path, world: World, **leaves: Any) -> Training:
    """A run with everything that a batch as a whole decides: learned times, hidden conditions, momentum."""
    made = {"objective": Denoising("edm", EntropyTiming()), "drop": 0.3, "batch": BATCH, "steps": STEPS}
    return training(folder, world=world, **(made | {"validations": 2} | leaves))


def transformer(folder: Path, world: World, **leaves: Any) -> Training:
    """A run of a network that can be sharded, with dropout and both optimisers."""
    spec = {"kind": "transformer", "channels": 1, "sides": [8, 8], "patch": 4, "dim": 32, "depth": 2}
    spec |= {"heads": 1, "conditions": {"class": CLASSES}, "dropout": 0.2}
    network = build_network(spec, torch.Generator().manual_seed(1))
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)
    made = {
        "denoiser": denoiser,
        "train": Pictures(37),
        "val": Pictures(9, 1),
        "batch": 8,
        "steps": 6,
        "lr": 3e-3,
    }
    made |= {"optimizer": "muon", "validations": 1}
    return training(folder, world=world, **(made | leaves))


def course(run: Training, stop: int | None = None) -> list[list[float]]:
    return [[e.loss, e.grad_norm] for e in walk(run, stop)]


def digest(run: Training) -> str:
    bits = {k: str(v) for k, v in state(run).items()}
    return hashlib.sha256(json.dumps(bits, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Troubled(Denoising):
    """Something happens to the ``n``-th draw of this process."""

    trouble: Callable[[int, Tensor], Tensor] = field(default=lambda n, losses: losses)
    made: list[int] = field(default_factory=list)

    def draw(self, denoiser: Any, x: Any, seeds: Seeds, u: Any = None, **cond: Tensor) -> Found:
        found = super().draw(denoiser, x, seeds, u, **cond)
        self.made.append(len(x))
        return found._replace(losses=self.trouble(len(self.made), found.losses))


def messages(world: World, folder: Path) -> dict[str, Any]:
    share = world.share(7)
    rows = torch.arange(7)[share] if world.rank != 1 else None
    stacked = world.stack(rows)
    kinds = {"a": torch.tensor([1.5, -2.0]), "b": torch.tensor(3), "c": torch.tensor([[True, False]])}
    kinds |= {"d": torch.tensor([0.5], dtype=torch.bfloat16), "e": torch.empty(0, 3)}
    spread = world.spread(kinds if world.leads else None)
    return {
        "shares": world.hear([share.start, share.stop]),
        "told": world.hear(world.tell({"ä": [world.rank, 0.1]})),
        "heard": world.hear("x" * world.rank),
        "spread": world.hear(
            all(torch.equal(v, kinds[k]) and v.dtype == kinds[k].dtype for k, v in spread.items())
        ),
        "stacked": stacked is not None and stacked.tolist(),
    }


def learning(world: World, folder: Path) -> dict[str, Any]:
    run = plain(folder / "whole", world)
    out: dict[str, Any] = {"course": course(run), "best": run.count.best_loss}
    out["timing"] = run.objective.timing.state()["seen"].tolist()
    out["ends"] = world.hear(digest(run))
    fine = plain(folder / "fine", world, micro=2)
    out["micro"] = course(fine)
    walk(plain(folder / "killed", world, save_seconds=0.0), 7)
    again = plain(folder / "killed", world)
    again.resume()
    out["from"] = again.count.step
    walk(again)
    out["resumed"] = world.hear(digest(again))
    return out


def troubles(world: World, folder: Path) -> dict[str, Any]:
    last = world.rank == world.size - 1

    def tight(n: int, losses: Tensor) -> Tensor:
        if last and len(losses) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    run = plain(folder / "tight", world, objective=Troubled(trouble=tight))
    reference = plain(folder / "roomy", world, objective=Troubled())
    out: dict[str, Any] = {"tight": course(run), "roomy": course(reference), "micro": run.count.micro}
    run = plain(
        folder / "poisoned", world, save_seconds=0.0,
        objective=Troubled(trouble=lambda n, losses: losses * (math.nan if last and 4 <= n < 9 else 1)),
    )  # fmt: skip
    walk(run)
    out["returns"] = world.hear([run.count.returns, run.count.step, run.count.skipped])
    run = plain(folder / "stopped", world)
    try:
        for event in run.run():
            if last and event.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted as e:
        out["signal"] = world.hear([e.signum, run.count.step])
    return out


def sharding(world: World, folder: Path) -> dict[str, Any]:
    run = transformer(folder / "sharded", world, shard="full")
    out: dict[str, Any] = {"sharded": run.sharded, "held": world.hear(_held(run)), "course": course(run)}
    half = transformer(folder / "half", world, shard="full", save_seconds=0.0)
    walk(half, 3)
    with world.first():
        if world.leads:
            shutil.copytree(folder / "half", folder / "sharded, half")
    again = transformer(folder / "half", world, shard="full")
    again.resume()
    out["rest"] = course(again)
    walk(transformer(folder / "unsharded, half", world, save_seconds=0.0), 3)
    return out


def _held(run: Training) -> int:
    """How many weights this process holds."""
    from kuosan.training.sharding import own

    return sum(own(p).numel() for p in run.parameters)


def elsewhere(world: World, folder: Path) -> dict[str, Any]:
    """Goes on with what another world saved."""
    out: dict[str, Any] = {"course": course(plain(folder / "whole", world))}
    for name, shard in (("sharded", "none"), ("unsharded", "full")):
        run = transformer(folder / f"from {name}", world, shard=shard)
        run.resume()
        out[name] = [run.count.step, course(run)]
    return out


def sampling(run: Path, out: Path) -> list[str]:
    """A command line that draws more samples than fit in a chunk."""
    how = "-n 70 --steps 2 --solver ddim --grid uniform --json"
    return ["sample", str(run), *how.split(), "--out", str(out)]


def session(world: World, folder: Path) -> dict[str, Any]:
    """A folder of pictures, trained on and sampled from through what people use."""
    one = folders.session(folder / "data", folder / "run", budget="8steps", training__validations=2)
    for _ in one.steps():
        pass
    with world.first():
        if world.leads:
            one.write_weights("now")
    told, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
        status = main(sampling(folder / "run", folder / "samples"))
    return {"status": status, "heard": len(told.getvalue()), "said": said.getvalue()}


TASKS = {f.__name__: f for f in (messages, learning, troubles, sharding, elsewhere, session)}


def work(rank: int, size: int, port: int, folder: Path, tasks: list[str]) -> None:
    """Do these tasks as process ``rank`` of ``size``; each leaves ``TASK-RANK.json``."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        for name in tasks:
            world = parallel.join()
            found = TASKS[name](world, folder)
            (folder / f"{name}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
        parallel.leave()
    except BaseException:
        (folder / f"failed-{rank}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
