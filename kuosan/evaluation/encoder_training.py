"""Trains the encoder of encoder.py: seconds on two CPU cores, the same bits from the same seed.

A clock would decide differently on every run, so `seconds` is turned into a number of steps by a fixed
price list (multiply-adds per second of a slow two-core machine). The result then depends on the data, the
seed and `seconds` alone; a faster machine is simply done earlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate, normalize

from kuosan.core.shapes import PICTURE
from kuosan.evaluation.encoder import (
    DIMENSIONS,
    FEWEST_PLACES,
    LARGEST_SIDE,
    Encoder,
    EncoderNetwork,
    make_network,
    smaller,
)
from kuosan.evaluation.estimates import share_stderr
from kuosan.evaluation.recognition import accuracy

BATCH = 128
MULTIPLY_ADDS_PER_SECOND = 2.5e10  # forward, measured while training beside its backward pass; two slow cores
STEP_OVERHEAD = 0.008  # seconds of a step beside its multiply-adds (small kernels, optimiser)
FEWEST_STEPS = 20
MOST_EPOCHS = 60
TEMPERATURE = 0.2


def steps_for(seconds: float, network: EncoderNetwork, items: int, views: int) -> int:
    """How many steps `seconds` pay for, at most `MOST_EPOCHS` passes over the data and at least `FEWEST_STEPS`."""
    price = STEP_OVERHEAD + views * BATCH * network.cost / MULTIPLY_ADDS_PER_SECOND
    return max(FEWEST_STEPS, min(int(seconds / price), MOST_EPOCHS * math.ceil(items / BATCH)))


def view(
    x: Float[Tensor, "n c *sides"], generator: torch.Generator, strength: float, axes: Sequence[str] = PICTURE
) -> Float[Tensor, "n c *sides"]:
    """Copies randomly shifted (≤ 10 % of a side), scaled (≤ 12 %) and, where they are pictures, turned (≤ 11°), all
    times `strength`."""
    if tuple(axes) != PICTURE:
        return _straight(x, generator, strength)
    n, _, h, w = x.shape
    shift_x, shift_y, scale, turn = (2 * torch.rand(4, n, generator=generator) - 1) * strength
    angle, size, aspect = 0.2 * turn, 1 + 0.12 * scale, h / w
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    rows = [cos, -sin * aspect, 0.2 * shift_x, sin / aspect, cos, 0.2 * shift_y]
    grid = affine_grid(torch.stack(rows, 1).view(n, 2, 3).to(x.device), [n, 1, h, w], align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _straight(x: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Shifted and scaled along every side by itself: a second of sound or a clip has no other angle."""
    y = x[:, :, None] if x.ndim == 3 else x  # a row, for those of one side
    n, sides = len(x), y.ndim - 2
    shift, scale = (2 * torch.rand(2, n, sides, generator=generator) - 1) * strength
    if x.ndim == 3:
        shift[:, -1], scale[:, -1] = 0, 0  # affine_grid counts sides from the last
    theta = torch.cat([torch.diag_embed(1 + 0.12 * scale), 0.2 * shift[:, :, None]], 2).to(x.device)
    grid = affine_grid(theta, [n, 1, *y.shape[2:]], align_corners=False)
    return grid_sample(y, grid, mode="bilinear", padding_mode="border", align_corners=False).view_as(x)


def contrastive_loss(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """NT-Xent (Chen et al. 2020, eq. 1): each of 2n views must find its other view among 2n − 1."""
    z = normalize(torch.cat([a, b]))
    n = len(a)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    likeness = (z @ z.T / TEMPERATURE).masked_fill(itself, -math.inf)
    other = torch.arange(2 * n, device=z.device).roll(n)
    return cross_entropy(likeness, other)


def batches(items: int, steps: int, generator: torch.Generator) -> Iterator[Int[Tensor, " b"]]:
    """Shuffled passes over the data, in batches of one size (all items where there are fewer)."""
    size, waiting = min(BATCH, items), torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        if len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(items, generator=generator)])
        yield waiting[:size]
        waiting = waiting[size:]


def train_encoder(
    x: Float[Tensor, "n c *sides"],
    labels: Int[Tensor, " n"] | None = None,
    *,
    axes: Sequence[str] = PICTURE,
    val: Float[Tensor, "m c *sides"] | None = None,
    val_labels: Int[Tensor, " m"] | None = None,
    seed: int = 0,
    seconds: float = 15.0,
    device: torch.device | str = "cpu",
) -> Encoder:
    """An encoder of states x, whose sides are `axes`, its quality measured on `val`.

    With `labels` (any integers, at least two kinds) it is a classifier; without, contrastive. At least 16 places (4×4
    pixels), any channel count, n ≥ 2. Raises ValueError otherwise.
    """
    n, c, *sides = x.shape
    if n < 2 or math.prod(sides) < FEWEST_PLACES:
        raise ValueError(
            f"encoder: needs at least 2 items of at least {FEWEST_PLACES} places, got {tuple(x.shape)}"
        )
    classes = torch.unique(labels) if labels is not None else torch.zeros(0, dtype=torch.long)
    if labels is not None and (len(labels) != n or len(classes) < 2):
        raise ValueError(f"encoder: {n} pictures with {len(labels)} labels of {len(classes)} kinds")
    generator = torch.Generator().manual_seed(seed)
    network = make_network(c, sides, max(len(classes), DIMENSIONS * (labels is None)), generator).to(device)
    steps = steps_for(seconds, network, n, 1 if labels is not None else 2)
    small = _taught(x)
    target = torch.searchsorted(classes, labels).to(device) if labels is not None else None
    _optimise(network, small, target, steps, generator, axes)
    encoder = Encoder(
        network.eval().requires_grad_(False),
        (c, *sides),
        tuple(classes.tolist()),
        torch.zeros(DIMENSIONS),
        torch.ones(DIMENSIONS),
    )
    rows = encoder(x)
    # Dead features have no deviation; 1 leaves them at 0 instead of magnifying rounding.
    deviation = rows.std(0)
    deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
    encoder = replace(encoder, mean=rows.mean(0), deviation=deviation)
    taught = replace(encoder, shape=tuple(small.shape[1:]))
    quality = _quality(taught, None if val is None else _taught(val), val_labels, generator, axes)
    return replace(encoder, quality={"steps": steps, "trained_on": n} | quality)


def _taught(x: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n c *smaller"]:
    """Large items at twice what the network looks at: views of all of their pixels would cost more than the
    network itself."""
    size = smaller(x.shape[2:], 2 * LARGEST_SIDE[x.ndim - 2])
    if size == tuple(x.shape[2:]):
        return x
    return torch.cat([interpolate(rows.float(), size, mode="area") for rows in x.split(256)])


def _optimise(
    network: EncoderNetwork,
    x: Tensor,
    target: Tensor | None,
    steps: int,
    generator: torch.Generator,
    axes: Sequence[str],
) -> None:
    device = network.head.weight.device
    _lay_out(network, torch.channels_last)  # 1.0 to 1.8 times as fast on a CPU
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.2)
    for index in batches(len(x), steps, generator):
        here = x[index].to(device, torch.float32)
        if x.ndim == 4:
            here = here.contiguous(memory_format=torch.channels_last)
        if target is not None:
            loss = cross_entropy(
                network(view(here, generator, 0.8, axes)), target[index], label_smoothing=0.05
            )
        else:
            both = network(torch.cat([view(here, generator, 1.0, axes) for _ in range(2)]))
            loss = contrastive_loss(*both.chunk(2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    _lay_out(network, torch.contiguous_format)  # as a loaded one, so that both give the same bits


def _lay_out(network: EncoderNetwork, layout: torch.memory_format) -> None:
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def _quality(
    encoder: Encoder,
    val: Tensor | None,
    val_labels: Tensor | None,
    generator: torch.Generator,
    axes: Sequence[str],
) -> dict[str, Any]:
    if val is None or len(val) < 2:
        return {"measure": "none: no held-out items"}
    if encoder.classes and val_labels is not None:
        classes = torch.tensor(encoder.classes)
        known = torch.isin(val_labels, classes)
        if bool(known.any()):
            right = accuracy(encoder.logits(val[known]), torch.searchsorted(classes, val_labels[known]))
            n = int(known.sum())
            return {"measure": "held-out accuracy", "value": right, "stderr": share_stderr(right, n), "n": n}
    few = val[:256]
    a, b = (encoder(view(few.float(), generator, 1.0, axes)) for _ in range(2))
    found = float((torch.cdist(a, b).argmin(1) == torch.arange(len(few))).double().mean())
    return {
        "measure": "retrieval: a view of a held-out picture finds the other among n",
        "value": found,
        "stderr": share_stderr(found, len(few)),
        "n": len(few),
        "chance": 1 / len(few),
    }
