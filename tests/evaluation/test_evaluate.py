"""The whole evaluation on real digits: real data pass, each fault is seen where it should be."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.errors import UserError
from kuosan.evaluation import Evaluation, evaluate_samples
from kuosan.evaluation.encoder_training import train_encoder
from kuosan.evaluation.roles import roles

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    mix = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(found.images / 8 - 1).float()[:, None]
    return x[mix], torch.from_numpy(found.target).long()[mix]


def evaluated(
    digits: tuple[torch.Tensor, torch.Tensor], samples: torch.Tensor, asked: torch.Tensor
) -> Evaluation:
    """Training 0–1000, held-out 1000–1300; the rest may serve as samples."""
    x, labels = digits
    return evaluate_samples(
        samples, x[:1000], x[1000:1300], labels=asked, train_labels=labels[:1000],
        val_labels=labels[1000:1300], seconds=2.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def honest(digits: tuple[torch.Tensor, torch.Tensor]) -> Evaluation:
    return evaluated(digits, digits[0][1300:1600], digits[1][1300:1600])


def test_real_digits_measure_as_real(honest: Evaluation) -> None:
    measured = {"fd", "kd", "kd_rbf"}
    assert {f"{m}_{s}" for m in measured for s in ("pixels", "encoder")} <= set(honest.metrics)
    assert {"precision", "recall", "density", "coverage", "class_accuracy", "copies"} <= set(honest.metrics)
    for name, m in honest.metrics.items():
        assert m.name == name and m.stderr is not None and m.floor is not None
        assert m.sigmas is not None and abs(m.sigmas) < 3.5, name
    assert honest.metrics["class_accuracy"].value > 0.94
    assert honest.spaces["encoder"]["quality"]["value"] > 0.94
    assert not honest.left_out


def test_copies_wrong_classes_noise_and_dropped_modes_are_seen(
    digits: tuple[torch.Tensor, torch.Tensor], honest: Evaluation
) -> None:
    x, labels = digits
    samples, asked = x[1300:1600].clone(), labels[1300:1600].clone()
    samples[:60], asked[:60] = x[:60], labels[:60]
    asked[60:120] = (asked[60:120] + 1) % 10
    copied = evaluated(digits, samples, asked)
    assert copied.metrics["copies"].value == pytest.approx(0.2, abs=0.03)
    assert {(r.sample, r.train) for r in copied.nearest} <= {(i, i) for i in range(60)}
    assert copied.metrics["class_accuracy"].value == pytest.approx(0.8, abs=0.03)
    noise = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noisy = evaluated(digits, x[1300:1600] + 0.5 * noise, labels[1300:1600])
    few = x[1300:][labels[1300:] < 5]
    dropped = evaluated(digits, few, labels[1300:][labels[1300:] < 5])
    for name in ("fd_pixels", "fd_encoder", "kd_rbf_pixels", "kd_rbf_encoder"):
        assert noisy.metrics[name].sigmas > 3, name
        assert dropped.metrics[name].sigmas > 3, name
    assert noisy.metrics["precision"].value < honest.metrics["precision"].value - 0.1
    assert dropped.metrics["recall"].value < honest.metrics["recall"].value - 0.2
    assert dropped.metrics["coverage"].value < 0.6
    assert dropped.metrics["precision"].value > 0.8


def test_the_same_bits_again_whole_on_disk_and_global_state_untouched(
    digits: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    x, _ = digits
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    a = evaluate_samples(x[600:700], x[:300], x[300:340], seconds=0.5, out=tmp_path)
    b = evaluate_samples(x[600:700], x[:300], x[300:340], seconds=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert a.to_json() == b.to_json()
    assert json.loads((tmp_path / "evaluation.json").read_text()) == a.to_json()
    assert {"encoder.safetensors", "encoder.json"} <= {p.name for p in tmp_path.iterdir()}
    assert "as these are few" in a.metrics["fd_pixels"].note
    assert "no classes" in a.left_out["class_accuracy"]


@pytest.mark.parametrize(("train", "val", "n"), [(20, 0, 5), (20, 4, 20), (2, 0, 1), (60, 3, 64), (1, 1, 1)])
def test_tiny_sets_leave_out_with_a_reason(
    digits: tuple[torch.Tensor, torch.Tensor], train: int, val: int, n: int
) -> None:
    x, _ = digits
    found = evaluate_samples(x[500 : 500 + n], x[:train], x[train : train + val], seconds=0.1)
    everything = {"fd_pixels", "kd_pixels", "kd_rbf_pixels", "precision", "recall", "density", "coverage"}
    everything |= {"class_accuracy", "copies", "nearest_distance"}
    assert everything <= set(found.metrics) | set(found.left_out)
    assert not set(found.metrics) & set(found.left_out)
    assert all(any(c.isdigit() for c in why) or "no class" in why for why in found.left_out.values())
    if train >= 21:
        assert "each to the rest" in found.metrics["copies"].note


def test_colour_and_odd_shapes(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, 5, 300, generator=generator).cumsum(3) / 20
    found = evaluate_samples(x[300:], x[:250], x[250:300], seconds=0.2)
    assert abs(found.metrics["fd_pixels"].sigmas) < 3.5
    assert "area-averaged" in found.spaces["pixels"]["what"]


def test_broken_and_mismatched_samples_are_the_users_to_mend(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    x = digits[0]
    broken = x[:10].clone()
    broken[4] = torch.nan
    with pytest.raises(UserError, match="1 of 10 samples .* number 4"):
        evaluate_samples(broken, x[:50], x[50:60])
    with pytest.raises(UserError, match="one size"):
        evaluate_samples(x[:10, :, :4], x[:50], x[50:60])
    with pytest.raises(UserError, match="nothing to compare"):
        evaluate_samples(x[:0], x[:50], x[50:60])


@pytest.mark.parametrize(
    ("train", "heldout", "samples"), [(1437, 360, 500), (300, 40, 100), (60000, 10000, 1000), (2, 0, 9)]
)
def test_roles_are_disjoint_and_the_encoder_sees_no_judge(train: int, heldout: int, samples: int) -> None:
    found = roles(train, heldout, samples, torch.Generator().manual_seed(0))
    taught, unseen, borrowed, pool = (
        set(i.tolist()) for i in (found.taught, found.unseen, found.borrowed, found.pool)
    )
    assert not taught & unseen and not taught & borrowed and not unseen & borrowed and not pool & borrowed
    assert taught | unseen | borrowed == set(range(train))
    assert (len(borrowed) > 0) == (heldout < 200 and train >= 6)
    assert len(taught) >= train / 2


def test_import_is_light() -> None:
    heavy = "{'sklearn', 'scipy', 'diffusers', 'matplotlib', 'imagecodecs', 'transformers'}"
    code = f"import sys, kuosan.evaluation.writing; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_fashion_items_measure_as_real() -> None:
    file = SHARED / "fashion_mnist" / "t2k-images-idx3-ubyte.gz"
    if not file.exists():
        pytest.skip("needs the shared data set fashion_mnist beside the repository (../shared/data)")
    raw = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16)[: 1200 * 784]
    x = torch.from_numpy(raw.reshape(-1, 1, 28, 28).copy()).float() / 127.5 - 1
    found = evaluate_samples(x[:200], x[200:900], x[900:1200], seconds=1.0)
    for name, m in found.metrics.items():
        assert m.sigmas is not None and abs(m.sigmas) < 3.5, name


def test_shifted_digits_are_still_recognised(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, labels = digits
    encoder = train_encoder(x[:1437], labels[:1437], val=x[1437:], val_labels=labels[1437:], seconds=3)
    assert encoder.quality["value"] > 0.97
    moved = torch.roll(x[1437:], 1, 3)
    moved[..., 0] = -1
    assert (encoder.logits(moved).argmax(1) == labels[1437:]).double().mean() > 0.85
