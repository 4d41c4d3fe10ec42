"""`kuosan anomaly RUN FILE …`: where items are not as those that the model was trained on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kuosan.cli.answer import Answer, plain
from kuosan.cli.encode import opened
from kuosan.cli.notes import busy
from kuosan.cli.options import Json, Where, at_least, conditions
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.sample import OVERVIEW, STATES, place
from kuosan.cli.words import shown
from kuosan.errors import UserError

NUMBERS = "anomaly.json"
SHOWN = 16


def anomaly(
    run: Path,
    /,
    *files: Path,
    level: float = 0.5,
    draws: int = 4,
    steps: int = 10,
    where: Where = None,
    w: Annotated[float, Parameter(name="--w")] = 1.0,
    usual: int = 64,
    seed: int = 0,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Hide part of each item in noise, let the model restore it, and show what differs.

    A map is written for each item, in its unit, of medical images as NIfTI, and a picture of item, restored item and
    map beside each other. The numbers are told beside those of held-out items of the run's own data.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        files: files or folders with items, which are brought to the run's form.
        level: how much is hidden, between 0 and 1; larger forgets more of an item.
        draws: of noise for each item, over which is averaged.
        steps: from there back.
        w: guidance weight towards the conditions; 1 is no guidance.
        usual: held-out items to compare with, at most.
        seed: of the noise.
        out: folder for the files; a new one in the run unless given.
    """
    if not files:
        raise UserError("kuosan anomaly needs something to look at: name a file or a folder behind the run")
    for name, count in (("--draws", draws), ("--steps", steps)):
        at_least(name, count)
    at_least("--usual", usual, 0)
    at_least("--w", w, 0)
    checked_seed(seed)
    fixed = conditions(where)
    import safetensors.torch

    from kuosan.recipes.anomaly import column, find, pictures
    from kuosan.training.checkpoint import write_bytes, write_json

    loaded = opened(run)
    started = time.monotonic()
    with busy(f"restoring what {len(files):,} files hold"):
        found = find(
            loaded, files, level=level, draws=draws, steps=steps, where=fixed, w=w, seed=seed, usual=usual
        )
    seconds = time.monotonic() - started
    folder = place(out, loaded, "anomalies")
    states = {"x": found.x, "restored": found.restored, "maps": found.maps}
    write_bytes(folder / STATES, safetensors.torch.save({k: v.contiguous() for k, v in states.items()}))
    sheets, maps = pictures(loaded, found), []
    for i, (sheet, one) in enumerate(zip(sheets, found.maps, strict=True)):
        sheet.save(folder / f"{i:05d}.png")
        maps.append(loaded.modality.write_map(one, folder / f"{i:05d}"))
    column(sheets[:SHOWN]).save(folder / OVERVIEW)
    about = {
        "run": run, "level": level, "draws": draws, "steps": steps, "w": w, "where": fixed, "seed": seed,
        "usual": len(found.usual), "items": found.numbers,
    }  # fmt: skip
    write_json(folder / NUMBERS, plain(about))
    lines = [_line(row, len(found.usual)) for row in found.numbers[:SHOWN]]
    return Answer(
        "\n".join([*lines, f"Maps and pictures, {seconds:.1f} s: {shown(folder)}"]),
        {
            **about, "files": list(files), "out": folder, "seconds": round(seconds, 3), "maps": [m for m in maps if m],
            "overview": folder / OVERVIEW, "states": folder / STATES,
        },
    )  # fmt: skip


def _line(row: dict[str, Any], usual: int) -> str:
    beside = (
        ""
        if row["percentile"] is None
        else f", more than {row['percentile']:.0f} % of {usual} held-out items"
    )
    return f"{row['name']}: {row['mean']:.4g} on average, {row['largest']:.4g} where it is largest{beside}"
