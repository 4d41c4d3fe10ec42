"""What a run over texts or music owes to others: the tables of `cite` for tokens."""

from __future__ import annotations

from collections.abc import Iterator

from kuosan.recipes.facts import Facts

Use = tuple[str, tuple[str, ...]]

PROCESSES = {
    "masked": ("austin2021", "sahoo2024", "shi2024", "ou2025"),
    "uniform": ("austin2021", "schiff2025"),
    "blocks": ("austin2021", "sahoo2024", "arriola2025"),
    "autoregressive": ("vaswani2017",),
}
TOKENISERS = {"bpe": ("sennrich2016",), "unigram": ("kudo2018",)}
NETWORKS = {
    "tokens": ("vaswani2017", "su2021", "so2021", "press2017"),
    "stock-lm": ("vaswani2017", "wolf2020"),
    "lattice": ("vaswani2017", "su2021", "so2021", "press2017"),
    "cells": ("vaswani2017", "su2021", "so2021"),
    "voices": ("vaswani2017", "su2021", "so2021", "press2017"),
}
GRIDS = {"auto": ("lavenant2025",), "optimal": ("lavenant2025",), "cosine": ("chang2022",)}
MEASURED = (
    ("n-grams beside the model", ("kneser1995",)),
    ("sources of text metrics", ("li2016", "zhu2018", "welleck2020")),
    ("sources of music metrics", ("yang2020", "wu2020")),
)


def used(facts: Facts, tokeniser: str) -> Iterator[Use]:
    """Process, tokeniser and network of a run, and how it was trained; ``tokeniser`` is the kind of it."""
    recipe, network = facts.recipe, facts.network
    kind = recipe.process.kind
    yield f"process {kind}", PROCESSES[kind]
    yield f"tokeniser {tokeniser}", TOKENISERS.get(tokeniser, ())
    yield f"network {network['kind']}", NETWORKS[network["kind"]]
    if network.get("timed") or network.get("conditions"):
        yield "modulated layers", ("peebles2023",)
    if network.get("dropout"):
        yield "dropout", ("srivastava2014",)
    yield "times even over a batch", ("kingma2021",)
    yield "optimiser", ("loshchilov2019",)
    if recipe.training.optimizer == "muon":
        yield "optimiser muon", ("jordan2024",)
    yield "averaged weights", ("karras2024",)
    if recipe.training.ema == "auto":
        yield "guide that is kept", ("karras2024guiding",)
    if "key" in facts.columns and network["kind"] == "voices":
        yield "keys of pieces", ("krumhansl1990",)
    if facts.columns and recipe.training.drop > 0:
        yield "hidden conditions", ("ho2022",)


def sampled(facts: Facts) -> Iterator[Use]:
    """The unmasking schedule of a run."""
    grid = facts.recipe.sampling.grid
    if facts.recipe.process.kind == "masked":
        yield "unmasking schedule", GRIDS.get(grid, ())
    if facts.network["kind"] == "voices" and facts.recipe.sampling.faults != "any":
        yield "voice leading revised", ("huang2017",)
    if facts.recipe.sampling.nucleus < 1:
        yield "nucleus", ("holtzman2020",)


def measured(metrics: tuple[str, ...]) -> Iterator[Use]:
    """What the measurements of texts have beside those of all kinds of data."""
    if any(name.startswith("bits_per_character") for name in metrics):
        yield MEASURED[0]
    if "self_bleu" in metrics:
        yield MEASURED[1]
    if "groove" in metrics:
        yield MEASURED[2]
