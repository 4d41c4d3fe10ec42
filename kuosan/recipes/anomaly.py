"""Where items are not as those that a model was trained on, see `kuosan.guidance.restored`.

A map by itself says little: every model errs everywhere. So an item's number, the mean of the largest `TOP` of its map,
is compared with those of held-out items, and the share of these that are smaller is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.guidance import restored
from kuosan.modalities import Modality
from kuosan.recipes.inverse import CHUNK, Items, fixed, items_of
from kuosan.recipes.noise import build_solver
from kuosan.recipes.student import needs_flow

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

TOP = 0.01
USUAL = 64  # held-out items that are compared with
SEED = 3_000_000


@dataclass(frozen=True)
class Anomalies:
    """``maps`` of the differences of items ``x`` from what they were ``restored`` to, in units of the files."""

    x: Float[Tensor, "n c *sides"]
    restored: Float[Tensor, "n c *sides"]
    maps: Float[Tensor, "n *sides"]
    names: tuple[str, ...]
    usual: Float[Tensor, " m"]

    @property
    def numbers(self) -> list[dict[str, Any]]:
        """Of each item its mean and its largest differences, and the percentage of held-out items whose are smaller."""
        out: list[dict[str, Any]] = []
        for name, one, top in zip(self.names, self.maps, largest(self.maps).tolist(), strict=True):
            percent = 100 * float((self.usual < top).double().mean()) if len(self.usual) else None
            out.append({"name": name, "mean": float(one.mean()), "largest": top, "percentile": percent})
        return out


def largest(maps: Float[Tensor, "n *sides"]) -> Float[Tensor, " n"]:
    """The mean of the largest `TOP` of each map."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(TOP * flat.shape[1])), dim=1).values.mean(1)


def find(
    run: Run,
    files: Sequence[str | Path] | Tensor,
    *,
    level: float = 0.5,
    draws: int = 4,
    steps: int = 10,
    where: Mapping[str, str] | None = None,
    w: float = 1.0,
    seed: int = SEED,
    usual: int = USUAL,
) -> Anomalies:
    """Of items in files, or of states: what is not as in training.

    Args:
        level: the time up to which they are noised; larger forgets more.
        draws: of noise, over which is averaged.
        steps: from there back.
        where: conditions under which they are restored; otherwise those of the items, where they are known.
        w: guidance weight towards these.
        usual: held-out items of the run's own data to compare with, at most.

    Raises:
        UserError: a level that is none, a model whose states are tokens, or files that it cannot read.
    """
    if not 0 < level < 1:
        raise UserError(f"--level {level:g} is not between 0 and 1: 0.5 hides about half of an item")
    _ = run.denoiser
    needs_flow(run.facts, run.path, "restoring items")
    if isinstance(files, Tensor):
        items = items_of(run, files, None, where)
    else:
        items = _joined([items_of(run, path, None, where) for path in files])

    def made(some: Items) -> tuple[Tensor, Tensor]:
        back = run.decoded(_restored(run, some, level, draws, steps, w, seed))
        apart = (some.x - back).abs().mean(1) * run.modality.scale
        return back, apart

    back, maps = made(items)
    known = _held_out(run, usual, where)
    return Anomalies(items.x, back, maps, items.names, largest(made(known)[1]) if known else torch.zeros(0))


@torch.inference_mode()
def _restored(run: Run, items: Items, level: float, draws: int, steps: int, w: float, seed: int) -> Tensor:
    denoiser = run.guided(w)
    device, solver = next(denoiser.parameters()).device, build_solver("ddim", run.denoiser.process)
    z, out = run.encoded(items.x), []
    for low in range(0, len(z), CHUNK):
        part = z[low : low + CHUNK].to(device)
        cond = {k: v[low : low + CHUNK].to(device) for k, v in items.cond.items()}
        seeds = Seeds.of(seed, range(low, low + len(part)))
        out.append(restored(denoiser, solver, part, level, seeds, draws=draws, steps=steps, **cond).cpu())
    return torch.cat(out).clone()


def _joined(parts: Sequence[Items]) -> Items:
    cond = {k: torch.cat([part.cond[k] for part in parts]) for k in parts[0].cond}
    return Items(
        torch.cat([part.x for part in parts]), cond, tuple(name for part in parts for name in part.names)
    )


def _held_out(run: Run, most: int, where: Mapping[str, str] | None) -> Items | None:
    """Held-out items of the run's own data; None where these are gone, or there are none."""
    from kuosan.recipes.evaluate import data_of

    if not most or run.foreign or not Path(run.facts.recipe.data.path or "/-").exists():
        return None
    val = data_of(run).val
    if not len(val):
        return None
    x, cond = val.batch(torch.arange(min(most, len(val))))
    return Items(x, fixed(run, cond, len(x), where), val.names[: len(x)])


def pictures(run: Run, found: Anomalies) -> list[Image.Image]:
    """Of each item itself, what it was restored to, and the map, black to white over all of them."""
    from matplotlib import colormaps

    def heat(values: Any) -> Any:
        return (255 * colormaps["inferno"](values / top)[..., :3]).astype(np.uint8)

    modality = run.modality
    top = float(found.maps.max()) or 1.0
    out = []
    for x, back, one in zip(found.x, found.restored, found.maps, strict=True):
        parts = [modality.show(modality.decode(row[None]), 1) for row in (x, back)]
        size = (parts[0].width, parts[0].height)
        own = modality.coloured(x[None], heat(one.numpy()))
        flat = heat(_flat(one.numpy(), modality))
        parts.append(own or Image.fromarray(flat).resize(size, Image.Resampling.NEAREST))
        sheet = Image.new("RGB", (sum(p.width for p in parts), size[1]), "white")
        for i, part in enumerate(parts):
            sheet.paste(part, (i * size[0], 0))
        out.append(sheet)
    return out


def column(sheets: Sequence[Image.Image]) -> Image.Image:
    """All below each other."""
    out = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
    top = 0
    for sheet in sheets:
        out.paste(sheet, (0, top))
        top += sheet.height
    return out


def _flat(values: Any, modality: Modality[Any]) -> Any:
    """A map as a picture: of volumes the middle planes, of one side a stripe."""
    from kuosan.modalities.medical_draw import planes

    if values.ndim == 1:
        return values[None]
    scales = [modality.units(axis).get("mm") for axis in modality.axes]
    spacing = [1 / scale for scale in scales if scale]
    return planes(values, spacing if len(spacing) == values.ndim else None)
