"""The report's sections on the inverse and on the score's residual: measured, or a reason why not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch

import kuosan
from kuosan.core.random import Seeds
from kuosan.explain.residual import LevelResidual, residual_by_level
from kuosan.modalities import Split
from kuosan.recipes import finish
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.inverse import Items
from kuosan.recipes.opening import reopen
from kuosan.recipes.report_residual import LEVELS, fitted, residual
from kuosan.recipes.report_returned import ITEMS, apart, returned, spread


@pytest.fixture(scope="module")
def held_out(run: kuosan.Run) -> Split:
    return data_of(run).val


def test_a_run_tells_both(copied: Callable[[], kuosan.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "LONGEST", 30.0)
    run = copied()
    finish.finish(reopen(run.path))
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert 'href="#returned"' in page and 'id="returned"' in page and "of 255 levels" in page
    assert (
        'href="#residual"' in page and 'id="residual"' in page and "per element and unit of log-SNR" in page
    )


def test_there_and_back(run: kuosan.Run, held_out: Split) -> None:
    section = returned(run, held_out, 30.0)
    assert section is not None and len(section.figures) == 2
    count = min(ITEMS, len(held_out))
    assert f"{count} of {count} are the same" in section.lead[0] and "40 steps" in section.lead[0]
    few = returned(run, held_out, 30.0)
    assert few is not None and few.lead == section.lead, "nothing is drawn by chance"


def test_without_time_the_reason_is_said(run: kuosan.Run, held_out: Split) -> None:
    for show in (returned, residual):
        section = show(run, held_out, 1e-4)
        assert section is not None and not section.figures
        assert re.search(r"\d s, and 0\.0 s were left", section.lead[0])
        assert show(run, Split(run.modality, held_out.x[:0], {}, ()), 30.0) is None


@pytest.mark.usefixtures("every_chart")
def test_the_residual_is_measured_by_level(run: kuosan.Run, held_out: Split) -> None:
    section = residual(run, held_out, 30.0)
    assert section is not None and f"at {len(LEVELS)} levels" in section.figures[0][0]
    assert "<svg" in section.figures[0][1] and "exact denoiser" in section.figures[0][1]


def test_the_grey_line_is_nought(run: kuosan.Run, held_out: Split) -> None:
    """What is computed for an exact denoiser, in the same precision, is far below any network's."""
    x, _ = held_out.batch(torch.arange(len(held_out)))
    seeds = Seeds.of(0, len(x))
    exact = residual_by_level(fitted(run.denoiser.process, x), x, LEVELS, seeds, 2)
    model = residual_by_level(run.denoiser, x, LEVELS, seeds, 2, **{"class": torch.full((len(x),), 3)})
    assert max(r.root for r in exact) < 0.02 < max(r.root for r in model)


def test_the_roots_error_is_that_of_the_mean_carried_through() -> None:
    level = LevelResidual(0.5, 0.0, 0.25, 0.01, 9)
    above = LevelResidual(0.5, 0.0, 0.25 + 1e-6, 0.01, 9)
    assert level.root_stderr == pytest.approx((above.root - level.root) / 1e-6 * 0.01, rel=1e-5)
    assert math.isnan(LevelResidual(0.5, 0.0, -0.1, 0.01, 9).root_stderr)


def test_items_are_spread_and_the_ends_differ(run: kuosan.Run, held_out: Split) -> None:
    assert spread(run, held_out, 3).names == tuple(held_out.names[i * len(held_out) // 3] for i in range(3))
    x = torch.zeros(4, 1, 8, 8)
    assert apart(Items(x, {"class": torch.tensor([1, 1, 0, 2])}, tuple("abcd"))) == (0, 2)
    assert apart(Items(x, {}, tuple("abcd"))) == (0, 3)
