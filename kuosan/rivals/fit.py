"""Training of a rival: as long, on the same items, with the same care as a diffusion model.

Batches are those of `training.data`, the same items in an order of the seed's; the rate rises, stays and falls as a
denoiser's does (`Settings.rate`); gradients are clipped; the weights are averaged by the same law (`training.ema`) and
the average is what is asked for samples. Where a loss of held-out items says how good a model is, it is looked at
`LOOKS` times, and the best average is kept, as that of a denoiser is; a game has no such loss. A budget of steps makes
a function of the seed, to the bit.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.shapes import moved
from kuosan.errors import UserError
from kuosan.rivals.base import Cond, Rival
from kuosan.training import ema
from kuosan.training.data import Items, TrainingItems, batch_index
from kuosan.training.progress import Progress
from kuosan.training.settings import Settings, casting, rounding
from kuosan.training.speed import Way, arrange, compiled

PLAIN = Way()
LENGTH = 0.08  # of the average, relative to the run
LOOKS = 20  # at held-out items, of `LOOKED_AT` at most
LOOKED_AT = 256
FLAT = 10  # steps without a finite loss after which nothing is left to hope for


@dataclass
class Fitted:
    """A rival and what its training came to: ``average`` is asked for samples; ``curve`` has (seconds, loss) of
    the last player, about a hundred times; ``held_out`` has (seconds, loss) of the average on held-out items, and
    ``best`` is the step whose average was kept."""

    model: Rival
    average: Rival
    step: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    best: int = 0
    curve: list[tuple[float, float]] = field(default_factory=list)
    held_out: list[tuple[float, float]] = field(default_factory=list)


def fit(
    fitted: Fitted,
    items: TrainingItems,
    held_out: Items,
    *,
    seed: int,
    seconds: float | None = None,
    steps: int | None = None,
    device: torch.device | str = "cpu",
    way: Way = PLAIN,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Train ``fitted`` for so many seconds of ``clock`` or steps, in this way (see `training.speed`), telling of every
    step; then its average is settled.

    Raises:
        UserError: its loss is not finite again and again.
    """
    model = fitted.model.to(device).train()
    average = fitted.average.to(device).requires_grad_(False).eval()
    settings = Settings(
        seed=seed, batch=model.batch, lr=model.rate, betas=model.betas, steps=steps, seconds=seconds
    )
    arrange(model, way.layout)
    players = model.players()
    optimisers = [
        torch.optim.AdamW(
            p.parameters(), lr=model.rate, betas=model.betas, weight_decay=settings.weight_decay, fused=True
        )
        for p in players
    ]
    gamma, bad, progress = ema.gamma_of(LENGTH), 0, 0.0
    best, kept = math.inf, None

    def loss_of_turn(turn: int, x: Tensor, cond: Cond, seeds: Seeds) -> Tensor:
        with casting(way.precision, torch.device(device)):
            return model.loss(turn, x, cond, seeds, progress)

    if way.compile and fitted.step == 0:
        x, cond = items.batch(torch.arange(model.batch) % len(items))
        x, cond = moved(x, torch.device(device)), {k: moved(v, torch.device(device)) for k, v in cond.items()}
        compiled(model, lambda: loss_of_turn(0, x, cond, Seeds.of(seed, model.batch)).backward())
    began, computed = clock(), time.process_time()
    while progress < 1:
        x, cond = items.batch(
            batch_index(seed, fitted.step, model.batch, len(items)),
            Seeds.of(seed, model.batch).fold("train", fitted.step).fold("items"),
        )
        x, cond = moved(x, torch.device(device)), {k: moved(v, torch.device(device)) for k, v in cond.items()}
        seeds = Seeds.of(seed, model.batch).fold("rival", fitted.step)
        rate, norm, value = settings.rate(progress, fitted.step), 0.0, 0.0
        for turn, (player, optimiser) in enumerate(zip(players, optimisers, strict=True)):
            for other in players:
                other.requires_grad_(other is player)
            optimiser.zero_grad(set_to_none=True)
            with rounding(way.precision):
                loss = loss_of_turn(turn, x, cond, seeds)
                loss.backward()
            norm = float(nn.utils.clip_grad_norm_(player.parameters(), settings.clip * len(players)))
            value = float(loss.detach())
            if value - value == 0 and norm - norm == 0:
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
                bad = 0
            else:
                bad += 1
        if bad >= FLAT:
            raise UserError(
                f"the {model.name} of seed {seed} has no finite loss at step {fitted.step}: leave it out "
                "with --methods"
            )
        fitted.step += 1
        ema.update(average, model, fitted.step, gamma)
        fitted.seconds = clock() - began
        before, progress = progress, settings.progress(fitted.step, fitted.seconds)
        if int(100 * progress) > int(100 * before) or progress >= 1:
            fitted.curve.append((fitted.seconds, value))
        if model.bounded and (int(LOOKS * progress) > int(LOOKS * before) or progress >= 1):
            fitted.held_out.append((fitted.seconds, loss_of(average, held_out, seed, device)))
            if fitted.held_out[-1][1] <= best:
                best, fitted.best = fitted.held_out[-1][1], fitted.step
                kept = copy.deepcopy(average.state_dict())
        yield Progress(fitted.step, progress, fitted.seconds, value, norm, rate)
    model.requires_grad_(True)
    if kept is not None:
        average.load_state_dict(kept)
    fitted.processor = time.process_time() - computed
    average.settle(items, held_out, seed)


@torch.no_grad()
def loss_of(model: Rival, items: Items, seed: int, device: torch.device | str) -> float:
    """The loss of the first `LOOKED_AT` items, with the same noise whenever it is asked for."""
    total, n = 0.0, min(len(items), LOOKED_AT)
    for index in torch.arange(n).split(model.batch):
        x, cond = items.batch(index)
        x, cond = moved(x, torch.device(device)), {k: moved(v, torch.device(device)) for k, v in cond.items()}
        seeds = Seeds.of(seed, index.tolist()).fold("held-out")
        total += len(index) * float(model.loss(0, x, cond, seeds, 1.0))
    return total / n


def fresh(model: Rival) -> Fitted:
    """A rival that has learned nothing yet."""
    return Fitted(model, copy.deepcopy(model))
