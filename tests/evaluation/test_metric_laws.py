"""Laws that every exported metric inherits: order does not matter, floors are floors, faults are noticed."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from kuosan.evaluation import METRICS, Metric, measure

N, D, MODES = 240, 4, 6


@dataclass(frozen=True)
class Case:
    """Rows of samples and of the reference, further real rows, and the keywords a metric needs."""

    samples: Tensor
    reference: Tensor
    real: Tensor
    needs: dict[str, Tensor]


def mixture(n: int, seed: int, modes: int = MODES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(MODES, D, generator=torch.Generator().manual_seed(99))
    which = torch.randint(modes, (n,), generator=generator)
    return centres[which] + torch.randn(n, D, generator=generator), which


def case(metric: Metric, fault: str = "none", seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(1000 + seed)
    n_ref = 400
    one_hot = torch.nn.functional.one_hot
    if metric.needs == ("logits",):

        def seen(n: int, classes: int = 5) -> Tensor:
            true = torch.randint(classes, (n,), generator=generator)
            return one_hot(true, 5) + 0.45 * torch.randn(n, 5, generator=generator)

        return Case(seen(N, 3 if fault == "dropped modes" else 5), seen(n_ref), seen(5 * N), {})
    if "logits" in metric.needs:
        asked = torch.randint(5, (N,), generator=generator)
        true = torch.randint(5, (n_ref,), generator=generator)
        # Scores that are right about nine times in ten, for samples and for real items alike.
        shown = asked.clone()
        if fault == "wrong class":
            shown[: N // 4] = (shown[: N // 4] + 1) % 5
        score = one_hot(shown, 5) + 0.45 * torch.randn(N, 5, generator=generator)
        real = one_hot(true, 5) + 0.45 * torch.randn(n_ref, 5, generator=generator)
        return Case(score, real, real, {"labels": asked, "reference_labels": true})
    if "distances" in metric.needs:
        honest = torch.rand(n_ref, 1, generator=generator) + 0.5
        mine = torch.rand(N, 1, generator=generator) + 0.5
        if fault == "copies":
            mine[: N // 5] = 1e-3
        return Case(mine, honest, honest, {})
    samples, labels = mixture(N, 2 * seed + 1, MODES // 2 if fault == "dropped modes" else MODES)
    reference, true = mixture(n_ref, 2 * seed + 2)
    if fault == "noise":
        samples = samples + 4 * torch.randn(samples.shape, generator=generator)
    if fault == "shrunk":
        samples = 0.5 * samples
    needs = {"labels": labels, "reference_labels": true} if "labels" in metric.needs else {}
    return Case(samples, reference, mixture(5 * N, 7000 + seed)[0], needs)


metrics = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


@metrics
def test_the_order_of_rows_does_not_matter(metric: Metric) -> None:
    given = case(metric)
    mix = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    remix = torch.randperm(len(given.reference), generator=torch.Generator().manual_seed(4))
    needs = {k: v[remix] if k == "reference_labels" else v[mix] for k, v in given.needs.items()}
    before = metric(given.samples, given.reference, **given.needs)
    after = metric(given.samples[mix], given.reference[remix], **needs)
    assert after.value == pytest.approx(before.value, rel=1e-9, abs=1e-11)
    assert after.stderr == pytest.approx(before.stderr, rel=1e-6)


@metrics
def test_fresh_real_items_measure_as_their_floor(metric: Metric) -> None:
    """Over eight draws of real "samples", the difference to the floor is what its stderr allows."""
    gaps = []
    for seed in range(8):
        given = case(metric, seed=seed)
        if metric.needs in (("features",), ("logits",)):
            generator = torch.Generator().manual_seed(seed)
            found = measure(metric, given.samples, given.reference, given.real, generator=generator)
        else:
            found = metric(given.samples, given.reference, **given.needs)
        assert found.n == N and found.stderr is not None and found.stderr > 0
        assert found.floor is not None and found.floor_stderr is not None
        gaps.append((found.value - found.floor) / (found.stderr**2 + found.floor_stderr**2) ** 0.5)
    assert abs(sum(gaps)) / len(gaps) ** 0.5 < 3
    assert max(map(abs, gaps)) < 3.5


FAULTS = [(m, fault) for m in METRICS.values() for fault in m.notices]


@pytest.mark.parametrize(("metric", "fault"), FAULTS, ids=[f"{m.name}: {f}" for m, f in FAULTS])
def test_declared_faults_make_it_worse(metric: Metric, fault: str) -> None:
    good, bad = case(metric), case(metric, fault)
    a = metric(good.samples, good.reference, **good.needs)
    b = metric(bad.samples, bad.reference, **bad.needs)
    worse = b.value - a.value if metric.better == "lower" else a.value - b.value
    assert worse > 2 * (a.stderr**2 + b.stderr**2) ** 0.5


@metrics
def test_every_metric_declares_itself(metric: Metric) -> None:
    assert metric.better in ("lower", "higher")
    assert set(metric.needs) <= {"features", "logits", "labels", "distances"} and metric.needs
    assert metric.notices, "a metric that notices nothing measures nothing"


@metrics
def test_a_measurement_is_plain_json(metric: Metric) -> None:
    given = case(metric)
    found = metric(given.samples, given.reference, space="somewhere", **given.needs)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["value"] == found.value and plain["n"] == N
    assert plain["space"] == "somewhere" and plain["better"] == metric.better


@metrics
def test_wrong_rows_are_refused(metric: Metric) -> None:
    given = case(metric)
    with pytest.raises(ValueError, match="at least"):
        metric(given.samples[:1], given.reference, **given.needs)
    broken = given.samples.clone()
    broken[0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        metric(broken, given.reference, **given.needs)
    with pytest.raises(ValueError, match="width"):
        metric(torch.cat([given.samples] * 2, 1), given.reference, **given.needs)


@pytest.mark.parametrize("name", ["fd", "kd", "kd_rbf", "precision", "recall", "density", "coverage"])
def test_the_floor_takes_the_same_n(name: str) -> None:
    """With fewer real items than samples, the samples are cut, so that biases cancel."""
    given = case(METRICS[name])
    generator = torch.Generator().manual_seed(0)
    found = measure(METRICS[name], given.samples, given.reference, given.real[:100], generator=generator)
    assert found.n == 100 and "1 × 100 real items" in found.note
