"""Tuning: closer than every stock sampler, never worse on held-out pairs, and the same again."""

from __future__ import annotations

import math

import pytest
import torch

from kuosan.adapt.candidates import STOCK, best_stock, distances, mean_error, stock
from kuosan.adapt.fit import Effort, fit
from kuosan.adapt.flow import Flow
from kuosan.adapt.grids import least_bound, stock_grids, straightest
from kuosan.adapt.rollout import Pairs, walk
from kuosan.adapt.tune import Stages, make_pairs, measure, teacher, tune
from kuosan.core.random import Seeds
from kuosan.core.schedules import EDM, Cosine, Rectified
from tests.adapt.test_controls import mixture

D = 4
SHORT = Stages(Effort(4, 32), Effort(6, 32), Effort(30, 32), starts=1)


def pairs(flow: Flow, n: int, seed: int = 0):  # type: ignore[no-untyped-def]
    return make_pairs(flow, (D,), n, Seeds.of(seed, n), {}, few=8)


@pytest.fixture(scope="module")
def flow() -> Flow:
    found = Flow(mixture(Cosine(), D, 3))
    found.denoiser.double()
    return found


@pytest.fixture(autouse=True)
def double():  # type: ignore[no-untyped-def]
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("schedule", [Cosine(), Rectified(), EDM()], ids=lambda s: type(s).__name__)
def test_the_teacher_ends_where_the_flow_does(schedule) -> None:  # type: ignore[no-untyped-def]
    """Of a Gaussian N(m, v) the flow is known: x = m + z √v, from a prior without signal."""
    from kuosan.denoisers.exact import MixtureDenoiser
    from kuosan.processes.gaussian import GaussianProcess

    mean, v = torch.tensor([[0.5, -1.0, 0.0, 2.0]]), torch.tensor([[0.3, 1.0, 0.01, 0.5]])
    flow = Flow(MixtureDenoiser(GaussianProcess(schedule), mean, v))
    found, floor = pairs(flow, 8)
    rho = flow.rho_start
    z = (found.z * rho - mean) / (v + rho**2).sqrt()  # exact also where the prior is not quite without signal
    clean = mean + z * (v + flow.rho_end**2).sqrt()
    assert float(distances(found.end, clean).max()) < 2e-3
    assert floor < 2e-3


def test_learned_is_closer_than_any_stock_sampler(flow: Flow) -> None:
    found, floor = pairs(flow, 192)
    tuned = tune(flow, 5, found[:128], found[128:], Seeds.of(0, 1), floor=floor, stages=SHORT)
    assert tuned.best.candidate.kind == "full"
    assert tuned.best.value < tuned.stock.value / 3
    assert [m.value for m in tuned.all] == sorted(m.value for m in tuned.all)
    assert tuned.same is None or tuned.same > 5
    assert floor < tuned.best.value
    # what the stages found is reported as it is: measured anew it is the same
    end = walk(flow, tuned.best.candidate.controls, found[128:]).end
    assert float(distances(end, found.end[128:]).mean()) == pytest.approx(tuned.best.value)


def test_the_guard_keeps_a_stock_sampler_where_learning_failed(flow: Flow) -> None:
    """Candidates that are worse, or no numbers at all, never come first."""
    found, _ = pairs(flow, 32)
    grids = dict(stock_grids(flow, 4))
    good = best_stock(flow, 4, found)[0]
    name, rho = next(iter(grids.items()))
    broken = stock("deis", name, rho)
    broken.controls.terms[2, 0] = math.nan
    order = measure(flow, [broken, stock("ddim", name, rho), good], found, 64)
    assert order[0].candidate is good
    assert order[-1].value == math.inf


def test_fitting_again_gives_the_same(flow: Flow) -> None:
    found, _ = pairs(flow, 64)
    start = best_stock(flow, 3, found)[0].controls
    first, second = (
        fit(flow, start.of, start.flat(), found, Effort(3, 16), Seeds.of(1, 1)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, start.flat())


def test_pairs_do_not_depend_on_their_number(flow: Flow) -> None:
    few, _ = pairs(flow, 20)
    many, _ = pairs(flow, 40)
    torch.testing.assert_close(few.z, many.z[:20])
    torch.testing.assert_close(few.end, many.end[:20])


def test_grids_fall_and_end_where_the_schedule_does(flow: Flow) -> None:
    found, _ = pairs(flow, 16)
    grids = dict(stock_grids(flow, 6)) | {
        "straightest": straightest(flow, found, 6),
        "least bound": least_bound(6, 80.0, 0.01),
    }
    for rho in grids.values():
        assert len(rho) == 7
        assert bool((rho[1:] < rho[:-1]).all())
        assert float(rho[-1]) == flow.rho_end


def test_straightest_is_best_of_its_own_cost() -> None:
    """On straight paths (one point) every grid is exact, and the steps of least cost are any; on a mixture the grid
    beats the even one for the first-order solver whose steps it measures."""
    flow = Flow(mixture(Rectified(), D, 3))
    found, _ = pairs(flow, 64)
    even = torch.cat([torch.linspace(math.log(80.0), math.log(0.005), 8).exp(), torch.zeros(1)])
    chosen, plain = mean_error(
        [stock("ddim", "", straightest(flow, found[:32], 8)), stock("ddim", "", even)], flow, found, 64
    )
    assert chosen < plain


def test_the_best_stock_sampler_is_the_best_of_a_wide_look(flow: Flow) -> None:
    """The search by halves loses little to looking at everything."""
    found, _ = pairs(flow, 32)
    grids = stock_grids(flow, 5)
    every = [stock(s, name, rho) for name, rho in grids for s in STOCK]
    least = min(mean_error(every, flow, found, 64))
    assert mean_error(best_stock(flow, 5, found)[:1], flow, found, 64)[0] <= 1.2 * least


def test_learning_starts_from_different_samplers(flow: Flow) -> None:
    """UniPC 3 makes the same two calls as UniPC 2: one of them is enough."""
    found, _ = pairs(flow, 32)
    shortlist = [c.controls.flat() for c in best_stock(flow, 2, found)]
    assert len(shortlist) > 1
    assert not any(torch.equal(a, b) for i, a in enumerate(shortlist) for b in shortlist[:i])


def test_too_few_calls() -> None:
    flow = Flow(mixture(Cosine(), D, 3))
    found, _ = pairs(flow, 16)
    with pytest.raises(ValueError, match="two calls"):
        tune(flow, 1, found, found, Seeds.of(0, 1))
    assert len(teacher(flow, 48)) >= 48


@pytest.mark.parametrize("last", [0.0, 0.1, 0.2])
def test_no_call_is_made_below_the_last(last: float) -> None:
    """Of a network whose estimate is not as fine as the noise would be."""
    flow = Flow(mixture(Cosine(), D, 3), last=last)
    flow.denoiser.double()
    z = flow.noise(torch.empty(8, D, dtype=torch.float64), Seeds.of(0, 8))
    some = Pairs(z, z, {})
    grids = dict(stock_grids(flow, 6))
    controls = (teacher(flow, 24), best_stock(flow, 6, some)[0].controls)
    called = [*(rho[:-1] for rho in grids.values()), straightest(flow, some, 6)[:-1]]
    called += [c.log_rho.exp() for c in controls]
    lowest = min(float(rho.min()) for rho in called)
    assert last * (1 - 1e-9) <= lowest <= max(last, 0.005) * (1 + 1e-9)
    assert {"logsnr", "karras:7"} <= {name.split()[0] for name in grids}
