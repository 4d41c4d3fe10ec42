"""Low-rank adapters: a few new weights beside those of a network, which stay as they are.

Of a layer with the matrix W (d_out × d_in, or a convolution's, whose windows are then columns),

    W' = W + (a/r) B A,     A: r × d_in,  B: d_out × r                                             (1)

(Hu et al. 2022, sec. 4.1). B starts at zero, so that the adapted network starts as the network. What has no place in
(1), rows of values that were never seen, is trained whole and saved whole. All of it is done by `peft`, whose file
format is the one that others read; the networks are ours or diffusers'.

However an adapter is made, it is what it does to the weights, θ' - θ, and so adapters add:

    θ(w) = θ + Σ_i w_i (θ'_i - θ)                                                                  (2)

`peft` is imported when an adapter is made or read, not with this module: it brings transformers along.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from kuosan.errors import UserError
from kuosan.training.checkpoint import write_bytes

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Last names of layers in transformers and U-Nets, ours, diffusers' and those of language models.
ATTENTION = (
    "qkv",
    "proj",
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "query",
    "key",
    "value",
    "q_lin",
    "k_lin",
    "v_lin",
    "Wqkv",
)
BLOCKS = (
    *ATTENTION,
    "fc1",
    "fc2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
    "dense",
    "lin1",
    "lin2",
    "Wi",
    "Wo",
)
NAMED = {"attention": ATTENTION, "blocks": BLOCKS, "all": ("",)}


def library() -> Any:
    """`peft`; UserError where it is not installed."""
    try:
        import peft
    except ImportError:
        raise UserError(
            "adapters need the package peft: install it with `pip install 'kuosan[adapters]'`"
        ) from None
    return peft


def layers(network: nn.Module, targets: str) -> list[str]:
    """The full names of the linear and convolutional layers that ``targets`` means: attention, blocks, all, or last
    names of layers with commas between them. One whose weights another module shares is none of them.

    Raises:
        UserError: there is none.
    """
    ends = NAMED.get(targets, tuple(part.strip() for part in targets.split(",")))
    modules = dict(network.named_modules())
    found = {
        name: layer
        for name, layer in modules.items()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and any(f".{name}".endswith(f".{e}" if e else "") for e in ends)
    }
    owners: dict[int, int] = {}
    for module in modules.values():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    names = [name for name, layer in found.items() if owners[id(layer.weight)] == 1]
    if not names:
        ours = sorted(
            {n.rpartition(".")[2] for n, m in modules.items() if isinstance(m, nn.Linear | nn.Conv2d)}
        )
        raise UserError(
            f"adapter.targets={targets} names no layer of this network: choose {', '.join(NAMED)}, or some of "
            f"{', '.join(ours)}"
        )
    return names


def attached(
    network: nn.Module,
    names: Sequence[str],
    *,
    rank: int,
    alpha: float,
    whole: Sequence[str],
    generator: torch.Generator,
) -> nn.Module:
    """``network`` with adapters on the layers ``names``, and copies of the modules ``whole`` to be trained; nothing
    else of it can be. It says what it said before.

    Returns:
        a `peft.PeftModel`, called like the network.
    """
    peft = library()
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=list(names), modules_to_save=list(whole) or None
    )
    with torch.random.fork_rng(devices=[]):  # it draws from the global generator, which is put back
        model: nn.Module = peft.get_peft_model(network, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:  # as peft draws it, but from our generator
                limit = parameter[0].numel() ** -0.5
                parameter.uniform_(-limit, limit, generator=generator)
    return model


def merged(adapted: Any) -> nn.Module:
    """The plain network that says what an `attached` one says, which is not to be used any more."""
    plain: nn.Module = adapted.merge_and_unload()
    return plain


def save(adapted: Any, folder: Path, base: str) -> None:
    """`adapter_model.safetensors` and `adapter_config.json`, as peft has them, each moved to its place whole; ``base``
    is what they were made for."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base
    with TemporaryDirectory(prefix="kuosan-") as made:
        adapted.save_pretrained(made, save_embedding_layers=False)
        for name in (WEIGHTS, CONFIG):
            write_bytes(folder / name, (Path(made) / name).read_bytes())


def change(network: nn.Module, folder: Path) -> dict[str, Tensor]:
    """What the adapter in a folder, of any of peft's kinds that can be merged, adds to the weights of a network.

    Raises:
        UserError: no adapter there, a damaged one, or one for another network.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is no adapter: it holds no {name}; give the folder RUN/adapter that `kuosan finetune` made"
            )
    peft, before = library(), network.state_dict()
    try:
        with torch.random.fork_rng(devices=[]):
            model = peft.PeftModel.from_pretrained(copy.deepcopy(network), str(folder))
        after = model.merge_and_unload().state_dict()
    except (RuntimeError, ValueError, KeyError, TypeError, SafetensorError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"the adapter {folder} does not fit this network ({first}): give one that was made for it"
        ) from error
    return {name: after[name] - value for name, value in before.items() if value.is_floating_point()}
