"""Given parts: what is made beside them, by each way of conditioning.

    python -m benchmarks.given                                            both sections; the results page
    python -m benchmarks.given --data ../shared/data/mnist --budget 10m   of other pictures than scikit-learn's digits
    python -m benchmarks.given --tiny                                     a proof that it runs; nothing is written

`exact`: mixtures of Gaussians whose conditional law is known in closed form, half of the elements of a draw given.
`pictures`: held-out ones, of which the upper half, a frame around the middle, or every third column is given.

Ways: `replacement`, the mean put to what is given; `RePaint`, the same with every step gone back and made again
(Lugmayr et al. 2022); `corrected k`, with k conjugate gradients; `trained`, a network that was told of given parts in
training, as long as the other was trained without. At one cost: calls of the network, a backward pass counted as two.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import kuosan
from benchmarks.table import write
from kuosan.core.grids import grid
from kuosan.core.posteriors import Posterior
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.core.shapes import Time, at
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.exact import CorrelatedDenoiser
from kuosan.evaluation.frechet import frechet_distance
from kuosan.guidance.given import Given
from kuosan.modalities import load
from kuosan.processes.base import Process
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.demo import write_digits
from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe
from kuosan.solvers import DDIM, Solver, sample, solver

BACKWARD = 2  # calls that a backward pass costs


@dataclass(frozen=True)
class RePaint(Solver[None]):
    """A step of DDIM with full churn, gone back to t by the process and made again, ``times`` times in all."""

    times: int = 5
    needs: ClassVar[type[Process]] = GaussianProcess
    draws: ClassVar[bool] = True

    def step(
        self, denoiser: Denoiser, x_t: Tensor, t: Time, s: Time, memory: None, seeds: Seeds, **cond: Tensor
    ) -> tuple[Tensor, Posterior, None]:
        schedule, inner = denoiser.process.schedule, DDIM(eta=1.0)  # type: ignore[attr-defined]
        now, then = schedule.level(t), schedule.level(s)
        ratio = now.alpha / then.alpha
        noise = (now.sigma.square() - (ratio * then.sigma).square()).clamp_min(0).sqrt()
        for k in range(self.times):
            x_s, q, _ = inner.step(denoiser, x_t, t, s, None, seeds.fold("down", k), **cond)
            x_t = at(ratio, x_s) * x_s + at(noise, x_s) * seeds.fold("up", k).normal(x_s)
        return x_s, q, None


@dataclass(frozen=True)
class Arm:
    """A way of conditioning at a number of steps."""

    name: str
    corrections: int
    times: int = 1

    def steps(self, calls: int) -> int:
        """As many as so many calls pay for."""
        return max(1, calls // ((1 + BACKWARD * self.corrections) * self.times))

    def rule(self) -> Solver[Any]:
        return RePaint(self.times) if self.times > 1 else solver("dpm++2m")


ARMS = (
    Arm("replacement", 0), Arm("RePaint 2", 0, 2), Arm("RePaint 5", 0, 5), Arm("RePaint 10", 0, 10),
    Arm("corrected 1", 1), Arm("corrected 2", 2), Arm("corrected 3", 3), Arm("corrected 5", 5),
)  # fmt: skip
DRAWS = 8  # completions of every picture
HEADER = ("data", "calls", "way", "steps", "energy distance or score", "RMS of the mean", "FD (pixels)", "n")
NOTES = """
`python -m benchmarks.given`. Of mixtures: the energy distance of what each way draws of the hidden half to draws of the
closed-form conditional law, over so many laws. Of pictures: the energy score of the hidden entries
(E‖x − y‖ − ½E‖x − x′‖ over √d, smaller is better, and least for the true law) and the root mean square of what the mean
of {draws} completions is off, over so many held-out pictures; and the Fréchet distance in pixels of one completion each
to the same held-out pictures. Errors are standard errors. Both networks were trained with the same budget, {budget}.
"""


def laws(n: int, d: int, k: int) -> Iterator[tuple[CorrelatedDenoiser, Tensor, Tensor]]:
    """Mixtures of k Gaussians in d dimensions with half of the elements of a draw given: denoiser, datum, mask."""
    for i in range(n):
        g = torch.Generator().manual_seed(i)
        means = torch.randn(k, d, generator=g, dtype=torch.float64)
        a = torch.randn(k, d, d, generator=g, dtype=torch.float64)
        covariances = 0.15 * a @ a.mT / d + 0.01 * torch.eye(d, dtype=torch.float64)
        denoiser = CorrelatedDenoiser(GaussianProcess(Cosine()), means, covariances)
        one = int(torch.randint(k, (1,), generator=g))
        root = torch.linalg.cholesky(covariances[one])
        datum = means[one] + root @ torch.randn(d, generator=g, dtype=torch.float64)
        mask = torch.zeros(d, dtype=torch.bool)
        mask[torch.randperm(d, generator=g)[: d // 2]] = True
        yield denoiser, datum, mask


def energy(a: Tensor, b: Tensor) -> float:
    """The energy distance of two sets of rows (Székely & Rizzo 2013), without the pairs of a row with itself."""
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def rows_exact(
    calls: list[int], n: int = 40, draws: int = 500, d: int = 6, k: int = 4
) -> Iterator[list[str]]:
    """Each way's energy distance to the closed-form conditional law of the hidden half."""
    found: dict[tuple[int, str], list[float]] = {}
    for i, (denoiser, datum, mask) in enumerate(laws(n, d, k)):
        known, where, truth = datum.expand(draws, d), mask.expand(draws, d), denoiser.given(datum, mask)
        real = drawn(truth, solver("dpm++2m"), 60, Seeds.of(2 * i, draws), known)[:, ~mask]
        seeds = Seeds.of(2 * i + 1, draws)
        again = drawn(truth, solver("dpm++2m"), 60, seeds, known)[:, ~mask]
        found.setdefault((0, "the law itself"), []).append(energy(again, real))
        for count in calls:
            for arm in ARMS:
                model = Given(denoiser, known, where, corrections=arm.corrections)
                made = drawn(model, arm.rule(), arm.steps(count), seeds, known)[:, ~mask]
                found.setdefault((count, arm.name), []).append(energy(made, real))
    for (count, name), values in found.items():
        steps = next((arm.steps(count) for arm in ARMS if arm.name == name), 60)
        what = f"mixtures of {k} in {d} dimensions"
        yield [what, str(count or ""), name, str(steps), cell(torch.tensor(values)), "", "", str(n)]


def drawn(model: Denoiser, rule: Solver[Any], steps: int, seeds: Seeds, like: Tensor) -> Tensor:
    """Samples of an exact denoiser, from the seeds' noise."""
    process: Any = model.process
    x = process.prior(like, seeds.fold("prior"))
    return sample(model, rule, grid("logsnr")(process.schedule, steps), x, seeds)


def masks(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """What is given of pictures."""
    out = {
        name: torch.zeros(1, *shape, dtype=torch.bool)
        for name in ("upper half", "frame", "every third column")
    }
    _, height, width = shape
    out["upper half"][:, :, : height // 2] = True
    out["frame"][:] = True
    out["frame"][..., height // 4 : -(height // 4), width // 4 : -(width // 4)] = False
    out["every third column"][..., ::3] = True
    return out


def rows_pictures(runs: dict[str, kuosan.Run], x: Tensor, calls: list[int]) -> Iterator[list[str]]:
    """Completions of held-out pictures ``x`` by both networks."""
    n = len(x)
    for what, mask in masks(tuple(x.shape[1:])).items():
        hidden = ~mask[0]
        for count in calls:
            for arm in (*ARMS, Arm("trained", 0)):
                trained = arm.name == "trained"
                run = runs["trained" if trained else "plain"]
                made = []
                for k in range(DRAWS):
                    seeds = Seeds.of(k, n)
                    model = Given(run.model, x, mask, trained=trained, corrections=arm.corrections)
                    process: Any = model.process
                    noise = process.prior(x, seeds.fold("prior"))
                    times = grid("karras:7")(process.schedule, arm.steps(count))
                    made.append(torch.where(mask, x, sample(model, arm.rule(), times, noise, seeds)))
                draws = torch.stack(made)
                off = (draws - x)[:, :, hidden] / float(hidden.sum()) ** 0.5
                apart = (draws[:, None] - draws)[..., hidden] / float(hidden.sum()) ** 0.5
                pairs = DRAWS * (DRAWS - 1)
                score = off.norm(dim=-1).mean(0) - apart.norm(dim=-1).sum((0, 1)) / pairs / 2
                mean = off.mean(0).norm(dim=-1)
                fd = frechet_distance(draws[0].flatten(1).double(), x.flatten(1).double())
                yield [
                    what,
                    str(count),
                    arm.name,
                    str(arm.steps(count)),
                    cell(score),
                    cell(mean),
                    f"{fd:.3f}",
                    str(n),
                ]


def trained(source: Path, out: Path, budget: str, share: float) -> kuosan.Run:
    """A run with its weights alone: nothing of its report is needed."""
    leaves = {"budget": budget, "training.given": share}
    session = prepare(source, out=out, recipe=Recipe().updated(leaves), asked=leaves)
    for _ in session.steps():
        pass
    session.write_weights("best")
    return kuosan.load(out)


def cell(values: Tensor) -> str:
    """A mean with its standard error."""
    return f"{float(values.mean()):.4f} ± {float(values.std() / len(values) ** 0.5):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="", help="pictures; scikit-learn's digits unless given")
    parser.add_argument("--budget", default="2m", help="of training each of the two networks")
    parser.add_argument(
        "--out", default="", help="where the runs lie; what is finished there is not made again"
    )
    parser.add_argument("--tiny", action="store_true", help="a proof that it runs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(asked.out or tempfile.mkdtemp())
    source = Path(asked.data) if asked.data else write_digits(out / "data")
    budget = "20steps" if asked.tiny else asked.budget
    runs = {
        name: trained(source, out / name, budget, share) for name, share in (("plain", 0.0), ("trained", 0.5))
    }
    held = load(source, like=runs["plain"].modality, columns=runs["plain"].facts.columns).val
    count = min(len(held), 12 if asked.tiny else 200)
    x, _ = held.batch(torch.arange(count))
    few = {"n": 2, "draws": 20} if asked.tiny else {}
    rows = [*rows_exact([12] if asked.tiny else [30, 120], **few)]
    rows += rows_pictures(runs, x, [12] if asked.tiny else [30, 120])
    if asked.tiny:
        for row in rows:
            print(" | ".join(row))
        return
    write(
        "given",
        "Given parts, by each way of conditioning",
        NOTES.format(draws=DRAWS, budget=budget),
        HEADER,
        rows,
    )


if __name__ == "__main__":
    main()
