"""What a run can be asked for and other modules do: methods of `Run`, whose modules are imported when asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kuosan.errors import UserError
from kuosan.recipes.samples import Samples
from kuosan.solvers.sequence import CHURN, Sequence

if TYPE_CHECKING:
    from kuosan.core.curves import Curve
    from kuosan.recipes.inverse import Noise
    from kuosan.recipes.run import Run
    from kuosan.recipes.steering import Steering
    from kuosan.solvers import Step


def averaged(run: Run, length: float) -> Run:
    """With weights averaged over another length: `kuosan.recipes.variant.averaged`."""
    from kuosan.recipes.variant import averaged

    return averaged(run, length)


def autoguided(run: Run, w: float | Curve) -> Run:
    """Guided by its own early state: `kuosan.recipes.variant.autoguided`."""
    from kuosan.recipes.variant import autoguided

    return autoguided(run, w)


def heated(run: Run, temperature: float | None = None, nucleus: float | None = None) -> Run:
    """Drawing tokens more boldly or more carefully: `kuosan.recipes.variant.heated`."""
    from kuosan.recipes.variant import heated

    return heated(run, temperature, nucleus)


def revised(run: Run, faults: float | str) -> Run:
    """Music with so many faults of voice leading per bar at most, or ``any``: `kuosan.recipes.variant.revised`."""
    from kuosan.recipes.variant import revised

    return revised(run, faults)


def allowed(run: Run) -> tuple[float, ...] | None:
    """Quantiles of the faults that passages may have, see `kuosan.recipes.music_revise`; None of all but voices."""
    if run.facts.recipe.data.modality != "music" or not run.facts.recipe.process.discrete:
        return None
    from kuosan.recipes.music_revise import allowed_of

    return allowed_of(run.facts, run.path)


def revise(run: Run, *asked: Any) -> Iterator[Step]:
    """A walk whose end is revised: `kuosan.recipes.music_revise.revise`."""
    from kuosan.recipes.music_revise import revise

    return revise(run, *asked)


def sequence(
    run: Run, steps: int | None = None, w: float | None = None, solver: str = "auto", grid: str = "auto"
) -> Sequence | None:
    """The control sequence that these choices mean: one in a file that ``grid`` names; the one with churn, if there
    is any, for its solver; or else the run's own for so many steps, measured and kept if there is none yet. None
    where a stock sampler is asked for, by name or by the recipe, and of a student.

    Raises:
        UserError: a damaged file, or one for another number of steps.
    """
    from kuosan.recipes import sequences

    sampling = run.facts.recipe.sampling
    if run.facts.recipe.distil.steps:  # its times are in its recipe
        return None
    if grid.endswith(".json"):
        return sequences.given(Path(grid), steps)
    churn = solver == CHURN
    if run.facts.recipe.process.discrete:
        return None
    if grid != "auto" or not (churn or (solver == "auto" and sequences.free(run))):
        return None
    _ = run.model  # a damaged run should say so first
    count, weight = sampling.steps if steps is None else steps, sampling.w if w is None else w
    if churn:
        return sequences.find(run, count, weight, churn=True)
    found = run.known_sequences.get((count, weight))
    if found is None:
        found = sequences.find(run, count, weight)
        if found is None and sequences.chooses(run, count):
            found = sequences.measured(run, count, weight)
        if found is not None:
            run.known_sequences[count, weight] = found
    return found


def stream(run: Run, n: int | None = None, **asked: Any) -> Iterator[Samples]:
    """Samples one by one, each as soon as it is ready: `kuosan.recipes.live.stream`."""
    from kuosan.recipes.live import stream

    return stream(run, n, **asked)


def distil(run: Run, steps: int = 1, **asked: Any) -> Run:
    """A student that needs so many steps: `kuosan.recipes.distil.distil`, whose arguments these are."""
    from kuosan.recipes.distil import distil

    return distil(run, steps, **asked)


def finetune(run: Run, data: str | Path, **asked: Any) -> Run:
    """The run on other data, by low-rank adapters: `kuosan.recipes.finetune.finetune`, whose arguments these are."""
    from kuosan.recipes.finetune import finetune

    return finetune(run, data, **asked)


def evaluate(run: Run, **asked: Any) -> dict[str, Any]:
    """Draw samples and measure them: `kuosan.recipes.evaluate.evaluate`, whose arguments these are."""
    from kuosan.recipes.evaluate import evaluate

    return evaluate(run, **asked)


def encode(run: Run, data: str | Path | Tensor, n: int | None = None, **asked: Any) -> Noise:
    """The noise of a person's items: `kuosan.recipes.inverse.encode`, whose arguments these are."""
    from kuosan.recipes.inverse import encode, items_of

    return encode(run, items_of(run, data, n, asked.pop("where", None)), **asked)


def decode(run: Run, noise: Noise) -> Samples:
    """The way back from `encode`, to the same items."""
    from kuosan.recipes.inverse import decode

    return decode(run, noise)


def interpolate(
    run: Run, a: str | Path | Tensor, b: str | Path | Tensor, n: int = 8, **asked: Any
) -> Samples:
    """``n`` samples on the way from one item to another: `kuosan.recipes.inverse.interpolate`."""
    from kuosan.recipes.inverse import interpolate, one_item

    _ = run.denoiser  # a model of tokens should say so before anybody's items are read
    where = asked.pop("where", None)
    return interpolate(run, (one_item(run, a, where), one_item(run, b, where)), n, **asked)[0]


def steer(run: Run, **wishes: Any) -> Steering | None:
    """What steers samples, for `Run.sample`: `kuosan.recipes.wishes.steering`, whose arguments these are."""
    from kuosan.recipes.wishes import steering

    return steering(run, **wishes)


def check_numbers(n: int, first: int, noises: int | None) -> None:
    """Raises `UserError` where there are no samples ``first`` to ``first + n - 1``, or no noise for all of them."""
    if noises is not None and first + n > noises:
        raise UserError(
            f"there is noise for {noises:,} samples, not for number {first + n - 1:,}: give a smaller -n"
        )
    if n < 1 or first < 0:
        raise UserError(
            f"-n {n} samples from number {first} is not a range: give -n 1 or more and --first 0 or more"
        )


def sample_long(run: Run, n: int, length: int | str | None, **asked: Any) -> Samples:
    """Samples of another length than the model's window: texts (`kuosan.recipes.long_texts.sample_long`), and music
    (`kuosan.recipes.music_rules.sample_music`); and plans that keep to a brief (`kuosan.recipes.plans_wishes`)."""
    from kuosan.recipes.long_texts import sample_long
    from kuosan.recipes.music_rules import sample_music

    if run.modality.name == "music":
        return sample_music(run, n, length, **asked)
    if run.modality.name == "plan":
        from kuosan.recipes.plans_wishes import sample_plans

        return sample_plans(run, n, asked.pop("rules").canvas, **asked)
    if not isinstance(length, int):
        raise UserError(f"--length {length} is no number of tokens: give a whole number")
    return sample_long(run, n, length, **asked)
