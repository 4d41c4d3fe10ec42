"""Data sets and arms of `benchmarks.efficiency`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """A data set, the leaves that all arms share, and those of each arm."""

    about: str
    seconds: float
    leaves: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    samples: int = 500

    @property
    def base(self) -> str:
        """The arm that others are compared with."""
        return next(iter(self.arms))


OUTPUTS: dict[str, dict[str, Any]] = {"default": {}, "v": {"objective.output": "v"}}
WHOLE: dict[str, dict[str, Any]] = {
    "whole": {},
    "crops 0.5": {"training.crops": 0.5},
    "crops 0.75": {"training.crops": 0.75},
    "crops 0.9": {"training.crops": 0.9},
    "route 0.5": {"training.route": 0.5},
    "x": {"objective.output": "x"},
}
COUPLED = WHOLE | {
    "coupling nearest": {"training.coupling": "nearest"},
    "coupling transport": {"training.coupling": "transport"},
}
SECTIONS = {
    "digits": Section(
        "digits 8×8, transformer of patch 2, width 96, depth 4",
        25.0,
        {"network": "transformer", "network.patch": 2, "network.dim": 96, "network.depth": 4},
        {
            **COUPLED, "weight min_snr": {"objective.weight": "min_snr"},
        },
    ),
    "fashion": Section(
        "fashion_mnist 28×28, transformer of patch 4, width 128, depth 4",
        50.0,
        {"network": "transformer", "network.patch": 4, "network.dim": 128, "network.depth": 4},
        COUPLED,
    ),
    "flowers32": Section(
        "flowers 32×32×3, transformer of patch 4, width 64, depth 3",
        75.0,
        {"network": "transformer", "network.patch": 4, "network.dim": 64, "network.depth": 3},
        {**WHOLE, "x, weight edm": {"objective.output": "x", "objective.weight": "edm"}},
        400,
    ),
    "flowers64": Section(
        "flowers 64×64×3, transformer of patch 4, width 96, depth 3",
        150.0,
        {"network": "transformer", "network.patch": 4, "network.dim": 96, "network.depth": 3},
        WHOLE,
        200,
    ),
    "faces64": Section(
        "congress_faces 64×64, U-Net of base 16",
        150.0,
        {"network": "unet", "network.base": 16, "training.batch": 16},
        WHOLE,
        200,
    ),
    "monet256": Section(
        "monet 256×256×3, transformer of patch 16, width 128, depth 3",
        150.0,
        {"network": "transformer", "network.patch": 16, "network.dim": 128, "network.depth": 3,
         "data.max_side": 256, "training.batch": 32},
        WHOLE,
        200,
    ),
    "sprites": Section(
        "lpc_sprites 8×32×32×3, transformer of patches of 2×4×4, width 96, depth 3",
        120.0,
        {"data.modality": "video", "data.max_side": 32, "network": "transformer", "network.patch": [2, 4, 4],
         "network.dim": 96, "network.depth": 3},
        {
            **OUTPUTS,
            "weight edm": {"objective.weight": "edm"},
            "weight min_snr": {"objective.weight": "min_snr"},
        },
        200,
    ),
    "sounds": Section(
        "fsdd, spoken digits as 64 mel bands, transformer of two frames a token, width 96, depth 4",
        60.0,
        {"data.max_side": "auto", "network": "transformer", "network.dim": 96, "network.depth": 4},
        OUTPUTS,
        384,
    ),
    "shapes": Section(
        "voxel_minis, distances on 24×24×24, transformer of patches of 4×4×4, width 96, depth 3",
        100.0,
        {"data.max_side": "auto", "data.modality": "shape", "data.form": "distance", "data.size": 24,
         "network": "transformer", "network.patch": 4, "network.dim": 96, "network.depth": 3},
        OUTPUTS,
        100,
    ),
}  # fmt: skip
