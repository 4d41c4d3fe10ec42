"""What a run can start from: another run, a diffusers pipeline, or a masked language model of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kuosan.codecs import Codec
from kuosan.errors import UserError
from kuosan.modalities import Modality
from kuosan.modalities.text import TextModality
from kuosan.modalities.tokeniser import read_tokeniser
from kuosan.networks.stock_lm import is_masked_lm, read_masked_lm
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import RECIPE, Run
from kuosan.recipes.schema import Recipe


@dataclass(frozen=True)
class Start:
    """Weights, and everything that they only mean something with."""

    of: Facts
    modality: Modality[Any]
    weights: Mapping[str, Tensor]
    codec: Codec | None
    most: int | None = (
        None  # tokens of a window, of a model that was not trained here and reads windows of any length
    )
    wider: bool = False  # may learn more values of conditions: see `adapters`

    @property
    def columns(self) -> dict[str, list[str]] | None:
        """The vocabularies to read the new data with; None for those of the data."""
        return None if self.wider else self.of.columns

    def facts(self) -> dict[str, Any]:
        """Network, schedule and objective, which stand, and the noise."""
        r = self.of.recipe
        return {
            "network": self.of.network,
            "noise": r.noise.model_dump(mode="json"),
            "schedule": r.schedule.model_dump(mode="json"),
            "objective": r.objective.model_dump(mode="json"),
        }


def starting_point(init: str) -> Start:
    """The start that ``--init`` names.

    Raises:
        UserError: it is no run, no pipeline, no masked language model, or a model of the zoo, which holds none yet.
    """
    if init.startswith("zoo:"):
        raise UserError(
            f"the zoo holds no model {init[4:]!r} in this version: start from a run's or a diffusers folder"
        )
    folder = Path(init)
    if folder.is_dir() and not (folder / RECIPE).is_file() and is_masked_lm(folder):
        return _masked_lm(folder)
    run = Run(init)
    weights = {k: v.cpu() for k, v in run.model.state_dict().items()}
    return Start(run.facts, run.modality, weights, run.codec)


def _masked_lm(folder: Path) -> Start:
    """A masked language model, as a run of masked texts that was never trained here."""
    words = read_tokeniser(folder)
    vocabulary = words.library.get_vocab(with_added_tokens=True)
    found = read_masked_lm(folder, words.size, vocabulary)
    recipe = Recipe().updated({"process": "masked", "network": "stock-lm", "data.modality": "text"})
    spec = found.spec | {"length": found.most}
    modality = TextModality(words, found.most)
    facts = Facts(recipe, spec, modality.spec(), {}, {}, [], "", 0, [], {})
    weights = {f"network.{name}": value for name, value in found.weights.items()}
    return Start(facts, modality, weights, None, found.most)
