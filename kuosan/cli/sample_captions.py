"""Captions that samples are asked for: from a file, and what to say of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.notes import note
from kuosan.cli.options import CAPTION
from kuosan.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from kuosan.recipes.run import Run, Samples

WIDEST = 16  # columns of an overview


def with_captions(fixed: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """What ``--where`` fixes, with the captions of a file, a line each.

    Raises:
        UserError: there are none in it, or --where has some too.
    """
    if path is None:
        return fixed
    if CAPTION in fixed:
        raise UserError("--captions and --where caption= both say what the captions are: leave one away")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"the captions {path} cannot be read ({why}): give --captions a text file") from error
    if not (texts := [line.strip() for line in lines if line.strip()]):
        raise UserError(f"{path} holds no captions: write one in each line")
    return {**fixed, CAPTION: texts}


def told_of(run: Run, fixed: dict[str, Any]) -> int:
    """How many captions are asked for, with a note on whatever of them the run cannot know.

    Raises:
        UserError: the run hears no captions.
    """
    from kuosan.recipes.conditions import texts_of

    if CAPTION not in fixed:
        return 0
    if CAPTION in run.facts.columns:
        if not isinstance(fixed[CAPTION], str):
            raise UserError(
                f"caption is a list of values in {run.path}, of which samples have one: give it once"
            )
        return 0
    if run.captions is None:
        raise UserError(
            f"{run.path} was trained without captions: leave them away, or train on data that has some (data.caption)"
        )
    texts = texts_of(fixed)
    for remark in dict.fromkeys(remark for text in texts for remark in run.captions.remarks(text)):
        note(remark)
    return len(texts) if len(texts) > 1 else 0


def in_columns(samples: Samples, texts: int) -> Image.Image | None:
    """An overview with a column for each of so many captions, where they fit and there is more than one row."""
    if not 1 < texts <= WIDEST or len(samples) <= texts:
        return None
    return samples.modality.show(samples.raws(100), texts)
