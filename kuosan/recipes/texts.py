"""The recipe for texts: what ``auto`` means, and why.

Masked diffusion without a time input, on even times, is what is simplest and best founded (Sahoo et al. 2024; Ou et al.
2025); the autoregressive twin of the same trunk is `process=autoregressive`, and benchmarks/results/text.md has both.

tinyshakespeare, characters, windows of 128, width 128, depth 4, 100 s of one core in bfloat16, bits per character of
600 held-out passages (standard error 0.02, one seed each): weight of the bound 4.12, the same for all times 3.64; with
Muon for the blocks' matrices 3.59 and 3.36 (four times its rate: 3.37).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuosan.errors import UserError
from kuosan.modalities import load
from kuosan.modalities.synonyms import read_synonyms
from kuosan.modalities.text_gather import LONGEST
from kuosan.networks import choose_token_network
from kuosan.networks.choose_tokens import heads_of
from kuosan.recipes.schema import DataPart, ProcessPart, Recipe
from kuosan.recipes.settled import Question, Settled
from kuosan.recipes.start import Start
from kuosan.recipes.token_leaves import Leaves, check_tokens, own_leaves, token_leaves, token_length

WHOLE = 0.5  # share of items that are whole documents, from which positions say something
MOST_STEPS = 32  # of a sample, unless asked for
_WHY = {
    "masked": "any order, any gap, exact bounds; needs no time input",
    "uniform": "asked for",
    "blocks": "asked for",
    "autoregressive": "asked for",
}


def settle(asked: Question) -> Settled:
    """Read the texts and decide every leaf.

    Raises:
        UserError: unusable data, or leaves that do not fit them.
    """
    source, recipe, start = asked.source, asked.recipe, asked.start
    check_tokens(recipe, source, "texts")
    if recipe.network.kind not in ("auto", start.of.network["kind"] if start else "tokens"):
        raise UserError(
            f"network={recipe.network.kind} is not for {source}, which holds texts: leave it away, or give --init the "
            "folder of a masked language model for network=stock-lm"
        )
    part = recipe.data
    options = {
        "length": token_length(recipe),
        "tokeniser": part.tokeniser,
        "vocabulary": part.vocabulary,
    } | part.reading
    like = start.modality if start else None
    if start and start.most is None:
        check_words(start, part, recipe.init)
    if start and start.most is not None:
        options, like = windows_of(start, options, source), None
    data = load(
        source,
        modality=part.modality,
        like=like,
        columns=start.columns if start else None,
        options={"text": options},
    )
    if not len(data.train):
        raise UserError(f"{source} holds nothing to train on: give a folder with texts")
    leaves = Leaves.of(recipe)
    tree, choices, decide = leaves.tree, leaves.choices, leaves.decide
    modality = data.modality
    size, length = modality.tokeniser.size, modality.length  # type: ignore[attr-defined]
    if start:
        network = start.of.network | {"length": length}
        own = recipe.network.model_dump(exclude={"kind", "dropout"}, exclude_none=True)
        if other := sorted(k for k, v in own.items() if network.get(k) != v):
            raise UserError(
                f"network.{other[0]} is that of {recipe.init}, whose weights it starts from: leave it away"
            )
        if recipe.network.dropout is not None and start.most is not None:
            network["dropout"] = recipe.network.dropout
        tree["process"] = start.of.recipe.process.model_dump()
        choices.append(("network", network["kind"], f"from {recipe.init}"))
    else:
        kind = decide("process", "kind", "masked", _WHY["masked"])
        if kind == "additive":
            raise UserError(
                f"process=additive is for numbers, and {source} holds texts: choose masked, uniform, blocks or "
                "autoregressive"
            )
        network, reasons = choose_token_network(
            size, length, {name: len(values) for name, values in data.columns.items()},
            seconds=asked.seconds, device=asked.device, tokens=len(data.train) * length,
            block=_block(ProcessPart(**tree["process"])), timed=kind == "uniform", places=_whole(data) >= WHOLE,
            speed=asked.speed,
        )  # fmt: skip
        given = own_leaves(recipe, "texts")
        choices += [r for r in reasons if not (given and r[0] == "size")]
        network |= given
        if "dim" in given and "heads" not in given:
            network["heads"] = heads_of(network["dim"])
        choices += [(f"network.{k}", v, "asked for") for k, v in given.items()]
    token_leaves(
        leaves, network, length=length, items=len(data.train), started=bool(start), most_steps=MOST_STEPS,
        what="texts", varied_by="data.synonyms or data.paraphrase",
    )  # fmt: skip
    if part.synonyms:
        path = Path(part.synonyms).resolve()
        read_synonyms(path)  # or training would begin and then say so
        tree["data"]["synonyms"] = str(path)
        choices.append(
            ("data.synonyms", path.name, f"{part.synonym_rate:.0%} of the words it knows, anew each time")
        )
    if part.paraphrase:
        if not start:
            raise UserError(
                "data.paraphrase needs a model of masked texts to paraphrase with: give --init RUN, or leave it away"
            )
        choices.append(("data.paraphrase", part.paraphrase, f"in the words of {recipe.init}"))
    tree["data"] |= {"modality": "text", "path": str(source.resolve()), "length": length, "max_side": "auto"}
    return Settled(data, Recipe.model_validate(tree), network, choices)


def check_words(start: Start, part: DataPart, init: str) -> None:
    """UserError where texts are to be cut into other tokens than those that a run was trained with."""
    own = start.of.recipe.data
    for leaf in ("tokeniser", "vocabulary"):
        if getattr(part, leaf) not in ("auto", getattr(own, leaf)):
            raise UserError(
                f"data.{leaf}={getattr(part, leaf)} is another tokeniser than that of {init}, whose tokens are "
                "all that its weights know: leave it away, or train anew with `kuosan train`"
            )


def windows_of(start: Start, options: dict[str, Any], source: Path) -> dict[str, Any]:
    """The options of a text's data for a model that reads windows of any length up to its own.

    Raises:
        UserError: another tokeniser than the model's, or longer windows.
    """
    assert start.most is not None
    if options["tokeniser"] != "auto" or options["vocabulary"] != "auto":
        raise UserError(
            "a language model has a tokeniser of its own: leave data.tokeniser and data.vocabulary away"
        )
    if options["length"] == "auto":
        options = options | {"length": "auto" if start.most >= LONGEST else start.most}
    elif int(options["length"]) > start.most:
        raise UserError(
            f"the model reads windows of {start.most} tokens at most, and data.length={options['length']} of {source} "
            "is more: leave it away"
        )
    return options | {"tokeniser": start.modality.tokeniser}  # type: ignore[attr-defined]


def _block(part: ProcessPart) -> int:
    """The network's order: see `TokenTransformer`."""
    return {"autoregressive": 1, "blocks": part.block}.get(part.kind, 0)


def _whole(data: Any) -> float:
    """The share of items that begin a document of their own."""
    totals = data.survey.totals
    return float(totals.get("documents", 0)) / max(1, data.survey.items)
