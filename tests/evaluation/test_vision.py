"""Networks of others that see: their own answer, on pictures made ready as their folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kuosan.errors import UserError
from kuosan.evaluation.evaluate import Evaluation, evaluate_samples
from kuosan.evaluation.vision import Vision


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is an extra, and is not installed")


def written(folder: Path, model: Any, prepared: dict[str, Any]) -> Path:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


PREPARED = {
    "do_resize": True, "size": {"shortest_edge": 32}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 28, "width": 28}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
}  # fmt: skip


@pytest.fixture(scope="module")
def dino(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=7, image_size=28
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Dinov2Model(config)
    return written(tmp_path_factory.mktemp("dino"), model, PREPARED)


@pytest.fixture(scope="module")
def clip(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=layers | {"vocab_size": 50},
        vision_config=layers | {"image_size": 28, "patch_size": 7},
        projection_dim=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.CLIPModel(config)
    return written(tmp_path_factory.mktemp("clip"), model, PREPARED | {"size": 32, "crop_size": 28})


def pictures(n: int = 5, channels: int = 3, sides: tuple[int, int] = (32, 32)) -> torch.Tensor:
    return torch.rand(n, channels, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_row_is_the_models_own_answer(transformers: Any, dino: Path, clip: Path) -> None:
    x = pictures()
    mean, std = (torch.tensor(PREPARED[k])[:, None, None] for k in ("image_mean", "image_std"))
    ready = ((x[:, :, 2:30, 2:30] + 1) / 2 - mean) / std  # at its size already: the middle alone
    with torch.no_grad():
        seen = transformers.Dinov2Model.from_pretrained(dino).eval()(pixel_values=ready).pooler_output
        found = transformers.CLIPModel.from_pretrained(clip).eval()
        embedded = found.visual_projection(found.vision_model(pixel_values=ready).pooler_output)
    one, other = Vision(dino), Vision(clip)
    assert (one.name, other.name) == ("dinov2", "clip")
    assert torch.allclose(one.ready(x), ready, atol=1e-6)
    assert torch.allclose(one(x), seen, atol=1e-5) and torch.allclose(other(x), embedded, atol=1e-5)
    assert torch.equal(one(x)[3:4], one(x[3:4]))


def test_grey_pictures_are_repeated_and_others_refused(dino: Path) -> None:
    x, space = pictures(channels=1), Vision(dino)
    assert torch.equal(space(x), space(x.expand(-1, 3, -1, -1)))
    with pytest.raises(UserError, match="1 or 3 channels, these have 4"):
        space(pictures(channels=4))


@pytest.mark.parametrize(
    ("resample", "method"), [(3, Image.Resampling.BICUBIC), (2, Image.Resampling.BILINEAR)]
)
def test_pictures_are_made_ready_nearly_as_pillow_does(
    dino: Path, tmp_path: Path, resample: int, method: Image.Resampling
) -> None:
    """Of 8 bits and rounded between its two passes, Pillow's are off by a level or two; the shorter side decides."""
    (tmp_path / "config.json").write_bytes((dino / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((dino / "model.safetensors").read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPARED | {"resample": resample}))
    level = np.random.default_rng(0).integers(0, 256, (90, 64, 3), dtype=np.uint8)
    made = np.asarray(Image.fromarray(level).resize((32, 45), method))[8:36, 2:30]
    x = torch.from_numpy(level).permute(2, 0, 1)[None].float() / 127.5 - 1
    mean, std = (torch.tensor(PREPARED[k])[:, None, None] for k in ("image_mean", "image_std"))
    back = (Vision(tmp_path).ready(x)[0] * std + mean) * 255
    assert back.shape == (3, 28, 28)
    assert float((back - torch.from_numpy(made.copy()).permute(2, 0, 1)).abs().max()) < 2


def test_it_is_one_space_more_of_an_evaluation(dino: Path) -> None:
    axes = ("height", "width")

    def found(x: torch.Tensor) -> Evaluation:
        return evaluate_samples(
            x[:30], x[30:60], x[60:], axes=axes, noun="pictures", seconds=0.5, encoder=dino
        )

    seen = found(pictures(90, sides=(8, 8)))
    assert seen.metrics["fd_dinov2"].space == "dinov2" and seen.spaces["dinov2"]["folder"] == dino.name
    assert "these have 4" in found(pictures(90, 4, (8, 8))).left_out["--encoder"]


def test_what_sees_nothing_is_refused(transformers: Any, dino: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config.json"):
        Vision(tmp_path)
    (tmp_path / "config.json").write_bytes((dino / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"holds no preprocessor_config.json"):
        Vision(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Vision(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((dino / "model.safetensors").read_bytes())
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(UserError, match="preprocessor_config.json in .* cannot be read"):
        Vision(tmp_path)
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with torch.random.fork_rng(devices=[]):
        reads = written(tmp_path / "bert", transformers.BertModel(config), PREPARED)
    with pytest.raises(UserError, match=r"bert\) takes input_ids and sees no pictures"):
        Vision(reads)
