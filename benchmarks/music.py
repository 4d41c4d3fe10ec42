"""Models of music: bits beside counting, samples beside held-out pieces, and how the network lays voices out.

    python -m benchmarks.music DATA [DATA …]     trains on each and measures, by --budget and --seeds
    python -m benchmarks.music --layout DATA     one position per step of time against one per token, at equal time
    python -m benchmarks.music --rolls DATA      rolls by what the network says and how errors are weighed, for --budget
    python -m benchmarks.music --run RUN         measures a run that is there

The first and the last write results/music-voices.md, the others print a table. Times are processor time of one core,
which a busy machine does not change much.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kuosan
from benchmarks import table
from benchmarks.runs import HEADER, plain, rows, trained
from kuosan.core.curves import survival
from kuosan.core.random import Seeds
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.likelihood.tokens import token_bound
from kuosan.modalities import MusicModality, load
from kuosan.modalities.music_form import END
from kuosan.networks.tokens import TokenTransformer
from kuosan.networks.voices import VoiceTransformer
from kuosan.processes.discrete import Masked
from kuosan.recipes.evaluate import data_of, states
from kuosan.recipes.measures import with_own
from kuosan.recipes.music_measure import baselines, bound, measure_music
from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe
from kuosan.training.optimizer import Optimizers
from kuosan.training.tokens import MaskedTokens

SHOWN = (
    "pitch_class_overlap", "interval_overlap", "duration_overlap", "onset_overlap", "groove", "notes_per_bar",
    "parallel_fifths_per_bar", "parallel_octaves_per_bar", "crossings_per_bar", "out_of_range_per_bar",
    "faults_per_bar", "nearest_distance", "copies", "key_accuracy",
)  # fmt: skip
ROLLS = (
    ("x", "output"),
    ("x", "min_snr"),
    ("v", "output"),
    ("v", "min_snr"),
)  # (output, weight) of the objective


def measured(run: kuosan.Run, n: int, times: int = 8) -> dict[str, Any]:
    """Everything, of ``n`` samples."""
    data = data_of(run)
    found = plain(bound(run, data.val, 1000, times))
    found |= {name: {"value": value, "n": len(data.val)} for name, value in baselines(data).items()}
    metrics = plain(measure_music(run, data, run.sample(n, seed=1_000_000)).metrics)
    return found | {name: metrics[name] for name in SHOWN if name in metrics}


class Interleaved(TokenTransformer):
    """One position per token, which is told its voice and its beat: the other way to lay voices out."""

    def __init__(self, voices: int, cycle: int, **leaves: Any) -> None:
        super().__init__(**leaves)
        self.voices, self.cycle = voices, cycle
        self.voice, self.beat = (nn.Parameter(torch.zeros(k, self.dim)) for k in (voices, cycle))
        with torch.no_grad():
            for table in (self.voice, self.beat):
                table.normal_(0, 0.02, generator=leaves["generator"])

    def forward(
        self, x: Tensor, t: Tensor, clean: Tensor | None = None, only: Tensor | None = None, **cond: Tensor
    ) -> Tensor:
        place = torch.arange(x.shape[1])
        h = F.embedding(x, self.tokens) + self.voice[place % self.voices]
        h = h + self.beat[place // self.voices % self.cycle]
        attend = self._attention(x.shape[1], False, x.device)
        scores = self._scores(*self._trunk(h * self.dim**0.5 * 0.25, t, cond, attend))
        return scores if only is None else scores[only]


def layouts(source: Path, seconds: float, seeds: Sequence[int], transpose: int, dim: int, depth: int) -> str:
    """Held-out bits per token of both layouts after equal processor time; a step of each in turn, so that what else
    the machine does meets both."""
    data = load(source, options={"music": {"transpose": transpose}})
    modality = data.modality
    assert isinstance(modality, MusicModality)
    form = modality.form
    cycle = form.cycle(form.metre)
    rows: dict[str, list[float]] = {"one position per step": [], "one position per token": []}
    steps: dict[str, list[int]] = {name: [] for name in rows}
    for seed in seeds:
        heads = max(1, dim // 64)
        made = {
            "one position per step": VoiceTransformer(
                form.size, voices=form.lanes, cycles=[cycle], length=modality.length, dim=dim, depth=depth, heads=heads,
                generator=torch.Generator().manual_seed(seed),
            ),
            "one position per token": Interleaved(
                form.lanes, cycle, size=form.size, dim=dim, depth=depth, heads=heads, length=modality.length,
                generator=torch.Generator().manual_seed(seed),
            ),
        }  # fmt: skip
        arms = {name: Arm(net, data, seconds, seed) for name, net in made.items()}
        while any(arm.used < seconds for arm in arms.values()):
            for arm in arms.values():
                if arm.used < seconds:
                    arm.step()
        for name, arm in arms.items():
            rows[name].append(arm.bits(data))
            steps[name].append(arm.count)
    lines = ["| layout | steps | bits per token |", "|---|---|---|"]
    for name, values in rows.items():
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        lines.append(
            f"| {name} | {statistics.mean(steps[name]):,.0f} | {statistics.mean(values):.3f}{spread} |"
        )
    return "\n".join(lines)


def rolls(source: Path, budget: str, seeds: int, n: int) -> str:
    """What samples of rolls measure, by output and weight of the objective; means over seeds."""
    lines = ["| output | weight | steps | " + " | ".join(SHOWN[:6]) + " |", "|---" * 9 + "|"]
    real: dict[str, float] = {}
    for output, weight in ROLLS:
        found: dict[str, list[float]] = {name: [] for name in (*SHOWN, "steps")}
        for seed in range(seeds):
            leaves = {
                "data.form": "roll",
                "objective.output": output,
                "objective.weight": weight,
                "seed": seed,
            }
            with tempfile.TemporaryDirectory() as folder:
                recipe = Recipe(budget=budget).updated(leaves)
                session = prepare(source, out=Path(folder) / "run", recipe=recipe, asked={})
                for _ in session.steps():
                    pass
                session.write_weights("best")
                x = session.run.sample(n, seed=1_000_000).x
                train, val = states(session.data.train), states(session.data.val)
                metrics = with_own(
                    Evaluation({}, (), {}, {}, {}), session.run.modality, x, train, val, 0
                ).metrics
                found["steps"].append(session.training.count.step)
            for name, m in metrics.items():
                found.setdefault(name, []).append(m.value)
                real[name] = real.get(name, m.floor or 0.0)
        cells = [f"{statistics.mean(v):.3f}" if (v := found[name]) else "no notes" for name in SHOWN[:6]]
        lines.append(
            f"| {output} | {weight} | {statistics.mean(found['steps']):,.0f} | {' | '.join(cells)} |"
        )
    lines.append("| real | | | " + " | ".join(f"{real.get(name, math.nan):.3f}" for name in SHOWN[:6]) + " |")
    return "\n".join(lines)


class Arm:
    """A network in training, by processor time."""

    def __init__(self, net: Any, data: Any, seconds: float, seed: int) -> None:
        self.data, self.seconds, self.seed = data, seconds, seed
        self.denoiser = TokenDenoiser(Masked(net.size, survival("linear")), net)
        self.objective = MaskedTokens("even")
        self.rate = 3e-3 * (128 / net.dim) ** 0.5
        self.optimizer = Optimizers(self.denoiser, "muon", lr=self.rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.used, self.count = 0.0, 0
        self.batch = 16
        x = data.train.batch(torch.arange(len(data.train)))[0]
        net.begin_with(torch.bincount(x.flatten(), minlength=net.size).double())

    def step(self) -> None:
        """One step, and the time that it took."""
        started = time.process_time()
        seeds = Seeds.of(self.seed, range(self.count * self.batch, (self.count + 1) * self.batch))
        index = (seeds.fold("item").uniforms() * len(self.data.train)).long()
        x, _ = self.data.train.batch(index, seeds)
        u = (torch.arange(self.batch) + seeds.fold("time").uniforms()) / self.batch
        loss = self.objective.at_quantiles(self.denoiser, x, u, seeds.fold("noise")).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        done = self.used / self.seconds
        self.optimizer.step(self.rate * max(1e-3, min(1.0, done / 0.02, (1 - done) / 0.6)))
        self.used += time.process_time() - started
        self.count += 1

    def bits(self, data: Any) -> float:
        """Held-out bits per token."""
        self.denoiser.eval()
        x, _ = data.val.batch(torch.arange(len(data.val)))
        found = token_bound(
            self.denoiser, MaskedTokens("bound"), _Plain(data.val), (x != END).sum(1).double(), END, times=8
        )
        return float(found.nats.sum() / found.characters.sum()) / math.log(2)


class _Plain:
    """Items without their conditions."""

    def __init__(self, split: Any) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor, seeds: Seeds | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.split.batch(index, seeds)[0], {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--layout", action="store_true")
    parser.add_argument("--rolls", action="store_true")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--transpose", type=int, default=0)
    parser.add_argument("--budget", default="15m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--results", default="music-voices", help="name of the page of results")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    asked = parser.parse_args()
    if asked.rolls or asked.layout:
        for source in asked.data:
            if asked.rolls:
                print(rolls(source, asked.budget, asked.seeds, asked.n))
            else:
                print(
                    layouts(
                        source, asked.seconds, range(asked.seeds), asked.transpose, asked.dim, asked.depth
                    )
                )
        return
    lines = []
    if asked.run:
        found = measured(kuosan.load(asked.run), asked.n)
        lines += rows(asked.run.name, found, [found])
    for source in asked.data:
        runs = []
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as folder:
                run = trained(source, asked.budget, seed, {}, Path(folder) / "run")
                runs.append(measured(run, asked.n))
        lines += rows(source.name, runs[0], runs)
    notes = f"Budget {asked.budget}, {asked.n} samples. Real: held-out music."
    table.write(asked.results, "Music", notes, HEADER, lines)


if __name__ == "__main__":
    main()
