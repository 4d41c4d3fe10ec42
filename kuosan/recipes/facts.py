"""The facts of a run: a resolved recipe with all that it takes to rebuild the model, as ``recipe.yaml`` has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from kuosan.denoisers.diffusers import read_diffusers
from kuosan.errors import UserError
from kuosan.modalities.image import ImageModality
from kuosan.modalities.image_format import ImageFormat
from kuosan.modalities.pixels import MULTI
from kuosan.recipes import machine
from kuosan.recipes.schema import FORMAT, ObjectivePart, Recipe, SchedulePart, fingerprint, parse, read_yaml


@dataclass(frozen=True)
class Facts:
    """A resolved recipe with all that it takes to rebuild the model.

    ``frequencies`` are the rows of condition indices that occur in training, with their counts, in the order
    of ``columns``. ``asked`` is what the user set; ``seconds`` what a budget of time left for training; ``codec``
    the specification of the codec in whose latents the network works, None where it works on states.
    """

    recipe: Recipe
    network: dict[str, Any]
    modality: dict[str, Any]
    columns: dict[str, list[str]]
    class_names: dict[str, str]
    frequencies: list[tuple[list[int], int]]
    data_fingerprint: str
    items: int
    choices: list[tuple[str, Any, str]]
    asked: dict[str, Any]
    seconds: float | None = None
    version: str = ""
    codec: dict[str, Any] | None = None

    @property
    def codec_identity(self) -> str:
        """Changes with whatever the codec's training depends on besides the data."""
        r = self.recipe
        return fingerprint(
            [r.seed, r.budget, r.init, r.codec.model_dump(mode="json", exclude_defaults=True), self.codec]
        )

    @property
    def null(self) -> dict[str, int]:
        """The index of each condition that hides it; of a caption, that of each of its tokens."""
        heard = self.network.get("captions")
        caption = {heard["name"]: int(heard["end"])} if heard else {}
        return {name: len(values) for name, values in self.columns.items()} | caption

    def hidden(self, n: int) -> dict[str, Tensor]:
        """The conditions of ``n`` examples of which nobody gave any."""
        heard = self.network.get("captions")
        shapes = {heard["name"]: (n, int(heard["length"]))} if heard else {}
        return {k: torch.full(shapes.get(k, (n,)), v, dtype=torch.int64) for k, v in self.null.items()}

    def to_yaml(self) -> str:
        facts = {k: v for k, v in vars(self).items() if k not in ("recipe", "version")}
        facts["choices"] = [list(c) for c in self.choices]
        facts["frequencies"] = [[list(row), n] for row, n in self.frequencies]
        tree = {"kuosan": self.version or machine.versions()["kuosan"], "format": FORMAT}
        tree |= {"recipe": self.recipe.model_dump(mode="json"), **facts}
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)

    @classmethod
    def read(cls, path: Path) -> Facts:
        """From ``recipe.yaml``; UserError where it is of another version or not one of ours."""
        tree = read_yaml(path)
        if tree.get("format") != FORMAT:
            raise UserError(
                f"the run {path.parent} was written in format {tree.get('format')} (Kuosan {tree.get('kuosan')}), and "
                f"this version reads format {FORMAT}: open it with the version that wrote it"
            )
        try:
            return cls(
                recipe=parse(Recipe, tree["recipe"]),
                frequencies=[([int(i) for i in row], int(n)) for row, n in tree["frequencies"]],
                choices=[(str(a), b, str(c)) for a, b, c in tree["choices"]],
                version=str(tree["kuosan"]),
                codec=tree.get("codec"),
                **{
                    k: tree[k]
                    for k in (
                        "network",
                        "modality",
                        "columns",
                        "class_names",
                        "data_fingerprint",
                        "items",
                        "asked",
                        "seconds",
                    )  # fmt: skip
                },
            )
        except (KeyError, TypeError, ValueError) as e:
            raise UserError(f"the recipe {path} lacks or misstates {e}: restore it from a copy") from e


def foreign_facts(path: Path) -> Facts:
    """A diffusers pipeline as a run that was never trained here: 8-bit pictures in [-1, 1]."""
    loaded = read_diffusers(path)
    spec = loaded.spec
    channels = spec["channels"]
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(channels, MULTI)
    height, width = spec["sides"]
    shape = ImageFormat(height, width, channels, mode, "uint8", 0.0, 255.0)
    table = loaded.schedule
    alphas = torch.sigmoid(-2 * table.log_rho).tolist()
    recipe = Recipe.model_validate(
        {
            "network": {"kind": "stock"},
            "schedule": SchedulePart(kind="tabulated", shift=1.0, alphas_cumprod=tuple(alphas)),
            "objective": ObjectivePart(output=loaded.output, weight="output", timing="uniform"),
            "sampling": {"solver": "deis", "grid": "karras:7"},
        }
    )
    return Facts(recipe, spec, ImageModality(shape).spec(), {}, {}, [], "", 0, [], {})
