"""The recipe for music: masked diffusion of voices on a grid, by a transformer that knows the beat; of rolls `dense`.

What ``auto`` means is what it means for texts, but for the network (`networks.voices`), whose positions are steps of
time and not tokens.

Bach's chorales, windows of 64 steps of four voices, width 128, depth 4, bits per token of 76 held-out chorales: see
benchmarks/results/music.md, also for one position per token.
"""

from __future__ import annotations

from functools import partial

from kuosan.errors import UserError
from kuosan.modalities import Dataset, MusicModality, load
from kuosan.modalities.music import METRE
from kuosan.modalities.music_form import Form
from kuosan.modalities.music_score import parse_metre
from kuosan.networks.choose_tokens import tokens_seen
from kuosan.recipes import dense
from kuosan.recipes.masked import Tokens, check_masked, settle_masked
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Question, Settled
from kuosan.recipes.token_leaves import token_length, usual_batch


def settle(asked: Question) -> Settled:
    """Read the music and decide every leaf.

    Raises:
        UserError: unusable data, or leaves that do not fit them.
    """
    source, recipe, start = asked.source, asked.recipe, asked.start
    data = load(
        source,
        modality=recipe.data.modality,
        like=start.modality if start else None,
        columns=start.columns if start else None,
        options={
            "music": {
                "form": _form(recipe),
                "length": token_length(recipe),
                "transpose": recipe.data.transpose,
                "passes": partial(_passes, asked),
            }
        },
    )
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with music")
    if data.modality.files_of:
        return dense.decided(asked, recipe, data)
    check_masked(recipe, source, "music", "voices", ", or set data.form=roll")
    modality = data.modality
    assert isinstance(modality, MusicModality)
    return settle_masked(asked, data, _tokens(modality, data))


def _form(recipe: Recipe) -> str:
    """Voices where leaves that only those have are set.

    Raises:
        UserError: a form of shapes.
    """
    if recipe.data.form in ("distance", "voxels", "points"):
        raise UserError(f"data.form={recipe.data.form} is of shapes: of music it is voices or roll")
    own = recipe.process.discrete or recipe.network.kind == "voices"
    return "voices" if own and recipe.data.form == "auto" else recipe.data.form


def _passes(asked: Question, form: Form, steps: int, total: int) -> float:
    """How often training within the budget sees music of ``total`` steps, in windows of so many."""
    if asked.budget.seconds:
        seen = tokens_seen(
            form.size * form.lanes, steps, seconds=asked.seconds, device=asked.device, speed=asked.speed
        )
    else:
        told = asked.recipe.training.batch
        batch = usual_batch(steps * form.lanes, total // steps + 1) if told == "auto" else told
        seen = float((asked.budget.steps_of(batch) or 0) * batch * steps)
    return seen / total


def _tokens(modality: MusicModality, data: Dataset) -> Tokens:
    """What a transformer over steps of time must know of the music."""
    form, metres = modality.form, data.columns.get(METRE)
    cycles = [form.cycle(parse_metre(name)) for name in metres] if metres else [form.cycle(form.metre)]
    network = {
        "kind": "voices", "size": form.size, "voices": form.lanes, "length": modality.length, "cycles": cycles,
        "clock": METRE if metres else "", "repeats": form.repeats,
    }  # fmt: skip
    words = ", ".join(map(str, cycles))
    beat = ("beat", f"{words} steps", "how long bars are (beats, where bars are not known): an input")
    leaves = {"form": "voices", "length": modality.steps, "transpose": modality.transpose}
    return Tokens(
        "music", "any voice, any bar can be given, and the rest is written", network, modality.steps,
        form.size * form.lanes, modality.length, "data.transpose", leaves, [beat],
        ("remdm", "writes some tokens again: intervals, durations and rhythm are nearer to the music's"),
    )  # fmt: skip
