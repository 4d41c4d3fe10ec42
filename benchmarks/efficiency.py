"""Fewer samples to the same quality: each option against the default, at equal processor time.

    python -m benchmarks.efficiency digits rows.jsonl
    python -m benchmarks.efficiency fashion rows.jsonl --data ../shared/data/fashion_mnist
    python -m benchmarks.efficiency flowers32 rows.jsonl --data ../shared/data/flowers/flowers32.npz
    python -m benchmarks.efficiency flowers64 rows.jsonl --data ../shared/data/flowers/jpg64
    python -m benchmarks.efficiency faces64 rows.jsonl --data ../shared/data/congress_faces/faces64.npz
    python -m benchmarks.efficiency monet256 rows.jsonl --data ../shared/data/monet
    python -m benchmarks.efficiency sprites rows.jsonl --data ../shared/data/lpc_sprites
    python -m benchmarks.efficiency sounds rows.jsonl --data ../shared/data/fsdd
    python -m benchmarks.efficiency shapes rows.jsonl --data ../shared/data/voxel_minis
    python -m benchmarks.efficiency peer rows.jsonl --data ../shared/data/fashion_mnist
    python -m benchmarks.efficiency report rows.jsonl

All arms of a seed are trained in one process, a step of the one that has used the least after the other, until each has
used up its budget of processor seconds of one thread; so what else the machine does is borne by all alike. Every arm is
judged by the same questions: the held-out error of v at even times, and a Fréchet distance in pixels.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.efficiency_sections import SECTIONS
from benchmarks.table import write
from benchmarks.timing import cell, lines
from kuosan.core.grids import grid
from kuosan.core.random import Seeds
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.evaluation.features import pixels
from kuosan.evaluation.frechet import frechet_distance
from kuosan.modalities import Dataset
from kuosan.recipes.build import build_denoiser, build_settings, objective_of
from kuosan.recipes.demo import write_digits
from kuosan.recipes.facts import Facts
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from kuosan.recipes.views import choose_views
from kuosan.solvers import sample, solver
from kuosan.training.budget import Budget
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising
from kuosan.training.settings import Settings
from kuosan.training.validation import validate

PEER_SECONDS = 180.0
NOTES = """
`python -m benchmarks.efficiency SECTION rows.jsonl` for each section, then `… report rows.jsonl`. One thread; all
arms of a seed are trained in one process, a step of the one that has used least after the other, until each has used
its budget of processor seconds; the machine was busy with other work, which all arms bear alike. `error of v` is the
squared error of v at even times on held-out pictures (for couplings it is not what they were trained for: of those,
the distance counts); FD is the Fréchet distance in pixels, ten steps of deis on karras:7 from the same noise for all.
± is the standard error over training seeds, where there is more than one.

{parts}

## Time to the same distance, against the example of diffusers

A default run, with the network that its budget chooses, beside the recipe of diffusers' unconditional example with a
small `UNet2DModel`, which has five times as long and is judged on the way: as it comes, and with a rate and a warm-up
that suit so short a time. {n} samples by the same sampler (deis on karras:7, ten steps), FD in pixels to the held-out
pictures (of flowers to all), floor: as many pictures of training. These samples are not clipped, and an estimate of ε
that knows nothing yet has no bound on them; so the example also has samples as diffusers makes them, every estimate of
the data clipped to its range, in 25 steps of DDIM.
"""
QUESTION = Denoising("edm")  # of σ_d = 1: the error of v at even times, whatever is predicted


@dataclass
class Clock:
    """Processor seconds that an arm has used while it was its turn."""

    limit: float
    used: float = 0.0
    _since: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        self._since = time.process_time()
        yield
        self.used, self._since = self.now(), None

    def now(self) -> float:
        return self.used + (0 if self._since is None else time.process_time() - self._since)


@dataclass(frozen=True)
class ProcessorTime(Settings):
    """A budget of processor time."""

    clock: Clock = field(default_factory=lambda: Clock(1.0))

    def progress(self, step: int, seconds: float) -> float:
        return min(1.0, self.clock.now() / self.clock.limit)


class Nothing:
    """No items."""

    def __len__(self) -> int:
        return 0

    def batch(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        raise AssertionError("nothing is here")


def begin(
    facts: Facts, data: Dataset, leaves: dict[str, Any], seed: int, clock: Clock, folder: Path
) -> Training:
    recipe = facts.recipe.updated(leaves | {"seed": seed})  # for as long as its clock says
    told = build_settings(recipe.training, seed, Budget(), None)
    settings = ProcessorTime(**{f.name: getattr(told, f.name) for f in fields(told)}, clock=clock)
    settings = ProcessorTime(**(vars(settings) | {"validations": 1, "save_seconds": math.inf}))
    network = dict(facts.network)
    choose_views(recipe, network, torch.device("cpu"))  # which tells it what it has to know
    model = build_denoiser(network, recipe)
    return Training(
        model, objective_of(recipe, data.modality), data.train, Nothing(), settings, folder, null=facts.null
    )


def in_turn(runs: dict[str, Training], clocks: dict[str, Clock]) -> None:
    """All runs to their ends, a step of the one that has used the least after the other."""
    events = {arm: run.run() for arm, run in runs.items()}
    while events:
        arm = min(events, key=lambda a: clocks[a].used)
        with clocks[arm].running():
            if next(events[arm], None) is None:
                del events[arm]


def conditions(facts: Facts, n: int) -> dict[str, Tensor]:
    """Of n samples: as often as in training."""
    rows = [row for row, count in facts.frequencies for _ in range(count)] or [()]
    picked = [rows[(i * len(rows)) // n] for i in range(n)]
    return {name: torch.tensor([row[k] for row in picked]) for k, name in enumerate(facts.columns)}


@torch.inference_mode()
def samples(model: NetworkDenoiser, facts: Facts, n: int, steps: int = 10) -> Tensor:
    """Samples under the `conditions`, from the same noise for every model."""
    shape, given = (facts.network["channels"], *facts.network["sides"]), conditions(facts, n)
    times, out = grid("karras:7")(model.schedule, steps), []
    for part in torch.arange(n).split(100):
        seeds = Seeds.of(7, part.tolist())
        x = model.process.prior(torch.empty(len(part), *shape), seeds.fold("prior"))
        cond = {name: column[part] for name, column in given.items()}
        out.append(sample(model, solver("deis"), times, x, seeds.fold("steps"), **cond))
    return torch.cat(out)


FEW = 200  # held-out pictures


def real_of(data: Dataset) -> Tensor:
    """What samples are to be like: held-out pictures, or all where those are too few for a distance."""
    splits = (data.train, data.val) if len(data.val) < FEW else (data.val,)
    return torch.cat([split.batch(torch.arange(len(split)))[0] for split in splits])


def judge(model: NetworkDenoiser, facts: Facts, data: Dataset, n: int) -> dict[str, float]:
    """The two questions."""
    model.eval()
    real = real_of(data)
    space = pixels(tuple(real.shape[1:]))
    x = samples(model, facts, n)
    found = validate(model, QUESTION, data.val, torch.device("cpu"))
    return {
        "loss": found.loss,
        "judges": found.n,
        "distance": frechet_distance(space(x).double(), space(real).double()),
    }


def compare(
    name: str, source: Path, seeds: range, seconds: float, chosen: list[str]
) -> Iterator[dict[str, Any]]:
    """A row for every seed and arm of a section, or the first and those that are chosen."""
    section = SECTIONS[name]
    arms = {k: v for k, v in section.arms.items() if not chosen or k in (section.base, *chosen)}
    asked: dict[str, Any] = {
        "budget": "1000steps",
        "data.max_side": 64,
        "training.crops": 0.0,
        **section.leaves,
    }
    plan = settle(source, None, Recipe().updated(asked), asked)
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            clocks = {arm: Clock(seconds) for arm in arms}
            runs = {
                arm: begin(plan.facts, plan.data, leaves, seed, clocks[arm], Path(folder) / str(i))
                for i, (arm, leaves) in enumerate(arms.items())
            }
            in_turn(runs, clocks)
            for arm, run in runs.items():
                row = {"section": name, "arm": arm, "seed": seed, "seconds": clocks[arm].used}
                row |= {"steps": run.count.step, "batch": run.settings.batch, "n": section.samples}
                row |= {"held_out": len(plan.data.val), "items": len(plan.data.train)}
                yield row | judge(run.average, plan.facts, plan.data, section.samples)


def keep(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """Write rows as they come."""
    for row in rows:
        print(row, flush=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def report(rows: list[dict[str, Any]]) -> None:
    """The tables of all rows there are; the last row of the same arm and seed counts."""
    last = {
        (row["section"], row.get("data"), row["arm"], row["seed"], round(row["seconds"])): row for row in rows
    }.values()
    parts = []
    for name, section in SECTIONS.items():
        mine = [row for row in last if row["section"] == name]
        if not mine:
            continue
        base = {row["seed"]: row for row in mine if row["arm"] == section.base}
        of = {arm: [row for row in mine if row["arm"] == arm] for arm in section.arms}
        table = [_line(arm, found, base) for arm, found in of.items() if found]
        one = mine[0]
        few = " (to all pictures, as the held-out ones are few)" if one["held_out"] < FEW else ""
        about = (
            f"{one['items']:,} pictures to train on, {one['held_out']:,} held out; batches of {one['batch']}; error "
            f"over {one['judges']} held-out items at 8 levels; distance of {one['n']} samples{few}. Ratios are to the "
            "first row of the same seed."
        )
        header = ["option", "seeds", "processor s", "samples", "over the first", "error of v", "FD",
                  "ratio of errors", "ratio of FDs"]  # fmt: skip
        parts += [f"## {section.about}", about, lines(header, table)]
    peers = [row for row in last if row["section"] == "peer"]
    table = [
        [row["data"], row["arm"], f"{row['parameters']:,}", row["seed"], f"{row['seconds']:.0f}", f"{row['steps']:,}",
         row["batch"], f"{row['distance']:,.1f}",
         f"{row['clipped']:,.1f}" if "clipped" in row else "", f"{row['floor']:,.1f}"]
        for row in sorted(peers, key=lambda row: (row["data"], row["seed"], row["arm"] != "kuosan"))
    ]  # fmt: skip
    notes = NOTES.format(parts="\n\n".join(parts), n=peers[0]["n"] if peers else 0)
    header = ["data", "arm", "parameters", "seed", "processor s", "steps", "batch", "error of v", "FD",
              "floor"]  # fmt: skip
    write("efficiency", "Fewer samples to the same quality", notes, header, table)


def _line(arm: str, rows: list[dict[str, Any]], base: dict[int, dict[str, Any]]) -> list[str]:
    def over(key: str) -> list[float]:
        return [row[key] / base[row["seed"]][key] for row in rows]

    def said(values: list[float], digits: int) -> str:
        return cell(values, digits) if len(values) > 1 else f"{values[0]:.{digits}f}"

    samples = sum(row["steps"] * row["batch"] for row in rows) / len(rows)
    return [
        arm, str(len(rows)), f"{sum(row['seconds'] for row in rows) / len(rows):.0f}", f"{samples:,.0f}",
        said([row["steps"] / base[row["seed"]]["steps"] for row in rows], 2),
        said([row["loss"] for row in rows], 4), said([row["distance"] for row in rows], 2),
        said(over("loss"), 3), said(over("distance"), 3),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", choices=[*SECTIONS, "peer", "report"])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 2), help="from and to, the last left out")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--arms", nargs="*", default=[], help="beside the first; all unless given")
    parser.add_argument(
        "--tune", nargs="*", type=float, default=[], help="peer: rates for the example to try"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.section == "report":
        report([json.loads(line) for line in asked.rows.read_text(encoding="utf-8").splitlines()])
        return
    if asked.section == "peer":
        from benchmarks.efficiency_peer import compete

        keep(compete(asked.data, range(*asked.seeds), asked.seconds or PEER_SECONDS, asked.tune), asked.rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = asked.data or write_digits(Path(folder) / "digits")
        seconds = asked.seconds or SECTIONS[asked.section].seconds
        keep(compare(asked.section, source, range(*asked.seeds), seconds, asked.arms), asked.rows)


if __name__ == "__main__":
    main()
