"""`kuosan train DATA --dry-run`: what would be done and what it would cost, measured on a few real steps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from kuosan.cli.answer import Answer
from kuosan.cli.notes import busy
from kuosan.cli.words import choices_json, choices_table, shown, skipped_lines

if TYPE_CHECKING:
    from kuosan.recipes.opening import Plan
    from kuosan.training.data import TrainingItems
    from kuosan.training.objective import Objective

STEPS = 3  # that are timed, after one that is not: the first sets up memory
MOST_SECONDS = 20.0


@dataclass(frozen=True)
class Probe:
    """Seconds per step, the most memory that the process (or the GPU) has held, in MiB, and operations of a step."""

    seconds_per_step: float
    memory_mib: float
    timed: int
    flops: int


def probe(plan: Plan) -> Probe:
    """Train a throwaway model of the plan for a few steps, and again as it ends where that is something else; its
    checkpoint goes to a temporary folder."""
    import torch

    from kuosan.recipes import machine
    from kuosan.recipes.build import UNTIL, objective_of
    from kuosan.training.budget import Budget

    whole = objective_of(plan.facts.recipe, plan.data.modality)
    last = whole.stage(1.0)
    stages = [(1.0, whole)] if last == whole else [(UNTIL, whole), (1 - UNTIL, last)]
    shares = [share for share, _ in stages]
    found = [_timed(plan, objective) for _, objective in stages]
    seconds = [timed.seconds_per_step for timed in found]
    if Budget.parse(plan.facts.recipe.budget).seconds is not None:  # the shares are of time, and not of steps
        shares = [share / s for share, s in zip(shares, seconds, strict=True)]
    weights = [share / sum(shares) for share in shares]
    memory = (
        torch.cuda.max_memory_allocated() / 2**20 if machine.device().type == "cuda" else machine.memory_mib()
    )
    mean = sum(w * s for w, s in zip(weights, seconds, strict=True))
    flops = sum(w * timed.flops for w, timed in zip(weights, found, strict=True))
    return Probe(mean, memory, sum(timed.timed for timed in found), round(flops))


class Timed(NamedTuple):
    """Seconds per step, of how many, and operations of one."""

    seconds_per_step: float
    timed: int
    flops: int


def _timed(plan: Plan, objective: Objective) -> Timed:
    """A few steps."""
    from kuosan.recipes import machine
    from kuosan.recipes.build import build_model, build_settings
    from kuosan.recipes.expected import operations
    from kuosan.training.budget import Budget
    from kuosan.training.loop import Training

    facts, recipe = plan.facts, plan.facts.recipe
    settings = build_settings(recipe.training, recipe.seed, Budget(steps=10**6), None)
    with TemporaryDirectory(prefix="kuosan-") as folder:
        training = Training(
            build_model(facts.network, recipe),
            objective,
            _items(plan),
            plan.data.val,
            replace(settings, validations=1),  # none within these steps
            Path(folder),
            null=facts.null,
            shelves=plan.data.train.shelves,
            device=machine.device(),
        )
        events, began, timed = training.run(), 0.0, -1
        for _ in events:
            timed += 1
            began = began or time.monotonic()
            if timed == STEPS or (timed and time.monotonic() - began > MOST_SECONDS):
                break
        seconds = (time.monotonic() - began) / max(timed, 1)
        events.close()  # type: ignore[attr-defined]
        return Timed(seconds, timed, operations(training))


def _items(plan: Plan) -> TrainingItems:
    """What the network is fed: the data, or zeros in the shape of their latents, which cost as much."""
    import torch

    from kuosan.codecs import Latents

    if plan.codec is None:
        return plan.data.train
    count = min(len(plan.data.train), 64)
    _, cond = plan.data.train.batch(torch.arange(count))
    return Latents(torch.zeros(count, 1, *plan.codec.latent_shape), {k: v[:, None] for k, v in cond.items()})


def probe_codec(plan: Plan) -> float:
    """Seconds that a step of the codec's training takes; 0 where there is nothing to train."""
    from kuosan.codecs import KLVAE, codec_settings, train_codec
    from kuosan.recipes import machine

    part = plan.facts.recipe.codec
    if not isinstance(plan.codec, KLVAE) or plan.start is not None:
        return 0.0
    settings = codec_settings(seed=plan.facts.recipe.seed, steps=10**6, batch=part.batch)
    assert isinstance(part.crop, int)
    events = train_codec(
        plan.codec, plan.data.train, plan.data.val, settings,
        crop=part.crop, detail=part.detail, device=machine.device(),
    )  # fmt: skip
    first = next(events)
    for event in events:
        if event.step > STEPS or event.seconds > MOST_SECONDS:
            break
    events.close()  # type: ignore[attr-defined]
    return (event.seconds - first.seconds) / (event.step - first.step)


def dry_run(plan: Plan) -> Answer:
    """The plan, in figures."""
    from kuosan.evaluation.report_words import number
    from kuosan.recipes.expected import expected
    from kuosan.training.budget import Budget, clock

    facts = plan.facts
    with busy(f"timing {STEPS} steps"):
        measured, codec_step = probe(plan), probe_codec(plan)
    batch = facts.recipe.training.batch
    assert isinstance(batch, int)
    budget = Budget.parse(facts.recipe.budget)
    steps = budget.steps_of(batch)
    part = facts.recipe.codec
    first = (facts.seconds or 0.0) * part.share if codec_step else 0.0  # the codec's, of a budget of time
    if part.steps != "auto":
        first = part.steps * codec_step
    if steps is None:
        steps = max(1, int(((facts.seconds or 0.0) - first) / measured.seconds_per_step))
    passes = steps * batch / max(facts.items, 1)
    with busy("training briefly, to see what it comes to"):
        outlook = expected(plan, steps, measured.seconds_per_step)
    seconds = budget.seconds or steps * measured.seconds_per_step + first
    held_out = len(plan.data.val)
    data: dict[str, Any] = {
        "dry_run": True,
        "run": str(plan.path),
        "parameters": plan.parameters,
        "memory_mib": round(measured.memory_mib),
        "seconds_per_step": measured.seconds_per_step,
        "steps_timed": measured.timed,
        "codec_seconds_per_step": codec_step or None,
        "codec_seconds": round(first, 1) or None,
        "flops_per_step": measured.flops,
        "flops": measured.flops * steps,
        "expected_val_loss": None if isinstance(outlook, str) else vars(outlook),
        "expected_val_loss_left_out": outlook if isinstance(outlook, str) else None,
        "steps": steps,
        "passes": round(passes, 2),
        "seconds": round(seconds, 1),
        "items": facts.items,
        "held_out": held_out,
        "network": facts.network,
        "recipe": facts.recipe.model_dump(mode="json"),
        "choices": choices_json(facts.choices),
    }
    rate = batch / measured.seconds_per_step
    counts = f"{plan.parameters:,} parameters, {facts.items:,} items to train on, {held_out:,} held out."
    speed = (
        f"A step takes {1000 * measured.seconds_per_step:.3g} ms (mean of {measured.timed}), "
        f"{rate:,.0f} items/s; memory {measured.memory_mib:,.0f} MiB; {si(measured.flops)}FLOP."
    )
    worth = (
        f"The budget {facts.recipe.budget} gives about {steps:,} steps, {passes:,.1f} passes over the data, "
        f"in {clock(seconds)}; {si(measured.flops * steps)}FLOP."
    )
    if isinstance(outlook, str):
        hope = f"The held-out loss to expect is not known: {outlook}."
    else:
        low, value, high = (number(x) for x in (outlook.low, outlook.value, outlook.high))
        (s, t), (k, m) = outlook.steps, outlook.losses
        hope = (
            f"Held-out loss to expect: {value}, between {low} and {high}, by runs of {s:,} and {t:,} steps, which "
            f"came to {number(k)} and {number(m)} (n = {outlook.n:,})."
        )
    end = f"Nothing was written; without --dry-run the run would be {shown(plan.path)}."
    skipped = skipped_lines(plan.data.survey.to_json())
    if codec_step:
        speed += (
            f"\nA step of the codec's takes {1000 * codec_step:.3g} ms; it has {clock(first)}, "
            f"{first / codec_step:,.0f} steps, before that."
        )
    lines = [*skipped, choices_table(facts.choices), "", counts, speed, worth, hope, end]
    return Answer("\n".join(lines), data)


def si(count: float) -> str:
    """1.2 G, 340 T: a large count in thousands, to three figures."""
    signs = ("", "k", "M", "G", "T", "P", "E")
    place = min(len(signs) - 1, int(math.log10(max(count, 1))) // 3)
    return f"{count / 1000**place:.3g} {signs[place]}"
