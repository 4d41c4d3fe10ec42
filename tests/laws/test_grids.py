"""Laws of every time grid on every schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kuosan.core import grids
from kuosan.core.entropy import EntropyProfile
from kuosan.core.grids import Entropy, Grid, Karras, LogSNR, Uniform, grid
from kuosan.core.schedules import EDM, Cosine, Rectified, Schedule

from .exact_cases import SCHEDULES

PROFILE = EntropyProfile((-4.0, 0.0, 3.0), (0.02, 0.1, 0.4))


def entropy(schedule: Schedule, t: Tensor) -> Tensor:
    """Entropy of `PROFILE` above a noise that no grid reaches."""
    return torch.tensor([PROFILE.nats(-20.0, level) for level in schedule.log_snr(t).tolist()])


GRIDS: dict[str, tuple[Grid, Callable[[Schedule, Tensor], Tensor]]] = {
    "uniform": (Uniform(), lambda schedule, t: t),
    "logsnr": (LogSNR(), lambda schedule, t: schedule.log_snr(t)),
    "karras": (Karras(), lambda schedule, t: schedule.level(t).rho ** (1 / 7)),
    "karras:1": (Karras(power=1.0), lambda schedule, t: schedule.level(t).rho),
    "entropy": (Entropy(profile=PROFILE), entropy),
}
STATED_NOISY_END = {"vp_linear", "edm", "shifted_edm", "learned", "tabulated"}
STARTS_WITH_NOISE = {"edm", "shifted_edm", "learned"}


def test_every_grid_is_a_case() -> None:
    exported = {
        c for _, c in inspect.getmembers(grids, inspect.isclass) if issubclass(c, Grid) and c is not Grid
    }
    assert exported == {type(case) for case, _ in GRIDS.values()}


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("name", sorted(GRIDS))
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@torch.no_grad()
def test_ends_fall_and_evenness(name: str, schedule: str, steps: int) -> None:
    (rule, variable), s = GRIDS[name], SCHEDULES[schedule]
    times = rule(s, steps)
    assert times.dtype == torch.float64 and times.shape == (steps + 1,)
    assert bool((times.diff() < 0).all()) and times[-1] == 0
    if schedule in STATED_NOISY_END:
        assert float(times[0]) == pytest.approx(1, abs=1e-12)
    else:
        assert float(s.level(times[:1]).rho) == pytest.approx(80.0, rel=1e-9)
    inner = times if schedule in STARTS_WITH_NOISE or name == "uniform" else times[:-1]
    gaps = variable(s, inner).diff()
    assert torch.allclose(gaps, gaps[:1].expand_as(gaps), rtol=1e-3 if name == "entropy" else 1e-6)
    if name != "uniform" and schedule not in STARTS_WITH_NOISE and steps > 1:
        assert float(s.level(times[-2:-1]).rho) == pytest.approx(0.005, rel=1e-6)


def test_karras_is_the_closed_form_on_edm() -> None:
    """Karras et al. 2022, eq. 5, with their N = steps + 1 and the last call's end at σ_min."""
    n = 18
    wanted = [(80 ** (1 / 7) + i / n * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n + 1)]
    got = EDM().sigma(Karras()(EDM(), n))
    assert torch.allclose(got, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9)


def test_karras_is_the_closed_form_where_noise_ends_at_zero() -> None:
    n = 10
    wanted = [(80 ** (1 / 7) + i / (n - 1) * (0.005 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)]
    times = Karras()(Rectified(), n)
    rho = times / (1 - times)
    assert torch.allclose(rho[:-1], torch.tensor(wanted, dtype=torch.float64), rtol=1e-9) and rho[-1] == 0


def test_a_growing_power_tends_to_log_snr_by_its_inverse() -> None:
    limit = LogSNR()(Cosine(), 12)
    near, nearer = (float((Karras(power=p)(Cosine(), 12) - limit).abs().max()) for p in (1e3, 1e4))
    assert nearer < 1e-3 and near / nearer == pytest.approx(10, rel=0.02)


def test_the_ends_can_be_chosen() -> None:
    times = LogSNR(rho_max=10.0, rho_min=0.1)(Rectified(), 5)
    rho = times / (1 - times)
    assert rho[[0, 4]].tolist() == pytest.approx([10.0, 0.1])
    assert torch.allclose(rho[1:5] / rho[:4], torch.full((4,), 0.01**0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("uniform", Uniform()),
        ("logsnr", LogSNR()),
        ("karras", Karras()),
        ("karras:3.5", Karras(power=3.5)),
        ("karras:7:0.2", Karras(power=7.0, rho_min=0.2)),
    ],
)
def test_a_grid_by_its_name(name: str, rule: Grid) -> None:
    assert grid(name) == rule


@pytest.mark.parametrize("name", ["", "Karras", "uniform:2", "logsnr:1", "edm", "karras:7:1:2"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="choose uniform, logsnr, karras, karras:POWER or karras:POWER:END"):
        grid(name)


@pytest.mark.parametrize("power", ["0", "-2", "inf", "nan", "", "x"])
def test_powers_and_ends_are_positive_numbers(power: str) -> None:
    for name in (f"karras:{power}", f"karras:7:{power}"):
        with pytest.raises(ValueError, match="positive number"):
            grid(name)
    with pytest.raises(ValueError, match="below 80, not 81"):
        grid("karras:7:81")


def test_a_grid_needs_a_step() -> None:
    with pytest.raises(ValueError, match="one step or more, not 0"):
        Uniform()(Cosine(), 0)
    assert math.isclose(float(LogSNR()(EDM(), 1)[0]), 1.0)
