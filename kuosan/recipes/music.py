"""The recipe for music: masked diffusion of voices on a grid, by a transformer that knows the beat; of rolls `dense`.

What ``auto`` means is what it means for texts, but for the network (`networks.voices`), whose positions are steps of
time and not tokens.

Bach's chorales, windows of 64 steps of four voices, width 128, depth 4, bits per token of 76 held-out chorales: see
benchmarks/results/music.md, also for one position per token.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kuosan.errors import UserError
from kuosan.modalities import MusicModality, load
from kuosan.modalities.music import METRE
from kuosan.modalities.music_form import Form
from kuosan.modalities.music_score import parse_metre
from kuosan.networks import choose_token_network
from kuosan.networks.choose_tokens import heads_of, tokens_seen
from kuosan.recipes import dense
from kuosan.recipes.schema import Recipe
from kuosan.recipes.settled import Question, Settled
from kuosan.recipes.token_leaves import (
    Leaves,
    check_tokens,
    own_leaves,
    token_leaves,
    token_length,
    usual_batch,
)

MOST_STEPS = 64  # of a sample, unless asked for


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
    check_tokens(recipe, source, "music")
    if recipe.network.kind not in ("auto", "voices"):
        raise UserError(
            f"network={recipe.network.kind} is not for {source}, whose music becomes voices: leave it away, or set "
            "data.form=roll"
        )
    if recipe.process.kind not in ("auto", "masked"):
        raise UserError(
            f"process={recipe.process.kind} is not for {source}, which holds music: leave it away"
        )
    leaves = Leaves.of(recipe)
    tree, choices = leaves.tree, leaves.choices
    modality = data.modality
    assert isinstance(modality, MusicModality)
    leaves.decide("process", "kind", "masked", "any voice, any bar can be given, and the rest is written")
    if start:
        network = start.of.network
        own = own_leaves(recipe, "music")
        if other := sorted(k for k, v in own.items() if network.get(k) != v):
            raise UserError(
                f"network.{other[0]} is that of {recipe.init}, whose weights it starts from: leave it away"
            )
        choices.append(("network", network["kind"], f"from {recipe.init}"))
    else:
        network = _network(asked, recipe, modality, data, leaves)
    token_leaves(
        leaves,
        network,
        length=modality.length,
        items=len(data.train),
        started=bool(start),
        most_steps=MOST_STEPS,
        what="music",
        varied_by="data.transpose",
    )
    tree["data"] |= {
        "modality": "music", "form": "voices", "path": str(source.resolve()), "length": modality.steps,
        "transpose": modality.transpose,
        "max_side": "auto",
    }  # fmt: skip
    return Settled(data, Recipe.model_validate(tree), network, choices)


def _form(recipe: Recipe) -> str:
    """Voices where leaves that only those have are set."""
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


def _network(
    asked: Question, recipe: Recipe, modality: MusicModality, data: Any, leaves: Leaves
) -> dict[str, Any]:
    """The size that a transformer over steps of time should have, and what it must know of the music."""
    form, conditions = modality.form, {name: len(values) for name, values in data.columns.items()}
    spec, reasons = choose_token_network(
        form.size * form.lanes, modality.steps, conditions, seconds=asked.seconds, device=asked.device,
        tokens=len(data.train) * modality.steps, speed=asked.speed,
    )  # fmt: skip
    given = own_leaves(recipe, "music")
    leaves.choices.extend(r for r in reasons if r[0] == "dropout" or (r[0] == "size" and not given))
    own = {k: spec[k] for k in ("conditions", "dim", "depth", "heads", "dropout")} | given
    if "dim" in given and "heads" not in given:
        own["heads"] = heads_of(own["dim"])
    leaves.choices.extend((f"network.{k}", v, "asked for") for k, v in given.items())
    metres = data.columns.get(METRE)
    cycles = [form.cycle(parse_metre(name)) for name in metres] if metres else [form.cycle(form.metre)]
    words = ", ".join(map(str, cycles))
    leaves.choices.append(
        ("beat", f"{words} steps", "how long bars are (beats, where bars are not known): an input")
    )
    return {
        "kind": "voices", "size": form.size, "voices": form.lanes, "length": modality.length, "cycles": cycles,
        "clock": METRE if metres else "", **own,
    }  # fmt: skip
