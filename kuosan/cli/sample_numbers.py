"""What `kuosan sample` can be asked of states of numbers: parts that stay, variations, and larger ones than trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.cli.answer import Answer
from kuosan.cli.sample_music import kept_music
from kuosan.cli.words import shown
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run
    from kuosan.recipes.steering import Steering

GIVEN = "given.png"
SHOWN = 16  # items of that picture at most


def steered(
    run: Run,
    score: Mapping[str, Any],
    parts: Mapping[str, Any],
    stitch: str,
    noise: Path | None,
    where: dict[str, str],
) -> Steering | None:
    """What steers samples of numbers; None where nothing does.

    Raises:
        UserError: wishes about music, noise besides, or what `recipes.wishes.steering` raises.
    """
    parts = {**parts, "keep": (*parts["keep"], *kept_music(run, score, where))}
    given, length = score["given"], score["length"]
    if noise is not None and any(v is not None and v != () for v in (given, length, *parts.values())):
        raise UserError(
            "--noise says where samples begin, and so does what is given, varied or larger: leave one of them away"
        )
    for name, path in (("given", given), ("vary", parts["vary"])):
        if path is not None and not path.exists():
            raise UserError(f"there is no file {path}: give --{name} one, or a folder of them")
    told = {name: value for name, value in parts.items() if value is not None}
    return run.steer(given=given, length=length, stitch=stitch, where=where, **told)


def no_parts(run: Run, parts: Mapping[str, Any]) -> None:
    """UserError where states are tokens, of which no such parts are known."""
    own = ("keep",) if run.modality.name == "voxels" else ()
    asked = next(
        (k for k, value in parts.items() if value is not None and value != () and k not in own), None
    )
    if asked:
        ways = {
            "music": "--given with --voices or --bars",
            "plan": "--rooms, --graph or --outline",
            "voxels": "--given with --keep",
        }
        way = ways.get(run.modality.name, "--template")
        raise UserError(
            f"--{asked} is for states of numbers, and {run.path} is a model of {run.modality.noun}: leave it away, or "
            f"use {way}"
        )


def about_parts(steering: Steering | None, folder: Path) -> Answer:
    """What was kept, in words and numbers, and as a picture in the folder: grey where nothing was given."""
    if steering is None:
        return Answer("")
    text = ""
    data: dict[str, Any] = {"sides": list(steering.modality.shape[1:]), "stitch": steering.stitch}
    if steering.averages is not None:
        known = steering.averages
        text = f"\n{known.factor} times larger; averaged back, each is the picture that it was made of, to the last bit"
        data["factor"] = known.factor
    if steering.vary is not None:
        data["strength"] = steering.strength
    if steering.given is not None:
        given = steering.given
        share = float(given.mask.double().mean())
        shape = steering.modality.shape[1:]
        seen = steering.modality.showing(given.x, given.mask)[:SHOWN]
        path = folder / GIVEN
        steering.modality.show(steering.modality.decode(seen[:, :, *(slice(n) for n in shape)])).save(path)
        what = "told of it" if steering.trained else "not trained for it, so corrected"
        text = f"\n{share:.1%} of each was given ({what}): {shown(path)}"
        data |= {"given_share": share, "given_picture": path, "trained_with_given_parts": steering.trained}
    return Answer(text, data)
