"""Which transformers get convolutions between their patches: those that diffusers could not hold in any case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuosan.errors import UserError
from kuosan.networks.choose import JOINED
from kuosan.recipes.image import _without_place
from kuosan.recipes.opening import Plan, settle
from kuosan.recipes.schema import Recipe
from tests.recipes import captioned


def plan(data: Path, **leaves: Any) -> Plan:
    asked = {"budget": "3steps", "network": "transformer"} | {
        k.replace("__", "."): v for k, v in leaves.items()
    }
    return settle(data, None, Recipe().updated(asked), asked)


def pictures(folder: Path, height: int, width: int) -> Path:
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.integers(0, 256, (40, height, width, 3), np.uint8))
    return folder / "x.npy"


def test_squares_without_captions_stay_what_diffusers_opens(tmp_path: Path) -> None:
    square = pictures(tmp_path, 16, 16)
    assert "detail" not in plan(square).facts.network
    found = plan(square, network__detail=8)
    assert found.facts.network["detail"] == 8
    assert "detail" not in plan(pictures(tmp_path, 8, 12)).facts.network  # tiny


def test_oblongs_and_what_hears_captions_are_joined_unless_that_is_not_wanted(tmp_path: Path) -> None:
    wide = pictures(tmp_path, 16, 20)
    assert plan(wide).facts.network["detail"] == JOINED
    assert plan(pictures(tmp_path, 16, 16), data__enlarge=2).facts.network["detail"] == JOINED
    wide = pictures(tmp_path, 16, 20)
    assert plan(wide, network__detail=0).facts.network["detail"] == 0
    assert "detail" not in plan(wide, network="unet").facts.network
    found = plan(captioned.pictures(tmp_path / "captioned"))
    assert "detail" not in found.facts.network  # 8×8
    assert _without_place(found.facts.recipe, found.data, [16, 16])
    assert not _without_place(found.facts.recipe.updated({"codec": "kl_vae"}), found.data, [16, 16])


def test_a_unet_has_no_patches_to_join(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="detail"):
        plan(pictures(tmp_path, 16, 16), network="unet", network__detail=8)
