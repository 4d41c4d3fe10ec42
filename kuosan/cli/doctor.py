"""`kuosan doctor`: what this machine is, how fast it is, and what would hurt."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from kuosan.cli.answer import Answer
from kuosan.cli.notes import busy, table
from kuosan.cli.options import Json

GIB = 2**30
LEAST_MEMORY, LEAST_DISK = 2.0, 2.0  # GiB
PROBE_SECONDS = 1.0  # for each of two
SLOW = 60.0  # items/s of the probe's training step, per core: a third of an ordinary one


def doctor(*, json: Json = False) -> Answer:
    """Check this machine: versions, threads, memory, disk, speed; warn of what would hurt."""
    from kuosan.cli.app import cores
    from kuosan.recipes import machine

    facts: dict[str, Any] = {**machine.facts(), "cores": cores(), "python_path": sys.executable}
    facts |= {f"{name}_gib": round(size / GIB, 2) for name, size in {**_memory(), **_disk()}.items()}
    facts |= _world()
    facts["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    with busy("measuring the speed"):
        speed = probe()
    missing = _missing()
    warnings = _warnings(facts, speed, missing)
    rows = [(k.replace("_", " "), v) for k, v in {**facts, **speed}.items()]
    verdict = [f"warning: {w}" for w in warnings] or ["All is well."]
    return Answer(
        "\n".join([table(rows, ("what", "value")), "", *verdict]),
        {**facts, **speed, "missing": missing, "warnings": warnings},
    )


def probe() -> dict[str, float]:
    """Matrix products, and training steps of a small transformer on 28×28 pictures; about two seconds."""
    import torch

    from kuosan.core.random import Seeds
    from kuosan.core.schedules import Cosine
    from kuosan.denoisers.network import NetworkDenoiser
    from kuosan.networks import build_network
    from kuosan.processes.gaussian import GaussianProcess
    from kuosan.recipes.build import build_objective
    from kuosan.recipes.machine import device
    from kuosan.recipes.schema import ObjectivePart

    where, generator = device(), torch.Generator().manual_seed(0)
    a = torch.randn(512, 512, generator=generator).to(where)

    def multiply() -> float:
        return float((a @ a)[0, 0])

    batch = 64
    spec = {
        "kind": "transformer", "channels": 1, "sides": [28, 28], "patch": 4, "dim": 128, "depth": 4,
        "heads": 4, "conditions": {}, "dropout": 0.0,
    }  # fmt: skip
    model = NetworkDenoiser(GaussianProcess(Cosine()), build_network(spec, generator), "v").to(where)
    objective = build_objective(ObjectivePart(output="v", weight="output", timing="uniform"))
    x = torch.randn(batch, 1, 28, 28, generator=generator).to(where)
    seeds = Seeds.of(0, batch)

    def train() -> float:
        loss = objective(model, x, seeds).mean()
        loss.backward()
        model.zero_grad(set_to_none=True)
        return float(loss.detach())

    return {
        "gflops": round(2 * 512**3 * _per_second(multiply) / 1e9, 1),
        "training_items_per_second": round(batch * _per_second(train), 1),
    }


def _world() -> dict[str, float]:
    """Processes that were launched together, GPUs of this machine, and how fast the former sum a gradient of 64 MiB."""
    import torch

    from kuosan.recipes.machine import device
    from kuosan.training.parallel import join

    world, gpus = join(), torch.cuda.device_count()
    if world.alone:
        return {"processes": 1, "gpus": gpus}
    x = torch.zeros(2**24, device=device())
    float(world.add(x)[0])  # the first sum opens connections
    started = time.monotonic()
    float(world.add(x)[0])
    return {
        "processes": world.size,
        "gpus": gpus,
        "sum_mib_per_second": round(64 / (time.monotonic() - started), 1),
    }


def _per_second(work: Any) -> float:
    work()
    count, started = 0, time.monotonic()
    while time.monotonic() - started < PROBE_SECONDS:
        work()
        count += 1
    return count / (time.monotonic() - started)


def _memory() -> dict[str, float]:
    """Bytes of memory, in all and free, where the system tells (Linux); a container's limit counts."""
    out: dict[str, float] = {}
    try:
        lines = dict(
            line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        )
        out = {
            n: 1024.0 * int(lines[k].split()[0])
            for n, k in (("memory", "MemTotal"), ("memory_free", "MemAvailable"))
        }
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        out = {
            "memory": min(out["memory"], limit),
            "memory_free": min(out["memory_free"], max(limit - used, 0)),
        }
    except (OSError, ValueError, KeyError):  # no limit, or another system
        pass
    return out


def _disk() -> dict[str, float]:
    places = {"disk_free_here": Path.cwd(), "disk_free_temporary": Path(tempfile.gettempdir())}
    return {name: float(shutil.disk_usage(path).free) for name, path in places.items()}


def _missing() -> list[str]:
    """Requirements and extras of Kuosan that are not installed."""
    try:
        wanted = metadata.requires("kuosan") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        wanted = []
    names = {_name(text): ("extra" in text.partition(";")[2]) for text in wanted}
    out = []
    for name, optional in names.items():
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            out.append(f"{name} (optional)" if optional else name)
    return out


def _name(requirement: str) -> str:
    """``torch`` of ``torch>=2.6; python_version > "3"``."""
    return requirement.split(";")[0].strip().split("[")[0].rstrip("=<>!~. 0123456789,").strip()


def _warnings(facts: dict[str, Any], speed: dict[str, float], missing: list[str]) -> list[str]:
    out = []
    cores, threads = facts["cores"], facts["threads"]
    if threads < cores:
        out.append(f"{threads} of {cores} cores are used, as OMP_NUM_THREADS says: unset it to use all")
    if threads > cores:
        out.append(f"{threads} threads share {cores} cores: set OMP_NUM_THREADS={cores}, or leave it unset")
    if facts["load"] is not None and facts["load"] > 1.5 * cores:
        out.append(
            f"other programs keep the machine busy (load {facts['load']:g} on {cores} cores): "
            "budgets of time give less"
        )
    if facts.get("memory_free_gib", LEAST_MEMORY) < LEAST_MEMORY:
        out.append(
            f"only {facts['memory_free_gib']:g} GiB of memory are free: choose a small batch, "
            "--set training.batch=16"
        )
    for name in ("disk_free_here", "disk_free_temporary"):
        if facts[f"{name}_gib"] < LEAST_DISK:
            out.append(
                f"only {facts[f'{name}_gib']:g} GiB of disk are free ({name[10:]}): a run keeps two "
                "checkpoints"
            )
    if facts["device"] in ("cpu", "mps") and speed["training_items_per_second"] < SLOW * threads:
        out.append(
            f"training steps are slow ({speed['training_items_per_second']:g} items/s): give longer budgets"
        )
    out += [f"{name} is missing: pip install {name}" for name in missing if "(optional)" not in name]
    return out
