"""Networks of others that hear: their own answer, on sounds made ready as their folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kuosan.errors import UserError
from kuosan.evaluation.audio import evaluate_sounds
from kuosan.evaluation.audio.hearing import Hearing
from kuosan.evaluation.found import Found
from kuosan.modalities.audio_file import Sound, converted


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="transformers is an extra, and is not installed")


@pytest.fixture(scope="module")
def wave(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wav2vec 2.0, tiny."""
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("wave")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clap(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ClapConfig(
        text_config=layers | {"vocab_size": 50},
        audio_config={
            "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "num_hidden_layers": 2,
            "hidden_size": 16, "spec_size": 64, "num_mel_bins": 16, "window_size": 4,
        },
        projection_dim=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("clap")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(
        feature_size=16, sampling_rate=16_000, hop_length=320, max_length_s=1, fft_window_size=512,
        truncation="rand_trunc", padding="repeatpad",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def read(kind: Any, folder: Path) -> Any:
    with torch.random.fork_rng(devices=[]):
        return kind.from_pretrained(folder).eval()


def sounds(n: int, seconds: float = 0.5, channels: int = 1) -> list[Sound]:
    chance = np.random.default_rng(0)
    shape = (round(8000 * seconds), channels)
    return [Sound(chance.uniform(-0.5, 0.5, shape).astype(np.float32), 8000) for _ in range(n)]


def test_a_row_is_the_models_own_answer(transformers: Any, wave: Path, clap: Path) -> None:
    (sound,) = sounds(1)
    x = torch.from_numpy(sound.samples[:, 0])[None]
    x = (x - x.mean()) / (x.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        wanted = read(transformers.Wav2Vec2Model, wave)(x).last_hidden_state.mean(1)
    assert torch.allclose(Hearing(wave)([sound]), wanted, atol=1e-5)
    model = read(transformers.ClapModel, clap)
    ready = transformers.ClapFeatureExtractor.from_pretrained(clap)
    samples = converted(sound, 16_000, 1).samples[:, 0]
    with torch.no_grad():
        given = ready(samples, sampling_rate=16_000, return_tensors="pt")
        wanted = model.get_audio_features(**given).pooler_output
    assert torch.allclose(Hearing(clap)([sound]), wanted, atol=1e-5)
    assert (Hearing(wave).name, Hearing(clap).name) == ("wav2vec2", "clap")


def test_neighbours_channels_and_what_is_too_long_change_nothing(wave: Path, clap: Path) -> None:
    mono, stereo, long = sounds(1)[0], sounds(1, channels=2)[0], sounds(1, 3.0)[0]
    for folder in (wave, clap):
        space = Hearing(folder)
        together = space([mono, stereo, long])
        assert torch.equal(together, torch.cat([space([s]) for s in (mono, stereo, long)]))
        mixed = Sound(stereo.samples.mean(1, keepdims=True), stereo.rate)
        assert torch.equal(space([mixed]), together[1:2])
        short = Sound(mono.samples[:20], mono.rate)  # 2.5 ms, less than a convolution takes
        lengthened = Sound(np.pad(short.samples, ((0, 780), (0, 0))), mono.rate)
        assert torch.allclose(space([short]), space([lengthened]), atol=0.01)
    begun = Sound(long.samples[:8000], long.rate)  # CLAP here takes a second
    assert torch.allclose(Hearing(clap)([begun]), Hearing(clap)([long]), atol=0.05)


def test_it_is_one_space_more_of_an_evaluation(wave: Path) -> None:
    all_sounds = sounds(60, 0.1)
    found = Found(torch.Generator().manual_seed(0))
    evaluate_sounds(found, all_sounds[:20], all_sounds[20:40], all_sounds[40:], "", wave)
    assert found.metrics["fd_wav2vec2"].floor is not None and found.spaces["wav2vec2"]["folder"] == wave.name


def test_what_hears_nothing_is_refused(transformers: Any, tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with torch.random.fork_rng(devices=[]):
        transformers.BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"bert\) takes input_ids and hears no sounds"):
        Hearing(tmp_path)
