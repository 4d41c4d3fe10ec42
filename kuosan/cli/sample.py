"""`kuosan sample RUN`: files in the modality's own format, the states, and one overview picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import counting, note
from kuosan.cli.options import Flag, Json, Where, at_least, conditions
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.words import shown
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run, Samples

STATES, OVERVIEW = "samples.safetensors", "overview.png"


def sample(
    run: Path,
    /,
    *,
    n: Annotated[int, Parameter(name="-n")] = 64,
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    seed: int = 0,
    where: Where = None,
    w: Annotated[float | None, Parameter(name="--w")] = None,
    exact: Flag = False,
    first: int = 0,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Draw samples; the same seed gives the same samples, however many are drawn at once.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        n: how many.
        steps: steps per sample, each a call of the network (two with heun); 10 unless the run says otherwise.
        solver: ddim, heun, unipc3, dpm++2m, ancestral, …; auto is the run's own.
        grid: uniform, logsnr, karras, karras:POWER; auto is the run's own.
        seed: of the samples; a whole number.
        w: guidance weight towards the conditions; 1 is no guidance.
        exact: the same bits whatever the number of samples, not just the same within 1e-5.
        first: number of the first sample: -n 64 and then -n 64 --first 64 are the same as -n 128.
        out: folder for the files; a new one in the run unless given.
    """
    at_least("-n", n)
    at_least("--first", first, 0)
    at_least("--steps", steps)
    at_least("--w", w, 0)
    checked_seed(seed)
    fixed = conditions(where)
    from kuosan.recipes.run import Run

    loaded = Run(run)
    if not loaded.foreign:
        working_in(run)
    facts = loaded.facts
    folder = _folder(out, loaded)
    options: dict[str, Any] = {
        "steps": steps, "solver": solver, "grid": grid, "seed": seed, "where": fixed, "w": w, "exact": exact,
    }  # fmt: skip
    started = time.monotonic()
    samples = draw(loaded, n, first, options)
    seconds = time.monotonic() - started
    paths = loaded.write(samples, folder)
    used = facts.recipe.sampling
    data = {
        "run": run, "out": folder, "n": n, "first": first, "seed": seed, "steps": steps or used.steps,
        "solver": used.solver if solver == "auto" else solver, "grid": used.grid if grid == "auto" else grid,
        "w": used.w if w is None else w, "where": fixed, "exact": exact, "seconds": round(seconds, 3),
        "files": paths, "states": folder / STATES, "overview": folder / OVERVIEW,
        "conditions": {k: [_value(facts.columns[k], int(i)) for i in v] for k, v in samples.cond.items()},
    }  # fmt: skip
    what = ", ".join(f"{k} = {v}" for k, v in fixed.items())
    with_what = f" with {what}" if what else ""
    text = (
        f"{n:,} samples{with_what} in {data['steps']} steps each, {seconds:.1f} s: {shown(folder)}\n"
        f"All at a glance: {shown(folder / OVERVIEW)}"
    )
    return Answer(text, data)


def draw(run: Run, n: int, first: int, options: dict[str, Any]) -> Samples:
    """Samples ``first`` to ``first + n - 1`` in pieces, told on the way."""
    from kuosan.recipes.run import CHUNK, Samples

    parts = []
    with counting("sampling", n) as tell:
        for low in range(first, first + n, CHUNK):
            parts.append(run.sample(min(CHUNK, first + n - low), first=low, **options))
            tell(low - first + len(parts[-1]))
    return joined(parts) if len(parts) > 1 else Samples(parts[0].x, parts[0].cond, first, parts[0].modality)


def joined(parts: list[Samples]) -> Samples:
    """Consecutive samples as one."""
    import torch

    from kuosan.recipes.run import Samples

    cond = {k: torch.cat([p.cond[k] for p in parts]) for k in parts[0].cond}
    return Samples(torch.cat([p.x for p in parts]), cond, parts[0].first, parts[0].modality)


def _value(values: list[str], index: int) -> str | None:
    return values[index] if index < len(values) else None


def _folder(out: Path | None, run: Run) -> Path:
    """Where samples go, proved to be writable before any work is done.

    Raises:
        UserError: it holds files that are no samples of ours, or it cannot be written.
    """
    if out is None:
        base = Path(f"{run.path.resolve().name}-samples") if run.foreign else run.path / "generated"
        number, out = 1, base
        while out.exists():
            number += 1
            out = base.with_name(f"{base.name}-{number}")
    elif out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, and samples go into a folder: give another --out")
    elif out.exists() and any(out.iterdir()):
        if not (out / STATES).is_file():
            raise UserError(
                f"{out} holds files that are no samples of Kuosan's: give --out a new or an empty folder"
            )
        note(f"{shown(out)} holds earlier samples: those with the same numbers are replaced, others stay")
    writable(out, "--out")
    return out


def writable(folder: Path, flag: str) -> None:
    """Make a folder and prove that files can be written there; UserError where not."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".kuosan-"):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): give {flag} a folder that can"
        ) from error
