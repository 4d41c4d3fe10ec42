"""Texts longer than a model's window: written on from where they are, half a window at a time.

The second half of what is written is given, as a template gives it, and the half after it is written; and so on. The
network sees what it saw in training, a window; what is further back than that it cannot know. A text that ends before
is as long as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.processes.discrete import Masked
from kuosan.recipes.samples import Samples
from kuosan.recipes.tokens import Rules

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

CHUNK = 64


def sample_long(
    run: Run,
    n: int,
    length: int,
    *,
    seed: int = 0,
    first: int = 0,
    where: Mapping[str, str] | None = None,
    **asked: Any,
) -> Samples:
    """Samples number ``first`` to ``first + n - 1`` of a seed, of up to ``length`` tokens.

    Args:
        asked: steps, solver, grid, w and rules, as of `Run.sample`: steps of each window, rules of the first.

    Raises:
        UserError: the process has no masks to write on with.
    """
    if not isinstance(run.model.process, Masked):
        raise UserError(
            f"texts longer than a window are written on under masks, and {run.path} is {run.model.process}: leave "
            "--length away"
        )
    rules = asked.pop("rules", None)
    rows, conds = [], []
    with torch.inference_mode():
        for low in range(first, first + n, CHUNK):
            numbers = range(low, min(low + CHUNK, first + n))
            part = run.sample(len(numbers), seed=seed, first=low, where=where, rules=rules, **asked)
            rows.append(_written_on(run, part, Seeds.of(seed, numbers), length, asked))
            conds.append(part.cond)
    cond = {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
    return Samples(torch.cat(rows), cond, first, run.modality, None, run.facts.columns)


def _written_on(
    run: Run, part: Samples, seeds: Seeds, length: int, asked: Mapping[str, Any]
) -> Int64[Tensor, "b length"]:
    """Texts of one window, up to ``length`` tokens."""
    tokeniser = run.modality.tokeniser  # type: ignore[attr-defined]
    window, x = run.latent_shape[0], part.x
    kept, k = window // 2, 0
    while x.shape[1] < length and not bool((x == tokeniser.end).any(1).all()):
        k += 1
        hidden = torch.full((len(x), window - kept), tokeniser.size)
        given = torch.cat([x[:, x.shape[1] - kept :], hidden], 1)
        for step in run.walk(
            seeds.fold("window", k),
            part.cond,
            steps=asked.get("steps"),
            solver_name=asked.get("solver", "auto"),
            grid=asked.get("grid", "auto"),
            w=asked.get("w"),
            rules=Rules(given),
        ):
            more = step.x
        x = torch.cat([x, more.cpu()[:, kept:]], 1)
    ended = (x == tokeniser.end).cumsum(1) > 0
    x = torch.where(ended, tokeniser.end, x)[:, :length]
    return torch.nn.functional.pad(x, (0, length - x.shape[1]), value=tokeniser.end)
