"""What a person asks of plans, and drawing plans that keep to it.

Counts of rooms: labels beyond those that were asked for are forbidden, and the counts are conditions too. An outline:
its corners are lines of the grid, cells outside are given, and none inside may be outside; the model first says where
the other lines are, which are then brought to fill the outline exactly, and then the rooms (`plans_outline`). Of
several candidates each sample keeps the one that keeps most wishes, and what it lacks is mended (`plans_mend`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.plan.graphs import Graph
from kuosan.modalities.plan_form import Form
from kuosan.modalities.plan_layout import Ints, Layout
from kuosan.modalities.plan_words import category
from kuosan.recipes.plans_measure import plans_of
from kuosan.recipes.plans_mend import Brief, mended, missing
from kuosan.recipes.plans_outline import around, filled, outline_of, slabs_of
from kuosan.recipes.samples import Samples
from kuosan.recipes.tokens import Rules

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

ROUNDS, CHUNK = 6, 32  # candidates of a sample at most; samples at a time


@dataclass(frozen=True)
class PlanWishes:
    """In a person's words.

    Args:
        rooms: how many of each use, "bedroom=2,kitchen=1". graph: which rooms are joined, "kitchen-living_room", with
            numbers where there are several ("bedroom1-corridor"), or a file of JSON or GraphML. area: of all rooms, in
            square metres. outline: a file with the plan's outline.
    """

    rooms: str | None = None
    graph: str | None = None
    area: float | None = None
    outline: Path | str | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None for f in fields(self))


def understood(run: Run, wishes: PlanWishes, where: Mapping[str, str] | None = None) -> Brief:
    """What wishes come to.

    Raises:
        UserError: a wish that is malformed, or that does not fit the run.
    """
    form, asked = plans_of(run).form, dict(where or {})
    graph = _graph(wishes.graph) if wishes.graph is not None else Graph((), frozenset())
    counts = _counts(wishes.rooms) if wishes.rooms is not None else {}
    for name, n in Counter(graph.rooms).items():
        if counts.setdefault(name, n) < n:
            raise UserError(
                f"--graph joins {n} rooms that are a {name}, and --rooms has {counts[name]}: give as many"
            )
    for name, n in counts.items():
        most = form.categories.get(name, 0)
        if n > most:
            known = ", ".join(f"{k} (up to {v})" for k, v in form.categories.items())
            raise UserError(f"{run.path} draws no plans with {n} of {name}: it knows {known}")
        if str(n) in run.facts.columns.get(name, ()):
            asked.setdefault(name, str(n))
    if wishes.area is not None:
        if form.step is None:
            raise UserError(
                f"{run.path} knows no scale, so --area means nothing to it: train with data.scale, metres of a unit"
            )
        if not wishes.area > 0:
            raise UserError(f"--area {wishes.area:g} is no area: give square metres")
        for name in run.facts.columns.get("area", ()):
            low, high = (float(v) for v in name.split("-"))
            if low <= wishes.area <= high:
                asked.setdefault("area", name)
    return Brief(counts, graph, wishes.area, outline_of(form, wishes.outline), asked)


def rules_of_plans(run: Run, wishes: PlanWishes, where: Mapping[str, str] | None = None) -> Rules | None:
    """The rules of a run's samples; None where nothing is asked.  Raises what `understood` does."""
    return Rules(canvas=understood(run, wishes, where)) if wishes else None


def sample_plans(
    run: Run, n: int, brief: Brief, *, seed: int = 0, first: int = 0, where: Mapping[str, str] | None = None,
    **asked: Any,
) -> Samples:  # fmt: skip
    """Samples number ``first`` to ``first + n - 1`` of a seed that keep to a brief."""
    form = plans_of(run).form
    found: list[Tensor] = []
    conds: list[dict[str, Tensor]] = []
    told = Counter[str]()
    with torch.inference_mode():
        for low in range(first, first + n, CHUNK):
            numbers = range(low, min(low + CHUNK, first + n))
            cond = run.conditions(seed, numbers, {**brief.where, **(where or {})})
            found += _drawn(run, form, brief, Seeds.of(seed, numbers), cond, asked, told)
            conds.append(cond)
    brief.told.update(told)
    cond = {k: torch.cat([c[k] for c in conds]) for k in conds[0]} if conds and conds[0] else {}
    return Samples(torch.stack(found), cond, first, run.modality, None, run.facts.columns)


def _drawn(
    run: Run, form: Form, brief: Brief, seeds: Seeds, cond: Mapping[str, Tensor], asked: Mapping[str, Any],
    told: Counter[str],
) -> list[Tensor]:  # fmt: skip
    """The best candidate of each, mended."""
    best: list[tuple[int, Layout] | None] = [None] * len(seeds)
    for turn in range(ROUNDS):
        left = [i for i, one in enumerate(best) if one is None or one[0]]
        if not left:
            break
        mine = Seeds(tuple(seeds.keys[i] for i in left), seeds.root, seeds.salt).fold("candidate", turn)
        states = _states(run, form, brief, mine, {k: v[left] for k, v in cond.items()}, asked)
        for i, state in zip(left, states, strict=True):
            layout = form.layout(state)
            lacking = missing(form, brief, layout)
            told["candidates"] += 1
            told["kept"] += lacking == 0
            kept = best[i]
            if kept is None or lacking < kept[0]:
                best[i] = lacking, layout
    found = []
    for one in best:
        assert one is not None
        layout = mended(form, brief, one[1])
        told["samples"] += 1
        told["met"] += missing(form, brief, layout) == 0
        found.append(torch.from_numpy(form.tokens(layout)))
    return found


def _states(
    run: Run, form: Form, brief: Brief, seeds: Seeds, cond: dict[str, Tensor], asked: Mapping[str, Any]
) -> Ints:
    """One candidate of each."""
    permitted = form.possible.clone().view(form.rows + 1, form.columns + 1, form.lanes, form.size)
    for k, (name, number) in enumerate(form.labels, 1):
        if name in brief.counts and number >= brief.counts[name]:
            permitted[1:, 1:, 0, k] = False

    def walk(given: Tensor, table: Tensor, part: str) -> Tensor:
        for step in run.walk(
            seeds.fold(part), cond, steps=asked.get("steps"), solver_name=asked.get("solver", "auto"),
            grid=asked.get("grid", "auto"), w=asked.get("w"),
            rules=Rules(given, permitted=table.reshape(form.length, form.size)),
        ):  # fmt: skip
            x = step.x
        return x.cpu()

    given = torch.full((len(seeds), form.rows + 1, form.columns + 1, form.lanes), form.size)
    if brief.outline is None:
        found: Ints = walk(given.flatten(1), permitted, "plan").numpy()
        return found
    lines = [slabs_of(form, brief.outline, axis) for axis in (0, 1)]
    given, table = around(form, brief.outline, lines, given, permitted)
    drawn = walk(given.flatten(1), table, "lines").view(given.shape)
    for axis, slabs in enumerate(lines):
        head = given[:, 0, 1:, 0] if axis == 0 else given[:, 1:, 0, 0]
        said = drawn[:, 0, 1:, 0] if axis == 0 else drawn[:, 1:, 0, 0]
        for b in range(len(given)):
            at = 0
            for width, count in slabs:
                widths = filled(
                    (said[b, at : at + count] - len(form.labels)).clamp_min(1).tolist(), width, form.widest
                )
                head[b, at : at + count] = torch.tensor(widths) + len(form.labels)
                at += count
    found = walk(given.flatten(1), table, "rooms").numpy()
    return found


# -- words ------------------------------------------------------------------------------------------------


def _counts(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in text.split(","):
        said = re.fullmatch(r"\s*([^=]+?)\s*=\s*(\d+)\s*", part)
        if not said:
            raise UserError(f"--rooms {text} cannot be read: write it like bedroom=2,kitchen=1")
        found[category(said[1])] = int(said[2])
    return found


def _graph(text: str) -> Graph:
    """A graph in words, or in a file."""
    path = Path(text)
    if path.suffix.lower() in (".json", ".graphml"):
        if not path.is_file():
            raise UserError(
                f"there is no file {path}: give --graph a JSON or GraphML file, or kitchen-living_room"
            )
        try:
            names, pairs = _read_graph(path)
        except Exception as error:
            raise UserError(
                f"--graph {path} cannot be read ({error}): give rooms and doors, such as "
                '{"rooms": ["kitchen", "corridor"], "doors": [[0, 1]]}'
            ) from None
    else:
        pairs_in_words = [tuple(v.strip() for v in part.split("-")) for part in text.split(",")]
        if any(len(pair) != 2 or not all(pair) for pair in pairs_in_words):
            raise UserError(
                f"--graph {text} cannot be read: write it like kitchen-living_room,bedroom1-corridor"
            )
        order = list(dict.fromkeys(v for pair in pairs_in_words for v in pair))
        names = [category(v) for v in order]
        pairs = [(order.index(a), order.index(b)) for a, b in pairs_in_words]
    edges = frozenset((min(a, b), max(a, b)) for a, b in pairs if a != b)
    if not edges:
        raise UserError("--graph joins no two rooms: write it like kitchen-living_room")
    return Graph(tuple(names), edges)


def _read_graph(path: Path) -> tuple[list[str], list[tuple[int, int]]]:
    if path.suffix.lower() == ".graphml":
        import networkx

        graph = networkx.read_graphml(path)
        nodes = list(graph.nodes)
        names = [str(graph.nodes[v].get("category", graph.nodes[v].get("label", v))) for v in nodes]
        pairs = [(nodes.index(a), nodes.index(b)) for a, b in graph.edges]
    else:
        tree = json.loads(path.read_text(encoding="utf-8"))
        names = [str(v) for v in tree["rooms"]]
        pairs = [(int(a), int(b)) for a, b in tree["doors"]]
        if any(not 0 <= k < len(names) for pair in pairs for k in pair):
            raise ValueError("a door leads to a room that is not in the list")
    return [category(name) for name in names], pairs
