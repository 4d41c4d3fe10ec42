"""What a run can start from: another run, a diffusers pipeline, or a masked language model of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kuosan.codecs import Codec
from kuosan.errors import UserError
from kuosan.modalities import Modality
from kuosan.modalities.captions import Captions
from kuosan.modalities.image_format import asked_size
from kuosan.modalities.text import TextModality
from kuosan.modalities.tokeniser import read_tokeniser
from kuosan.networks.given import made_to_look, made_to_see
from kuosan.networks.sides import counts_of, each
from kuosan.networks.stock_lm import is_masked_lm, read_masked_lm
from kuosan.networks.widen import widened
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
    captions: Captions | None = None
    wider: bool = False  # may learn more values of conditions: see `adapters`

    @property
    def columns(self) -> dict[str, list[str]] | None:
        """The vocabularies to read the new data with; None for those of the data."""
        return None if self.wider else self.of.columns

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of its pictures."""
        return self.modality.shape[1:]

    def form(self, size: int | tuple[int, ...] | None) -> Modality[Any]:
        """The modality to read the new data in: the start's own, or pictures of this size.

        Raises:
            UserError: there is a codec, whose latents are of one size; or sizes that no picture has.
        """
        height, width = self.size if size is None else asked_size(size)
        if self.codec and (height, width) != self.size:
            raise UserError(
                f"data.size={size} is not that of the start, whose codec was made for {self.size[0]}×{self.size[1]}: "
                "leave data.size away"
            )
        return self.modality if (height, width) == self.size else self.modality.sized((height, width))

    def network(self, shape: tuple[int, ...], columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The specification of the start's network for states of another size and grown vocabularies."""
        old = self.of.network
        new = old | {"sides": list(shape[1:])}
        if "conditions" in old:
            new["conditions"] = {k: len(columns.get(k, self.of.columns[k])) for k in old["conditions"]}
        if old["kind"] == "transformer" and old["sides"] != new["sides"]:
            patch = each(old["patch"], len(old["sides"]))
            new["reach"] = old.get("reach") or list(counts_of(old["sides"], patch))
        return new

    def weights_for(self, network: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """The weights for `network`, whose vocabularies are grown at their ends: a new value is yet an unknown one."""
        weights = self.weights
        if network.get("given") and not self.of.network.get("given"):
            weights = made_to_see(weights, self.of.network, "network.")
        if (beside := network.get("beside", 0)) and not self.of.network.get("beside"):
            weights = made_to_look(
                weights, {**self.of.network, "given": network.get("given")}, beside, "network."
            )
        old, new = self.of.network.get("conditions") or {}, network.get("conditions") or {}
        if self.wider or old == new:
            return weights
        before, after = ({k: [str(i) for i in range(n)] for k, n in counts.items()} for counts in (old, new))
        return widened(weights, self.of.network, before, after)

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
    return Start(run.facts, run.modality, weights, run.codec, captions=run.captions)


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
