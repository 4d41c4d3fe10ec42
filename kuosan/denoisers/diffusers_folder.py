"""The folder that `DiffusionPipeline.from_pretrained` opens, and the VAE that does nothing.

`DiTPipeline` decodes every sample with an `AutoencoderKL`. Pixels need no decoding, so the one written here
is the identity, although its last layers are a group norm and a SiLU. Residual branches are zero; conv_in
makes, of an image x with C channels, one group of 2C + 2 channels

    ( x,  −x,  +M,  −M ),    mean 0,    variance (M² + Σ x²) / (C + 1)                                (1)

and with M² ≫ Σ x² the norm is a division by a constant, which its weight undoes up to a factor κ. Then

    silu(z) − silu(−z) = z · (sigmoid(z) + sigmoid(−z)) = z                                            (2)

exactly, so conv_out subtracts the second C channels from the first and divides by κ. What remains is
Σx²/(2M²) relative from (1), and the rounding of the group's mean, M·1e-7, which (2) damps by κ: the
derivative of silu(z) + silu(−z) near 0 is about z. All kernels have their centre tap only, so any spatial
size will do.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from kuosan.core.schedules import Schedule
from kuosan.denoisers.diffusers_export import (
    NULL_CLASS,
    STEPS,
    check_where,
    class_column,
    returned_unet,
    scheduler_for,
    stock_transformer,
    stock_unet,
)
from kuosan.errors import UserError
from kuosan.networks.sides import times

PEDESTAL = 4096.0  # M of eq. (1)
DAMPING = 1 / 64  # κ of eq. (2)
TITLE = "# A diffusion model, exported by Kuosan"  # of the card; also how an earlier export is known again
PARTS = ("unet", "transformer", "vae", "scheduler", "conditional")


def identity_vae(channels: int, size: int) -> Any:
    """An `AutoencoderKL` with encode(x).mode() = x and decode(z) = z, within 1e-4 for |x| ≤ 1.5."""
    from diffusers import AutoencoderKL

    width = 2 * channels + 2
    with torch.device("meta"):
        vae: Any = AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            latent_channels=channels,
            down_block_types=("DownEncoderBlock2D",),
            up_block_types=("UpDecoderBlock2D",),
            block_out_channels=(width,),
            layers_per_block=1,
            norm_num_groups=1,
            sample_size=size,
            scaling_factor=1.0,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )
    vae.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        for half in (vae.encoder, vae.decoder):
            _pass_through(half, channels)
        vae.encoder.conv_out.bias[
            channels:
        ] = -30.0  # log-variance at its lower clamp: encoding adds no noise
    return vae.eval()


def _pass_through(half: Any, channels: int) -> None:
    """Set the first and last layers of an encoder or decoder to eqs. (1) and (2)."""
    for c in range(channels):
        half.conv_in.weight[c, c, 1, 1] = 1
        half.conv_in.weight[channels + c, c, 1, 1] = -1
        half.conv_out.weight[c, c, 1, 1] = 1 / DAMPING
        half.conv_out.weight[c, channels + c, 1, 1] = -1 / DAMPING
    half.conv_in.bias[-2], half.conv_in.bias[-1] = PEDESTAL, -PEDESTAL
    deviation = math.sqrt(PEDESTAL**2 / (channels + 1) + half.conv_norm_out.eps)
    half.conv_norm_out.weight[: 2 * channels] = DAMPING * deviation


def export_diffusers(
    network: Any,
    spec: Mapping[str, Any],
    folder: str | Path,
    *,
    output: str,
    schedule: Schedule,
    sigma_data: float = 1.0,
    where: Mapping[str, int] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    vae: Any = None,
    student: float | None = None,
) -> Path:
    """Write a folder that `diffusers.DiffusionPipeline.from_pretrained(folder)` opens.

    A U-Net becomes a `DDPMPipeline`, with the conditions of `where` (else null) folded in; a conditional
    one is also written whole, under `conditional/`. A transformer becomes a `DiTPipeline` whose classes are
    one condition.

    Args:
        network: a trained `Transformer`, `UNet` or `StockUNet`.
        spec: the specification that `build_network` made it from; its "kind" says which it is.
        folder: new, empty, or an earlier export, which is overwritten.
        output: what the network predicts: "x", "eps" or "v".
        schedule: variance-preserving.
        sigma_data: what the denoiser divides its input by; only 1 has a counterpart.
        where: condition column → index of the value to fix.
        names: condition column → names of its values, for the card and for `pipe.get_label_ids`.
        vae: the `AutoencoderKL` of a transformer over latents, its units folded in; None is one over pixels.
        student: the time that a student of one step begins at, where the scheduler's table then ends.

    Returns:
        The folder.

    Raises:
        UserError: what diffusers cannot hold, with the reason; or a folder that holds something else.
    """
    folder, where, names = Path(folder), dict(where or {}), dict(names or {})
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, and an export is a folder; choose another place")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
        raise UserError(f"{folder} holds files that are no export of ours; choose a new or empty folder")
    if abs(sigma_data - 1) > 1e-12:
        raise UserError(
            f"the network's input is scaled for data of standard deviation {sigma_data:g}, which diffusers "
            "cannot do; train with --set sigma_data=1"
        )
    if spec["kind"] not in ("transformer", "unet", "stock"):
        raise UserError(
            f"a network of kind {spec['kind']!r} has no counterpart in diffusers; "
            "train a transformer or a U-Net"
        )
    if vae is not None and spec["kind"] != "transformer":
        raise UserError(
            f"diffusers has no pipeline for a {spec['kind']} over latents, only for a transformer; train with --set "
            "network=transformer"
        )
    conditions: dict[str, int] = dict(spec.get("conditions") or {})
    check_where(where, conditions)
    scheduler = scheduler_for(schedule, output, spec.get("levels", STEPS), student or 1.0)
    if spec["kind"] == "transformer":
        _write_transformer(network, folder, scheduler, where, names, vae)
    elif spec["kind"] == "stock":
        _save_unet(returned_unet(network), folder, scheduler)
    else:
        _write_unet(network, folder, scheduler, where)
    (folder / "README.md").write_text(_card(spec, where, names, vae, student is not None), encoding="utf-8")
    return folder


def _is_ours(folder: Path) -> bool:
    card = folder / "README.md"
    return card.is_file() and TITLE in card.read_text(encoding="utf-8", errors="replace").splitlines()


def _clear(folder: Path) -> None:
    """Remove an earlier export's parts: one of another kind of network would leave some behind."""
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)


def _write_transformer(
    network: Any,
    folder: Path,
    scheduler: Any,
    where: Mapping[str, int],
    names: Mapping[str, Sequence[str]],
    vae: Any,
) -> None:
    from diffusers import DiTPipeline

    transformer = stock_transformer(network, where)
    vae = identity_vae(network.channels, network.sides[0]) if vae is None else vae
    _clear(folder)
    pipe: Any = DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler)
    pipe.save_pretrained(folder)
    column = class_column(network.table.conditions, where)
    if column and column in names:
        index = folder / "model_index.json"
        content = json.loads(index.read_text(encoding="utf-8"))
        # DiTPipeline splits a label at commas into synonyms.
        content["id2label"] = {str(i): name.replace(",", ";") for i, name in enumerate(names[column])}
        index.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_unet(network: Any, folder: Path, scheduler: Any, where: Mapping[str, int]) -> None:
    _save_unet(stock_unet(network, where), folder, scheduler)
    if network.conditions:
        stock_unet(network, conditional=True).save_pretrained(folder / "conditional")
    if len(network.conditions) > 1:
        rows = {name: network.table.column(name).detach().cpu().clone() for name in network.conditions}
        save_file(rows, folder / "conditional" / "conditions.safetensors")


def _save_unet(unet: Any, folder: Path, scheduler: Any) -> None:
    from diffusers import DDPMPipeline

    _clear(folder)
    pipe: Any = DDPMPipeline(unet=unet, scheduler=scheduler)
    pipe.save_pretrained(folder)


def _card(
    spec: Mapping[str, Any],
    where: Mapping[str, int],
    names: Mapping[str, Sequence[str]],
    vae: Any,
    student: bool,
) -> str:
    """A page that says how to use the folder, in `diffusers`' own words."""
    conditions: dict[str, int] = dict(spec.get("conditions") or {})

    def value(column: str) -> str:
        index = where.get(column, conditions[column])
        if index == conditions[column]:
            return f"- `{column}`: none given"
        return f"- `{column}`: {names[column][index] if column in names else index}"

    transformer = spec["kind"] == "transformer"
    free = class_column(conditions, where) if transformer else None
    # DDPMPipeline hands its scheduler a generator, which UniPC's step does not take.
    solver = "UniPCMultistepScheduler" if transformer else "DPMSolverMultistepScheduler"
    count = (
        f"class_labels=[{0 if free else NULL_CLASS}] * 4, guidance_scale=1.0"
        if transformer
        else "batch_size=4"
    )
    channels = spec["channels"] if vae is None else vae.config.out_channels
    picture = "" if channels in (1, 3) else ', output_type="np"'
    what = f"{spec['channels']} channel(s), {times(spec['sides'])}"
    space = f"{what}, values −1…1." if vae is None else f"Latents of {what}, which `vae` makes pictures of."
    lines = [
        "---",
        "library_name: diffusers",
        "---",
        TITLE,
        "",
        space,
        "",
        "```python",
        f"from diffusers import DiffusionPipeline{'' if student else f', {solver}'}",
        "",
        'pipe = DiffusionPipeline.from_pretrained("THIS_FOLDER")',
        *([] if student else [f"pipe.scheduler = {solver}.from_config(pipe.scheduler.config)"]),
        f"images = pipe({count}, num_inference_steps={1 if student else 20}{picture}).images",
        "```",
        "",
    ]
    if free:
        known = f": {', '.join(names[free])}" if free in names else ""
        lines += [
            f"`class_labels` is `{free}`, 0…{conditions[free] - 1}{known}; {NULL_CLASS} is none.",
            "",
        ]
    if fixed := [value(name) for name in conditions if name != free]:
        lines += ["Fixed in this export:", "", *fixed, ""]
    if conditions and not transformer:
        labels = (
            "the indices; the last row stands for none"
            if len(conditions) == 1
            else "the sum of one row of each table in `conditions.safetensors`; last rows stand for none"
        )
        lines += [
            "`conditional/` holds the same U-Net with its conditions free, a `UNet2DModel`;",
            f"its `class_labels` are {labels}.",
            "",
        ]
    return "\n".join(lines)
