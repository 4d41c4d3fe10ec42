"""Low-rank adapters of a run in training: what ``auto`` means, and what a session does for them.

What is chosen follows from how much there is to learn from: a few pictures in another style need little more than other
attention, and would be known by heart by more. A share of training are samples of the old model (`adapt.rehearsal`)
where conditions tell old from new; without any, what is rehearsed and what is learned would only be mixed.

Values of conditions that the old model knows keep their rows, and new ones are added (`networks.widen`). Where the new
data has a value of the same name, it is the new data that says what it means, and old samples of it are shown as of an
unknown one.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kuosan.adapt import lora
from kuosan.adapt.rehearsal import Rehearsed, Weighed
from kuosan.core.random import Seeds
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.errors import UserError
from kuosan.modalities import Dataset
from kuosan.modalities.pixels import CHANNELS
from kuosan.networks.widen import WIDENED, Columns, whole, widened
from kuosan.recipes import sequences
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import Run, Samples
from kuosan.recipes.schema import AdapterPart, Recipe
from kuosan.recipes.settled import Choice, Settled
from kuosan.recipes.start import Start
from kuosan.training import checkpoint
from kuosan.training.data import TrainingItems
from kuosan.training.objective import Objective

FOLDER, ABOUT, PRIOR = "adapter", "kuosan.json", "prior.safetensors"
RANKS = ((100, 4), (1000, 8), (10_000, 16))  # by items to learn from; more have the next one
MOST_RANK = 32
FEW = 50  # items up to which attention alone is adapted
RATE = 4e-3  # for a network 96 wide (benchmarks/results/adapters.md); falls with the root of the width
SHARE = 0.25  # of old samples
PRIOR_TIME = 0.15  # of a budget of time, for drawing them
CHUNK, MOST, STEADY = 32, 512, 256  # samples of the old model: at a time, at most, and for a budget in steps
MOST_NUMBERS = 2**26


def settle(found: Settled, start: Start, asked: Recipe) -> tuple[Settled, Start]:
    """What a recipe decided, and what training starts from, once there are to be adapters.

    Raises:
        UserError: nothing to put them on, or a start that cannot have any.
    """
    if start.of.recipe.distil.steps:
        raise UserError(
            f"{asked.init} is a student, which knows too little to go on from: adapt its teacher, "
            f"{start.of.recipe.init}, and distil what comes of it"
        )
    old, data = start.of.columns, found.data
    _check_channels(data, asked.init)
    fits = start.of.network["kind"] in WIDENED
    names = {k: list(v) for k, v in data.columns.items()} if fits else {}
    # The data's own first, whose numbers then stay.
    columns = {
        k: [*names.get(k, []), *(v for v in old.get(k, []) if v not in names.get(k, []))]
        for k in {**names, **old}
    }
    network = found.network
    if fits and columns:
        network = network | {"conditions": {k: len(v) for k, v in columns.items()}}
    data = _relabelled(data, columns, start.of.class_names)
    part, choices = _decided(asked.adapter, old, names, len(data.train), asked.init)
    part = part.model_copy(update={"base": digest(start.weights)})
    if part.whole == "auto":
        part = part.model_copy(update={"whole": tuple(whole(start.of.network, columns))})
    if part.whole:
        choices.append(
            ("adapter.whole", ", ".join(part.whole), "trained whole: rows of the conditions' values")
        )
    training = found.recipe.training
    told = [c for c in found.choices if c[0] != "training.lr"]
    if asked.training.lr == "auto":
        width = network.get("dim") or 1.5 * network.get("base", 64)
        rate = float(f"{RATE * (96 / width) ** 0.5:.2g}")
        training = training.model_copy(update={"lr": rate})
        choices.append(("training.lr", rate, "adapters start from nothing; falls with the network's width"))
    else:
        choices.append(("training.lr", training.lr, "asked for"))
    if asked.training.optimizer == "auto":
        training = training.model_copy(update={"optimizer": "adamw"})
        told = [c for c in told if c[0] != "training.optimizer"]
        choices.append(("training.optimizer", "adamw", "for matrices as narrow as an adapter's"))
    recipe = found.recipe.model_copy(update={"adapter": part, "training": training})
    settled = Settled(data, recipe, network, [*choices, *told], found.codec)
    return settled, begin(start, columns, part, asked.init)


def _check_channels(data: Dataset, base: str) -> None:
    """UserError where most pictures have other channels than those of the model: colour would be lost, or made up."""
    form = data.modality.spec().get("format")
    if form is None:
        return
    modes = {
        mode: n
        for mode, n in data.survey.modes.items()
        if CHANNELS.get(mode, form["channels"]) != form["channels"]
    }
    if 2 * sum(modes.values()) > data.survey.items:
        raise UserError(
            f"{data.survey.source} holds pictures in {', '.join(modes)} and {base} is a model of pictures in "
            f"{form['mode']}: bring them into that form, or train on them anew with `kuosan train`"
        )


def begin(start: Start, columns: Columns, part: AdapterPart, base: str) -> Start:
    """The weights that training starts from, with a place for every value of its conditions.

    Raises:
        UserError: they are not those that the adapters are for any more.
    """
    if digest(start.weights) != part.base:
        raise UserError(
            f"the weights of {base} have changed since its adapters were begun: put them back, or begin anew with --out"
        )
    wider = widened(start.weights, start.of.network, start.of.columns, columns)
    return replace(start, weights=wider, wider=True)


def _decided(
    part: AdapterPart, old: Mapping[str, Any], new: Mapping[str, list[str]], items: int, base: str
) -> tuple[AdapterPart, list[Choice]]:
    """The part without ``auto``, and the reasons."""
    tree, choices = part.model_dump(), []

    def decide(leaf: str, value: Any, why: str) -> None:
        if tree[leaf] == "auto":
            tree[leaf] = value
        else:
            value, why = tree[leaf], "asked for"
        choices.append((f"adapter.{leaf}", value, why))

    count = f"{items:,} items to learn from"
    decide("rank", next((rank for most, rank in RANKS if items < most), MOST_RANK), count)
    decide("alpha", float(tree["rank"]), "an adapter counts once")
    decide(
        "targets", "attention" if items <= FEW else "blocks", f"layers of {base} that are adapted: {count}"
    )
    fresh = {f"{k}={v}" for k, values in new.items() for v in values if v not in old.get(k, [])}
    why = (
        f"samples of {base} are told from the new items by {min(fresh)} and the like"
        if fresh
        else "no condition tells new items from old ones: samples of both would be mixed"
    )
    decide("prior", SHARE if fresh else 0.0, why)
    if tree["prior"]:
        choices.append(("adapter.prior_weight", tree["prior_weight"], "how often a sample of it counts"))
    return AdapterPart(**tree), choices


def _relabelled(data: Dataset, columns: dict[str, list[str]], names: Mapping[str, str]) -> Dataset:
    """The data with the conditions ``columns``, of which its own are the first values; what it lacks is unknown."""

    def split(part: Any) -> Any:
        labels = {}
        for k, values in columns.items():
            own = part.labels.get(k, torch.full((len(part),), len(values), dtype=torch.int64))
            labels[k] = torch.where(own == len(data.columns.get(k, values)), len(values), own)
        heard = {k: v for k, v in part.labels.items() if k not in data.columns}  # captions
        return replace(part, labels=labels | heard)

    survey = replace(data.survey, class_names={**names, **data.survey.class_names})
    vocabulary = {k: tuple(v) for k, v in columns.items()}
    train, captions = split(data.train), data.captions
    if captions is not None:
        places = (
            torch.stack([train.labels[k] for k in columns], 1)
            if columns
            else torch.empty(len(train), 0).long()
        )
        captions = captions.of(train.captions, places.tolist(), data.val.captions)
    return replace(
        data, train=train, val=split(data.val), columns=vocabulary, survey=survey, captions=captions
    )


@dataclass(frozen=True)
class _Drawn:
    """Samples of the old model, as the network works on them."""

    x: Tensor
    cond: dict[str, Tensor]
    seconds: float


def check(denoiser: Denoiser, recipe: Recipe) -> None:
    """UserError where a network has none of the layers to adapt, or `peft` is not installed."""
    lora.library()
    assert isinstance(denoiser, NetworkDenoiser | TokenDenoiser)
    lora.layers(denoiser.network, recipe.adapter.targets)


class Adapter:
    """The adapters of a session: it puts them on the denoiser, and is what training sees besides the data.

    Args:
        path: the run's folder.
        denoiser: of the old weights, or of any where a checkpoint is to follow.
        items, objective: of the new data.

    ``train`` and ``objective`` are what to train on and for; ``seconds`` what drawing old samples took.
    """

    def __init__(
        self, path: Path, facts: Facts, denoiser: Denoiser, items: TrainingItems, objective: Objective
    ) -> None:
        self.path, self.facts, self.part = path, facts, facts.recipe.adapter
        assert isinstance(denoiser, NetworkDenoiser | TokenDenoiser)
        for curve in denoiser.curves():
            curve.requires_grad_(False)
        assert self.part.rank != "auto" and self.part.alpha != "auto" and self.part.whole != "auto"
        denoiser.network = lora.attached(
            denoiser.network,
            lora.layers(denoiser.network, self.part.targets),
            rank=self.part.rank,
            alpha=self.part.alpha,
            whole=self.part.whole,
            generator=torch.Generator().manual_seed(Seeds.of(facts.recipe.seed, 1).fold("adapters").number()),
        )
        self.train: TrainingItems = items
        self.objective = objective
        self._rehearsed: Rehearsed | None = None
        self.seconds = 0.0
        share = float(self.part.prior)
        if share:
            self._rehearsed = self.train = Rehearsed(items, share)
            self.objective = Weighed(objective, share, self.part.prior_weight)
            if (path / PRIOR).is_file():
                self.seconds = self._read().seconds

    @property
    def to_draw(self) -> bool:
        """Whether old samples are still to be drawn."""
        return self._rehearsed is not None and not (self.path / PRIOR).is_file()

    def left(self, seconds: float | None) -> float | None:
        """Of a budget of time, what drawing old samples left."""
        return None if seconds is None else max(1.0, seconds - self.seconds)

    def make(self, tell: Callable[[int, float], None] = lambda samples, progress: None) -> None:
        """Have the old model draw its samples, or read what it drew before.

        Args:
            tell: is told how many there are, and how far that is, from 0 to 1.

        Raises:
            UserError: the old model is gone, or the samples are damaged.
        """
        if self._rehearsed is None:
            return
        if self.to_draw:
            self._draw(tell)
        drawn = self._read()
        self.seconds = drawn.seconds
        self._rehearsed.fill(drawn.x, drawn.cond)

    def _draw(self, tell: Callable[[int, float], None]) -> None:
        started = time.monotonic()
        facts, base = self.facts, Run(self.facts.recipe.init)
        most = STEADY if facts.seconds is None else MOST
        most = max(CHUNK, min(most, MOST_NUMBERS // torch.Size(base.latent_shape).numel()) // CHUNK * CHUNK)
        parts: list[Samples] = []
        progress = 0.0
        while progress < 1:
            low = CHUNK * len(parts)
            parts.append(old_samples(base, CHUNK, facts.recipe.seed, low))
            progress = (low + CHUNK) / most
            if facts.seconds is not None:
                progress = max(progress, (time.monotonic() - started) / (PRIOR_TIME * facts.seconds))
            tell(low + CHUNK, min(1.0, progress))
        x = torch.cat([p.x if p.z is None else p.z for p in parts])
        cond = {k: torch.cat([p.cond[k] for p in parts]) for k in parts[0].cond}
        cond = renumbered(cond, base.facts.columns, facts.columns, len(x), _own(facts))
        tensors = {"x": x} | {f"condition.{k}": v for k, v in cond.items()}
        about = {"seconds": f"{time.monotonic() - started:.6f}"}
        checkpoint.write_bytes(self.path / PRIOR, safetensors.torch.save(tensors, about))

    def _read(self) -> _Drawn:
        path = self.path / PRIOR
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                seconds = float((file.metadata() or {})["seconds"])
            tensors = safetensors.torch.load_file(path)
            x = tensors.pop("x")
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as e:
            raise UserError(
                f"the samples {path} are damaged: remove that file, and they are drawn anew"
            ) from e
        cond = {k.removeprefix("condition."): v for k, v in tensors.items()}
        return _Drawn(x, cond, seconds)

    def merged(self, average: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The plain weights of the state ``tensors`` of ``average``; its adapter is written to `FOLDER`."""
        twin, facts = copy.deepcopy(average), self.facts
        twin.load_state_dict(tensors)
        folder = self.path / FOLDER
        lora.save(twin.network, folder, facts.recipe.init)
        about = {"base": facts.recipe.init, "weights": self.part.base, "columns": facts.columns,
                 "class_names": facts.class_names, "modality": facts.recipe.data.modality}  # fmt: skip
        checkpoint.write_json(folder / ABOUT, about)
        twin.network = lora.merged(twin.network)
        return {k: v.cpu() for k, v in twin.state_dict().items()}


def old_samples(base: Run, n: int, seed: int, first: int) -> Samples:
    """Samples of the old model by the sampler that it has now: nothing is measured or kept in its folder."""
    own = base.facts.recipe.sampling
    how = {"solver": own.solver, "grid": own.grid} if sequences.missing(base, None, None) else {}
    return base.sample(n, seed=seed, first=first, **how)  # type: ignore[arg-type]


def renumbered(
    cond: Mapping[str, Tensor],
    old: Columns,
    new: Columns,
    n: int,
    hidden: Mapping[str, Collection[int]] | None = None,
) -> dict[str, Tensor]:
    """Conditions of ``n`` examples, numbered by ``old`` vocabularies, in ``new`` ones: what they do not have, or
    ``hidden`` names, is unknown. Captions stay as they are."""
    out = {name: value for name, value in cond.items() if value.ndim > 1}
    for column, values in new.items():
        taken = (hidden or {}).get(column, ())
        place = {value: k for k, value in enumerate(values) if k not in taken}
        known = old.get(column, [])
        table = torch.tensor([*(place.get(v, len(values)) for v in known), len(values)])
        given = cond.get(column, torch.full((n,), len(known), dtype=torch.int64))
        out[column] = table[given.cpu()]
    return out


def _own(facts: Facts) -> dict[str, set[int]]:
    """The values that occur in a run's data."""
    return {column: {row[i] for row, _ in facts.frequencies} for i, column in enumerate(facts.columns)}


def digest(weights: Mapping[str, Tensor]) -> str:
    """Tells one model from another."""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
