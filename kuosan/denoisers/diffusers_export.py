"""From a run to a folder that `diffusers.DiffusionPipeline.from_pretrained` opens, without code of ours.

What `diffusers` has no place for is folded into weights, exactly:

- **Schedule.** ᾱ_i = α² at t = (i + 1)/1000 and β_i = 1 − ᾱ_i/ᾱ_{i−1} ≤ 0.999, saved as `trained_betas`. The
  noise label of our networks at time t is 1000·t − 1, which is the index i there, so no re-indexing is
  needed.
- **U-Net conditions.** The stock `DDPMPipeline` passes no class. A condition adds a constant row to the
  embedding of the noise label, whose last layer has a bias; the row of the asked value (or of null) is
  added to that bias.
- **Transformer.** `DiTTransformer2DModel` keeps an embedder of label and class in every block; ours has
  one, which is copied into each. Its class table has 1001 rows with null in row 1000, where `DiTPipeline`'s
  guidance looks.

`diffusers_folder` writes the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kuosan.core.schedules import Schedule
from kuosan.errors import UserError
from kuosan.networks.conditions import ConditionTable
from kuosan.networks.given import blind
from kuosan.networks.sides import times
from kuosan.networks.stock import StockUNet
from kuosan.networks.transformer import EPSILON, Transformer
from kuosan.networks.unet import UNet

STEPS = 1000  # of the exported schedule; the unit of our networks' noise labels
NULL_CLASS = 1000  # the row that DiTPipeline takes for "no class"
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x": "sample"}


def trained_betas(schedule: Schedule, steps: int = STEPS) -> list[float]:
    """β_0 … β_{steps−1} whose running product, as `diffusers` forms it, is α² at t = (i + 1)/steps.

    `diffusers` rounds each 1 − β to float32. Each β here is chosen given the product of the rounded ones
    before it, so the errors do not add up: ᾱ_i is off by one rounding (6e-8), not by a thousand.

    Raises:
        UserError: α² + σ² is not 1.
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    alpha, sigma = schedule.alpha(t).detach().double(), schedule.sigma(t).detach().double()
    total = alpha.square() + sigma.square()
    if float((total - 1).abs().max()) > 1e-6:
        raise UserError(
            f"the schedule {type(schedule).__name__} cannot be exported to diffusers: its alpha² + sigma² "
            "leaves 1, and DDPM schedulers are variance-preserving; train with --set schedule=cosine"
        )
    wanted = (alpha.square() / total).tolist()
    betas: list[float] = []
    product = 1.0
    for a in wanted:
        beta = torch.tensor(min(max(1 - a / product, 0.0), 0.999), dtype=torch.float32)
        product *= float(1 - beta)
        betas.append(float(beta))
    return betas


def scheduler_for(schedule: Schedule, output: str, steps: int = STEPS, first: float = 1.0) -> Any:
    """A `diffusers.DDPMScheduler` of this schedule and output ("x", "eps" or "v"), whose table ends at time ``first``,
    where a sampler then begins."""
    from diffusers import DDPMScheduler

    if output not in PREDICTIONS:
        raise UserError(
            f"a network that predicts {output!r} cannot be exported to diffusers, whose DDPM schedulers know "
            f"only {', '.join(PREDICTIONS)}; train with --set objective.output=v"
        )
    betas = trained_betas(schedule, steps)[: round(first * steps)]
    return DDPMScheduler(
        num_train_timesteps=len(betas),
        trained_betas=betas,
        prediction_type=PREDICTIONS[output],
        clip_sample=False,
        timestep_spacing="trailing",  # few-step samplers then start at t = 1, where the prior is
    )


def check_where(where: Mapping[str, int], conditions: Mapping[str, int]) -> None:
    """Raise `UserError` for a condition that the network does not have, or a value out of range."""
    for name, index in where.items():
        if name not in conditions:
            raise UserError(
                f"the model has no condition {name!r}, it has {', '.join(conditions) or 'none'}; "
                f"leave {name} out of --where"
            )
        if not 0 <= index <= conditions[name]:
            raise UserError(
                f"condition {name!r} has {conditions[name]} values and no index {index}; choose another"
            )


def folded_row(table: ConditionTable, where: Mapping[str, int], names: Sequence[str]) -> Float[Tensor, "d"]:
    """The sum of the rows of these columns: the asked value of each, else null."""
    row = table.rows.new_zeros(table.rows.shape[1])
    for name in names:
        row = row + table.column(name)[where.get(name, table.conditions[name])]
    return row


def stock_unet(network: UNet, where: Mapping[str, int] | None = None, *, conditional: bool = False) -> Any:
    """The `diffusers.UNet2DModel` of a U-Net: `where` folded in, or (`conditional`) as it stands."""
    from diffusers import UNet2DModel

    if network.coordinates:
        raise UserError(
            "this U-Net was trained on crops and reads where each pixel lies, for which diffusers has no place; train "
            "with --set training.crops=0, or --set network=transformer, which needs no such channels"
        )
    if any(side % network.factor for side in network.sides):
        raise UserError(
            f"this U-Net pads {times(network.sides)} images to multiples of {network.factor}, "
            f"which diffusers cannot do; train with sides that {network.factor} divides, or with fewer levels"
        )
    config, weights = dict(network.config), dict(network.unet.state_dict())
    if len(set(network.sides)) == 1:
        config["sample_size"] = network.sides[0]
    if not conditional and (network.conditions or network.summed):
        where = where or {}
        if network.summed:
            row = folded_row(network.table, where, list(network.conditions)).detach()
        else:
            ((name, n),) = network.conditions.items()
            row = weights.pop("class_embedding.weight")[where.get(name, n)]
        bias = "time_embedding.linear_2.bias"
        weights[bias] = weights[bias] + row
        config.update(num_class_embeds=None, class_embed_type=None)
    return _assemble(UNet2DModel, *_mean_alone(*_untold(config, weights, network), network.channels))


def returned_unet(network: StockUNet) -> Any:
    """The `UNet2DModel` of a network that came from diffusers."""
    from diffusers import UNet2DModel

    config, weights = dict(network.unet.config), dict(network.unet.state_dict())
    return _assemble(UNet2DModel, *_mean_alone(*_untold(config, weights, network), network.channels))


def _untold(
    config: dict[str, Any], weights: dict[str, Tensor], network: UNet | StockUNet
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A U-Net that is told of no given parts, for which stock pipelines have no place."""
    if not network.given:
        return config, weights
    spec = {"kind": "stock", "channels": network.channels}
    weights = {
        name.removeprefix("unet."): w
        for name, w in blind({f"unet.{name}": w for name, w in weights.items()}, spec).items()
    }
    return config | {"in_channels": network.channels}, weights


def _mean_alone(
    config: dict[str, Any], weights: dict[str, Tensor], channels: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A U-Net without the second half of its channels, a variance that stock pipelines could not read."""
    weights = weights | {part: weights[part][:channels] for part in ("conv_out.weight", "conv_out.bias")}
    return config | {"out_channels": channels}, weights


def stock_transformer(network: Transformer, where: Mapping[str, int] | None = None) -> Any:
    """The `diffusers.DiTTransformer2DModel` of a transformer.

    One condition stays free as the class: `class` if there is such a column that `where` does not fix, else
    the first that it does not fix. All others are folded at their value in `where`, or at null.
    """
    from diffusers import DiTTransformer2DModel

    (side, *others), (p, *rest), d, where = network.sides, network.patch, network.dim, where or {}
    if others != [side] or rest != [p] or side % p:
        raise UserError(
            "diffusers' DiT takes square images whose side its patch divides, not "
            f"{times(network.sides)} with patches of {times(network.patch)}; train with "
            "--set network=unet, or on such images"
        )
    conditions = network.table.conditions
    if network.reach != network.counts:
        raise UserError(
            f"this transformer began on pictures of {times(network.reach)} patches, and diffusers' DiT "
            "has no place for positions between them; train without --init, or at the size that it began with"
        )
    if network.shaping is not None:
        raise UserError(
            "what this transformer says is shaped like its data's spectrum, which diffusers' DiT cannot do; train "
            "without network.spectrum"
        )
    if network.detailer is not None:
        raise UserError(
            "convolutions join the patches of this transformer, for which diffusers' DiT has no place; train with "
            "--set network.detail=0"
        )
    column = class_column(conditions, where)
    if column and conditions[column] > NULL_CLASS:
        raise UserError(
            f"diffusers' DiTPipeline holds {NULL_CLASS} classes, condition {column!r} has "
            f"{conditions[column]}; fix it with --where {column}=VALUE"
        )
    config = {
        "num_attention_heads": network.heads,
        "attention_head_dim": d // network.heads,
        "in_channels": network.channels,
        "out_channels": network.channels,
        "num_layers": network.depth,
        "sample_size": side,
        "patch_size": p,
        "num_embeds_ada_norm": NULL_CLASS,
        "norm_eps": EPSILON,
        "activation_fn": network.activation,
    }
    own = {name: value.detach() for name, value in network.state_dict().items()}
    if network.given:
        own = blind(own, {"kind": "transformer", "channels": network.channels})
    folded = [name for name in conditions if name != column]
    table = torch.zeros(NULL_CLASS + 1, d, dtype=network.table.rows.dtype)
    if column:
        rows = network.table.column(column).detach()
        table[:] = rows[-1]
        table[: len(rows) - 1] = rows[:-1]
    modulation = own["modulation.weight"].view(-1, d, d), own["modulation.bias"].view(-1, d)
    weights = {
        "pos_embed.proj.weight": own["embed.weight"].view(d, network.channels, p, p),
        "pos_embed.proj.bias": own["embed.bias"],
        "proj_out_1.weight": modulation[0][-2:].flatten(0, 1),
        "proj_out_1.bias": modulation[1][-2:].flatten(),
        # Without a variance, the second half of every pixel's channels.
        "proj_out_2.weight": own["out.weight"].view(p * p, -1, d)[:, : network.channels].flatten(0, 1),
        "proj_out_2.bias": own["out.bias"].view(p * p, -1)[:, : network.channels].flatten(),
    }
    for k in range(network.depth):
        to, at = f"transformer_blocks.{k}.", f"blocks.{k}."
        for part in ("weight", "bias"):
            pieces = own[f"{at}qkv.{part}"].chunk(3)
            weights |= {
                f"{to}attn1.to_{name}.{part}": piece for name, piece in zip("qkv", pieces, strict=True)
            }
            weights[f"{to}attn1.to_out.0.{part}"] = own[f"{at}proj.{part}"]
            weights[f"{to}ff.net.0.proj.{part}"] = own[f"{at}fc1.{part}"]
            weights[f"{to}ff.net.2.{part}"] = own[f"{at}fc2.{part}"]
            weights[f"{to}norm1.emb.timestep_embedder.linear_1.{part}"] = own[f"label1.{part}"]
            weights[f"{to}norm1.emb.timestep_embedder.linear_2.{part}"] = own[f"label2.{part}"]
        weights[f"{to}norm1.emb.timestep_embedder.linear_2.bias"] = (
            own["label2.bias"] + folded_row(network.table, where, folded).detach()
            if folded
            else own["label2.bias"]
        )
        weights[f"{to}norm1.emb.class_embedder.embedding_table.weight"] = table
        weights[f"{to}norm1.linear.weight"] = modulation[0][6 * k : 6 * k + 6].flatten(0, 1)
        weights[f"{to}norm1.linear.bias"] = modulation[1][6 * k : 6 * k + 6].flatten()
    return _assemble(DiTTransformer2DModel, config, weights)


def class_column(conditions: Mapping[str, int], where: Mapping[str, int]) -> str | None:
    """The condition that stays free as the class of a DiT."""
    free = [name for name in conditions if name not in where]
    return "class" if "class" in free else free[0] if free else None


def _assemble(kind: Any, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """A `diffusers` model of this class holding these weights; nothing is drawn at random on the way."""
    with torch.device("meta"):
        model: nn.Module = kind(**config)
    model.load_state_dict({k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}, assign=True)
    return model.eval()
