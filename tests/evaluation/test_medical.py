"""Measures of medical images against known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kuosan.evaluation.evaluate import evaluate_samples
from kuosan.evaluation.found import Found
from kuosan.evaluation.medical import (
    Implausible,
    ValueDistance,
    copied_patients,
    histogram,
    honest_of_patients,
    levels,
)
from kuosan.evaluation.taught import taught_by_samples
from kuosan.modalities import Scan

LOW, HIGH = -1024.0, 1024.0


def scans(mean: float, n: int = 12, seed: int = 0) -> list[Scan]:
    rng = np.random.default_rng(seed)
    return [Scan(rng.normal(mean, 50, (8, 8)).astype(np.float32), "HU", "CT") for _ in range(n)]


def test_a_shift_of_all_values_is_measured_in_their_unit() -> None:
    one, two = scans(0.0), [Scan(s.values + 80, "HU", "CT") for s in scans(0.0)]
    rows = [histogram(part, LOW, HIGH) for part in (one, two)]
    assert ValueDistance().value(rows[1], rows[0]) == pytest.approx(80, abs=1e-6)
    assert ValueDistance().value(rows[0], rows[0]) == 0
    assert ValueDistance()(*rows).stderr > 0  # type: ignore[operator]


def test_what_no_real_scan_has_is_implausible() -> None:
    real, same, dark = levels(scans(0.0, 200)), levels(scans(0.0, 50, 1)), levels(scans(-400.0, 50, 2))
    assert Implausible().value(dark, real) == 1 and Implausible().value(real, real) == 0
    assert Implausible().value(same, real) < 0.2  # 10 sides, each beyond 200 others once in 201


def patients(count: int, slices: int, seed: int) -> tuple[torch.Tensor, list[bytes]]:
    """Slices near their patient's own place."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(count, 1, 6, generator=generator) * 3
    rows = (places + 0.01 * torch.randn(count, slices, 6, generator=generator)).flatten(0, 1)
    return rows, [f"{seed}-{i}".encode() for i in range(count) for _ in range(slices)]


def test_neighbouring_slices_do_not_hide_copies() -> None:
    train, who = patients(30, 6, 0)
    fresh, _ = patients(40, 1, 1)
    copies = train[:40] + 0.001
    honest = honest_of_patients(train, train[:0], who, [])
    assert float(honest.distances.min()) > 0.1  # and not that of neighbours, which is some 0.02
    for held, others in ((train[:0], []), patients(40, 1, 2)):
        shares = []
        for rows in (fresh, copies):
            found = Found(torch.Generator().manual_seed(0))
            table = copied_patients(found, rows, train, held, who, others, "raw")
            shares.append(found.metrics["copies"])
        assert shares[0].sigmas < 4 and shares[1].value == 1 and len({who[row.train] for row in table}) > 1  # type: ignore[operator]


def labelled(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bars that lie or stand."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=generator)
    x = 0.5 * torch.randn(n, 1, 8, 8, generator=generator)
    x[y == 0, :, 3:5] += 1
    x[y == 1, :, :, 3:5] += 1
    return x.clamp(-1, 1), y


def test_samples_teach_as_much_as_they_know() -> None:
    (x, y), (real, truth), (val, val_truth) = labelled(160, 0), labelled(160, 1), labelled(60, 2)
    out = []
    for labels in (y, 1 - y):
        found = Found(torch.Generator().manual_seed(0))
        taught_by_samples(
            found, x, labels, real, truth, val, val_truth, axes=("height", "width"), seconds=0.01
        )
        out.append(found.metrics["tstr_accuracy"])
    right, wrong = out
    assert right.value > 0.9 and wrong.value < 0.1 and right.n == 60 and right.floor == wrong.floor
    assert right.floor is not None and right.floor > 0.9 and right.stderr is not None


def test_without_classes_nothing_is_taught() -> None:
    x, _ = labelled(80, 0)
    evaluation = evaluate_samples(x, x, x, seconds=1, teach=1)
    assert "no classes" in evaluation.left_out["tstr_accuracy"]
