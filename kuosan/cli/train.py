"""`kuosan train DATA`: from a folder of files to a run. No other flag is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import kuosan
from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy
from kuosan.cli.options import Flag, Json, file_leaves, pairs
from kuosan.cli.options import seed as checked_seed


def train(
    data: Path,
    /,
    *,
    out: Path | None = None,
    modality: str = "auto",
    budget: str | None = None,
    seed: int | None = None,
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", metavar="PART.KEY=VALUE")] = None,
    init: str | None = None,
    track: Literal["wandb", "trackio"] | None = None,
    dry_run: Flag = False,
    json: Json = False,
) -> Answer:
    """Train a model on a folder or a file; the same command again goes on where it stopped.

    Args:
        data: a folder of pictures (flat, or a sub-folder per class), or an .npy, .npz or IDX file.
        out: the run's folder; runs/NAME unless given.
        modality: what kind of data; found out unless given.
        budget: 10m, 2h, 5000steps, 3Mimages; 10m unless given.
        seed: of everything random; 0 unless given.
        config: YAML file with leaves of the recipe, such as another run's recipe.yaml.
        set_: leaves of the recipe: network=unet training.lr=1e-3; goes before --config; may be repeated.
        init: start from the weights of a run or of a diffusers folder.
        track: tell Weights & Biases or Trackio too, on this machine unless their own settings say otherwise.
        dry_run: print what would be done, with measured step time and memory; write nothing.
    """
    from kuosan.recipes.opening import prepare
    from kuosan.recipes.schema import Recipe

    asked = _asked(modality, budget, seed, config, set_, init) | ({"track": track} if track else {})
    recipe = Recipe().updated(asked)
    if dry_run:
        from kuosan.cli.dry_run import dry_run as rehearse
        from kuosan.recipes.opening import settle

        return rehearse(settle(data, out, recipe, asked))
    from kuosan.cli.training import complete

    with busy(f"reading {data}"):
        session = prepare(data, out=out, recipe=recipe, asked=asked, started=kuosan.STARTED)
    working_in(session.run.path)
    return complete(session)


def _asked(
    modality: str,
    budget: str | None,
    seed: int | None,
    config: Path | None,
    set_: list[str] | None,
    init: str | None,
) -> dict[str, Any]:
    """Every leaf that was asked for: --config first, then the flags, then --set."""
    from kuosan.recipes.schema import read_value

    asked: dict[str, Any] = {"budget": "10m", "seed": 0, "init": ""}
    if config is not None:
        asked |= file_leaves(config)
    if budget is not None:
        asked["budget"] = budget
    if seed is not None:
        asked["seed"] = checked_seed(seed)
    if modality != "auto":
        asked["data.modality"] = modality
    if init is not None:
        asked["init"] = init if init.startswith("zoo:") else str(Path(init).resolve())
    return asked | {key: read_value(value) for key, value in pairs(set_, "--set")}
