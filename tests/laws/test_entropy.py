"""The entropy's profile: where noise decides the data, against closed forms and exact mixtures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kuosan.core.entropy import EntropyProfile, entropy_rate, unit_rate
from kuosan.core.grids import Entropy, LogSNR, grid
from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine, Rectified, Schedule
from kuosan.denoisers.calibrated import calibrate
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.explain.small import draw, three_hills
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.timing import EntropyTiming
from tests.training.small import midpoints

KNOTS = torch.linspace(-10, 14, 25, dtype=torch.float64)


def gaussian(v: float, knots: Tensor = KNOTS) -> EntropyProfile:
    """x ~ N(0, v): the error of the mean is v/(1 + v SNR)."""
    rates = entropy_rate(knots, v / (1 + v * knots.exp()))
    return EntropyProfile(tuple(knots.tolist()), tuple(rates.tolist()))


def information(law: MixtureDenoiser, log_snr: float) -> float:
    """I(x; x_t) of a law on a line in nats, by quadrature: h(x_t) - ½ log(2πe σ²)."""
    schedule = law.process.schedule
    t = schedule.time_of(torch.tensor([log_snr], dtype=torch.float64))
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    with torch.no_grad():
        log_p = law.log_density(x[:, None], t.expand(len(x)))
    h = -np.trapezoid((log_p.exp() * log_p).numpy(), x.numpy())
    return float(h - 0.5 * math.log(2 * math.pi * math.e * float(schedule.sigma(t)) ** 2))


@pytest.mark.parametrize("v", [1.0, 0.01, 7.0])
def test_of_gaussian_data_the_profile_is_the_information(v: float) -> None:
    profile = gaussian(v)
    for low, high in ((-9.0, 13.0), (-3.3, 2.1), (4.0, 4.7)):
        wanted = 0.5 * math.log((1 + v * math.exp(high)) / (1 + v * math.exp(low)))
        assert profile.nats(low, high) == pytest.approx(wanted, rel=3e-2 if v != 1 else 1e-6)
    fine = gaussian(v, torch.linspace(-14, 14, 561, dtype=torch.float64))
    assert fine.nats(-13, 13) == pytest.approx(
        0.5 * math.log((1 + v * math.exp(13)) / (1 + v * math.exp(-13))), rel=1e-4
    )


@pytest.mark.parametrize("schedule", [Cosine(), Rectified()], ids=["cosine", "rectified"])
@pytest.mark.parametrize("v", [1.0, 0.2])
def test_of_gaussian_data_the_grid_is_the_analytic_quantiles(schedule: Schedule, v: float) -> None:
    n = 9
    profile = gaussian(v, torch.linspace(-10, 14, 481, dtype=torch.float64))
    times = Entropy(profile=profile)(schedule, n)
    start, stop = 80.0**-2, 0.005**-2  # SNRs of the grid's own ends
    parts = torch.linspace(0, 1, n, dtype=torch.float64)
    # ½ log(1 + v SNR) is even, so 1 + v SNR has equal ratios.
    snr = ((1 + v * start) * ((1 + v * stop) / (1 + v * start)) ** parts - 1) / v
    assert torch.allclose(schedule.log_snr(times[:-1]), snr.log(), atol=2e-3) and times[-1] == 0


def test_the_measured_profile_of_a_mixture_is_the_known_information() -> None:
    """Both estimates, that of training and that of the end of it, from draws of an exact law."""
    law, n = three_hills(), 6000
    x = draw(law, Seeds.of(1, n))
    batches = [(part, {}) for part in x.split(2000)]
    measured = calibrate(law, batches, Seeds.of(2, 2000)).profile()
    timing = EntropyTiming()
    for step, part in enumerate(x.split(500) * 12):
        seeds = Seeds.of(3, len(part)).fold(step)
        t = timing.quantile(law.process.schedule, timing.draw(seeds))
        with torch.no_grad():
            off = part - law(law.process.corrupt(part, t, seeds.fold("noise")), t).mean
        timing = timing.after(law.process.schedule.log_snr(t), off.square().mean(1))
    middles = (timing.edges[1:] + timing.edges[:-1]) / 2
    seen = EntropyProfile(tuple(middles.tolist()), tuple(timing.rates.tolist()))
    for low, high in ((-6.0, 8.0), (-2.0, 2.0), (1.0, 6.0)):
        wanted = information(law, high) - information(law, low)
        assert measured.nats(low, high) == pytest.approx(wanted, rel=0.04)
        assert seen.nats(low, high) == pytest.approx(wanted, rel=0.06)


def test_the_rate_is_the_slope_of_the_information() -> None:
    law, t = three_hills(), midpoints(8)
    level, n = law.process.schedule.level(t), 20_000
    for i in (2, 4, 5):
        x = draw(law, Seeds.of(i, n))
        here = t[i : i + 1].expand(n)
        with torch.no_grad():
            off = x - law(law.process.corrupt(x, here, Seeds.of(i, n).fold("noise")), here).mean
        rate = entropy_rate(level.log_snr[i], off.square().mean())
        at = float(level.log_snr[i])
        slope = (information(law, at + 0.01) - information(law, at - 0.01)) / 0.02
        assert float(rate) == pytest.approx(slope, rel=0.03)


def test_equal_parts_are_equal_whatever_the_power() -> None:
    profile = gaussian(0.05)
    parts = torch.linspace(0, 1, 7, dtype=torch.float64)
    for power in (0.3, 1.0, 2.0):
        levels = profile.split(-8.0, 9.0, parts, power)
        areas = [
            float(profile.entropy(low, high, power)[1][-1])
            for low, high in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True)
        ]
        assert np.allclose(areas, areas[0], rtol=1e-4)
        assert levels[0] == -8.0 and levels[-1] == 9.0


def test_a_small_power_tends_to_log_snr() -> None:
    wanted = LogSNR()(Cosine(), 8)
    near, nearer = (
        float((Entropy(profile=gaussian(1.0), power=p)(Cosine(), 8) - wanted).abs().max())
        for p in (1e-2, 1e-3)
    )
    assert nearer < 5e-3 and near / nearer == pytest.approx(10, rel=0.1)


def test_the_grid_depends_on_the_data_and_not_on_the_schedule() -> None:
    profile = gaussian(0.3)
    a, b = (Entropy(profile=profile)(s, 6) for s in (Cosine(), Rectified()))
    assert torch.allclose(Cosine().log_snr(a[:-1]), Rectified().log_snr(b[:-1]), atol=1e-6)


def test_beyond_its_knots_a_profile_goes_on_as_data_do() -> None:
    v = 0.1
    profile = gaussian(v, torch.linspace(-6, 9, 31, dtype=torch.float64))
    out = torch.tensor([-12.0, 14.0], dtype=torch.float64)
    wanted = entropy_rate(out, v / (1 + v * out.exp()))
    assert torch.allclose(profile.rate(out), wanted, rtol=5e-3)
    assert torch.allclose(gaussian(1.0).rate(out), unit_rate(out))


def test_a_profile_comes_back_from_json_and_a_wrong_one_does_not() -> None:
    profile = gaussian(0.4)
    tree = json.loads(json.dumps({**profile.to_json(), "unit": "nats"}))
    assert EntropyProfile.of_json(tree) == profile
    for knots, rates in (
        ([0, 1], [1]),
        ([1, 0], [1, 1]),
        ([0, 1], [1, -1]),
        ([0, 1], [1, math.nan]),
        ([], []),
    ):
        with pytest.raises(ValueError, match="entropy profile"):
            EntropyProfile.of_json({"log_snrs": knots, "rates": rates})


def test_a_grid_by_its_name_needs_a_profile() -> None:
    profile = gaussian(0.4)
    assert grid("entropy", profile) == Entropy(profile=profile)
    assert grid("entropy:0.5", profile) == Entropy(profile=profile, power=0.5)
    with pytest.raises(ValueError, match="needs an entropy profile"):
        grid("entropy")


def test_data_that_never_change_have_no_entropy() -> None:
    rate = EntropyProfile((0.0, 1.0), (0.0, 0.0)).rate(torch.tensor([0.5], dtype=torch.float64))
    assert 0 <= float(rate) < 1e-9


def test_the_profile_of_elements_is_their_mean() -> None:
    """Where the variances were fitted per element, half of them constant, half of the entropy is left."""
    process = GaussianProcess(Cosine())
    v = torch.tensor([[1.0] * 8 + [1e-9] * 8], dtype=torch.float64)
    law = MixtureDenoiser(process, torch.zeros_like(v), v)
    batches = [(draw(law, Seeds.of(s, 512)), {}) for s in range(4)]
    found = calibrate(law, batches, Seeds.of(9, 512))
    assert found.log_ratios.ndim > 1
    assert found.profile().nats(-6, 6) == pytest.approx(0.5 * gaussian(1.0).nats(-6, 6), rel=0.03)
