"""What a person asks of plans, and drawing plans that keep to it.

Counts of rooms: labels beyond those that were asked for are forbidden, and the counts are conditions too. An outline:
its corners are lines of the grid, cells outside are given, and none inside may be outside; the model first says where
the other lines are, which are then brought to fill the outline exactly, and then the rooms. Of several candidates, each
sample keeps the one that keeps most wishes, and what is then missing is mended where it can be,

    rooms change places (by name) so that those touch that are to be joined, and doors are cut between them,
    a room of a kind that nobody asked for becomes one that is missing,
    rows and columns grow and shrink together until the area is right.                                   (1)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.plan.graphs import Graph, matching
from kuosan.modalities.base import Unreadable
from kuosan.modalities.plan_files import read_plan
from kuosan.modalities.plan_form import Form, NoPlace
from kuosan.modalities.plan_layout import Ints, Layout, Placed, placed
from kuosan.modalities.plan_tidy import links, tidy
from kuosan.modalities.plan_words import SHAFT, category
from kuosan.recipes.plans_measure import plans_of
from kuosan.recipes.samples import Samples
from kuosan.recipes.tokens import Rules

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

ROUNDS, CHUNK, TRIALS = 6, 32, 20_000  # candidates of a sample at most; samples at a time; seats that are tried
NEAR = 0.03  # of an area: what counts as met


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


@dataclass(frozen=True)
class Brief:
    """Wishes as a run takes them; `told` is what became of them."""

    counts: dict[str, int]
    graph: Graph
    area: float | None
    outline: shapely.Geometry | None
    where: dict[str, str]
    told: dict[str, Any] = field(default_factory=dict)


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
            raise UserError(f"--graph joins {n} rooms that are a {name}, and --rooms has {counts[name]}: give as many")
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
                f"{run.path} knows no scale, so --area means nothing to it: train with --set data.scale=METRES of a unit"
            )
        if not wishes.area > 0:
            raise UserError(f"--area {wishes.area:g} is no area: give square metres")
        for name in run.facts.columns.get("area", ()):
            low, high = (float(v) for v in name.split("-"))
            if low <= wishes.area <= high:
                asked.setdefault("area", name)
    return Brief(counts, graph, wishes.area, _outline(form, wishes.outline), asked)


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
            missing = _missing(form, brief, layout)
            told["candidates"] += 1
            told["kept"] += missing == 0
            kept = best[i]
            if kept is None or missing < kept[0]:
                best[i] = missing, layout
    found = []
    for one in best:
        assert one is not None
        layout = mended(form, brief, one[1])
        told["samples"] += 1
        told["met"] += _missing(form, brief, layout) == 0
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
    lines = [_slabs(form, brief.outline, axis) for axis in (0, 1)]
    given, table = _around(form, brief.outline, lines, given, permitted)
    drawn = walk(given.flatten(1), table, "lines").view(given.shape)
    for axis, slabs in enumerate(lines):
        head = given[:, 0, 1:, 0] if axis == 0 else given[:, 1:, 0, 0]
        said = drawn[:, 0, 1:, 0] if axis == 0 else drawn[:, 1:, 0, 0]
        for b in range(len(given)):
            at = 0
            for width, count in slabs:
                widths = _filled((said[b, at : at + count] - len(form.labels)).clamp_min(1).tolist(), width, form.widest)
                head[b, at : at + count] = torch.tensor(widths) + len(form.labels)
                at += count
    found = walk(given.flatten(1), table, "rooms").numpy()
    return found


# -- outlines ---------------------------------------------------------------------------------------------


def _outline(form: Form, given: Path | str | None) -> shapely.Geometry | None:
    """The outline in steps, from its upper left corner.

    Raises:
        UserError: a file that is none, is in no scale, or has too many corners.
    """
    if given is None:
        return None
    path = Path(given)
    if not path.is_file():
        raise UserError(f"there is no file {path}: give --outline a GeoJSON, DXF or SVG file with one outline")
    try:
        plan = read_plan(path)
        unit = form.unit(plan)
    except (Unreadable, NoPlace) as error:
        raise UserError(f"--outline {path}: {getattr(error, 'reason', error)}") from None
    shape = plan.outline
    if shape.geom_type != "Polygon":
        raise UserError(f"--outline {path} has {len(shape.geoms)} parts, and a plan has one outline: give one")
    x0, y0, _, _ = shape.bounds
    corners = np.round((np.array(shape.exterior.coords) - (x0, y0)) / unit)
    flat = (np.abs(np.diff(corners, axis=0)) < 1).any(1)
    if not flat.all():
        raise UserError(f"--outline {path} has walls that are not parallel to the axes: give one whose walls are")
    found = shapely.Polygon(corners)
    for axis, most in ((0, form.columns), (1, form.rows)):
        need = sum(count for _, count in _slabs(form, found, axis, least=True))
        if need > most:
            raise UserError(
                f"--outline {path} needs a grid of {need} lines, and the run has {most}: give one that is simpler or smaller"
            )
    return found


def _slabs(form: Form, outline: shapely.Geometry, axis: int, least: bool = False) -> list[tuple[int, int]]:
    """Between two corners each: how wide, and how many columns (rows) it is divided into."""
    lines = np.unique(np.array(outline.exterior.coords)[:, axis]).astype(int)
    widths = np.diff(lines).tolist()
    counts = [-(-w // form.widest) for w in widths]
    wanted = 0 if least else round(0.75 * (form.columns if axis == 0 else form.rows))
    while sum(counts) < wanted:
        k = int(np.argmax([w / c for w, c in zip(widths, counts, strict=True)]))
        if widths[k] <= counts[k]:
            break
        counts[k] += 1
    return list(zip(widths, counts, strict=True))


def _around(
    form: Form, outline: shapely.Geometry, lines: list[list[tuple[int, int]]], given: Tensor, permitted: Tensor
) -> tuple[Tensor, Tensor]:
    """What is known of a grid within an outline, and what may be written: nothing outside, no outside within."""
    ends = [np.unique(np.array(outline.exterior.coords)[:, axis]) for axis in (0, 1)]
    middles = [
        np.repeat((e[:-1] + e[1:]) / 2, [count for _, count in slabs]) for e, slabs in zip(ends, lines, strict=True)
    ]
    gx, gy = np.meshgrid(*middles)
    inside = torch.zeros(form.rows, form.columns, dtype=torch.bool)
    inside[: gx.shape[0], : gx.shape[1]] = torch.from_numpy(shapely.contains_xy(outline, gx, gy))
    given, table = given.clone(), permitted.clone()
    given[:, 1:, 1:, 0][:, ~inside] = 0
    given[:, 0, 1 + gx.shape[1] :] = 0
    given[:, :, 1 + gx.shape[1] :] = 0
    given[:, 1 + gx.shape[0] :] = 0
    cells = table[1:, 1:, 0]
    cells[inside, 0] = False
    cells[~inside] = False
    cells[~inside, 0] = True
    table[0, 1 : 1 + gx.shape[1], 0, 0] = False
    table[1 : 1 + gx.shape[0], 0, 0, 0] = False
    return given, table


def _filled(widths: list[int], total: int, widest: int) -> list[int]:
    """Whole widths, in these proportions as nearly as can be, that add up to a total."""
    room = np.array(widths, dtype=float)
    exact = room / room.sum() * total
    found = np.clip(np.floor(exact), 1, widest).astype(int)
    while found.sum() != total:
        if found.sum() < total:
            found[int(np.argmax(np.where(found < widest, exact - found, -np.inf)))] += 1
        else:
            found[int(np.argmax(np.where(found > 1, found - exact, -np.inf)))] -= 1
    return [int(v) for v in found]


# -- what is missing, and mending it ----------------------------------------------------------------------


def _missing(form: Form, brief: Brief, layout: Layout) -> int:
    """How many wishes a plan does not keep: rooms too few or too many, doors that are not there, and the area."""
    have = Counter(layout.categories)
    rooms = sum(abs(have[name] - n) for name, n in brief.counts.items())
    doors = len(brief.graph.edges) - matching(brief.graph, _graph_of(form, layout, False))[0]
    wrong = False
    if brief.area is not None and form.step is not None:
        area = float(layout.areas()[1:].sum()) * form.step**2
        wrong = abs(area / brief.area - 1) > NEAR
    return rooms + doors + wrong


def _graph_of(form: Form, layout: Layout, touching: bool) -> Graph:
    """Rooms that are joined, or that could be."""
    pairs = {span.pair for span in layout.spans} if touching else links(layout, form.door)
    return Graph(layout.categories, frozenset((a - 1, b - 1) for a, b in pairs if a))


def mended(form: Form, brief: Brief, layout: Layout) -> Layout:
    """Eq. 1, as far as it goes."""
    layout, places = _seated(brief, layout, form)
    layout = _renamed(brief, layout, form, set(places.values()))
    if places:
        joined = links(layout, form.door)
        things = placed(layout, form.door)
        for a, b in sorted(brief.graph.edges):
            if a not in places or b not in places:
                continue
            pair = tuple(sorted((places[a] + 1, places[b] + 1)))
            those = [span for span in layout.spans if span.pair == pair]
            if those and pair not in joined:
                span = max(those, key=lambda s: s.length)
                things.append(Placed("door", span, span.low + span.high))
        layout = tidy(layout, form.laws, things)
    if brief.area is not None and form.step is not None and brief.outline is None:
        layout = _sized(form, layout, brief.area / form.step**2)
    return layout


def _seated(brief: Brief, layout: Layout, form: Form) -> tuple[Layout, dict[int, int]]:
    """The plan with names given so that rooms touch that are to be joined, and which room (from 0) each of the graph
    is; as it is drawn, where that does."""
    asked, touching = brief.graph, _graph_of(form, layout, True)
    if not asked.edges:
        return layout, {}
    found, places = matching(asked, touching)
    if found == len(asked.edges) and len(places) == len(asked.rooms):
        return layout, places
    any_asked = Graph(("",) * len(asked.rooms), asked.edges)
    anywhere = Graph(tuple(SHAFT if name == SHAFT else "" for name in touching.rooms), touching.edges)
    more, seats = matching(any_asked, anywhere, TRIALS)
    if more <= found and len(places) == len(asked.rooms):
        return layout, places
    names = list(layout.categories)
    for node, seat in sorted(seats.items()):
        want = asked.rooms[node]
        other = next((k for k, name in enumerate(names) if name == want and k not in seats.values()), None)
        if names[seat] != want and other is not None:
            names[other] = names[seat]
        names[seat] = want
    kept = tidy(replace(layout, categories=tuple(names)), form.laws, placed(layout, form.door))
    return kept, seats


def _renamed(brief: Brief, layout: Layout, form: Form, fixed: set[int]) -> Layout:
    """Rooms that nobody asked for, and that are not ``fixed``, as those that are missing; the most numerous first."""
    names, areas = list(layout.categories), layout.areas()
    have = Counter(names)
    for name, n in sorted(brief.counts.items()):
        for _ in range(n - have[name]):
            spare = [
                k for k, other in enumerate(names)
                if k not in fixed and other != SHAFT and (other not in brief.counts or have[other] > brief.counts[other])
            ]  # fmt: skip
            if not spare:
                break
            k = max(spare, key=lambda k: (have[names[k]], int(areas[k + 1])))
            have[names[k]] -= 1
            have[name] += 1
            names[k] = name
    return tidy(replace(layout, categories=tuple(names)), form.laws, placed(layout, form.door))


def _sized(form: Form, layout: Layout, area: float) -> Layout:
    """All rows and columns larger or smaller by one factor, and then by single steps, until the area is right."""
    shares = np.diff(layout.xs), np.diff(layout.ys)
    factor = float(np.sqrt(area / layout.areas()[1:].sum()))
    wide, high = (np.maximum(1, np.round(s * factor)).astype(np.int64) for s in shares)

    def size(w: Ints, h: Ints) -> float:
        return float(((layout.rooms > 0) * np.outer(h, w)).sum())

    for _ in range(200):
        trials = [(wide, high)]
        for k, side in enumerate((wide, high)):
            for j in range(len(side)):
                for step in (1, -1):
                    other = side.copy()
                    other[j] += step
                    if other[j] >= 1:
                        trials.append((other, high) if k == 0 else (wide, other))
        best = min(trials, key=lambda pair: abs(size(*pair) - area))
        if best is trials[0]:
            break
        wide, high = best
    xs, ys = (np.concatenate([[0], np.cumsum(s)]) for s in (wide, high))
    found = tidy(replace(layout, xs=xs, ys=ys), form.laws)
    return found if found.size[0] <= form.rows and found.size[1] <= form.columns else layout


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
            raise UserError(f"there is no file {path}: give --graph a JSON or GraphML file, or kitchen-living_room")
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
            raise UserError(f"--graph {text} cannot be read: write it like kitchen-living_room,bedroom1-corridor")
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
