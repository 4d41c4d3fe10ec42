"""What a run can start from: another run, or a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kuosan.codecs import Codec
from kuosan.errors import UserError
from kuosan.modalities import Modality
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import Run


@dataclass(frozen=True)
class Start:
    """Weights, and everything that they only mean something with."""

    of: Facts
    modality: Modality[Any]
    weights: Mapping[str, Tensor]
    codec: Codec | None

    @property
    def columns(self) -> dict[str, list[str]] | None:
        """The vocabularies to read the new data with."""
        return self.of.columns

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
        UserError: it is no run, no pipeline, or a model of the zoo, which holds none yet.
    """
    if init.startswith("zoo:"):
        raise UserError(
            f"the zoo holds no model {init[4:]!r} in this version: start from a run's or a diffusers folder"
        )
    run = Run(init)
    weights = {k: v.cpu() for k, v in run.model.state_dict().items()}
    return Start(run.facts, run.modality, weights, run.codec)
