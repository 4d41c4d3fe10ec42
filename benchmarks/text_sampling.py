"""Sampling of texts: calls of first-hitting and of ancestral sampling, unmasking schedules, and speed.

    python -m benchmarks.text_sampling [--run RUN]

The first table is exact: a law over texts of four tokens of three values, with its own posterior, so that the law of
every sampler can be added up. The second is of a trained run of masked texts, if one is given: what each schedule costs
held-out texts that it was not fitted to. The third times a network of five million parameters that nobody trained.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.table import RESULTS
from benchmarks.table import write as write_table
from kuosan.core.curves import LinearSurvival
from kuosan.core.random import Seeds
from kuosan.core.unmasking import linear_counts
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.networks.tokens import TokenTransformer
from kuosan.processes.discrete import Masked
from kuosan.recipes.run import Run
from kuosan.recipes.tune_texts import tune_texts
from kuosan.solvers import sample, solver
from kuosan.training.settings import casting
from kuosan.training.tokens import MaskedTokens

SIZE, LENGTH = 3, 4
STEPS = (4, 8, 16, 32, 64, 128, 256)


def law() -> Tensor:
    """p of every text (3, 3, 3, 3), uneven and dependent."""
    logits = 1.5 * torch.randn(
        (SIZE,) * LENGTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    return logits.flatten().softmax(0).view((SIZE,) * LENGTH)


def posterior(p: Tensor, state: tuple[int, ...], place: int) -> Tensor:
    """The law of one hidden token given those that are not."""
    index = tuple(slice(None) if v == SIZE else v for v in state)
    rest = p[index]
    axis = sum(v == SIZE for v in state[:place])
    others = tuple(a for a in range(rest.ndim) if a != axis)
    found = rest.sum(others) if others else rest
    return found / found.sum()


def reached(p: Tensor, chances: list[dict[int, float]]) -> Tensor:
    """The law of texts after steps; step k reveals each set of m hidden positions with probability chances[k][m], all
    values of a step drawn as if the others were not there. ``m`` is relative to the hidden ones of a state."""
    mass = {(SIZE,) * LENGTH: 1.0}
    for chance in chances:
        fresh: dict[tuple[int, ...], float] = {}
        for state, weight in mass.items():
            hidden = [i for i, v in enumerate(state) if v == SIZE]
            for m in range(len(hidden) + 1):
                if not (share := chance.get((len(hidden), m), 0.0)):  # type: ignore[call-overload]
                    continue
                sets = list(itertools.combinations(hidden, m))
                for chosen in sets:
                    laws = [posterior(p, state, i) for i in chosen]
                    for values in itertools.product(range(SIZE), repeat=m):
                        q = math.prod(float(each[v]) for each, v in zip(laws, values, strict=True))
                        new = list(state)
                        for i, v in zip(chosen, values, strict=True):
                            new[i] = v
                        key = tuple(new)
                        fresh[key] = fresh.get(key, 0.0) + weight * share / len(sets) * q
        mass = fresh
    out = torch.zeros_like(p)
    for state, weight in mass.items():
        out[state] += weight
    return out


def ancestral(steps: int) -> list[dict]:  # type: ignore[type-arg]
    """Each hidden position by itself, with the probability that an even grid gives it."""
    plans = []
    for k in range(steps):
        r = 1 / (steps - k)
        plans.append(
            {
                (h, m): math.comb(h, m) * r**m * (1 - r) ** (h - m)
                for h in range(LENGTH + 1)
                for m in range(h + 1)
            }
        )
    return plans


def hitting(steps: int) -> list[dict]:  # type: ignore[type-arg]
    """So many at a time."""
    counts = linear_counts(LENGTH, steps).tolist()
    return [{(LENGTH - a, b - a): 1.0} for a, b in itertools.pairwise(counts)]


def calls_table() -> list[list[object]]:
    p = law()
    rows: list[list[object]] = []
    for name, plan, counts in (("ancestral", ancestral, STEPS), ("first-hitting", hitting, (1, 2, 4))):
        for k in counts:
            distance = float((reached(p, plan(k)) - p).abs().sum()) / 2
            rows.append([name, k, f"{distance:.4f}"])
    return rows


def schedules(path: Path) -> list[list[object]]:
    """Bits per token of held-out texts that the schedules were not fitted to, and what the fitted one saves."""
    with tempfile.TemporaryDirectory() as folder:
        found = tune_texts(Run(path), (2, 3, 4, 5, 6, 8, 12, 16, 32, 64), out=Path(folder))
    names = ("optimal", "linear", "cosine", "random")
    return [
        [
            one.steps,
            *(f"{one.bits[name].value:.3f}" for name in names),
            *(f"{one.saving[name].value:.4f} ± {one.saving[name].stderr:.4f}" for name in names[1:]),
        ]
        for one in found.judged
    ]


def speed() -> list[list[object]]:
    """Seconds of sampling, and tokens per second of training beside a plain loop."""
    size, length = 256, 256
    network = TokenTransformer(size, dim=256, depth=6, heads=8, generator=torch.Generator().manual_seed(0))
    parameters = sum(p.numel() for p in network.parameters())
    denoiser = TokenDenoiser(Masked(size, LinearSurvival()), network).eval()
    x = torch.full((1, length), size)
    grid = torch.linspace(1, 0, 17, dtype=torch.float64)
    times = []
    for i in range(6):
        started = time.perf_counter()
        with torch.inference_mode():
            sample(denoiser, solver("first-hitting"), grid, x, Seeds.of(i, 1))
        times.append(time.perf_counter() - started)
    rows: list[list[object]] = [[f"one text of {length} tokens in 16 calls, {parameters:,} parameters",
                                 f"{min(times[1:]):.3f} s"]]  # fmt: skip
    ours, plain = training_rates(network, size, length)
    rows.append(["training, tokens per second: the objective of kuosan", f"{ours:,.0f}"])
    rows.append(["training, tokens per second: a plain loop over the same network", f"{plain:,.0f}"])
    rows.append(["ratio", f"{ours / plain:.2f}"])
    return rows


def training_rates(network: TokenTransformer, size: int, length: int, batch: int = 16) -> tuple[float, float]:
    """In turns, so that the machine's mood is the same for both; the best of each."""
    x = torch.randint(size, (batch, length), generator=torch.Generator().manual_seed(0))
    denoiser = TokenDenoiser(Masked(size, LinearSurvival()), network.train())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    objective = MaskedTokens("even")

    def ours(i: int) -> Tensor:
        return objective.draw(denoiser, x, Seeds.of(0, batch).fold(i)).losses.mean()

    def plain(i: int) -> Tensor:
        generator = torch.Generator().manual_seed(i)
        t = torch.rand(batch, generator=generator)
        hidden = torch.rand(batch, length, generator=generator) < t[:, None]
        scores = network(torch.where(hidden, size, x), t, None, hidden)
        return 2 * torch.nn.functional.cross_entropy(scores.float(), x[hidden], reduction="sum") / x.numel()

    best = {"ours": math.inf, "plain": math.inf}
    for i in range(8):
        for name, loss in (("ours", ours), ("plain", plain)):
            started = time.perf_counter()
            with casting("bfloat16", torch.device("cpu")):
                value = loss(i)
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if i:
                best[name] = min(best[name], time.perf_counter() - started)
    return batch * length / best["ours"], batch * length / best["plain"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=None)
    asked = parser.parse_args()
    notes = """`python -m benchmarks.text_sampling`. A law over texts of four tokens of three values and its exact
posterior; total variation between the law of samples and that of the data, added up over all ways. With one token per
step first-hitting is exact; the same distance costs ancestral sampling many times the calls."""
    write_table(
        "text_sampling",
        "Sampling of texts: calls",
        notes,
        ("sampler", "calls", "total variation"),
        calls_table(),
    )
    path = RESULTS / "text_sampling.md"
    first = path.read_text(encoding="utf-8")
    if asked.run:
        notes = """Bits per token of held-out texts under the sampler of so many steps, given its order; the schedule is
fitted to one half of them and judged on the other (256 each, or as many as there are). In the order of `spaced` on the
fitted schedule, on even and cosine steps, and even steps in a random order (`first-hitting`); then what these three
cost more, passage by passage."""
        write_table(
            "text_sampling",
            "Unmasking schedules",
            notes,
            ("steps", "fitted", "even", "cosine", "random", "even: more", "cosine: more", "random: more"),
            schedules(asked.run),
        )
        first += "\n" + path.read_text(encoding="utf-8")
    write_table(
        "text_sampling",
        "Speed",
        "The best of several, in turns where two are compared.",
        ("what", ""),
        speed(),
    )
    path.write_text(first + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    main()
