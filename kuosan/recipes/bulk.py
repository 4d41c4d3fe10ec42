"""Many samples, drawn by as many processes as there are.

Samples are drawn in chunks of `CHUNK`, counted from the first, and a process takes consecutive chunks. So each chunk is
worked on as one process would, and the files are the same, byte for byte on one kind of processor, however many
processes there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.recipes.run import CHUNK, Run
from kuosan.recipes.samples import Samples, write_files
from kuosan.training import parallel


def share(
    run: Run, n: int, first: int = 0, tell: Callable[[int, int], None] = lambda done, of: None, **options: Any
) -> Samples | None:
    """This process's part of samples ``first`` to ``first + n - 1``; None where there is nothing left for it.

    Args:
        tell: is told how many are drawn, of how many.
        options: further arguments of `Run.sample`.
    """
    world = parallel.world()
    with world.first():  # it may have to be measured, and is then kept in the run
        run.sampler(*(options.get(k, v) for k, v in _CHOICES.items()))
    chunks = range(first, first + n, CHUNK)[world.share(-(-n // CHUNK))]
    stop = min(chunks.stop, first + n)
    parts: list[Samples] = []
    for low in chunks:
        parts.append(run.sample(min(CHUNK, stop - low), first=low, **options))
        tell(low + len(parts[-1]) - chunks.start, stop - chunks.start)
    return joined(parts) if parts else None


_CHOICES: dict[str, Any] = {"steps": None, "w": None, "solver": "auto", "grid": "auto"}


def gathered(mine: Samples | None) -> Samples | None:
    """All samples, for the process that measures and writes; None for the others."""
    world = parallel.world()
    if world.alone:
        return mine
    names, coded = world.tell([list(mine.cond), mine.z is not None] if mine is not None else None)

    def rows(pick: Callable[[Samples], Tensor | None]) -> Any:
        return world.stack(None if mine is None else pick(mine))

    x, z = rows(lambda s: s.x), rows(lambda s: s.z) if coded else None
    cond = {name: rows(lambda s, name=name: s.cond[name]) for name in names}  # type: ignore[misc]
    return replace(mine, x=x, z=z, cond=cond) if world.leads and mine is not None else None


def drawn(run: Run, n: int, **options: Any) -> Samples | None:
    """`share` and `gathered`."""
    return gathered(share(run, n, **options))


def files(mine: Samples | None, folder: Path) -> list[Path]:
    """Every process's files, written by each; the paths of all."""
    paths = [] if mine is None else [str(path) for path in write_files(mine, folder)]
    return [Path(path) for some in parallel.world().hear(paths) for path in some]


def joined(parts: list[Samples]) -> Samples:
    """Consecutive samples as one."""
    if len(parts) == 1:
        return parts[0]
    cond = {k: torch.cat([p.cond[k] for p in parts]) for k in parts[0].cond}
    zs = [p.z for p in parts if p.z is not None]
    return replace(parts[0], x=torch.cat([p.x for p in parts]), cond=cond, z=torch.cat(zs) if zs else None)
