"""The arms of a comparison: diffusion and its rivals, each trained on the same items for as long, and measured alike.

The first diffusion run decides what all others share: the data as it reads them and their split, its number of
parameters, and the seconds that its budget left for training (of a budget of steps, the steps). Every rival has as many
parameters within a tenth, all that are trained counted: encoder and decoder, generator and critic. Diffusion runs of
other seeds have the first one's network. Arms are trained one after the other, seed by seed, so that a machine that
slows down slows all of them.

An arm leaves ``arm.json`` in its folder when it is measured, and is not trained again by the same command.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Effort
from kuosan.modalities import Dataset
from kuosan.modalities.folder import open_folder
from kuosan.recipes import machine
from kuosan.recipes.contest_measure import judged, vae_bits
from kuosan.recipes.contest_tokens import token_bits, token_rival
from kuosan.recipes.evaluate import EVALUATION, SEED, data_of
from kuosan.recipes.finish import finish
from kuosan.recipes.likelihood import likelihood
from kuosan.recipes.opening import lock, prepare
from kuosan.recipes.run import CHUNK, Run
from kuosan.recipes.samples import Samples
from kuosan.recipes.schema import Recipe, fingerprint
from kuosan.recipes.session import METRICS, Session
from kuosan.recipes.summary import SUMMARY
from kuosan.recipes.ways import way_of_rival
from kuosan.rivals import GAN, VAE, Autoregressive, Fitted, Rival, fit, fresh, parameters, solve_widths
from kuosan.training.budget import Budget
from kuosan.training.checkpoint import save_weights, write_json
from kuosan.training.progress import Progress

DIFFUSION = "diffusion"
DENSE, TOKENS = (DIFFUSION, VAE.name, GAN.name), (DIFFUSION, Autoregressive.name)
ARM = "arm.json"
FEWEST = 64  # training items
FEWEST_HELDOUT = 10
MOST_TOKENS = 256  # samples of texts and of music
LIKELIHOODS = ("bits_", "nll_")

Judge = Callable[["Contest", Samples, Path], dict[str, Any]]


@dataclass(frozen=True)
class Contest:
    """What is compared, on what, for how long.

    Args:
        data, out: to train on; where arms and page lie.
        budget: of each arm. seeds: how many trainings of each method. n: samples of each arm.
        methods: of `DENSE` or `TOKENS`; empty for all that fit the data.
        leaves: of the diffusion's recipe.
        judge: measures the samples of an arm; `judged` unless given.
    """

    data: Path
    out: Path
    budget: str = "5m"
    seeds: int = 3
    n: int = 1000
    methods: tuple[str, ...] = ()
    leaves: Mapping[str, Any] = field(default_factory=dict)
    judge: Judge | None = None

    @property
    def identity(self) -> str:
        """Changes with whatever an arm depends on besides its method and its seed."""
        return fingerprint([str(self.data.resolve()), self.budget, self.n, dict(self.leaves)])

    @property
    def path(self) -> Path:
        return self.out / f"{DIFFUSION}-0"

    @cached_property
    def first(self) -> Run:
        """The first diffusion run."""
        return Run(self.path)

    @cached_property
    def dataset(self) -> Dataset:
        return data_of(self.first)

    @property
    def discrete(self) -> bool:
        return self.first.facts.recipe.process.discrete

    @cached_property
    def _form(self) -> dict[str, Any]:
        """Rivals are of one shape, and look at nothing beside their pictures."""
        kind = open_folder(self.data, self.leaves.get("data.modality", "auto")).modality
        return {"data.aspect": "crop", "data.map": "none"} if kind == "image" else {}

    def asked(self, seed: int) -> dict[str, Any]:
        """What the diffusion of a seed is asked for."""
        # no rival hears captions, so the diffusion does not either
        asked = {
            "budget": self.budget,
            "seed": seed,
            "init": "",
            "data.caption": "none",
            **self._form,
            **self.leaves,
        }
        if seed:
            network = self.first.facts.network
            kind = {
                "tokens": "auto",
                "voices": "auto",
                "lattice": "auto",
                "cells": "auto",
                "residual-unet": "unet",
            }.get(network["kind"], network["kind"])
            own = {
                f"network.{k}": network[k] for k in _SIZE if k in network and k in _LEAVES[network["kind"]]
            }
            asked = {"network": kind, **own} | asked
        return asked

    def begin(self) -> None:
        """Open the first diffusion run, where there is none yet, and see whether its data can be compared on.

        Raises:
            UserError: data that cannot be used or are too few, or methods that do not fit them.
        """
        if any(m not in (*DENSE, *TOKENS) for m in self.methods):
            wrong = next(m for m in self.methods if m not in (*DENSE, *TOKENS))
            known = ", ".join(dict.fromkeys((*DENSE, *TOKENS)))
            raise UserError(f"there is no method {wrong!r} to compare: choose from {known}")
        if "init" in self.leaves or "distil.steps" in self.leaves:
            raise UserError("rivals begin at nothing, so diffusion does too: leave init away")
        if self.leaves.get("data.volume") == "patches" or any(
            self.leaves.get(leaf, usual) != usual
            for leaf, usual in (("data.enlarge", 0), *self._form.items())
        ):
            raise UserError(
                "rivals are of one shape, and look at nothing beside their items: leave data.enlarge, data.map, "
                "data.aspect and data.volume=patches away"
            )
        self.arm(DIFFUSION, 0).open()
        data = self.dataset
        if data.modality.name == "voxels":
            raise UserError(
                "an autoregressive rival would draw voxels one by one for hours: compare with data.form=distance"
            )
        if data.modality.unordered:
            raise UserError(
                "the rivals here need an order, and points have none: compare with data.form=distance"
            )
        if len(data.train) < FEWEST or len(data.val) < FEWEST_HELDOUT:
            raise UserError(
                f"{self.data} has {len(data.train)} items to train on and {len(data.val)} held out, and a comparison "
                f"needs {FEWEST} and {FEWEST_HELDOUT}: give more data"
            )
        fits = TOKENS if self.discrete else DENSE
        if other := [m for m in self.methods if m not in fits]:
            raise UserError(
                f"{other[0]} does not fit {self.data}, which holds {data.modality.noun}: choose from {', '.join(fits)}"
            )

    @property
    def contestants(self) -> tuple[str, ...]:
        """The methods, diffusion first: all others are measured by it."""
        fits = TOKENS if self.discrete else DENSE
        return tuple(m for m in fits if m == DIFFUSION or not self.methods or m in self.methods)

    def arm(self, method: str, seed: int) -> Arm:
        return Arm(self, method, seed)

    def arms(self) -> list[Arm]:
        """All of them, in the order in which they are trained."""
        return [self.arm(m, s) for s in range(self.seeds) for m in self.contestants]


_SIZE = ("patch", "dim", "depth", "heads", "base", "mults", "blocks", "attention", "dropout")
_TRUNK = {"dim", "depth", "heads", "dropout"}
_LEAVES = {
    "transformer": {"patch", *_TRUNK}, "unet": {"base", "mults", "blocks", "attention", "dropout"},
    "residual-unet": {"base", "mults", "blocks", "attention", "dropout"}, "tokens": _TRUNK, "voices": _TRUNK,
    "lattice": _TRUNK,
}  # fmt: skip


class Arm:
    """One training of one method: `steps`, then `measure`."""

    def __init__(self, contest: Contest, method: str, seed: int) -> None:
        self.contest, self.method, self.seed = contest, method, seed
        self.folder = contest.out / f"{method}-{seed}"
        self._session: Session | None = None
        self._fitted: Fitted | None = None
        self._computed = 0.0

    def __str__(self) -> str:
        return f"{self.method}, seed {self.seed}"

    def result(self) -> dict[str, Any] | None:
        """What it came to, if the same command finished it."""
        try:
            found: dict[str, Any] = json.loads((self.folder / ARM).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if found.get("identity") == self.contest.identity else None

    @property
    def batch(self) -> int:
        if self.method == DIFFUSION:
            return self.open().training.settings.batch
        return self.fitted.model.batch

    def open(self) -> Session:
        """The session of a diffusion arm."""
        if self._session is None:
            asked = self.contest.asked(self.seed)
            self._session = prepare(
                self.contest.data, out=self.folder, recipe=Recipe().updated(asked), asked=asked
            )
        return self._session

    @cached_property
    def fitted(self) -> Fitted:
        """A rival that has learned nothing yet."""
        return fresh(build(self.contest, self.method, self.seed))

    def steps(self) -> Iterator[Progress]:
        """Train to the end of the budget."""
        contest = self.contest
        if self.method == DIFFUSION:
            session = self.open()
            handle, self._computed = lock(self.folder), time.process_time()
            try:
                if not (session.training.count.finished and (self.folder / SUMMARY).exists()):
                    yield from session.steps()
            finally:
                os.close(handle)
            self._computed = time.process_time() - self._computed
            return
        budget, data = Budget.parse(contest.budget), contest.dataset
        self._fitted = self.fitted
        yield from fit(
            self._fitted,
            data.train,
            data.val,
            seed=self.seed,
            seconds=contest.first.facts.seconds,
            steps=budget.steps_of(self._fitted.model.batch),
            device=machine.device(),
            way=way_of_rival(self._fitted.model, data, machine.device(), budget.seconds),
        )

    def measure(self) -> dict[str, Any]:
        """Draw samples, measure them, and leave what was found."""
        contest, judge = self.contest, self.contest.judge or judged
        if self.method == DIFFUSION:
            session = self.open()
            if not (self.folder / SUMMARY).exists():
                finish(session)
            run, count = Run(self.folder), session.training.count
            trained = {
                "parameters": parameters(session.training.denoiser), "steps": count.step, "curve": _curve(self.folder),
                "seconds": session.seconds, "processor_seconds": self._computed, "batch": self.batch,
            }  # fmt: skip
            trained["sampling_parameters"] = trained["parameters"]
            samples, each = _timed(lambda: run.sample(_count(contest), seed=SEED + self.seed))
        else:
            made = self.fitted
            about = {"method": self.method, "seed": str(self.seed)}
            save_weights(self.folder / "model.safetensors", made.average.state_dict(), about)
            trained = {
                "parameters": parameters(made.model), "steps": made.step, "curve": made.curve, "seconds": made.seconds,
                "processor_seconds": made.processor, "batch": made.model.batch,
                "sampling_parameters": parameters(made.model.sampler),
            }  # fmt: skip
            samples, each = _timed(lambda: drawn(contest, made.average, self.seed, _count(contest)))
        found = judge(contest, samples, self.folder)
        if self.method != DIFFUSION:
            found["metrics"] |= self._likelihood()
        elif contest.judge is None:
            found["metrics"] |= self.surprise()
        result = {"identity": contest.identity, "method": self.method, "seed": self.seed, **trained,
                  "seconds_per_sample": each, **found}  # fmt: skip
        write_json(self.folder / ARM, result)
        return result

    def surprise(self) -> dict[str, Any]:
        """What held-out items cost the diffusion; where its budget left no time for that, it is measured now, as a
        rival's is."""
        kept = {k: m for k, m in _evaluation(self.folder).items() if k.startswith(LIKELIHOODS)}
        if kept or self.contest.discrete:
            return kept
        try:
            found = likelihood(Run(self.folder), self.contest.dataset, Effort.short())
        except UserError:  # a model that has none
            return {}
        return {k: m.to_json() for k, m in found.metrics.items()}

    def _likelihood(self) -> dict[str, Any]:
        made = self.fitted.average
        if isinstance(made, VAE):
            return vae_bits(self.contest, made, self.seed)
        return (
            token_bits(self.contest.first, self.contest.dataset, made)
            if isinstance(made, Autoregressive)
            else {}
        )


def build(contest: Contest, method: str, seed: int) -> Rival:
    """A rival as large as the first diffusion run."""
    run, data = contest.first, contest.dataset
    target = sum(p.numel() for p in _untrained(run).parameters())
    conditions = {name: len(values) for name, values in run.facts.columns.items()}

    def weights() -> torch.Generator:
        return torch.Generator().manual_seed(Seeds.of(seed, 1).fold("rival", method).number())

    if method == Autoregressive.name:
        return token_rival(run, data, target, conditions, weights())

    def make(widths: Any) -> Rival:
        if method == VAE.name:
            return VAE(run.shape, widths, conditions, weights(), level=run.modality.level)
        return GAN(run.shape, widths, conditions, weights(), items=len(data.train))

    return make(solve_widths(lambda widths: parameters(make(widths)), target, run.shape[1:]))


def _untrained(run: Run) -> torch.nn.Module:
    from kuosan.recipes.build import build_model

    return build_model(run.facts.network, run.facts.recipe)


def _count(contest: Contest) -> int:
    return min(contest.n, MOST_TOKENS) if contest.discrete else contest.n


def _timed(draw: Callable[[], Samples]) -> tuple[Samples, float]:
    """Samples, and the seconds that each took: of the processor, which others cannot slow down, or of the clock where
    another device did the work."""
    clock = time.process_time if machine.device().type == "cpu" else time.monotonic
    started = clock()
    samples = draw()
    return samples, (clock() - started) / len(samples)


def drawn(contest: Contest, model: Rival, seed: int, n: int) -> Samples:
    """Samples of a rival under the conditions that the diffusion of this seed is asked for."""
    run, xs, conds = contest.first, [], []
    for low in range(0, n, CHUNK):
        numbers = range(low, min(n, low + CHUNK))
        cond = run.conditions(SEED + seed, numbers)
        on = {k: v.to(model.device) for k, v in cond.items()}
        xs.append(model.sample(on, Seeds.of(SEED + seed, numbers)).cpu())
        conds.append(cond)
    cond = {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
    return Samples(torch.cat(xs), cond, 0, run.modality, None, run.facts.columns)


def _evaluation(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))["metrics"]
    return found


def _curve(folder: Path) -> list[tuple[float, float]]:
    from kuosan.recipes.report import log_rows

    rows = [r for r in log_rows(folder / METRICS) if r.get("loss") is not None]
    return [(float(r["seconds"]), float(r["loss"])) for r in rows]
