"""A run both ways: a person's items to noise, noise to items, and the way from one item to another.

The flow is walked by `solvers.inverse`, whose way back ends where its way up began. The two ends of it:

    data's end    σ/α = 0.0005, or what the schedule itself starts with. The state there is α x, without noise:
                  a sixteenth of a grey level of an 8-bit picture would not be seen, and nothing is drawn.
    noise's end   where every grid of samples starts: the schedule's own end, or σ/α = 80. Noise is the state there
                  over the standard deviation of the prior, so that N(0, 1) is what sampling would have drawn.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from torch import Tensor

from kuosan.core.grids import LogSNR
from kuosan.core.random import Seeds
from kuosan.core.schedules import Schedule
from kuosan.core.shapes import BESIDE, as_time, at
from kuosan.core.sphere import great_circle
from kuosan.errors import UserError
from kuosan.modalities import Modality
from kuosan.modalities import load as load_data
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.conditions import Where, asked_of
from kuosan.recipes.run import CHUNK, Run, Samples
from kuosan.recipes.student import needs_flow
from kuosan.solvers import sample
from kuosan.solvers.inverse import Midpoint, invert
from kuosan.training.checkpoint import write_bytes

STEPS = 40
FINEST = 5e-4  # σ/α at the data's end
_FORM = "kuosan noise 1"

Conditions = Mapping[str, Int64[Tensor, "n ..."]]


@dataclass(frozen=True)
class Items:
    """A person's items: states in the run's form, the index of every condition, and their names."""

    x: Tensor
    cond: Conditions
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Noise:
    """Noise with what it takes to go back.

    Args:
        z: (n, ...) in the shape of the states; N(0, 1) where the model is right about the data.
        cond: the index of every condition, as the items were encoded.
        names: of the items.
        steps, w: of the way that led here; ``steps`` is 0 where there was none.
    """

    z: Tensor
    cond: Conditions
    names: tuple[str, ...] = ()
    steps: int = STEPS
    w: float = 1.0

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, part: slice) -> Noise:
        cond = {k: v[part] for k, v in self.cond.items()}
        return replace(self, z=self.z[part], cond=cond, names=self.names[part])

    def rows(
        self, numbers: range, drawn: Mapping[str, Tensor], where: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The noise of these numbers and their conditions: of ``drawn`` those that ``where`` names. Numbers past
        the end, which fill up a chunk of `Run.sample`, get the last row."""
        index = torch.tensor(numbers).clamp_max(len(self) - 1)
        return self.z[index], {k: drawn[k] if k in where else v[index] for k, v in self.cond.items()}

    def save(self, path: Path) -> None:
        """As safetensors: ``noise``, ``condition.NAME``, and the rest in the header."""
        tensors = {"noise": self.z.contiguous()} | {f"condition.{k}": v for k, v in self.cond.items()}
        about = {"form": _FORM, "names": list(self.names), "steps": self.steps, "w": self.w}
        write_bytes(path, safetensors.torch.save(tensors, metadata={"kuosan": json.dumps(about)}))


def read_noise(run: Run, path: Path) -> Noise:
    """The noise in a file: of `Noise.save`, or any safetensors file with a tensor ``noise`` (n, ...).

    Raises:
        UserError: it is missing or damaged, holds no noise, or noise that does not fit the run.
    """
    if not path.is_file():
        raise UserError(f"there is no noise at {path}: give the noise.safetensors that `kuosan encode` wrote")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("kuosan", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        steps, w = int(about.get("steps", 0)), float(about.get("w", 1.0))
        names = tuple(map(str, about.get("names", ())))
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError) as e:
        what = f"the noise {path} is damaged or no safetensors file ({str(e).splitlines()[0][:100]})"
        raise UserError(f"{what}: write it anew with `kuosan encode`") from e
    z = tensors.get("noise")
    if z is None:
        raise UserError(f"{path} holds no tensor named noise: give a file that `kuosan encode` wrote")
    if tuple(z.shape[1:]) != run.latent_shape or not len(z) or not z.is_floating_point():
        raise UserError(
            f"the noise in {path} is {tuple(z.shape)} {str(z.dtype).removeprefix('torch.')}, and {run.path} needs "
            f"floating point of shape (n, {', '.join(map(str, run.latent_shape))}): encode with this run, or sample "
            "with the other one"
        )
    if not bool(z.isfinite().all()):
        raise UserError(f"the noise in {path} is not finite everywhere: write it anew with `kuosan encode`")
    cond = {}
    for name, blank in run.facts.hidden(len(z)).items():
        unknown, index = run.facts.null[name], tensors.get(f"condition.{name}", blank)
        whole = index.shape == blank.shape and not index.is_floating_point()
        if not whole or not bool(((index >= 0) & (index <= unknown)).all()):
            raise UserError(
                f"the condition {name} in {path} is not one of {unknown} values for each of {len(z)} items: "
                "encode with this run, or sample with the other one"
            )
        cond[name] = index.long()
    if (there := tensors.get(f"condition.{BESIDE}")) is not None and len(there) == len(z):
        cond[BESIDE] = there.float()
    whole = len(names) == len(z) and 0 <= steps <= 10_000 and w >= 0
    names = names if whole else tuple(f"{i:05d}" for i in range(len(z)))
    return Noise(z.float(), cond, names, steps if whole else 0, w if whole else 1.0)


def read_items(
    run: Run,
    data: str | Path,
    n: int | None = None,
    where: Where | None = None,
    like: Modality[Any] | None = None,
) -> Items:
    """``n`` different items of a file or a folder, evenly spread over their names, brought to the run's form, or to
    that of ``like``.

    Conditions are the data's own where it has them, what ``where`` says instead, and hidden where nobody knows.

    Raises:
        UserError: nothing there that the run can read, or a condition that it does not have.
    """
    found = load_data(data, like=like or run.modality, columns=run.facts.columns, captions=run.captions)
    sides = (found.train, found.val)
    numbered = sorted((name, k, i) for k, side in enumerate(sides) for i, name in enumerate(side.names))
    count = min(n or len(numbered), len(numbered))
    numbered = [numbered[i * len(numbered) // count] for i in range(count)]
    parts = [
        side.batch(torch.tensor([i for _, j, i in numbered if j == k], dtype=torch.int64))
        for k, side in enumerate(sides)
    ]
    order = torch.tensor([k for _, k, _ in numbered]).argsort(stable=True).argsort()
    x = torch.cat([x for x, _ in parts])[order]
    names = [k for k in (*run.facts.null, BESIDE) if all(k in labels for _, labels in parts)]
    cond = {k: torch.cat([labels[k] for _, labels in parts])[order] for k in names}
    return Items(x, fixed(run, cond, len(x), where), tuple(name for name, _, _ in numbered))


def items_of(
    run: Run,
    data: str | Path | Tensor,
    n: int | None,
    where: Where | None,
    like: Modality[Any] | None = None,
) -> Items:
    """Items from a file or a folder, or from states (n, ...), whose conditions are hidden where not given; in the run's
    form, or in that of ``like``."""
    if not isinstance(data, Tensor):
        return read_items(run, data, n, where, like)
    shape = run.shape if like is None else like.shape
    if tuple(data.shape[1:]) != shape or not len(data):
        needed = ", ".join(map(str, shape))
        raise UserError(
            f"{run.path} takes states (n, {needed}), not {tuple(data.shape)}: bring them to that shape"
        )
    x = data[:n].float()
    return Items(
        x, fixed(run, run.facts.hidden(len(x)), len(x), where), tuple(f"{i:05d}" for i in range(len(x)))
    )


def one_item(run: Run, data: str | Path | Tensor, where: Where | None) -> Items:
    """The one item that an end of a way is; UserError where there are several."""
    items = items_of(run, data, None, where)
    if len(items) != 1:
        what = "a tensor" if isinstance(data, Tensor) else str(data)
        raise UserError(
            f"{what} holds {len(items):,} items, and a way has one at each end: name a single one"
        )
    return items


def fixed(run: Run, cond: Conditions, n: int, where: Where | None) -> dict[str, Tensor]:
    """Conditions of n examples with those that ``where`` names replaced."""
    return {**cond} | asked_of(run.facts, run.captions, range(n), where or {})


def way(schedule: Schedule, steps: int) -> Float[Tensor, " n+1"]:
    """The falling times of both ways: even in λ between the two ends (module docstring)."""
    if bool(schedule.sigma(torch.zeros(1, dtype=torch.float64)) > 0):
        return LogSNR()(schedule, steps)
    return LogSNR(rho_min=FINEST)(schedule, steps + 1)[:-1]


def encode(run: Run, items: Items, *, steps: int = STEPS, w: float = 1.0) -> Noise:
    """The noise that the deterministic flow takes to each item, by ``steps`` steps with guidance ``w``; about three
    calls of the network a step."""
    z = _walk(run, run.encoded(items.x), items.cond, steps, w, up=True)
    return Noise(z, items.cond, items.names, steps, w)


def decode(run: Run, noise: Noise) -> Samples:
    """The way back: the items that were encoded, or what lies at other noise under the same flow."""
    x = _walk(run, noise.z, noise.cond, noise.steps or STEPS, noise.w, up=False)
    latents = None if run.codec is None else x
    return Samples(
        run.decoded(x), dict(noise.cond), 0, run.modality, latents, run.facts.columns, run.captions
    )


def gaussian(run: Run) -> GaussianProcess:
    """The run's process; UserError where its noise is another, whose place among all noise says nothing."""
    needs_flow(run.facts, run.path, "going to noise and back")
    process = run.denoiser.process
    if not isinstance(process, GaussianProcess):
        raise UserError(
            f"encoding and great circles are for Gaussian noise, and {run.path} is {process}: train with noise=gaussian"
        )
    return process


def _walk(run: Run, x: Tensor, cond: Conditions, steps: int, w: float, *, up: bool) -> Tensor:
    denoiser, schedule = run.guided(w), gaussian(run).schedule
    device, grid = next(denoiser.parameters()).device, way(schedule, steps)
    ends = as_time(0.0, 1) + 1, as_time(grid[-1], 1)
    with torch.inference_mode():
        sigma, alpha = schedule.sigma(ends[0]), schedule.alpha(ends[1])
        out = []
        for low in range(0, len(x), CHUNK):
            part, c = (
                x[low : low + CHUNK].to(device),
                {k: v[low : low + CHUNK].to(device) for k, v in cond.items()},
            )
            if up:
                out.append((invert(denoiser, grid, part * at(alpha, part), **c) / at(sigma, part)).cpu())
                continue
            seeds = Seeds.of(0, len(part))  # nothing is drawn
            out.append(
                (
                    sample(denoiser, Midpoint(), grid, part * at(sigma, part), seeds, **c) / at(alpha, part)
                ).cpu()
            )
    return torch.cat(out).clone()


def common(run: Run, a: Conditions, b: Conditions) -> dict[str, Tensor]:
    """The conditions of a way between two items (1,) each: what they share; hidden where they differ, so that
    nothing jumps on the way."""
    null = run.facts.null
    return {k: a[k] if torch.equal(a[k], b[k]) else torch.full_like(a[k], null[k]) for k in null}


def between(noise: Noise, n: int) -> Noise:
    """``n`` noises from the first to the second of two, both included, along a great circle."""
    s = torch.linspace(0, 1, n, dtype=torch.float64)
    a, b = (noise.z[i : i + 1].expand(n, *noise.z.shape[1:]) for i in (0, 1))
    cond = {k: v[:1].expand(n, *v.shape[1:]).contiguous() for k, v in noise.cond.items()}
    names = tuple(f"{float(part):.3f}" for part in s)
    return replace(noise, z=great_circle(a, b, s), cond=cond, names=names)


def interpolate(
    run: Run, pair: Sequence[Items], n: int = 8, *, steps: int = STEPS, w: float = 1.0
) -> tuple[Samples, dict[str, Any]]:
    """``n`` samples from one item to another, both included as they come back from their noise.

    Both are encoded under the conditions that they share, see `common`. With the samples come the noise's norms at
    the two ends and the angle between them, in degrees.
    """
    if n < 2:
        raise UserError(
            f"a way from one item to another has both ends, and -n {n} has not: give -n 2 or more"
        )
    a, b = pair
    shared = common(run, a.cond, b.cond)
    ends = Items(
        torch.cat([a.x, b.x]), {k: torch.cat([v, v]) for k, v in shared.items()}, (*a.names, *b.names)
    )
    noise = encode(run, ends, steps=steps, w=w)
    one, two = noise.z.flatten(1)
    angle = torch.rad2deg(torch.acos(torch.nn.functional.cosine_similarity(one, two, 0).clamp(-1, 1)))
    about = {"norms": [float(one.norm()), float(two.norm())], "angle": float(angle)}
    return decode(run, between(noise, n)), about
