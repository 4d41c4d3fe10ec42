"""The report's section of the inverse: held-out items there and back, and the way between two of them."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from kuosan.core.shapes import as_time
from kuosan.errors import UserError
from kuosan.evaluation.report_section import Section
from kuosan.modalities import Split
from kuosan.recipes.inverse import STEPS, Items, Noise, between, common, decode, encode, gaussian
from kuosan.recipes.returned import errors, normality, pairs, sentence
from kuosan.recipes.run import Run

ITEMS, FRAMES = 8, 10
FEWEST = 16  # steps that are worth showing
CALLS = 3.5  # of the network per step, each way
ASTRAY = (
    "The network says x, and next to no noise the flow of such a one goes astray: trained with "
    "`objective.output=v` it would not."
)
TITLE = ("returned", "There and back", "There and back")


def returned(run: Run, split: Split, seconds: float) -> Section | None:
    """A handful of held-out items, within so many seconds; None where nothing is held out."""
    if not len(split):
        return None
    try:
        gaussian(run)
    except UserError as e:
        return Section(*TITLE, [f"Not shown: {e}."])
    items = spread(run, split, ITEMS)
    # Up go the items and the two ends of the strip, down go the items and the strip.
    cost = CALLS * call_seconds(run, items) * (2 * len(items) + FRAMES + 2) / len(items)
    steps = min(STEPS, int(seconds / cost))
    if steps < FEWEST:
        why = f"{FEWEST} steps there and back would take {FEWEST * cost:.1f} s, and {seconds:.1f} s were left for it"
        return Section(*TITLE, [f"Not shown here: {why}. `kuosan encode` shows it at any time."])
    a, b = apart(items)
    ends = common(run, *({k: v[i : i + 1] for k, v in items.cond.items()} for i in (a, b)))
    pair = Items(
        items.x[[a, b]], {k: torch.cat([v, v]) for k, v in ends.items()}, (items.names[a], items.names[b])
    )
    up, count = encode(run, _joined(items, pair), steps=steps), len(items)
    strip = between(up[count:], FRAMES)
    cond = {k: torch.cat([v[:count], strip.cond[k]]) for k, v in up.cond.items()}
    down = decode(run, Noise(torch.cat([up.z[:count], strip.z]), cond, steps=steps))
    back, frames = replace(down, x=down.x[:count]), run.modality.decode(down.x[count:])
    found = errors(items, up[:count], back)
    lead = f"The model has an inverse: its flow took {count} held-out items to noise and back, {steps} steps each way."
    hidden = [k for k, v in ends.items() if bool((v == run.facts.null[k]).all())]
    under = f"; {' and '.join(hidden)} hidden on the way" if hidden else ""
    x = run.facts.recipe.objective.output == "x"
    return Section(
        *TITLE,
        [f"{lead} {sentence(found)}", normality(found), *([ASTRAY] if x else [])],
        [
            ("Above, held-out items; below, what came back of their noise.", pairs(items, back, ITEMS)),
            (
                f"From {items.names[a]} to {items.names[b]} along a great circle between their noises{under}.",
                run.modality.show(frames, FRAMES),
            ),
        ],
    )


def spread(run: Run, split: Split, n: int) -> Items:
    """Up to ``n`` items of a split, evenly spread over it."""
    count = min(n, len(split))
    index = torch.arange(count) * len(split) // count
    x, labels = split.batch(index)
    cond = {k: labels[k] for k in run.facts.null}
    return Items(x, cond, tuple(split.names[i] for i in index.tolist()))


def apart(items: Items) -> tuple[int, int]:
    """The first item, and the first after it that differs from it in a condition, or else the last."""
    for i in range(1, len(items)):
        if any(not torch.equal(v[i], v[0]) for v in items.cond.values()):
            return 0, i
    return 0, len(items) - 1


def call_seconds(run: Run, items: Items) -> float:
    """Of one call of the network for these items, once it is warm."""
    denoiser = run.denoiser
    device = next(denoiser.parameters()).device
    x, cond = run.encoded(items.x).to(device), {k: v.to(device) for k, v in items.cond.items()}
    with torch.inference_mode():
        for _ in range(2):
            started = time.monotonic()
            denoiser(x, as_time(0.5, len(x)), **cond).mean.cpu()
    return time.monotonic() - started


def _joined(a: Items, b: Items) -> Items:
    cond = {k: torch.cat([v, b.cond[k]]) for k, v in a.cond.items()}
    return Items(torch.cat([a.x, b.x]), cond, (*a.names, *b.names))
