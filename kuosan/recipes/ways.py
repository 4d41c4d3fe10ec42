"""How the network of a run is trained: as asked for, as measured here before, or as measured now.

For a budget of time, `settle_way` tries the ways of `kuosan.training.speed` on the network, the data's shape and the
machine that there are, for 2 % of the budget and ten seconds at most, and keeps what it found for the next run. For a
budget of steps or images it measures nothing: such a run is a function of its recipe, and must not depend on what was
fast that day. Compiling takes a minute of a core, on a busy machine two, and gains a quarter to a half, so it
is tried from `COMPILE_FROM` on.

What is found goes into the recipe as resolved leaves, so a resumed run never asks again.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kuosan.codecs import Codec
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.modalities import Dataset
from kuosan.recipes import machine
from kuosan.recipes.build import objective_of
from kuosan.recipes.schema import Recipe, TrainingPart, fingerprint
from kuosan.recipes.settled import Choice
from kuosan.rivals import Autoregressive, Rival
from kuosan.training.budget import clock
from kuosan.training.checkpoint import write_json
from kuosan.training.settings import casting, rounding
from kuosan.training.speed import (
    Trial,
    Way,
    arrange,
    candidates,
    cannot_compile,
    choose,
    compiled,
    measure,
)

COMPILE_FROM = {"cpu": 900.0, "cuda": 300.0}  # seconds of a budget
SHARE, LEAST, MOST = 0.02, 1.0, 10.0  # of a budget of time, and in seconds, for trying ways
FEW = 16  # items of a first pass
FORMAT = 1
STIR = 0.02  # standard deviation of what is added to fresh weights: layers at 0 would let no gradient through
_PARTS = ("precision", "layout", "compile")


@dataclass(frozen=True)
class Task:
    """What is to be trained: enough to try it.

    Args:
        model: a throwaway one, with fresh weights.
        loss: of so many items, the same ones each time.
        about: what tells it from other tasks: the network with the shape of an item, the objective, the process, crops.
        batch: items of a step. shapes: whether batches are of several shapes.
    """

    model: Denoiser | Rival
    loss: Callable[[int], Tensor]
    about: list[Any]
    batch: int
    shapes: bool = False


def settle_way(
    part: TrainingPart, task: Task, device: torch.device, seconds: float | None
) -> tuple[TrainingPart, list[Choice]]:
    """The part with precision, layout and compile resolved, and the reasons; ``seconds`` of a budget of time.

    Raises:
        UserError: a way that this device does not have.
    """
    if part.precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"training.precision=tf32 is for CUDA, and this is a {device.type}: leave it away, or choose float32"
        )
    asked = {name: getattr(part, name) for name in _PARTS if getattr(part, name) != "auto"}
    way, why = _fastest(task, device, seconds, asked)
    why |= dict.fromkeys(asked, "asked for")
    chosen = {name: getattr(way, name) for name in _PARTS}
    return part.model_copy(update=chosen), [(f"training.{name}", chosen[name], why[name]) for name in _PARTS]


def _fastest(
    task: Task, device: torch.device, seconds: float | None, asked: dict[str, Any]
) -> tuple[Way, dict[str, str]]:
    """The way, and what is to be said of each of its parts."""
    if seconds is None:
        always = "the same bits on any day: budgets of time alone are measured"
        return Way(**asked), dict.fromkeys(_PARTS, always)
    eager = candidates(task.model.network, device, machine.has_bfloat16(device))  # type: ignore[arg-type]
    held = {name: value for name, value in asked.items() if name != "compile"}
    ways = [w for w in eager if all(getattr(w, k) == v for k, v in held.items())] or [Way(**held)]
    unfit = _unfit(task, device, seconds)
    compiles = "compile" not in asked and not unfit
    if len(ways) == 1 and not compiles:
        why = dict.fromkeys(_PARTS, "the only one for this network and device")
        return replace(ways[0], compile=asked.get("compile", False)), why | {"compile": unfit}
    key = fingerprint([
        FORMAT, task.about, task.batch, machine.name_of(device), torch.__version__, torch.get_num_threads(),
        [str(w) for w in ways], compiles,
    ])  # fmt: skip
    found, when = _kept(key), "measured here before"
    if found is None:
        found, when = _measured(task, ways, device, seconds, compiles), "measured"
        with suppress(UserError):  # a full or forbidden disk: it is measured again next time
            write_json(machine.cache_folder() / "speed" / f"{key}.json", [asdict(t) for t in found])
    best, plain = choose(found), found[0]
    gain = f"{plain.seconds / best.seconds:.2f} times as fast as {plain.way}, {when}"
    why = dict.fromkeys(_PARTS, f"nothing else was faster here, {when}") | (
        {"compile": unfit} if unfit else {}
    )
    for name in _PARTS:
        if getattr(best.way, name) != getattr(plain.way, name):
            why[name] = f"{gain}; gradient off by {best.error:.1e}"
    return replace(best.way, compile=asked.get("compile", best.way.compile)), why


def _unfit(task: Task, device: torch.device, seconds: float) -> str:
    """Why compiling is not tried; "" where it is."""
    if task.shapes:
        return "batches are of several shapes, and each would be compiled"
    why = cannot_compile(task.model.network, device)  # type: ignore[arg-type]
    least = COMPILE_FROM.get(device.type, 0.0)
    return why or (f"takes a minute: tried for budgets from {clock(least)}" if seconds < least else "")


def _measured(
    task: Task, ways: list[Way], device: torch.device, seconds: float, compiles: bool
) -> list[Trial]:
    """Ways that do not compile on as many items as there is time for; then the best of them, compiled, on all."""
    stir(task.model)
    model, allowed = task.model.to(device).train(), min(MOST, max(LEAST, SHARE * seconds))
    items = min(FEW, task.batch) if device.type == "cpu" else task.batch
    started = time.perf_counter()
    task.loss(items).backward()
    passes = allowed / (4 * len(ways) * (time.perf_counter() - started))
    items = max(1, min(task.batch, int(items * max(passes, 0.25))))
    found = measure(model, lambda: task.loss(items), ways, device, seconds=allowed)
    if not compiles:
        return found
    best = choose(found)

    def once() -> None:
        arrange(model, best.way.layout)
        with rounding(best.way.precision), casting(best.way.precision, device):
            loss = task.loss(task.batch)
        loss.backward()

    if compiled(model, once):  # it cannot be
        return found
    pair = [best.way, replace(best.way, compile=True)]
    eager, fast = measure(model, lambda: task.loss(task.batch), pair, device, seconds=2 * allowed)
    seen = best.seconds * fast.seconds / eager.seconds
    return [*found, Trial(fast.way, seen, best.error + fast.error)]


def stir(model: Denoiser | Rival) -> None:
    """As if it had been trained a little: gradients reach every layer."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.network.parameters():  # type: ignore[union-attr]
            p.add_(STIR * torch.randn(p.shape, generator=generator).to(p))


def _kept(key: str) -> list[Trial] | None:
    """What was measured before; None where there is nothing that can be read."""
    try:
        rows = json.loads((machine.cache_folder() / "speed" / f"{key}.json").read_bytes())
        found = [Trial(Way(**row.pop("way")), **row) for row in rows]
        choose(found)
        return found
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def task_of(
    data: Dataset, recipe: Recipe, network: dict[str, Any], codec: Codec | None, model: Denoiser
) -> Task:
    """The task of a resolved recipe: its own loss on its own first items, or on zeros in the shape of their latents,
    which cost as much."""
    objective, size = objective_of(recipe, data.modality), len(data.train)

    def loss(items: int) -> Tensor:
        x, cond = data.train.batch(torch.arange(items) % size)
        if codec is not None:
            x = torch.zeros(items, *codec.latent_shape)
        device = next(model.parameters()).device
        x, cond = x.to(device), {k: v.to(device) for k, v in cond.items()}
        return objective.draw(model, x, Seeds.of(0, items).fold("speed"), **cond).losses.mean()

    batch = recipe.training.batch
    assert isinstance(batch, int)
    return Task(
        model,
        loss,
        [network, recipe.objective.model_dump(), recipe.process.model_dump(), recipe.training.crops],
        batch,
        bool(network.get("free")) or recipe.training.crops not in ("auto", 0.0),
    )


def way_of_rival(model: Rival, data: Dataset, device: torch.device, seconds: float | None) -> Way:
    """How a rival is trained, found as a denoiser's way is; the plain way for a budget that is not of time."""
    tried = copy.deepcopy(model)

    def loss(items: int) -> Tensor:
        x, cond = data.train.batch(torch.arange(items) % len(data.train))
        x, cond = x.to(device), {k: v.to(device) for k, v in cond.items()}
        seeds = Seeds.of(0, items).fold("ways")
        return torch.stack(
            [tried.loss(turn, x, cond, seeds, 0.5) for turn, _ in enumerate(tried.players())]
        ).sum()

    about = [model.name, [list(p.shape) for p in model.parameters()]]
    # There are no gradients of a compiled network's gradients, which a critic needs; convolutions take long as well.
    asked: dict[str, Any] = {} if isinstance(model, Autoregressive) else {"compile": False}
    return _fastest(Task(tried, loss, about, model.batch), device, seconds, asked)[0]
