"""Runs whose diffusion is of latents: when `auto` makes one, that a kill loses nothing, and that pictures come out."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import kuosan
from kuosan.codecs import KLVAE, load_codec
from kuosan.core.entropy import unit_rate
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities import load as load_data
from kuosan.recipes import codec as codecs
from kuosan.recipes.ceiling import ceiling
from kuosan.recipes.export import export
from kuosan.recipes.opening import prepare, reopen, settle
from kuosan.recipes.run import CODEC
from kuosan.recipes.schema import Recipe
from kuosan.training import checkpoint
from kuosan.training.interrupt import Interrupted
from tests.recipes.latents import CODEC_STEPS, CPU, CUDA, pictures, session, trained


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "discs")


@pytest.fixture(scope="module")
def latent(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Trained in one go; to be read only."""
    return trained(discs, tmp_path_factory.mktemp("runs") / "discs")


# -- the choice ---------------------------------------------------------------------------------------------

LARGE = [300] * 200


@pytest.mark.parametrize(
    ("device", "budget", "sides", "leaves", "kind", "side"),
    [
        (CPU, "20m", LARGE, {}, True, 256),
        (CPU, "10m", LARGE, {}, False, 64),  # too little time
        (CUDA, "10m", LARGE, {}, True, 256),
        (CUDA, "20m", [120] * 200, {}, False, 128),  # pixels can do these
        (CPU, "20m", [120] * 200, {}, True, 256),
        (CPU, "20m", LARGE[:60], {}, False, 64),  # too few
        (CPU, "2h", [64] * 500, {}, False, 64),  # small
        (CPU, "2h", [], {}, False, 64),
        (CPU, "100steps", LARGE, {}, False, 64),
        (CPU, "20000steps", LARGE, {}, True, 256),
        (CPU, "3Mimages", LARGE, {}, True, 256),
        (CPU, "2h", LARGE, {"codec": "none"}, False, 64),
        (CPU, "1m", LARGE[:3], {"codec": "kl_vae"}, True, 256),
        (CPU, "2h", LARGE, {"data.max_side": 96}, True, 96),
    ],
)
def test_auto_goes_by_pictures_number_machine_and_budget(
    device: torch.device, budget: str, sides: list[int], leaves: dict[str, Any], kind: bool, side: int
) -> None:
    recipe = Recipe().updated({"budget": budget, **leaves})
    assert codecs.wanted(recipe, device, sides)[0] is kind
    assert codecs.max_side(recipe, device, sides) == side


def test_what_is_refused_says_what_would_help() -> None:
    _, why = codecs.wanted(Recipe().updated({"budget": "5m"}), CPU, LARGE)
    assert "15 min" in why
    _, why = codecs.wanted(Recipe().updated({"budget": "1h"}), CPU, LARGE[:20])
    assert "20 are too few" in why
    for leaves in ({"codec": "stock"}, {"codec.path": "x"}, {"codec": "kl_vae", "codec.path": "x"}):
        with pytest.raises(UserError, match=r"codec\.path=FOLDER"):
            codecs.wanted(Recipe().updated(leaves), CPU, LARGE)


def test_pictures_never_take_more_than_their_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2**32}[name])
    for count in (100, 4_000, 20_000, 10**6):
        side = codecs.side_of([500] * count)
        assert count * 4 * side**2 <= 2**30 and side % 32 == 0 and side <= 256
    recipe = Recipe().updated({"budget": "1d"})
    takes, why = codecs.wanted(recipe, CPU, [500] * 10**6)
    assert not takes and "memory" in why
    assert codecs.max_side(recipe, CPU, [500] * 10**6) == 64


def test_auto_takes_large_pictures_into_latents_and_leaves_small_ones_alone(tmp_path: Path) -> None:
    large = pictures(tmp_path / "large", 70, 80, 100)
    plan = settle(large, None, Recipe().updated({"budget": "20000steps"}), {})
    assert plan.facts.codec and plan.facts.codec["kind"] == plan.facts.recipe.codec.kind == "kl_vae"
    assert plan.facts.codec["sides"] == [80, 100]
    network = plan.facts.network
    assert (network["channels"], *network["sides"]) == (4, 20, 25)
    assert plan.facts.recipe.codec.steps == round(20_000 * 0.2 / 0.8)
    short = settle(large, None, Recipe().updated({"budget": "100steps"}), {})
    assert short.facts.codec is None and max(short.facts.network["sides"]) == 64
    assert [c for c in short.facts.choices if c[0] == "codec"]
    for leaf in ({"data.size": 32}, {"data.max_side": 48}):
        meant = settle(large, None, Recipe().updated({"budget": "100steps"} | leaf), {})
        assert meant.facts.codec is None and not [c for c in meant.facts.choices if c[0] == "codec"]
    small = pictures(tmp_path / "small", 70, 16, 16)
    plans = [settle(small, None, Recipe().updated({"budget": b}), {}) for b in ("100steps", "20000steps")]
    for plan in plans:
        assert plan.facts.codec is None and plan.facts.recipe.codec.kind == "none"
        assert not [c for c in plan.facts.choices if c[0].startswith("codec")]
        assert plan.facts.recipe.data.max_side == 64


# -- training -----------------------------------------------------------------------------------------------


def bits(path: Path) -> dict[str, bytes]:
    """All tensors of a run's last checkpoint and of its codec."""
    parts = {name: checkpoint.load(path / "checkpoints" / name)[0] for name in ("last", "codec")}
    parts["file"] = load_file(path / CODEC)
    return {f"{name}.{k}": v.numpy().tobytes() for name, part in parts.items() for k, v in part.items()}


def steps_of(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (path / "codec.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", ["codec", "diffusion"])
def test_killed_in_either_stage_a_run_ends_with_the_same_bits(
    discs: Path, latent: kuosan.Run, tmp_path: Path, stage: str
) -> None:
    one = session(discs, tmp_path / "run")
    events = one.codec_steps() if stage == "codec" else one.steps()
    for event in events:
        if event.step > 3:  # what follows the third step's checkpoint is lost
            break
    if stage == "codec":
        assert not (tmp_path / "run" / CODEC).exists()
    again = reopen(tmp_path / "run")
    assert again.coding and again.coding.steps == (3 if stage == "codec" else CODEC_STEPS)
    for _ in again.steps():
        pass
    assert bits(tmp_path / "run") == bits(latent.path)
    assert steps_of(tmp_path / "run") == list(range(1, CODEC_STEPS + 1)) == steps_of(latent.path)


def test_a_signal_in_the_first_stage_saves_it(discs: Path, latent: kuosan.Run, tmp_path: Path) -> None:
    one = session(discs, tmp_path / "run", training__save_seconds=1000.0)
    with pytest.raises(Interrupted):
        for event in one.codec_steps():
            if event.step == 2:
                os.kill(os.getpid(), signal.SIGINT)
    again = reopen(tmp_path / "run")
    assert again.coding and again.coding.steps == 2
    for _ in again.steps():
        pass
    assert bits(tmp_path / "run")["file.synthesis.weight"] == bits(latent.path)["file.synthesis.weight"]


def test_a_codec_that_was_lost_is_written_anew(latent: kuosan.Run, tmp_path: Path) -> None:
    path = shutil.copytree(latent.path, tmp_path / "run")
    good = (path / CODEC).read_bytes()
    for damage in (b"", good[:-3] + b"xyz", None):
        if damage is None:
            (path / CODEC).unlink()
        else:
            (path / CODEC).write_bytes(damage)
        with pytest.raises(UserError, match="kuosan resume"):
            kuosan.load(path).sample(1)
        reopen(path)
        assert (path / CODEC).read_bytes() == good


def test_the_codecs_checkpoint_is_refused_to_another_recipe(discs: Path, tmp_path: Path) -> None:
    one = session(discs, tmp_path / "run")
    for event in one.codec_steps():
        if event.step == 3:
            break
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("detail: 0.3", "detail: 0.2"))
    with pytest.raises(UserError, match="another recipe"):
        reopen(tmp_path / "run")


def test_a_budget_of_time_is_shared_by_both_stages(discs: Path, tmp_path: Path) -> None:
    one = session(discs, tmp_path / "run", budget="8s", codec__steps="auto", codec__share=0.5)
    assert one.facts.seconds and one.coding
    for _ in one.codec_steps():
        pass
    assert one.coding.seconds == pytest.approx(0.5 * one.facts.seconds, rel=0.1)
    one.encode()
    left = one.training.settings.seconds
    assert left and one.coding.seconds + left == pytest.approx(one.facts.seconds, rel=0.1)
    assert reopen(tmp_path / "run").coding.left == left  # type: ignore[union-attr]


# -- what comes out -----------------------------------------------------------------------------------------


def test_latents_inside_and_pictures_outside(latent: kuosan.Run, tmp_path: Path) -> None:
    assert latent.shape == (3, 12, 14) and latent.latent_shape == (3, 6, 7)
    samples = latent.sample(5, first=2)
    assert samples.z is not None and samples.z.shape == (5, 3, 6, 7) and samples.x.shape == (5, 3, 12, 14)
    codec = load_codec(latent.path / CODEC, latent.facts.codec or {})
    assert torch.allclose(codec.decode(samples.z), samples.x, atol=1e-5)
    paths = latent.write(samples, tmp_path / "out")
    assert Image.open(paths[0]).size == (14, 12)
    stored = load_file(tmp_path / "out" / "samples.safetensors")
    assert torch.equal(stored["x"], samples.x) and torch.equal(stored["z"], samples.z)


def test_a_sample_is_the_same_in_any_company(latent: kuosan.Run) -> None:
    whole, exact = latent.sample(20, steps=3, seed=3), latent.sample(20, steps=3, seed=3, exact=True)
    assert float(whole.x.std()) > 0.05
    for first, n in ((0, 1), (7, 1), (3, 9), (19, 1)):
        part = latent.sample(n, steps=3, seed=3, first=first)
        assert float((part.x - whole.x[first : first + n]).abs().max()) < 1e-5
        part = latent.sample(n, steps=3, seed=3, first=first, exact=True)
        assert torch.equal(part.x, exact.x[first : first + n])


def test_the_inverse_goes_by_way_of_latents(latent: kuosan.Run, discs: Path) -> None:
    from kuosan.recipes.inverse import Items, decode, encode

    x, labels = load_data(discs, like=latent.modality, columns=latent.facts.columns).val.batch(
        torch.arange(3)
    )
    noise = encode(latent, Items(x, labels, ("a", "b", "c")), steps=40)
    back = decode(latent, noise)
    assert noise.z.shape == (3, *latent.latent_shape) and back.z is not None
    assert float((back.z - latent.encoded(x)).abs().max()) < 0.05
    assert torch.allclose(back.x, latent.decoded(back.z))


def test_parts_of_pictures_stay_to_the_bit_though_latents_are_what_is_walked(
    latent: kuosan.Run, discs: Path
) -> None:
    x, _ = load_data(discs, like=latent.modality, columns=latent.facts.columns).val.batch(torch.arange(2))
    asked: dict[str, Any] = {"steps": 2, "solver": "ddim"}
    steering = latent.steer(given=x, keep=["height:0-6"])
    assert steering is not None
    given = steering.of(latent, range(2)).given
    assert given is not None and given.x.shape[1:] == latent.latent_shape
    rows = (
        given.mask[0, 0].any(1).tolist()
    )  # three patches and a half; the third has a neighbour that is to be made
    assert rows == [True, True, False, False, False, False] and torch.equal(given.x, latent.encoded(x))
    made = latent.sample(2, steering=steering, **asked)
    assert torch.equal(made.x[:, :, :7], x[:, :, :7]) and not torch.equal(made.x[:, :, 7:], x[:, :, 7:])
    # nothing of the codec's size is cut off: 13×15 is no whole number of patches
    wide = latent.sample(2, steering=latent.steer(given=x, size="13x15"), **asked)
    assert wide.x.shape == (2, 3, 13, 15) and torch.equal(wide.x[:, :, :12, :14], x)
    none = latent.sample(2, steering=latent.steer(vary=x, strength=0.0), **asked)
    assert torch.allclose(none.x, latent.decoded(latent.encoded(x)), atol=1e-5)


def test_training_sees_latents_of_unit_variance(discs: Path, tmp_path: Path) -> None:
    one = session(discs, tmp_path / "run")
    for _ in one.codec_steps():
        pass
    one.encode()
    z, cond = one.training.train.batch(torch.arange(len(one.data.train)))
    assert isinstance(z, torch.Tensor) and z.shape[1:] == (3, 6, 7)
    assert torch.allclose(z.var((0, 2, 3)), torch.ones(3), atol=0.1)
    assert torch.equal(cond["class"], one.data.train.labels["class"])


def test_the_entropy_is_that_of_latents(latent: kuosan.Run) -> None:
    assert latent.profile is not None
    assert len(latent.sample(2, grid="entropy")) == 2
    # Latents have unit variance: in much noise each tells what a unit Gaussian would.
    level = torch.tensor([-8.0], dtype=torch.float64)
    assert float(latent.profile.rate(level) / unit_rate(level)) == pytest.approx(1, rel=0.5)


def test_the_report_shows_the_ceiling(latent: kuosan.Run, discs: Path) -> None:
    roof = ceiling(latent, load_data(discs, like=latent.modality, columns=latent.facts.columns))
    assert roof is not None
    n, x = len(roof.x), roof.x
    codec = load_codec(latent.path / CODEC, latent.facts.codec or {})
    rounded = (codec.decode(codec.encode(x)).clamp(-1, 1) + 1) * 127.5
    errors = ((x + 1) * 127.5 - rounded.round()).double().square().flatten(1).mean(1)
    mse, psnr = roof.metrics["codec_mse"], roof.metrics["codec_psnr"]
    assert mse.n == psnr.n == n
    high = latent.facts.modality["format"]["high"]
    assert mse.value == pytest.approx(float(errors.mean()) * (high / 255) ** 2, rel=0.02)
    assert mse.stderr == pytest.approx(float(errors.std()) / n**0.5 * (high / 255) ** 2, rel=0.05)
    assert psnr.value == pytest.approx(float((10 * torch.log10(255**2 / errors)).mean()), abs=0.1)
    kept = json.loads((latent.path / "evaluation.json").read_text())["codec"]
    assert kept["codec_mse"]["value"] == pytest.approx(mse.value)
    report, card = ((latent.path / name).read_text() for name in ("report.html", "README.md"))
    assert 'id="codec"' in report and "ceiling" in report and "## The codec" in card


def test_without_a_codec_there_is_no_ceiling(run: kuosan.Run) -> None:
    assert run.codec is None and ceiling(run, run.modality) is None  # type: ignore[arg-type]
    assert 'id="codec"' not in (run.path / "report.html").read_text()
    z = Seeds.of(0, 2).normal(torch.empty(2, *run.shape))
    assert run.decoded(z) is z and run.latent_shape == run.shape


def test_a_run_that_starts_from_another_has_its_codec(
    latent: kuosan.Run, discs: Path, tmp_path: Path
) -> None:
    words = {"init": str(latent.path), "budget": "3steps", "training.save_seconds": 0.0}
    one = prepare(discs, out=tmp_path / "run", recipe=Recipe().updated(words), asked=words)
    for _ in one.steps():
        break
    again = reopen(tmp_path / "run")
    for _ in again.steps():
        pass
    run = kuosan.load(tmp_path / "run")
    theirs, mine = load_file(latent.path / CODEC), load_file(run.path / CODEC)
    assert all(torch.equal(v, mine[k]) for k, v in theirs.items())
    assert isinstance(run.codec, KLVAE) and run.latent_shape == latent.latent_shape
    assert not (run.path / "codec.jsonl").exists()
    with pytest.raises(UserError, match="codec"):
        settle(discs, None, Recipe().updated(words | {"codec": "none"}), {})


def test_a_codec_of_our_own_is_not_exported(latent: kuosan.Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codec=stock"):
        export(latent, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_student_learns_its_teachers_latents(latent: kuosan.Run, tmp_path: Path) -> None:
    student = latent.distil(2, budget="8steps", out=tmp_path / "student")
    samples = student.sample(3)
    assert samples.x.shape == (3, *latent.shape) and samples.z is not None
    assert samples.z.shape == (3, *latent.latent_shape)
    assert torch.equal(student.codec.decode(samples.z), latent.codec.decode(samples.z))  # type: ignore[union-attr]
    assert "codec_psnr" in student.evaluate(n=8)["codec"]
