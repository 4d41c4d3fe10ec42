"""To diffusers and back: the same numbers on both sides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified, Schedule, Sigmoid, VPLinear
from kuosan.denoisers.diffusers import export_diffusers, is_diffusers, load_diffusers, read_diffusers
from kuosan.denoisers.diffusers_export import trained_betas
from kuosan.denoisers.diffusers_folder import identity_vae
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.errors import UserError
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.solvers import DDIM, DPMSolverPP, UniPC, sample

pytest.importorskip("diffusers")

TRANSFORMER = {
    "kind": "transformer",
    "channels": 1,
    "sides": [8, 8],
    "patch": 2,
    "dim": 32,
    "depth": 2,
    "heads": 2,
}
UNET = {
    "kind": "unet",
    "channels": 3,
    "sides": [8, 8],
    "base": 8,
    "mults": [1, 2],
    "blocks": 1,
    "attention": [1],
}
LABELS = torch.tensor([0.0, 411.0, 999.0])


def network_of(spec: dict[str, Any], scale: float = 0.1) -> Any:
    """A network with no zero left in it."""
    generator = torch.Generator().manual_seed(2)
    network = build_network(spec, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return network.eval()


def noise(spec: dict[str, Any], n: int = 3) -> torch.Tensor:
    return torch.randn(n, spec["channels"], *spec["sides"], generator=torch.Generator().manual_seed(4))


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> None:
    """Equal within `tolerance` of the largest value."""
    assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


@pytest.mark.parametrize("schedule", [VPLinear(), Cosine(), Sigmoid()])
def test_betas_multiply_up_to_the_schedule(schedule: Schedule) -> None:
    from diffusers import DDPMScheduler

    cumulative = DDPMScheduler(trained_betas=trained_betas(schedule)).alphas_cumprod.double()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    wanted = schedule.alpha(t).square()
    kept = wanted[1:] / wanted[:-1] > 0.001  # elsewhere β is cut at 0.999
    torch.testing.assert_close(cumulative[:-1][kept], wanted[:-1][kept], atol=0, rtol=2.5e-7)
    assert 0 < cumulative[-1] <= wanted[-2]


@pytest.mark.parametrize("schedule", [Rectified(), EDM()])
def test_other_schedules_are_refused(schedule: Schedule, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=type(schedule).__name__):
        export_diffusers(
            network_of(TRANSFORMER), TRANSFORMER, tmp_path / "out", output="v", schedule=schedule
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_the_vae_is_the_identity(channels: int) -> None:
    x = torch.rand(2, channels, 20, 28, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    x[0, :, :10] = 1.5  # where the norm's variance leaves its constant the most
    vae = identity_vae(channels, 20)
    with torch.no_grad():
        assert (vae.decode(x).sample - x).abs().max() < 1e-5
        code = vae.encode(x).latent_dist
        assert (code.mode() - x).abs().max() < 1e-5 and code.std.max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    ("conditions", "where", "free"),
    [
        ({}, {}, None),
        ({"class": 4}, {}, "class"),
        ({"class": 4}, {"class": 1}, None),
        ({"a": 2, "class": 3, "b": 4}, {"b": 2}, "class"),
    ],
)
def test_an_exported_transformer_is_the_same_function(
    conditions: dict[str, int], where: dict[str, int], free: str | None, channels: int, tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    activation = "gelu" if channels == 3 else "gelu-approximate"
    spec = TRANSFORMER | {"conditions": conditions, "channels": channels, "activation": activation}
    network, x = network_of(spec), noise(spec)
    export_diffusers(network, spec, tmp_path, output="v", schedule=Cosine(), where=where)
    pipe = DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert type(pipe).__name__ == "DiTPipeline" and pipe.scheduler.config.prediction_type == "v_prediction"
    cond = {name: torch.full((3,), index) for name, index in where.items()}
    for values in ([0, 1, 2], [1000, 1000, 1000]):
        classes = torch.tensor(values)
        if free:
            cond[free] = classes.clamp_max(conditions[free])
        with torch.no_grad():
            theirs = pipe.transformer(x, timestep=LABELS, class_labels=classes).sample
            close(theirs, network(x, LABELS, **cond), 1e-5)


@pytest.mark.parametrize("more", [{"out_channels": 6}, {"given": True}], ids=["variance", "given parts"])
@pytest.mark.parametrize("given", [TRANSFORMER, UNET], ids=["transformer", "unet"])
def test_what_pipelines_have_no_place_for_stays_behind(
    given: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    spec = given | {"channels": 3} | more
    network, x = network_of(spec), noise(spec)
    export_diffusers(network, spec, tmp_path, output="v", schedule=Cosine())
    pipe = DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    with torch.no_grad():
        if given is UNET:
            theirs = pipe.unet(x, LABELS).sample
        else:
            theirs = pipe.transformer(x, timestep=LABELS, class_labels=torch.tensor([1000] * 3)).sample
        both = network(x, LABELS)
    assert both.shape[1] == more.get("out_channels", 3)
    close(theirs, both[:, :3], 1e-5)


@pytest.mark.parametrize(
    ("conditions", "where"),
    [({}, {}), ({"class": 4}, {}), ({"class": 4}, {"class": 1}), ({"a": 2, "class": 3}, {"a": 1})],
)
def test_an_exported_unet_is_the_same_function(
    conditions: dict[str, int], where: dict[str, int], tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline, UNet2DModel

    spec = UNET | {"conditions": conditions, "sides": [12, 8]}
    network, x = network_of(spec), noise(spec)
    export_diffusers(network, spec, tmp_path, output="eps", schedule=VPLinear(), where=where)
    pipe = DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    cond = {name: torch.full((3,), index) for name, index in where.items()}
    with torch.no_grad():
        close(pipe.unet(x, LABELS).sample, network(x, LABELS, **cond), 1e-5)
        assert (tmp_path / "conditional").is_dir() == bool(conditions)
        if conditions:
            whole = UNet2DModel.from_pretrained(tmp_path, subfolder="conditional", local_files_only=True)
            given = {name: torch.arange(3) % (n + 1) for name, n in conditions.items()}
            labels = given.get("class")
            if len(conditions) > 1:
                tables = load_file(tmp_path / "conditional" / "conditions.safetensors")
                labels = sum(tables[name][given[name]] for name in conditions)
            close(whole(x, LABELS, class_labels=labels).sample, network(x, LABELS, **given), 1e-5)
    call = {"generator": torch.Generator().manual_seed(0), "output_type": "np"}
    assert pipe(batch_size=2, num_inference_steps=2, **call).images.shape == (2, 12, 8, 3)


def our_end(
    denoiser: Any, solver: Any, timesteps: torch.Tensor, x: torch.Tensor, **cond: torch.Tensor
) -> torch.Tensor:
    """Our sample along a diffusers scheduler's timesteps: index i stands for t = (i + 1)/T."""
    levels = 1000
    grid = torch.cat([(timesteps.double() + 1) / levels, torch.zeros(1, dtype=torch.float64)])
    return sample(denoiser, solver, grid, x, Seeds.of(0, len(x)), **cond)


@pytest.mark.parametrize("base", [TRANSFORMER, UNET])
def test_pipelines_make_our_pictures(base: dict[str, Any], tmp_path: Path) -> None:
    """The stock pipeline's own call, and a loop of UniPC, against our samplers from the same noise."""
    from diffusers import DDIMScheduler, DiffusionPipeline, UniPCMultistepScheduler

    spec = base | {"conditions": {"class": 3}}
    network = network_of(spec, 0.05)
    denoiser = NetworkDenoiser(GaussianProcess(VPLinear()), network, "v")
    names = {"class": ["red", "green", "blue"]}
    export_diffusers(
        network,
        spec,
        tmp_path,
        output="v",
        schedule=VPLinear(),
        where={} if base is TRANSFORMER else {"class": 2},
        names=names,
    )
    pipe = DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    call: dict[str, Any] = {"batch_size": 3}
    if base is TRANSFORMER:
        assert pipe.get_label_ids(["blue"]) == [2]
        call = {"class_labels": [2, 2, 2], "guidance_scale": 1.0}
    images = pipe(
        **call, num_inference_steps=10, generator=torch.Generator().manual_seed(4), output_type="np"
    ).images
    cond = {"class": torch.full((3,), 2)}
    expected = our_end(denoiser, DDIM(), pipe.scheduler.timesteps, noise(spec), **cond)
    assert float(expected.abs().max()) > 0.5
    ours = (expected.permute(0, 2, 3, 1).numpy() / 2 + 0.5).clip(0, 1)
    assert np.abs(images - ours).max() < 1e-3

    scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(10)
    x = noise(spec)
    for i in scheduler.timesteps:
        with torch.no_grad():
            f = (
                pipe.transformer(x, i.expand(3), cond["class"]).sample
                if base is TRANSFORMER
                else pipe.unet(x, i).sample
            )
        x = scheduler.step(f, i, x).prev_sample
    close(x, our_end(denoiser, UniPC(2), scheduler.timesteps, noise(spec), **cond), 1e-3)


def save_pipeline(folder: Path, **scheduler: Any) -> Any:
    """A small stock pipeline that knows nothing of us."""
    from diffusers import DDIMPipeline, DDIMScheduler

    unet = network_of(UNET | {"mults": [1], "attention": []}).unet
    pipe = DDIMPipeline(unet=unet, scheduler=DDIMScheduler(clip_sample=False, **scheduler))
    pipe.save_pretrained(folder)
    return pipe


BETAS = {
    "linear": {"beta_schedule": "linear"},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "trained": {"trained_betas": np.linspace(2e-4, 0.03, 1000).tolist()},
}


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_solvers_agree_with_diffusers(betas: str, prediction: str, tmp_path: Path) -> None:
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    pipe = save_pipeline(tmp_path, prediction_type=prediction, **BETAS[betas])
    denoiser, x_start = load_diffusers(tmp_path), noise(UNET)
    config = pipe.scheduler.config
    dpm = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
    pairs = (
        (pipe.scheduler, DDIM()),
        (DPMSolverMultistepScheduler.from_config(config, **dpm), DPMSolverPP(2)),
        (UniPCMultistepScheduler.from_config(config, solver_type="bh2", solver_order=2), UniPC(2)),
    )
    for scheduler, solver in pairs:
        for steps in (10, 20):
            scheduler.set_timesteps(steps)
            x = x_start
            for i in scheduler.timesteps:
                with torch.no_grad():
                    x = scheduler.step(pipe.unet(x, i).sample, i, x).prev_sample
            close(our_end(denoiser, solver, scheduler.timesteps, x_start), x, 1e-4)


def test_a_loaded_network_is_rebuilt_from_its_specification(tmp_path: Path) -> None:
    pipe = save_pipeline(
        tmp_path, num_train_timesteps=250, rescale_betas_zero_snr=True, prediction_type="v_prediction"
    )
    assert is_diffusers(tmp_path) and not is_diffusers(tmp_path / "unet")
    network, spec, schedule, output = read_diffusers(tmp_path)
    again = build_network(json.loads(json.dumps(spec)), torch.Generator())
    again.load_state_dict(network.state_dict())
    x, index = noise(UNET), torch.tensor([0.0, 80.0, 249.0])
    label = 1000 * (index + 1) / 250 - 1  # the same times, counted in thousandths
    with torch.no_grad():
        close(again.eval()(x, label), pipe.unet(x, index).sample, 1e-5)
    t = (index.double() + 1) / 250
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(
        alpha.square(), pipe.scheduler.alphas_cumprod[index.long()].double(), atol=1e-12, rtol=1e-6
    )
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(t))
    assert output == "v" and float(alpha[-1]) < 1e-8


def test_a_loaded_pipeline_is_exported_unchanged(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    before = save_pipeline(tmp_path / "a", num_train_timesteps=250)
    network, spec, schedule, output = read_diffusers(tmp_path / "a")
    export_diffusers(network, spec, tmp_path / "b", output=output, schedule=schedule)
    after = DiffusionPipeline.from_pretrained(tmp_path / "b", local_files_only=True)
    x = noise(UNET)
    with torch.no_grad():
        assert torch.equal(after.unet(x, LABELS / 4).sample, before.unet(x, LABELS / 4).sample)
    one, other = (p.scheduler.alphas_cumprod.double() for p in (before, after))
    torch.testing.assert_close(one, other, atol=0, rtol=3e-7)
    assert after.scheduler.config.prediction_type == "epsilon"


def test_folders_that_cannot_be_loaded(tmp_path: Path) -> None:
    good = tmp_path / "good"
    save_pipeline(good)

    def broken(change: str) -> Path:
        folder = tmp_path / change
        shutil.copytree(good, folder)
        return folder

    with pytest.raises(UserError, match="no folder"):
        load_diffusers(tmp_path / "absent")
    with pytest.raises(UserError, match=r"model_index\.json is missing"):
        load_diffusers(tmp_path)
    folder = broken("pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(
        folder / "unet" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(UserError, match="use_safetensors=False"):
        load_diffusers(folder)
    folder = broken("cut")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_diffusers(folder)
    changes = (
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "StableDiffusionPipeline"),
        ("model_index.json", {"unet": ["my_code", "UNet"]}, "my_code"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "flow"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "steep"}, "steep"),
        ("unet/config.json", {"sample_size": None}, "sample_size"),
        ("unet/config.json", {"num_class_embeds": 3}, "class"),
        ("unet/config.json", {"down_block_types": ["Nothing", "DownBlock2D"]}, "Nothing"),
        ("unet/config.json", {"block_out_channels": [16, 16]}, "cannot be loaded"),
    )
    for k, (name, change, message) in enumerate(changes):
        file = broken(f"broken{k}") / name
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        with pytest.raises(UserError, match=message):
            load_diffusers(tmp_path / f"broken{k}")
    file = broken("garbled") / "model_index.json"
    file.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        load_diffusers(file.parent)


def test_exports_that_diffusers_cannot_hold(tmp_path: Path) -> None:
    def refuse(spec: dict[str, Any], match: str, **more: Any) -> None:
        leaves: dict[str, Any] = {"output": "v", "schedule": Cosine()} | more
        with pytest.raises(UserError, match=match):
            export_diffusers(build_network(spec, torch.Generator()), spec, tmp_path / "out", **leaves)

    refuse(TRANSFORMER, "velocity", output="velocity")
    refuse(TRANSFORMER, "standard deviation 0.5", sigma_data=0.5)
    refuse(TRANSFORMER | {"sides": [8, 10]}, "square")
    refuse(TRANSFORMER | {"patch": 3}, "patch divides")
    refuse(TRANSFORMER | {"gains": [[1.0] * 8, None]}, "without network.spectrum", output="x")
    refuse(TRANSFORMER | {"detail": 4}, "network.detail=0")
    refuse(UNET | {"sides": [8, 9]}, "multiples of 2")
    refuse(TRANSFORMER | {"conditions": {"word": 1001}}, "1000 classes")
    refuse(TRANSFORMER | {"conditions": {"class": 3}}, "no condition 'size'", where={"size": 0})
    refuse(TRANSFORMER | {"conditions": {"class": 3}}, "index 4", where={"class": 4})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    refuse(TRANSFORMER, "no export of ours")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    save_pipeline(tmp_path / "theirs")
    weights = (tmp_path / "theirs" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    with pytest.raises(UserError, match="no export of ours"):
        export_diffusers(network_of(UNET), UNET, tmp_path / "theirs", output="v", schedule=Cosine())
    assert (tmp_path / "theirs" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == weights


def test_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    for spec in (UNET | {"conditions": {"a": 2}}, TRANSFORMER):
        export_diffusers(network_of(spec), spec, tmp_path, output="v", schedule=Cosine())
    assert {p.name for p in tmp_path.iterdir()} == {
        "README.md",
        "model_index.json",
        "scheduler",
        "transformer",
        "vae",
    }
