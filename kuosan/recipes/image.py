"""The recipe for pictures: what ``auto`` means, and why.

The defaults are x or v (see `_output`) on the cosine schedule with plain squared error, which diffusers can express
exactly, so that every default run can be exported. Fréchet distances of x as shares of those of v, by the width of
tokens for each value of their patches (benchmarks/results/outputs.md and efficiency.md): spoken digits, 0.75, a sixth;
clips of sprites, 1, a quarter; shapes, 1.5, 0.9; flowers, 2, 0.8 after minutes, 0.9 after ten; Fashion-MNIST, 6, 0.85
and 1.1. The rest was settled by trials on the demo's 8×8 digits.
Fréchet distance in pixels to held-out digits (mean of 10 times 1,000 samples of ten steps, standard error
0.007, the same noise for all, one training seed each; real training digits 0.30), 1,800 steps of 128 with patch
4, width 128, depth 4: logit-normal times of mean 0 0.393, mean -0.7 0.381, mean -1.2 0.395, even times 0.381;
mean 0 with a shorter average (3 %) 0.396, with 3,600 steps of 64 0.393; mean -0.7 with a longer average (15 %)
0.381, with Muon instead of AdamW 0.382, with width 192 and depth 3 0.384. To the training digits, from 8,652
samples: mean 0 0.096, mean -0.7 0.083, even 0.083, Muon 0.076.

Crops, routed tokens and couplings: `recipes.views` says when, and has their numbers.

Latents (8×32×32, of 216 paintings of 256×256), held-out error of v with patch 2, width 96, depth 3 on a shared core,
one seed: batches of 16 0.802 (80 s, 4.8 k samples), of 64 0.872 (100 s, 5.2 k).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kuosan.core.shapes import PICTURE
from kuosan.errors import UserError
from kuosan.modalities import ImageModality
from kuosan.modalities.beside import Enlarging
from kuosan.modalities.dataset import Dataset
from kuosan.networks import choose_network
from kuosan.networks.sides import each, times
from kuosan.networks.spectrum import gains_of
from kuosan.recipes.captions import hearing
from kuosan.recipes.noise import choose_noise
from kuosan.recipes.scarce import choose_scarce
from kuosan.recipes.schema import NetworkPart, ObjectivePart, Recipe
from kuosan.recipes.views import choose_views
from kuosan.recipes.watched import choose_watched
from kuosan.training.budget import Budget

Choice = tuple[str, Any, str]

INVARIANT = ("sigmoid", "uniform")  # weights in λ alone: their mean is the same on every schedule

LATENT_BATCH = 16  # on a CPU
STEPS = 3000  # that batches are made smaller for
ROOM = 4  # values of a token for each of its patch, from which it says noise as well as it says data
LEAST_JOINED = 16  # pixels of the shorter side, from which convolutions may join patches
SHOWN, FEWEST_SHOWN = 2**23, 8  # numbers of training items that tell the spectrum, and items at least
FINE = "karras:7:0.2"  # the grid of what says x: see docs/concepts/training-efficiency.md
BASE_SIDE = 64  # the side that the cosine schedule was made for (Hoogeboom et al. 2023, sec. 3.1)


def _output(tree: Mapping[str, Any], network: Mapping[str, Any], axes: Sequence[str]) -> tuple[str, str]:
    """What a network is to say where nobody asks, and why.

    Tokens that are hardly wider than their patches have room for what a patch shows, and not for its noise as well
    (Li & He 2025); wider ones have, a U-Net passes noise on beside its narrow middle, and latents are made to hold
    nothing that is redundant. Where noise is finer than its estimate, though, a flow that says x goes astray, so what
    needs it there says v: bounds, and pictures, which are encoded and go over into one another, and gain less.
    """
    kind, objective = tree["schedule"]["kind"], tree["objective"]
    if kind in ("edm", "rectified"):
        return {"edm": "edm", "rectified": "velocity"}[kind], "what this schedule was made for"
    bound = objective["kind"] == "elbo" or objective["weight"] in INVARIANT or kind == "learned"
    plain = tree["codec"]["kind"] == "none" and tuple(axes) != PICTURE
    if network["kind"] == "transformer" and plain and not bound:
        patch = network["patch"]
        sides = [patch] * len(network["sides"]) if isinstance(patch, int) else patch
        values = network["channels"] * math.prod(sides)
        if network["dim"] < ROOM * values:
            return "x", f"tokens of {network['dim']} have no room for the noise of {values} values too"
    return "v", "its size is the same at every level of noise"


def resolve(
    recipe: Recipe,
    data: Dataset,
    seconds: float,
    device: torch.device,
    init: dict[str, Any] | None,
    speed: float = 1.0,
    *,
    shape: tuple[int, ...],
    side: int | None,
    budget: Budget,
    usual: Mapping[str, tuple[Any, str]] | None = None,
) -> tuple[Recipe, dict[str, Any], list[Choice]]:
    """The recipe without ``auto``, the network's specification, and the reasons.

    Args:
        seconds: of training that the budget is worth.
        init: what a run starts from: its network, schedule and objective stand.
        speed: of this machine now, relative to what the network choice predicts.
        shape: of what the network works on, states or latents.
        side: the longest that pictures were brought to; None of what is none.
        budget: with one of steps or images, what ``seconds`` only guesses is known.
        usual: defaults of a modality that are other than those of pictures, with the reason, by "part.leaf".
    """
    channels, *sides = shape
    conditions = {name: len(values) for name, values in data.columns.items()}
    tree = recipe.model_dump()
    choices: list[Choice] = []

    def decide(part: str, leaf: str, value: Any, why: str) -> None:
        value, why = (usual or {}).get(f"{part}.{leaf}", (value, why))
        if tree[part][leaf] in ("auto", None):
            tree[part][leaf] = value
        else:
            value, why = tree[part][leaf], "asked for"
        choices.append((f"{part}.{leaf}", value, why))

    if side is not None:
        tree["data"] |= {"max_side": side}
    noise, reasons = choose_noise(recipe, init)
    tree["noise"] = noise.model_dump()
    choices += reasons
    if init:
        network = init["network"]
        tree["schedule"], tree["objective"] = (
            init["schedule"],
            tree["objective"] | {k: init["objective"][k] for k in ("output", "sigma_data", "variance")},
        )
        if recipe.objective.variance != tree["objective"]["variance"]:
            raise UserError(
                f"{recipe.init} has objective.variance={tree['objective']['variance']}, and its network cannot be "
                f"given another: leave --init away, or set objective.variance to that"
            )
        tree["network"] = NetworkPart(kind=network["kind"]).model_dump()
        choices.append(("network", network["kind"], f"from {recipe.init}"))
    else:
        own = (usual or {}).get("objective.output", ("auto", ""))[0]
        room = (usual or {}).get("network.room", (1.0, ""))[0]
        network, reasons = choose_network(
            channels, sides, conditions,
            seconds=seconds, device=device, items=len(data.train), kind=recipe.network.kind, speed=speed,
            latents=recipe.codec.kind != "none",
            whole=[axis in data.modality.whole for axis in data.modality.axes],
            captions=data.captions.length if data.captions else 0,
            clean=own == "x" and recipe.objective.output in ("auto", "x"),
            room=room if recipe.objective.output in ("auto", "x") and recipe.codec.kind == "none" else 1.0,
            joined=recipe.network.detail is None and _without_place(recipe, data, sides),
            unordered=data.modality.unordered,
        )  # fmt: skip
        asked = recipe.network.model_dump(exclude={"kind", "dropout", "spectrum"}, exclude_none=True)
        choices += [r for r in reasons if not (asked and r[0] == "size")]  # whose prediction no longer holds
        network = network | asked
        if "dim" in asked and "heads" not in asked:
            network["heads"] = max(1, network["dim"] // 32)
        choices += [(f"network.{k}", v, "asked for") for k, v in asked.items()]
        if data.captions:
            network["captions"], reasons = hearing(
                recipe.caption, data, network.get("dim") or 2 * network.get("base", 64)
            )
            choices += reasons
            tree["caption"] |= {"dim": network["captions"]["dim"], **data.captions.leaves}
        tree["data"]["caption"] = data.captions.column if data.captions else "none"
        tree["network"] = NetworkPart(kind=network["kind"]).model_dump()
        if recipe.objective.variance == "learned":
            network["out_channels"] = 2 * channels
            choices.append(("objective.variance", "learned", "asked for"))
        decide("schedule", "kind", "cosine", "variance preserving: the state always has the data's scale")
        shift = max(1.0, math.prod(sides) ** 0.5 / BASE_SIDE)
        what = data.modality.noun if data.modality.axes == PICTURE else "states"
        why = f"{times(sides)} {what if recipe.codec.kind == 'none' else 'latents'} " + (
            "are no larger than the schedule was made for"
            if shift == 1
            else "need more noise to hide as much"
        )
        decide("schedule", "shift", round(shift, 3), why)
        output, why = _output(tree, network, data.modality.axes)
        if noise.kind == "student" and noise.df <= 2:
            output, why = (
                "x",
                "the squares of this noise have no mean, so nothing with noise in it can be regressed",
            )
        decide("objective", "output", output, why)
        power, gains, reasons = _spectrum(recipe, data, network, tree["objective"]["output"], usual or {})
        tree["network"]["spectrum"] = power
        network, choices = network | gains, choices + reasons
    edm = tree["objective"]["output"] == "edm"
    learned = tree["schedule"]["kind"] == "learned" and tree["objective"]["kind"] == "denoising"
    if learned:
        decide(
            "objective",
            "weight",
            "sigmoid",
            "its mean does not depend on the learned schedule, only its variance",
        )
    if learned and tree["objective"]["weight"] not in INVARIANT:
        raise UserError(
            f"a learned schedule would cheat the weight {tree['objective']['weight']!r} by moving to where the loss is "
            "small: choose --set objective.weight=sigmoid, or uniform"
        )
    decide("objective", "weight", "edm" if edm else "output", "plain squared error of what is predicted")
    leaves, reasons = choose_watched(tree, data.modality, usual or {})
    tree["objective"] |= leaves
    choices += reasons
    bound = tree["objective"]["kind"] == "elbo" or tree["objective"]["weight"] in INVARIANT
    timing, why = (
        ObjectivePart(**tree["objective"]).usual_timing,
        "the last details need learning too; stratified",
    )
    if timing == "logsnr":
        timing = "uniform" if tree["schedule"]["kind"] == "learned" else timing
    if bound:
        even = ", and weighs errors of ε alike in λ" if timing == "logsnr" else ""
        why = f"the bound needs every level{even}"
    decide("objective", "timing", timing, why)
    if tree["objective"]["timing"] == "entropy" and tree["schedule"]["kind"] == "learned":
        raise UserError(
            "objective.timing=entropy draws the same log-SNRs on every schedule, so a learned one would have nothing "
            "to learn from: choose another objective.timing, or schedule=cosine"
        )
    passes = next((value for name, value, _ in choices if name == "passes"), None)
    latents = recipe.codec.kind != "none" and device.type == "cpu"
    known = None if passes is None or budget.seconds is None else passes * len(data.train)
    batch, slower, why = _batch(math.prod(shape), len(data.train), None if latents else known, latents)
    slower = slower if tree["training"]["batch"] == "auto" else 1.0
    decide("training", "batch", batch, why)
    rate = (
        5e-3 * (96 / network["dim"]) ** 0.5
        if "dim" in network
        else 1e-3 * (64 / network.get("base", 64)) ** 0.5
    )
    rate = 1e-4 if init else float(f"{slower * rate:.2g}")
    why = "falls with the network's width" + ("" if slower == 1 else " and with the batch")
    decide("training", "lr", rate, "a start from trained weights" if init else why)
    decide("training", "optimizer", "adamw", "as good as any here")
    if (steps := budget.steps_of(tree["training"]["batch"])) is not None:
        passes = steps * tree["training"]["batch"] / len(data.train)
        choices = [choice for choice in choices if choice[0] != "passes"]
    if data.modality.shelves(data.train.x):
        if network["kind"] not in ("transformer", "unet"):
            raise UserError(
                f"data.aspect=buckets is for a transformer or a U-Net, and the network is a {network['kind']}: leave "
                "one of them away"
            )
        network = network | {"free": True}
    if beside := data.modality.beside_channels:
        network = _with_beside(recipe, network, beside)
    leaves, more, reasons = choose_scarce(
        recipe, network, len(data.train), passes, fixed=_fixed(recipe, data)
    )
    tree["training"] |= leaves
    network = network | more
    choices += reasons
    if tree["objective"]["output"] == "x":
        decide("sampling", "solver", "deis", "few steps suffice")
        decide("sampling", "grid", FINE, "ends where noise is finer than what the network says")
    else:
        why = "to begin with: which suits the model is measured once there is one"
        decide("sampling", "solver", "deis", why)
        decide("sampling", "grid", "karras:7", "its partner until then")
    tree["data"]["modality"] = data.modality.name
    leaves, reasons = choose_views(
        Recipe.model_validate(tree), network, device, None if passes is None else passes * len(data.train)
    )
    tree["training"] |= leaves
    choices += reasons
    return Recipe.model_validate(tree), network, choices


def _batch(numbers: int, items: int, samples: float | None, latents: bool) -> tuple[int, float, str]:
    """Of states of so many numbers, where the time allows so many samples; how much lower the rate is, and why.

    Held-out error of v after six minutes of one core, 618 faces of 64×64, one seed, in batches of 128: 0.1045 (590
    steps); of 32, with 0.51 times the rate: 0.0902 (2,860). Fashion-MNIST after two minutes and 215 k samples: 0.1526
    (1,679 steps of 128), 0.1530 (4,835 of 32, 0.41 times the rate).
    """
    batch, why = (
        128 if numbers <= 4096 else 64,
        "noisy enough to learn fast, large enough to use the processor",
    )
    if latents:
        batch, why = LATENT_BATCH, "a large network's few samples make more steps so"
    slower = 1.0
    if samples is not None and samples < STEPS * batch:
        usual = batch
        batch = 2 ** math.floor(math.log2(max(samples / STEPS, 8)))
        slower, why = (batch / usual) ** 0.25, f"so that what there is time for is {STEPS:,} steps or more"
    return max(8, min(batch, 2 ** (items // 2).bit_length())), slower, why


def _without_place(recipe: Recipe, data: Dataset, sides: Sequence[int]) -> bool:
    """Whether these are pictures in pixels whose transformer diffusers has no place for, whatever is chosen for it.

    Tiny ones are left out: convolutions see so much of them that little is left to learn from captions, which of 8×8
    pixels in two colours were heard after 400 steps without and after 800 or later with them. Latents gained nothing.
    """
    pixels = data.modality.axes == PICTURE and recipe.codec.kind == "none" and min(sides) >= LEAST_JOINED
    return pixels and (data.captions is not None or len(set(sides)) > 1 or data.modality.beside_channels > 0)


def _spectrum(
    recipe: Recipe,
    data: Dataset,
    network: Mapping[str, Any],
    output: str,
    usual: Mapping[str, tuple[Any, str]],
) -> tuple[float | None, dict[str, Any], list[Choice]]:
    """The power of the data's spectrum by which what a network says is shaped, where that was asked for or is usual,
    and the gains that this comes to.

    Raises:
        UserError: it was asked for of what cannot be shaped so.
    """
    asked = recipe.network.spectrum
    fits = network["kind"] == "transformer" and output == "x" and recipe.codec.kind == "none"
    if asked and not fits:
        raise UserError(
            f"network.spectrum shapes what a transformer says of the data itself, and this is a {network['kind']} that "
            f"says {output}{' of latents' if recipe.codec.kind != 'none' else ''}: leave it away, or choose "
            "network=transformer, objective.output=x and codec=none"
        )
    power, why = usual.get("network.spectrum", (0.0, "")) if asked is None else (asked, "asked for")
    if not (power and fits):
        return asked, {}, []
    most = max(FEWEST_SHOWN, SHOWN // math.prod(data.modality.shape))
    x, _ = data.train.batch(torch.arange(min(len(data.train), most)))
    own = data.modality.smooth
    gains = gains_of(x[:, own.start : own.stop], each(network["patch"], x.ndim - 2), power)
    if not any(gains):
        return asked, {}, []
    return power, {"gains": gains, "shaped": [own.start, own.stop]}, [("network.spectrum", power, why)]


def _fixed(recipe: Recipe, data: Dataset) -> str:
    """Why items cannot be augmented; nothing where they can."""
    if recipe.codec.kind != "none":
        return "pictures are augmented before they are encoded, which is done once"
    if isinstance(data.modality, ImageModality) and isinstance(data.modality.beside, Enlarging):
        return "the small picture that stands beside each is made before, and would have to change with it"
    return (
        ""
        if data.modality.axes == PICTURE
        else f"augmentations are of pictures, and these are {data.modality.noun}"
    )


def _with_beside(recipe: Recipe, network: dict[str, Any], beside: int) -> dict[str, Any]:
    """The network with so many channels beside its states.

    Raises:
        UserError: it cannot have them.
    """
    if network.get("beside", beside) != beside:
        raise UserError(
            f"{recipe.init} was told of {network['beside']} channels beside its items, and these have {beside}: "
            "leave --init away"
        )
    if recipe.adapter.rank and not network.get("beside"):
        raise UserError(
            f"what stands beside pictures changes what the first layer of {recipe.init} sees, and adapters leave that "
            "alone: train all weights with `kuosan train --init`"
        )
    return network | {"beside": beside}
