"""Runs and the entropy: the profile that training leaves, the grid made of it, and times that follow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import kuosan
from kuosan.core.entropy import EntropyProfile
from kuosan.core.schedules import Cosine
from kuosan.errors import UserError
from kuosan.recipes.build import build_objective
from kuosan.recipes.cite import reasons
from kuosan.recipes.entropy import ENTROPY
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.finish import finish
from kuosan.recipes.profile import keep_profile
from kuosan.recipes.report_decided import RANGE, decided, density
from kuosan.recipes.run import VARIANCES
from kuosan.recipes.schema import ObjectivePart
from kuosan.training import checkpoint
from kuosan.training.objective import RESOLUTIONS, WEIGHTS
from kuosan.training.timing import TIMINGS, EntropyTiming, LogNormalTiming, LogSNRTiming, UniformTiming
from tests.recipes import small
from tests.training.small import exact


def test_training_leaves_a_profile_and_a_grid_is_made_of_it(run: kuosan.Run) -> None:
    tree = json.loads((run.path / ENTROPY).read_text(encoding="utf-8"))
    assert tree["unit"] == "nats per element and unit of log-SNR"
    profile = run.profile
    assert profile is not None and profile == EntropyProfile.of_json(tree)
    assert run.variances is not None
    middle = int(len(profile.rates) / 2)
    ratios = run.variances["log_ratios"].reshape(len(profile.rates), -1).exp().mean(1)
    wanted = 0.5 * torch.sigmoid(run.variances["log_snrs"]) * ratios
    assert profile.rates[middle] == pytest.approx(float(wanted[middle]), rel=1e-6)
    times = run.grid(6, "entropy")
    log_snr = run.denoiser.schedule.log_snr(times[:-1])
    gaps = [
        profile.nats(low, high) for low, high in zip(log_snr[:-1].tolist(), log_snr[1:].tolist(), strict=True)
    ]
    assert gaps == pytest.approx([gaps[0]] * 5, rel=1e-3)
    assert len(run.sample(2, grid="entropy", steps=4)) == len(run.sample(2, grid="entropy:0.5", steps=4)) == 2


def test_without_a_profile_the_reason_is_said(copied: Callable[[], kuosan.Run]) -> None:
    run = copied()
    (run.path / ENTROPY).unlink()
    for name in ("entropy", "entropy:0.5"):
        with pytest.raises(UserError, match=r"grids/entropy.json.*choose uniform, logsnr or karras"):
            run.sample(1, grid=name)
    assert decided(run, TIMINGS["uniform"]) is None
    (run.path / ENTROPY).write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="holds no entropy profile"):
        kuosan.load(run.path).grid(4, "entropy")


def test_it_is_measured_where_no_variances_were_fitted(copied: Callable[[], kuosan.Run]) -> None:
    run = copied()
    before = run.profile
    (run.path / VARIANCES).unlink()
    run.__dict__.pop("variances", None)
    keep_profile(run, data_of(run))
    first = run.profile
    keep_profile(run, data_of(run))
    assert first is not None and first == run.profile and before is not None
    assert first.nats(-6, 8) == pytest.approx(before.nats(-6, 8), rel=0.3)


@pytest.mark.usefixtures("every_chart")
def test_the_report_shows_the_profile_and_the_density_of_times(run: kuosan.Run) -> None:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert 'id="decided"' in page and "training times" in page and "I-MMSE" in page
    section = decided(run, EntropyTiming())
    assert section is not None and len(section.lead) == 2
    assert "learned times" in section.figures[0][1] and "usual times" in section.figures[0][1]


@pytest.mark.parametrize("name", sorted(TIMINGS))
def test_the_densities_that_are_drawn_have_their_area(run: kuosan.Run, name: str) -> None:
    schedule, timing = run.denoiser.schedule, TIMINGS[name]
    x, y = (torch.tensor(v, dtype=torch.float64) for v in zip(*density(timing, schedule), strict=True))
    u = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    log_snr = schedule.log_snr(timing.quantile(schedule, u))
    inside = (log_snr >= RANGE[0]) & (log_snr <= RANGE[1])
    area = float(torch.trapezoid(y, x).abs())
    assert area == pytest.approx(float(inside.double().mean()), abs=0.02)


@pytest.mark.usefixtures("every_chart")
def test_a_run_whose_times_follow_the_entropy(data: Path, tmp_path: Path) -> None:
    """It ends with the same bits when it was stopped in between, and samples on the grid by default."""
    leaves = {"objective__timing": "entropy", "sampling__grid": "entropy"}
    whole = small.session(data, tmp_path / "whole", **leaves)
    for _ in whole.steps():
        pass
    finish(whole)
    seen = checkpoint.load(tmp_path / "whole" / "checkpoints" / "last")[0]["timing.seen"]
    part = small.session(data, tmp_path / "part", training__save_seconds=0.0, **leaves)
    for event in part.steps():
        if event.step == 11:
            break
    again = small.session(data, tmp_path / "part", training__save_seconds=0.0, **leaves)
    assert again.resumed and again.training.count.step == 10
    for _ in again.steps():
        pass
    assert torch.equal(checkpoint.load(tmp_path / "part" / "checkpoints" / "last")[0]["timing.seen"], seen)
    a, b = (checkpoint.load(tmp_path / n / "checkpoints" / "last")[0] for n in ("whole", "part"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    page = (tmp_path / "whole" / "report.html").read_text(encoding="utf-8")
    assert "learned times" in page and "usual times" in page
    run = kuosan.load(tmp_path / "whole")
    assert torch.equal(run.grid(5), run.grid(5, "entropy"))
    cited = {key for _, key in reasons(run.facts)}
    assert {"raya2026", "guo2005", "stancevic2025"} <= cited


def test_what_it_starts_from_is_the_usual_density() -> None:
    wanted = {"v": UniformTiming, "edm": LogNormalTiming}
    for output, kind in wanted.items():
        timing = build_objective(ObjectivePart(output=output, weight="output", timing="entropy")).timing
        assert isinstance(timing, EntropyTiming) and isinstance(timing.fixed, kind)
    bound = build_objective(ObjectivePart(kind="elbo", output="v", weight="output", timing="entropy")).timing
    assert (
        isinstance(bound, EntropyTiming) and isinstance(bound.fixed, LogSNRTiming) and bound.resolution == 0
    )


@pytest.mark.parametrize("weight", sorted(RESOLUTIONS))
def test_at_its_resolution_a_weights_losses_are_level(weight: str) -> None:
    """Weights that divide by the density leave the density's own formula over itself."""
    objective = build_objective(ObjectivePart(output="v", weight=weight, timing="entropy"))  # type: ignore[arg-type]
    timing, v = objective.timing, 0.05
    for _ in range(120):
        log_snr = torch.linspace(-13.99, 13.99, 2240, dtype=torch.float64)
        timing = timing.after(log_snr, v / (1 + v * log_snr.exp()))
    denoiser, u = exact(Cosine(), "v"), torch.linspace(0.1, 0.9, 81, dtype=torch.float64)
    with torch.no_grad():
        level = denoiser.schedule.level(timing.quantile(denoiser.schedule, u))
        weights = WEIGHTS[weight](denoiser, level, timing.density(denoiser.schedule, u))
    losses = weights * v / (1 + v * level.log_snr.exp())
    assert float(losses.std() / losses.mean()) < 0.12


def test_a_learned_schedule_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="objective.timing=entropy draws the same log-SNRs on every schedule"):
        small.session(data, tmp_path / "a", schedule="learned", objective__timing="entropy")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("leaf", ["objective__timing", "sampling__grid"])
def test_other_noise_is_refused(data: Path, tmp_path: Path, leaf: str) -> None:
    with pytest.raises(UserError, match="law of Gaussian noise only, and the noise is"):
        small.session(data, tmp_path / "a", noise="laplace", **{leaf: "entropy"})
    assert not (tmp_path / "a").exists()
