"""All plans of a folder as states of one form, which is chosen from them.

The scale: where most of the plans say how long their unit is (or `data.scale` says it of all), a step of the grid is
the finest of 5 cm, 10 cm, 20 cm, … in which half of the plans are no longer than 100 steps, and plans without a scale
are left out. Otherwise every plan's longer side is 64 steps and nothing is ever said in metres.

The grid has as many rows and columns as 95 % of the plans need, 16 at most; others lose their least lines. Plans that
are mirror images of each other, or turned, stay on one side of the split. How many rooms of each category a plan has,
how many in all, and its area in fifths are conditions.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry, Folder
from kuosan.modalities.plan_files import read_plans
from kuosan.modalities.plan_form import Form, NoPlace
from kuosan.modalities.plan_layout import Layout, Placed, of_plan, placed
from kuosan.modalities.plan_raw import Plan
from kuosan.modalities.plan_simplify import simplified
from kuosan.modalities.plan_tidy import OUTSIDE, Laws, tidy
from kuosan.modalities.plan_walls import LONGEST, SHORTEST
from kuosan.modalities.plan_words import ROOM, SHAFT

if TYPE_CHECKING:
    from kuosan.modalities.plan import PlanModality

SIDE, WIDEST, MOST_LINES = 64, 32, 16
STEPS, LONG = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0), 100
FIRST, SIZED = 400, 200  # plans that settle the scale, and the grid
LEAST_AREA = 0.75  # of a plan that its grid keeps
FIFTHS = 5


@dataclass(frozen=True)
class _Item:
    """A plan as it is kept until all are read: its layout, in little."""

    name: str
    side: str
    columns: dict[str, str | None]
    layout: Layout
    things: list[Placed]
    area: float  # in squares of a step

    def rooms(self) -> Counter[str]:
        return Counter(self.layout.categories)


@dataclass(frozen=True)
class _Scale:
    """Metres of a step, or None; steps of a door; and whether this is for all plans."""

    step: float | None
    door: int


def gather_plans(
    folder: Folder,
    kind: type[PlanModality],
    like: PlanModality | None = None,
    *,
    scale: float | None = None,
    mirror: str = "auto",
) -> Gathered:
    """Every plan of `folder` in the form of `like`, or in one chosen from the data.

    Args:
        scale: metres of a unit of the files, of those that do not say it. mirror: the views that training sees.

    Raises `UserError` where there are no plans.
    """
    failed: list[Skip] = []
    left_out: list[Skip] = []
    found = _all(folder, scale, failed, left_out)
    first = [row for _, row in zip(range(FIRST), found, strict=False)]
    if not first:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (failed + left_out)[:3])
        raise UserError(
            f"No plan in {folder.source} can be read ({reasons or 'there is none'}); mend it and try again."
        )
    choices: list[Choice] = []
    chosen = _Scale(like.form.step, like.form.door) if like else _scale([p for _, _, p in first], choices)
    items = []
    for name, entry, plan in (row for part in (first, found) for row in part):
        try:
            items.append(_item(name, entry, plan, chosen))
        except NoPlace as error:
            left_out.append((name, str(error)))
    if not items:
        raise UserError(f"No plan in {folder.source} can be used ({left_out[0][1]}); mend it and try again.")
    form = like.form if like else _form(items, chosen, choices)
    modality = like or kind(form, mirror)
    kept, states = [], []
    for item in items:
        try:
            state, layout = _state(form, item)
        except NoPlace as error:
            left_out.append((item.name, str(error)))
            continue
        states.append(state)
        kept.append(replace(item, layout=layout))
    if not kept:
        raise UserError(f"No plan in {folder.source} can be used ({left_out[0][1]}); mend it and try again.")
    _check(len(kept), left_out, folder)
    x = np.stack(states)
    columns = _columns(kept, form)
    areas = sum(item.area for item in kept)
    totals: dict[str, float] = {
        "plans": len(kept), "rooms": sum(len(item.layout.categories) for item in kept),
        "doors": sum(len(placed(item.layout, form.door)) for item in kept),
    }  # fmt: skip
    if form.step:
        totals["square metres"] = round(areas * form.step**2, 1)
    return Gathered(
        modality, torch.from_numpy(x.astype(np.uint8 if form.size <= 255 else np.int16)),
        [_digest(s) for s in states], [item.name for item in kept], columns,
        frozenset({CLASS, *(c for c in columns if c not in (kept[0].columns or {}))}), [item.side for item in kept],
        [""] * len(kept), {"sizes": _sizes(kept, form)}, failed, left_out, choices,
        groups=[min(_digest(form.turned(s, view)) for view in range(8)) for s in states], totals=totals,
    )  # fmt: skip


def _all(
    folder: Folder, scale: float | None, failed: list[Skip], left_out: list[Skip]
) -> Iterator[tuple[str, Entry, Plan]]:
    """Plans as they are read; a file of which none can be has failed, of others the bad ones are left out."""
    for entry in folder.entries:
        bad: list[Skip] = []
        good = 0
        try:
            for plan in read_plans(entry.path):
                if isinstance(plan, Unreadable):
                    bad.append((entry.name, plan.reason))
                    continue
                good += 1
                if scale is not None and plan.metres is None:
                    plan = replace(plan, metres=scale)
                yield f"{entry.name}#{plan.name}" if plan.name else entry.name, entry, plan
        except Unreadable as error:
            bad.append((entry.name, error.reason))
        if bad:
            (left_out if good else failed).extend(bad if good else bad[:1])


def _scale(plans: list[Plan], choices: list[Choice]) -> _Scale:
    """What a step is, from the first plans."""
    known = [p for p in plans if p.metres is not None]
    step = None
    if 2 * len(known) > len(plans):
        sides = [
            max(p.bounds[2] - p.bounds[0], p.bounds[3] - p.bounds[1]) * float(p.metres or 1) for p in known
        ]
        longest = float(np.median(sides))
        step = next((s for s in STEPS if longest <= LONG * s), STEPS[-1])
        why = f"half of the plans are at most {longest:.1f} m long"
        choices.append(("scale", f"steps of {step:g} m", why))
    else:
        why = "the files do not say how long their unit is: set data.scale to metres of a unit to have square metres"
        choices.append(("scale", f"each plan's longer side is {SIDE} steps", why))
        known = plans
    doors = [o.length / _unit(p, step) for p in known for o in p.openings if o.kind == "door"]
    return _Scale(
        step, max(1, round(float(np.median(doors)))) if doors else max(1, round(0.9 / (step or 0.15)))
    )


def _unit(plan: Plan, step: float | None) -> float:
    if step is not None:
        return step / float(plan.metres or 1.0)
    x0, y0, x1, y1 = plan.bounds
    return plan.step or max(x1 - x0, y1 - y0) / SIDE


def _item(name: str, entry: Entry, plan: Plan, scale: _Scale) -> _Item:
    if scale.step is not None and plan.metres is None:
        raise NoPlace(
            "nothing says how long its unit is, and the others have a scale: set data.scale to metres of a unit"
        )
    unit = _unit(plan, scale.step)
    x0, y0, x1, y1 = plan.bounds
    long = max(x1 - x0, y1 - y0) * float(plan.metres or 1.0)
    if scale.step is not None and plan.step is None and not SHORTEST <= long <= LONGEST:
        raise NoPlace(f"it would be {long:,.3g} m long, which no floor plan is")
    layout, things = of_plan(plan, unit, scale.door)
    if not layout.categories:
        raise NoPlace("its rooms are smaller than a step of the grid")
    small = [a.astype(np.int16) for a in (layout.xs, layout.ys, layout.rooms, layout.upright, layout.level)]
    kept = Layout(small[0], small[1], small[2], layout.categories, small[3], small[4])  # type: ignore[arg-type]
    return _Item(name, entry.side, dict(entry.columns), kept, things, plan.area / unit**2)


def _whole(layout: Layout) -> Layout:
    """In full numbers again."""
    xs, ys, rooms, upright, level = (
        a.astype(np.int64) for a in (layout.xs, layout.ys, layout.rooms, layout.upright, layout.level)
    )
    return Layout(xs, ys, rooms, layout.categories, upright, level)


def _form(items: list[_Item], scale: _Scale, choices: list[Choice]) -> Form:
    """The grid, the categories and the customs of doors."""
    bare = Laws(scale.door, WIDEST, lambda a, b: 0.0)
    sizes: list[tuple[int, int]] = []
    most = defaultdict[str, list[int]](list)
    touching, joined = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for item in items:
        raw = _whole(item.layout)
        names = (OUTSIDE, *raw.categories)
        pairs = {span.pair for span in raw.spans}
        linked = {thing.span.pair for thing in item.things if thing.kind == "door"}
        for span in raw.spans:
            if raw.is_open(span):
                linked.add(span.pair)
        for pair in pairs:
            a, b = sorted((names[pair[0]], names[pair[1]]))
            touching[a, b] += 1
            joined[a, b] += pair in linked
        if len(sizes) < SIZED:
            sizes.append(tidy(raw, bare, item.things).size)
        for name, n in item.rooms().items():
            most[name].append(n)
    need = int(np.ceil(np.quantile(np.array(sizes).max(1), 0.95)))
    lines = min(MOST_LINES, need)
    categories = {}
    for name in sorted(most):
        counts = sorted(most[name], reverse=True)
        usual = counts[min(len(counts) - 1, len(items) // 200)]  # all but one plan in 200 have no more of it
        categories[name] = max(1, usual)
    links = {pair: round(joined[pair] / n, 4) for pair, n in sorted(touching.items())}
    rooms = ", ".join(f"{name} {n}" for name, n in categories.items())
    choices += [
        ("grid", f"{lines} rows and columns", f"as many as 95 % of the plans need ({MOST_LINES} at most)"),
        ("rooms", rooms, "categories, and how many of each a plan has at most"),
        ("door", f"{scale.door} steps", "the median of all doors"),
    ]
    return Form(lines, lines, categories, WIDEST, SIDE, scale.step, scale.door, links)


def _state(form: Form, item: _Item) -> tuple[Any, Layout]:
    layout = simplified(tidy(_whole(item.layout), form.laws, item.things), form.rows, form.columns, form.laws)
    mine = float(layout.areas()[1:].sum())
    if min(mine, item.area) < LEAST_AREA * max(mine, item.area):
        share = min(mine, item.area) / max(mine, item.area)
        raise NoPlace(f"only {share:.0%} of its area can be told on a grid parallel to the axes")
    return form.tokens(layout), layout


def _columns(items: list[_Item], form: Form) -> dict[str, list[str | None]]:
    """Conditions: what a folder or its tables say, rooms by category and in all, and the area."""
    found: dict[str, list[str | None]] = {}
    for key in dict.fromkeys(key for item in items for key in item.columns):
        found[key] = [item.columns.get(key) for item in items]
    counts = [item.rooms() for item in items]
    for name in form.categories:
        if name not in (ROOM, SHAFT):
            found[name] = [str(c[name]) for c in counts]
    found["rooms"] = [str(sum(n for name, n in c.items() if name != SHAFT)) for c in counts]
    if form.step is not None:
        areas = np.array([float(item.layout.areas()[1:].sum()) for item in items]) * form.step**2
        edges = np.unique(np.quantile(areas, np.linspace(0, 1, FIFTHS + 1)).round(1))
        if len(edges) > 2:
            which = np.clip(np.searchsorted(edges, areas, side="right") - 1, 0, len(edges) - 2)
            found["area"] = [f"{edges[k]:g}-{edges[k + 1]:g}" for k in which.tolist()]
    return found


def _sizes(items: list[_Item], form: Form) -> dict[str, int]:
    """How many plans have which number of rooms."""
    counts = Counter(sum(name != SHAFT for name in item.layout.categories) for item in items)
    return {f"{n} rooms": counts[n] for n in sorted(counts)}


def _check(kept: int, left_out: list[Skip], folder: Folder) -> None:
    """Raises `UserError` where most plans could not be used."""
    if len(left_out) > kept:
        shown = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise UserError(
            f"{len(left_out):,} of the {kept + len(left_out):,} plans in {folder.source} cannot be used ({shown}); "
            "mend or remove them and try again."
        )


def _digest(state: Any) -> bytes:
    return hashlib.sha256(state.astype("<i2").tobytes()).digest()
