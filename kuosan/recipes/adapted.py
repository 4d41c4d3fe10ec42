"""A run with adapters that `kuosan finetune` made of it, each with a weight: eq. 2 of `kuosan.adapt.lora`.

The values of conditions that an adapter has learned are added to the run's own. Of one that an adapter does not know it
says what it says of an unknown one, so that adapters of different data can be put together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Several
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kuosan.adapt import lora
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.modalities.captions import Captions
from kuosan.networks.widen import widened
from kuosan.recipes import machine, sequences
from kuosan.recipes.adapters import ABOUT, FOLDER, digest
from kuosan.recipes.build import build_model
from kuosan.recipes.facts import Facts
from kuosan.recipes.run import Run
from kuosan.solvers.sequence import CHURN, Sequence

Columns = dict[str, list[str]]


def _places(row: Several[int], old: Columns, new: Columns) -> list[int]:
    """Values of the columns ``old`` by their numbers in ``new``, which hold all of them first; unknown is the last."""
    known = [len(new[k]) if i == len(old[k]) else i for k, i in zip(old, row, strict=True)]
    return known + [len(v) for k, v in new.items() if k not in old]


class Weighted(NamedTuple):
    """An adapter's folder, and how much of it."""

    folder: Path
    weight: float


def weighted(texts: Several[str]) -> list[Weighted]:
    """What ``--adapter DIR[:WEIGHT]`` says; DIR may be the run that holds the adapter.

    Raises:
        UserError: no folder there, or no weight.
    """
    out = []
    for text in texts:
        path, weight = Path(text), 1.0
        head, colon, tail = text.rpartition(":")
        if colon and not path.exists():
            try:
                path, weight = Path(head), float(tail)
            except ValueError:
                raise UserError(
                    f"--adapter {text} has no number after its colon: write --adapter DIR:0.5"
                ) from None
        if not path.is_dir():
            raise UserError(
                f"there is no adapter at {path}: give the folder RUN/adapter that `kuosan finetune` made"
            )
        out.append(Weighted(path / FOLDER if (path / FOLDER).is_dir() else path, weight))
    return out


class Adapted(Run):
    """``run`` with ``adapters``, to sample from; nothing is kept in its folder besides what is asked for.

    Raises:
        UserError: an adapter of another run, of another network, or a damaged one.
    """

    def __init__(self, run: Run, adapters: Several[Weighted]):
        super().__init__(run.path)
        self.base, self.adapters = run, tuple(adapters)
        own = digest(run.model.state_dict())
        told = [self._told(adapter, own) for adapter in self.adapters]
        self._columns = [columns for columns, _ in told]
        self._names = {value: name for _, names in told for value, name in names.items()}
        _ = self.model  # what does not fit says so here

    def _told(self, adapter: Weighted, own: str) -> tuple[Columns, dict[str, str]]:
        """The conditions that an adapter knows and names of classes; of one that was not made here, the run's."""
        path = adapter.folder / ABOUT
        if not path.is_file():
            return self.base.facts.columns, {}
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            columns, weights, base = dict(about["columns"]), about["weights"], about["base"]
            names = dict(about["class_names"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(
                f"{path} is damaged ({e}): restore it from a copy, or make the adapter anew"
            ) from e
        if weights != own:
            raise UserError(
                f"the adapter {adapter.folder} was made for {base}, whose weights are others than those of "
                f"{self.path}: sample that run with it"
            )
        return columns, names

    @cached_property
    def facts(self) -> Facts:
        """The run's, with the values of conditions that the adapters know besides."""
        of = self.base.facts
        columns: Columns = {k: list(v) for k, v in of.columns.items()}
        for more in self._columns:
            for name, values in more.items():
                known = columns.setdefault(name, [])
                known += [v for v in values if v not in known]
        if columns == of.columns:
            return of
        rows = [(_places(row, of.columns, columns), n) for row, n in of.frequencies or [([], 1)]]
        names = self._names | of.class_names
        return replace(
            of, columns=columns, network=self._network(columns), frequencies=rows, class_names=names
        )

    @cached_property
    def captions(self) -> Captions | None:
        """The run's."""
        of, old = self.base.captions, self.base.facts.columns
        if of is None:
            return None
        return replace(
            of, items=tuple((text, tuple(_places(row, old, self.facts.columns))) for text, row in of.items)
        )

    def _network(self, columns: Columns) -> dict[str, Any]:
        """The specification of the run's network for these conditions."""
        network = self.base.facts.network
        return network | {"conditions": {k: len(v) for k, v in columns.items()}} if columns else network

    @cached_property
    @torch.inference_mode(False)
    def model(self) -> Denoiser:
        """The weights of eq. 2."""
        of, before = self.base.facts, {k: v.cpu() for k, v in self.base.model.state_dict().items()}
        total = widened(before, of.network, of.columns, self.facts.columns)
        for (folder, weight), columns in zip(self.adapters, self._columns, strict=True):
            change = self._change(folder, before, columns)
            if weight:
                change = widened(change, self._network(columns), columns, self.facts.columns)
                total = {k: v + weight * change[k] if k in change else v for k, v in total.items()}
        model = build_model(self.facts.network, self.facts.recipe)
        model.load_state_dict(total)
        return model.requires_grad_(False).eval().to(machine.device())

    def _change(self, folder: Path, before: dict[str, Tensor], columns: Columns) -> dict[str, Tensor]:
        """What one adapter adds to the run's weights for the conditions that it knows."""
        of = self.base.facts
        model: Any = build_model(self._network(columns), of.recipe)
        model.load_state_dict(widened(before, of.network, of.columns, columns))
        return {f"network.{k}": v for k, v in lora.change(model.network, folder).items()}

    def sequence(
        self, steps: int | None = None, w: float | None = None, solver: str = "auto", grid: str = "auto"
    ) -> Sequence | None:
        """The run's own, where it has one; none is measured for what is put together for once."""
        sampling = self.facts.recipe.sampling
        missing = sequences.missing(self.base, steps, w)
        if missing and solver in ("auto", CHURN) and grid == "auto":
            return None
        return super().sequence(steps, sampling.w if w is None else w, solver, grid)
