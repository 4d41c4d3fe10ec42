"""`kuosan export RUN --to diffusers DIR`: the model in a form that other programs open."""

from __future__ import annotations

from pathlib import Path

from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy
from kuosan.cli.options import Json, Where, conditions
from kuosan.cli.words import shown


def export(run: Path, folder: Path, /, *, to: str, where: Where = None, json: Json = False) -> Answer:
    """Write a run's model for diffusers: a folder that DiffusionPipeline.from_pretrained opens.

    Args:
        run: the folder that `kuosan train` wrote to.
        folder: where to write; a new or an empty folder.
        to: diffusers.
    """
    from kuosan.recipes.export import export as write
    from kuosan.recipes.run import Run

    fixed = conditions(where)
    loaded = Run(run)
    if not loaded.foreign:
        working_in(run)
    with busy(f"writing {shown(folder)}"):
        written = write(loaded, to, folder, fixed)
    text = (
        f"{shown(folder)}: a {written['pipeline']} of {written['parameters']:,} parameters, "
        "explained in its README.md:\n"
        "  from diffusers import DiffusionPipeline\n"
        f"  pipe = DiffusionPipeline.from_pretrained({str(folder)!r})"
    )
    return Answer(text, {"run": run, "to": to, **written})
