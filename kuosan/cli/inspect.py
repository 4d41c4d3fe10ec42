"""`kuosan inspect DATA|RUN`: what a folder holds, before or after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuosan.cli.answer import Answer
from kuosan.cli.notes import busy, table
from kuosan.cli.options import Json
from kuosan.cli.words import choices_table, noun, skipped_lines

MOST_VALUES = 30  # of a condition, in the text


def inspect(path: Path, /, *, modality: str = "auto", json: Json = False) -> Answer:
    """Say what a data folder or a run holds; nothing is changed.

    Args:
        path: a folder or file of data, a run, or a diffusers pipeline's folder.
        modality: what kind of data; found out unless given.
    """
    from kuosan.cli.inspect_run import inspect_run
    from kuosan.denoisers.diffusers import is_diffusers
    from kuosan.recipes.run import RECIPE, Run

    if (path / RECIPE).is_file() or (path.is_dir() and is_diffusers(path)):
        return inspect_run(Run(path))
    return _data(path, modality)


def _data(path: Path, modality: str) -> Answer:
    from kuosan.modalities import load
    from kuosan.modalities.folder import open_folder
    from kuosan.recipes import captions, codec, machine
    from kuosan.recipes.opening import RECIPES
    from kuosan.recipes.schema import Recipe

    recipe, device = Recipe(), machine.device()  # as `kuosan train` would read it
    with busy(f"reading {path}"):
        sides = codec.sides_of(path, modality) if codec.possible(recipe, device) else []
        kind = open_folder(path, modality).modality
        told = None if kind in RECIPES and kind != "image" else captions.reading(recipe, kind)
        data = load(path, modality=modality, max_side=codec.max_side(recipe, device, sides), caption=told)
    survey = data.survey.to_json()
    rows: list[tuple[str, Any]] = [
        (noun(survey["modality"]), f"{survey['items']:,} in {survey['files']:,} files"),
        ("to train on", f"{survey['train']:,}"),
        ("held out", f"{survey['val']:,}"),
    ]
    rows += [
        (name, _counts(survey[name])) for name in ("sizes", "modes", "dtypes", "lengths") if survey[name]
    ]
    rows += [(name, f"{count:,}") for name, count in survey["totals"].items()]
    for column, values in survey["classes"].items():
        rows.append((f"--where {column}=", _counts(values, survey["class_names"])))
    if survey["captions"]:
        rows.append(("captions", f"{survey['captions']:,}"))
    rows += _duplicates(survey["duplicates"])
    rows.append(("fingerprint", survey["fingerprint"][:16]))
    lines = [table(rows, (str(path), "")), ""]
    if survey["notes"]:
        lines += [choices_table(survey["notes"]), ""]
    lines += skipped_lines(survey)
    if left := survey["left_alone"]:
        name, reason = left[0]
        lines.append(f"{len(left):,} other files were left alone, such as {name} ({reason}).")
    return Answer("\n".join(lines).rstrip(), {"kind": "data", **survey})


def _duplicates(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """What there is of exact copies; a line of its own for each kind."""
    rows = [(k.replace("_", " "), f"{v:,}") for k, v in found.items() if isinstance(v, int) and v]
    for what, key in (("the same", "examples"), ("much alike", "near_examples")):
        rows += [(what, ", ".join(group)) for group in found.get(key, ())[:3]]
    return rows or [("exact copies", "none")]


def _counts(counts: dict[str, int], names: dict[str, str] | None = None) -> str:
    counts = {k: n for k, n in counts.items() if n}  # others are reached by transposing, say
    some = list(counts.items())[:MOST_VALUES]
    texts = [f"{k} {names[k]} ({n:,})" if names and k in names else f"{k} ({n:,})" for k, n in some]
    more = f", and {len(counts) - MOST_VALUES:,} more" if len(counts) > MOST_VALUES else ""
    return ", ".join(texts) + more
