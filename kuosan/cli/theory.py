"""`kuosan theory`: what diffusion is, on a law that can be drawn, in one picture and its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.answer import Answer, to_json
from kuosan.cli.notes import note, table
from kuosan.cli.options import Json
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.sample import writable
from kuosan.cli.words import shown

if TYPE_CHECKING:
    from kuosan.explain.theory import Distance, Theory

PICTURE, NUMBERS = "theory.png", "theory.json"
HEADS = (
    "dynamics",
    "denoiser",
    "eta",
    "equation - exact",
    "samples - exact",
    "samples - equation",
    "floor",
    "n",
)


def theory(*, out: Path = Path("runs/theory"), seed: int = 0, json: Json = False) -> Answer:
    """Draw what diffusion is: exact density, Fokker–Planck equation and samples, over time; under a minute.

    Args:
        out: folder for theory.png and theory.json; earlier ones there are replaced.
        seed: of the small network, its data, and the samples.
    """
    checked_seed(seed)
    writable(out, "--out")
    from kuosan.explain.plot import draw
    from kuosan.explain.theory import Study, Theory
    from kuosan.explain.theory import theory as work_out
    from kuosan.training.checkpoint import write_bytes

    for part in work_out(Study(seed=seed)):
        if isinstance(part, Theory):
            result = part
        else:
            note(f"{part} …")
    data = result.data()
    write_bytes(out / PICTURE, draw(result))
    write_bytes(out / NUMBERS, f"{to_json(data)}\n".encode())
    files = {"out": out, "picture": out / PICTURE, "numbers": out / NUMBERS}
    return Answer(_text(result, out), {**files, "seed": seed, **data})


def _text(result: Theory, out: Path) -> str:
    rows: list[tuple[Any, ...]] = []
    for course in (*result.courses, result.sheet):
        counted = course.samples_exact[-1]
        rows.append(
            (
                f"{course.name}, {course.box.dims}-d",
                course.denoiser,
                "" if course.eta is None else f"{course.eta:g}",
                f"{course.equation_exact[-1]:.4f}",
                _measured(counted),
                _measured(course.samples_equation[-1]),
                f"{counted.floor:.3f}",
                f"{result.study.batches} x {counted.n:,}",
            )
        )
    worst, best = (max(r, key=lambda level: level.root) for r in (result.residual, result.exact_residual))
    residual = (
        f"The network's score is farthest from a diffusion's at log-SNR {worst.log_snr:g}: residual "
        f"{worst.root:.3f} ± {worst.stderr / (2 * worst.root or 1):.3f}, n = {worst.n:,} "
        f"(exact denoiser: {best.root:.0e})."
    )
    lines = [
        "Distances between densities where each course ends, from 0 (the same) to 2 (apart):",
        "",
        table(rows, HEADS),
        "",
        "floor: what as many draws from the exact density score.",
        residual,
        f"Picture: {shown(out / PICTURE)}",
        f"Numbers: {shown(out / NUMBERS)}",
    ]
    return "\n".join(lines)


def _measured(distance: Distance) -> str:
    return f"{distance.value:.3f} ± {distance.stderr:.3f}"
